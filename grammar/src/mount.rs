//! `RUN --mount=`: a word of comma-separated `key=value` fields to a typed [`Mount`].
//!
//! The word is split first and each value is expanded by itself, as BuildKit does; so a variable can't
//! bring further keys. Mistakes in keys and in values without variables are found while a file is
//! parsed ([`check`]); the whole is read by [`parse`] when the variables are known.

mod fields;
mod size;
#[cfg(test)]
mod tests;

use crate::ast::{Span, Word};
use crate::diagnostic::{Diagnostic, quote};
use crate::word::Lookup;

use fields::{Draft, Type};
pub(crate) use fields::{boolean, one_of};

/// What `--mount=` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `target=`, `dst=`, `destination=` as written and expanded, perhaps relative; `None` when not given.
    /// See [`Mount::destination`].
    pub target: Option<String>,
    /// What is mounted.
    pub kind: MountKind,
    /// The flag's value in the source.
    pub span: Span,
}

/// What is mounted by one `--mount=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// `type=bind`, which is also the default: files of the build context, a stage, an image.
    Bind {
        /// `from=`: a stage, an image or a named context; `None` for the build context.
        from: Option<String>,
        /// `source=`: a clean absolute path in it, `/` by default.
        source: String,
        /// True unless `rw`. What is written to a mount that isn't is gone after the step.
        readonly: bool,
    },
    /// `type=cache`: a folder that later builds find again.
    Cache {
        /// `id=`: the cleaned target by default.
        id: String,
        /// `from=`: what a new cache starts with; `None` for an empty one.
        from: Option<String>,
        /// `source=`: a clean absolute path in `from`, `/` by default.
        source: String,
        /// `sharing=`.
        sharing: Sharing,
        /// `mode=`, `uid=` and `gid=` of a new cache's folder (0755 and root where one isn't given);
        /// `None` when none of them is given.
        owner: Option<Owner>,
        /// True with `ro`.
        readonly: bool,
    },
    /// `type=tmpfs`: an empty folder in memory.
    Tmpfs {
        /// `size=` in bytes; `None` for no limit.
        size: Option<u64>,
        /// True with `ro`.
        readonly: bool,
    },
    /// `type=secret`: a file or an environment variable with a secret of the build.
    Secret {
        /// `id=` or `source=`: the last part of the target by default.
        id: String,
        /// `env=`: the variable. With one, there is a file only when a target is given.
        env: Option<String>,
        /// `required`: whether a build without the secret fails.
        required: bool,
        /// Of the file; 0400 and root by default.
        owner: Owner,
    },
    /// `type=ssh`: a socket of the user's agent.
    Ssh {
        /// `id=`: `default` by default.
        id: String,
        /// `required`: whether a build without the agent fails.
        required: bool,
        /// Of the socket; 0600 and root by default.
        owner: Owner,
    },
}

/// Mode and owner of what a mount makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Permission bits.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What happens when two steps want one cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Both have it.
    #[default]
    Shared,
    /// The second one gets another, new one.
    Private,
    /// The second one waits.
    Locked,
}

/// The folder of secrets without a target.
const SECRETS_FOLDER: &str = "/run/secrets";

/// Where the sockets of agents without a target are, but for their number.
const AGENT_SOCKET: &str = "/run/buildkit/ssh_agent";

/// Reads a mount; every value, `from` too, is expanded.
///
/// # Errors
/// The first mistake, pointing at its field.
pub fn parse(word: &Word, escape: char, vars: &dyn Lookup) -> Result<Mount, Diagnostic> {
    let (draft, mistakes) = Draft::read(word, escape, Some(vars));
    match mistakes.into_iter().next() {
        Some(mistake) => Err(mistake),
        None => draft.finish(word),
    }
}

/// Finds the mistakes of a mount that don't depend on variables, and the keys that mean nothing to it.
pub fn check(word: &Word, escape: char) -> Vec<Diagnostic> {
    let (draft, mut found) = Draft::read(word, escape, None);
    if found.is_empty() && !draft.open {
        found.extend(draft.useless(word));
        found.extend(draft.finish(word).err());
    }
    found
}

impl Mount {
    /// Where the mount goes: absolute and clean; `None` for a secret that is only a variable.
    ///
    /// A relative target is below `working_dir`, and so is none at all. `agents` is how many ssh
    /// mounts the step has before this one: they have a socket each.
    ///
    /// # Errors
    /// When that is the root.
    pub fn destination(&self, working_dir: &str, agents: usize) -> Result<Option<String>, Diagnostic> {
        let place = match (&self.target, &self.kind) {
            (Some(target), _) if target.starts_with('/') => clean(target),
            (Some(target), _) => clean(&format!("{working_dir}/{target}")),
            (None, MountKind::Secret { env: Some(_), .. }) => return Ok(None),
            (None, MountKind::Secret { id, .. }) => format!("{SECRETS_FOLDER}/{}", base(id)),
            (None, MountKind::Ssh { .. }) => format!("{AGENT_SOCKET}.{agents}"),
            (None, _) => clean(working_dir),
        };
        if place == "/" { Err(at_root(self.span, self.target.is_none())) } else { Ok(Some(place)) }
    }
}

impl Draft {
    /// Puts the fields together, with what the type leaves out.
    fn finish(self, word: &Word) -> Result<Mount, Diagnostic> {
        let wrong = |message: &str| Diagnostic::error("mount", word.span, message);
        let target = self.target.filter(|target| !target.is_empty());
        let from = self.from.filter(|from| !from.is_empty());
        let source = self.source.filter(|source| !source.is_empty());
        let id = self.id.filter(|id| !id.is_empty());
        let readonly = self.readonly.unwrap_or(matches!(self.kind, Type::Bind));
        if target.as_deref().is_some_and(|target| target.starts_with('/') && clean(target) == "/") {
            return Err(at_root(word.span, false));
        }
        let rooted = |source: Option<String>| clean(&source.unwrap_or_default());
        let owner = |mode| Owner {
            mode: self.mode.unwrap_or(mode),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        };
        let kind = match self.kind {
            Type::Bind => MountKind::Bind { from, source: rooted(source), readonly },
            Type::Cache => {
                let given = self.mode.or(self.uid).or(self.gid).is_some();
                let id = id.unwrap_or_else(|| clean_id(target.as_deref().unwrap_or_default()));
                let (sharing, owner) = (self.sharing.unwrap_or_default(), given.then(|| owner(0o755)));
                MountKind::Cache { id, from, source: rooted(source), sharing, owner, readonly }
            }
            Type::Tmpfs => MountKind::Tmpfs { size: self.size.filter(|size| *size > 0), readonly },
            Type::Secret => {
                if from.is_some() {
                    return Err(wrong("secret mount should not have a from")
                        .hint("secrets come from the build's `--secret`: remove `from=`"));
                }
                if source.is_some() && id.is_some() {
                    return Err(wrong("both source and id can't be set").hint("remove `source=`"));
                }
                let named = source.or(id).or_else(|| target.as_deref().map(|target| base(target).to_owned()));
                let Some(id) = named else {
                    return Err(wrong("invalid secret mount. one of source, target required")
                        .hint("name the secret of `--secret id=…`: `id=<name>`"));
                };
                let env = self.env.map(|env| if env.is_empty() { id.clone() } else { env });
                MountKind::Secret { id, env, required: self.required, owner: owner(0o400) }
            }
            Type::Ssh => {
                if source.is_some() {
                    return Err(wrong("ssh mount should not have a source")
                        .hint("name the agent of `--ssh`: `id=<name>`"));
                }
                let id = id.unwrap_or_else(|| "default".to_owned());
                MountKind::Ssh { id, required: self.required, owner: owner(0o600) }
            }
        };
        Ok(Mount { target, kind, span: word.span })
    }

    /// Warns of keys that BuildKit takes and does nothing with.
    fn useless(&self, word: &Word) -> Vec<Diagnostic> {
        let file = matches!(self.kind, Type::Secret | Type::Ssh);
        let table = [
            ("id", self.id.is_some() && matches!(self.kind, Type::Bind | Type::Tmpfs)),
            ("from", self.from.is_some() && matches!(self.kind, Type::Tmpfs | Type::Ssh)),
            ("env", self.env.is_some() && self.kind != Type::Secret),
            ("source", self.source.is_some() && self.kind == Type::Tmpfs),
            ("ro or rw", self.readonly.is_some() && file),
        ];
        let useless = table.into_iter().filter(|(_, found)| *found).map(|(key, _)| {
            let message = format!("{} means nothing to `{}` mounts", quote(key), self.kind.name());
            Diagnostic::warning("useless-mount-key", word.span, message).hint("remove it")
        });
        useless.collect()
    }
}

/// A mount can't hide the whole filesystem.
fn at_root(span: Span, defaulted: bool) -> Diagnostic {
    let hint = match defaulted {
        true => "a mount without `target=` goes to the WORKDIR, which is `/` here: add `target=<path>`",
        false => "mount to a folder below the root",
    };
    Diagnostic::error("mount-target", span, "invalid mount target `/`").hint(hint)
}

/// Returns an absolute path without `.`, `..`, doubled or trailing slashes, as seen from the root.
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A cache's name after its target: Go's `path.Clean`, which leaves a relative one relative.
fn clean_id(target: &str) -> String {
    if target.starts_with('/') {
        return clean(target);
    }
    let mut parts = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// The last part of a path.
fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}
