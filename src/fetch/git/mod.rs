//! Trees out of git repositories, by the `git` program.
//!
//! 1. [`Git::resolve`]: `ls-remote` tells which commit a branch or tag stands for. A full commit needs no question.
//! 2. [`Git::checkout`]: a fetch of that commit alone (of everything where a server can't do less), a checkout into a
//!    scratch folder, submodules, and what the user asked of times and of `.git`.
//!
//! The program sees nothing of the caller's: no configuration, hooks, helpers, prompts or keys (`program`). Protocols
//! are http, https, git and ssh, also for submodules: a repository can't make kiln read this machine's files.

mod program;
mod tree;

use std::path::{Path, PathBuf};

use program::Program;

use super::error::{Error, Result};
use crate::api::{GitSource, is_commit, without_password};
use crate::blocking;
use crate::redacted::Redacted;

/// What of the caller's git may use.
#[derive(Debug, Clone, Default)]
pub struct GitAccess {
    /// Variables of its environment: `PATH`, proxies, where certificates are.
    pub environment: Vec<(String, String)>,
    /// The value of `Authorization` for the repository's host.
    pub authorization: Option<Redacted>,
    /// The socket of an ssh agent.
    pub agent: Option<PathBuf>,
    /// The file of ssh hosts that the user knows.
    pub known_hosts: Option<PathBuf>,
}

/// One repository, and a scratch folder to work in.
#[derive(Debug)]
pub struct Git<'a> {
    source: &'a GitSource,
    program: Program,
    repository: PathBuf,
}

/// What a reference stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The commit.
    pub commit: String,
    /// The full name that leads to it: `refs/heads/main`; `None` for a commit alone.
    pub name: Option<String>,
}

/// A tree that was checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The folder with its files, inside the scratch folder.
    pub folder: PathBuf,
    /// The commit.
    pub commit: String,
    /// When it was made, in unix seconds.
    pub time: i64,
    /// Bytes of its files.
    pub bytes: u64,
}

impl<'a> Git<'a> {
    /// Prepares to ask for `source`; `scratch` is an empty folder of the caller's.
    pub fn new(source: &'a GitSource, access: &GitAccess, scratch: &Path) -> Self {
        let program = Program::new(source, access, scratch);
        Self { source, program, repository: scratch.join("repository") }
    }

    /// Finds the commit that is wanted.
    pub async fn resolve(&self) -> Result<Resolved> {
        let by_itself = |commit: &str| Ok(Resolved { commit: commit.to_owned(), name: None });
        match (self.source.reference.as_deref(), self.source.fixed_commit()) {
            (None, Some(commit)) => return by_itself(commit),
            (Some(reference), Some(commit)) if is_commit(reference) || self.source.fetch_by_commit => {
                self.check(reference, commit)?;
                return by_itself(commit);
            }
            _ => {}
        }
        let found = self.ask().await?;
        let wanted = self.source.checksum.as_deref().unwrap_or_default();
        if found.commit.starts_with(wanted) || found.object.starts_with(wanted) {
            return Ok(Resolved { commit: found.commit, name: Some(found.name) });
        }
        Err(Error::Commit {
            repository: self.source.shown(),
            expected: wanted.to_owned(),
            actual: found.commit,
        })
    }

    /// A reference that is a commit, and a checksum, must agree.
    fn check(&self, reference: &str, commit: &str) -> Result<()> {
        let wanted = self.source.checksum.as_deref().unwrap_or_default();
        let other = if is_commit(reference) { reference } else { commit };
        match other.starts_with(wanted) {
            true => Ok(()),
            false => Err(Error::Commit {
                repository: self.source.shown(),
                expected: wanted.to_owned(),
                actual: other.to_owned(),
            }),
        }
    }

    async fn ask(&self) -> Result<Found> {
        let reference = self.source.reference.as_deref();
        let listed = match reference {
            None => self.program.run("reach", None, &["ls-remote", "--symref", "origin", "HEAD"]).await?,
            Some(name) => {
                let peeled = format!("{name}^{{}}");
                self.program.run("reach", None, &["ls-remote", "origin", name, &peeled]).await?
            }
        };
        let missing = || Error::NoReference {
            repository: without_password(&self.source.remote),
            reference: reference.unwrap_or("HEAD").to_owned(),
        };
        choose(&listed, reference).ok_or_else(missing)
    }

    /// Brings the files of `resolved` into the scratch folder.
    pub async fn checkout(&self, resolved: &Resolved) -> Result<Checkout> {
        let commit = self.fetch(resolved).await?;
        let run = async |verb, words: &[&str]| self.program.run(verb, Some(&self.repository), words).await;
        run("check out", &["checkout", "--quiet", "--force", "--detach", &commit]).await?;
        if self.source.submodules && is_file(&self.repository.join(".gitmodules")) {
            self.submodules().await?;
        }
        let time = run("read", &["show", "--no-patch", "--format=%ct", &commit]).await?;
        let time = time.trim().parse().unwrap_or(0);
        let keep = self.source.keep_git_dir == Some(true) && self.source.subdir.is_empty();
        if keep {
            let url = without_password(&self.source.remote);
            run("configure", &["config", "remote.origin.url", &url]).await?;
            let all = "+refs/heads/*:refs/remotes/origin/*";
            run("configure", &["config", "remote.origin.fetch", all]).await?;
        }
        let (repository, source) = (self.repository.clone(), self.source.clone());
        let (folder, bytes) =
            blocking::run("tidy checkout", move || tree::tidy(&repository, &source, keep, time)).await?;
        Ok(Checkout { folder, commit, time, bytes })
    }

    /// Fetches as little as the server allows; gives the commit that came.
    async fn fetch(&self, resolved: &Resolved) -> Result<String> {
        let repository = self.repository.display().to_string();
        let format = if resolved.commit.len() == 64 { "sha256" } else { "sha1" };
        let format = format!("--object-format={format}");
        self.program.run("prepare", None, &["init", "--quiet", "--template=", &format, &repository]).await?;
        let what = match &resolved.name {
            Some(name) if name == "HEAD" => name.clone(),
            Some(name) => format!("+{name}:{name}"),
            None => resolved.commit.clone(),
        };
        let head = "FETCH_HEAD^{commit}";
        let shallow = self.fetch_with(&["--no-tags", "--depth=1"], &[&what]).await;
        let found = match (shallow, &resolved.name) {
            (Ok(()), _) => self.commit_of(head).await?,
            // Simple file servers know no shallow fetches.
            (Err(error), Some(_)) if error.mentions("shallow") => {
                self.fetch_with(&["--no-tags"], &[&what]).await?;
                self.commit_of(head).await?
            }
            (Err(error), Some(_)) => return Err(error),
            // Some servers give what a name leads to, and nothing else.
            (Err(_), None) => {
                let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
                self.fetch_with(&[], &all).await?;
                let commit = format!("{}^{{commit}}", resolved.commit);
                self.commit_of(&commit).await.map_err(|_| Error::NoReference {
                    repository: without_password(&self.source.remote),
                    reference: resolved.commit.clone(),
                })?
            }
        };
        match found.starts_with(self.source.checksum.as_deref().unwrap_or_default()) {
            true => Ok(found),
            // A tag's own name was checked when it was resolved, and it can't have moved since.
            false if found == resolved.commit => Ok(found),
            false => Err(Error::Commit {
                repository: self.source.shown(),
                expected: self.source.checksum.clone().unwrap_or_default(),
                actual: found,
            }),
        }
    }

    async fn fetch_with(&self, flags: &[&str], what: &[&str]) -> Result<()> {
        let mut words = vec!["fetch", "--progress", "--force", "--update-head-ok", "--no-recurse-submodules"];
        words.extend(flags);
        words.push("origin");
        words.extend(what);
        self.program.run("fetch", Some(&self.repository), &words).await.map(drop)
    }

    async fn commit_of(&self, name: &str) -> Result<String> {
        let words = ["rev-parse", "--quiet", "--verify", "--end-of-options", name];
        let text = self.program.run("read", Some(&self.repository), &words).await?;
        Ok(text.trim().to_owned())
    }

    async fn submodules(&self) -> Result<()> {
        let words = ["submodule", "update", "--init", "--recursive", "--progress", "--depth=1"];
        let shallow = self.program.run("fetch submodules of", Some(&self.repository), &words).await;
        match shallow {
            Err(error) if error.mentions("shallow") || error.mentions("did not contain") => {
                self.program.run("fetch submodules of", Some(&self.repository), &words[..5]).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}

impl Error {
    fn mentions(&self, part: &str) -> bool {
        matches!(self, Self::Git { words, .. } if words.contains(part))
    }
}

fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// A line of `ls-remote`.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    commit: String,
    /// The object that the name leads to: a tag's own, or the commit.
    object: String,
    name: String,
}

/// Chooses among the lines of `ls-remote` as git's own checkout does: a full name, else a branch, else a tag.
fn choose(listed: &str, reference: Option<&str>) -> Option<Found> {
    let lines: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(object, _)| is_commit(object))
        .collect();
    let of = |name: &str| lines.iter().find(|(_, other)| *other == name).map(|(object, _)| *object);
    let names = match reference {
        None => vec!["HEAD".to_owned()],
        Some(text) => {
            let bare = text.trim_start_matches("refs/");
            let full = format!("refs/{bare}");
            let of =
                |kind: &str| format!("refs/{kind}/{}", text.trim_start_matches(&format!("refs/{kind}/")));
            vec![full, of("heads"), of("tags")]
        }
    };
    names.into_iter().find_map(|name| {
        let object = of(&name)?;
        let commit = of(&format!("{name}^{{}}")).unwrap_or(object);
        Some(Found { commit: commit.to_owned(), object: object.to_owned(), name })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_preferred_to_a_tag_and_a_tag_is_peeled() {
        let (one, two, three) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        let listed = format!(
            "{one}\trefs/heads/a/v1\n{one}\trefs/heads/v1\n{two}\trefs/tags/v1\n{three}\trefs/tags/v1^{{}}\nwarning\n"
        );
        let found = |reference| choose(&listed, Some(reference)).map(|found| (found.name, found.commit));
        assert_eq!(found("v1"), Some(("refs/heads/v1".into(), one)));
        assert_eq!(found("refs/tags/v1"), Some(("refs/tags/v1".into(), three.clone())));
        assert_eq!(found("tags/v1"), Some(("refs/tags/v1".into(), three)));
        assert_eq!(found("v2"), None);
        let head = format!("ref: refs/heads/main\tHEAD\n{two}\tHEAD\n");
        assert_eq!(choose(&head, None).unwrap().commit, two);
    }
}
