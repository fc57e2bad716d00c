//! Why a step failed, as far as the files that it saw can tell.
//!
//! A shell says no more than `not found` of a script whose interpreter is missing, and gives 126 or 127. So the file
//! that it means is looked up, in the layers and in what was mounted, without running or mounting anything.

use std::io::Read;

use kiln_cache::{Staged, Store};
use kiln_grammar::suggest;

use super::transfer::folders;
use crate::api::Failure;
use crate::build::graph::{ExecSpec, MountKind};
use crate::build::solve::Outcome;
use crate::build::tree::{Entry, Kind, Merged, Tree, clean, resolve};
use crate::runtime::{self, DEFAULT_PATH, HEAD_BYTES, Looks};

/// A shell's codes: can't be executed, not found.
const SHELL_CODES: [i32; 2] = [126, 127];
/// A syntax error: some shells read a program for another machine as a script.
const SYNTAX_ERROR: i32 = 2;
/// Names that are looked through for one that was perhaps meant.
const MOST_NAMES: usize = 20_000;

/// How shells end the line that names what they couldn't run, the name before it.
const COMPLAINTS: [&str; 9] = [
    ": command not found",
    ": not found",
    ": No such file or directory",
    ": Permission denied",
    ": cannot execute: required file not found",
    ": cannot execute binary file: Exec format error",
    ": cannot execute: No such file or directory",
    ": Is a directory",
    ": Exec format error",
];

/// What a step saw: its root filesystem, and what was mounted in it.
pub(super) struct Scene<'a> {
    pub(super) spec: &'a ExecSpec,
    /// The rootfs, then what the mounts read.
    pub(super) inputs: &'a [Outcome],
    /// What the step itself changed.
    pub(super) staged: Option<&'a Staged>,
    pub(super) store: &'a Store,
}

/// Something that is wrong, and what to do about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) cause: Option<String>,
    pub(super) hint: Option<String>,
}

impl Finding {
    /// Tells the user.
    pub(super) fn tell(self, mut failure: Failure) -> Failure {
        failure.causes.extend(self.cause);
        match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Scene<'_> {
    /// Explains a program that couldn't be started because it isn't there.
    pub(super) fn missing_program(&self) -> Finding {
        let program = self.spec.args.first().map_or("", String::as_str);
        let is_shell = self.spec.args.len() == 3 && self.spec.args[1].ends_with('c');
        if is_shell && self.look(program).is_none_or(|looks| !looks.exists) {
            let hint = format!(
                "the image has no `{program}`: use the exec form, `RUN [\"program\", \"argument\"]`, or a base image with a shell"
            );
            return Finding { cause: None, hint: Some(hint) };
        }
        Finding { cause: None, hint: self.meant(program) }
    }

    /// Explains the exit of a shell that couldn't run something.
    pub(super) fn exit(&self, code: i32, log: &[String]) -> Finding {
        if !SHELL_CODES.contains(&code) && code != SYNTAX_ERROR {
            return Finding::default();
        }
        let [_, flag, line] = self.spec.args.as_slice() else { return Finding::default() };
        if !flag.starts_with('-') {
            return Finding::default();
        }
        let complained = log.iter().rev().find_map(|line| complained_of(line));
        let first = first_word(line);
        if code == SYNTAX_ERROR {
            // A shell's own syntax errors are none of the file's.
            let finding = first.map(|word| self.explain(word)).unwrap_or_default();
            let foreign = finding.cause.as_ref().is_some_and(|cause| cause.contains("it is a program for"));
            return if foreign { finding } else { Finding::default() };
        }
        // A shell that reads a program as a script complains of what it finds in there.
        let mut findings = complained.into_iter().chain(first).map(|word| self.explain(word));
        let said = findings.next().unwrap_or_default();
        match said.cause {
            Some(_) => said,
            None => findings.find(|finding| finding.cause.is_some()).unwrap_or(said),
        }
    }

    fn explain(&self, word: &str) -> Finding {
        for path in self.candidates(word) {
            let Some(looks) = self.look(&path).filter(|looks| looks.exists) else { continue };
            let cause = runtime::defect(&looks).map(|defect| format!("`{word}`: {defect}"));
            let hint = cause.as_ref().and_then(|_| runtime::hint(&looks));
            return Finding { cause, hint };
        }
        Finding { cause: None, hint: self.meant(word) }
    }

    /// The paths that a shell would try for a command.
    fn candidates(&self, word: &str) -> Vec<String> {
        if word.contains('/') {
            return vec![self.absolute(word)];
        }
        self.path().split(':').map(|folder| format!("{}/{word}", self.absolute(folder))).collect()
    }

    fn path(&self) -> &str {
        let found = self.spec.env.iter().rev().find(|(name, _)| name == "PATH");
        found.map_or(DEFAULT_PATH, |(_, value)| value)
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.spec.cwd) }
    }

    /// A name beside the missing one, or in a folder of PATH, that was perhaps meant.
    fn meant(&self, word: &str) -> Option<String> {
        let (folders, wanted): (Vec<String>, &str) = match word.rsplit_once('/') {
            Some((folder, name)) => (vec![self.absolute(&format!("{folder}/"))], name),
            None => (self.path().split(':').map(|folder| self.absolute(folder)).collect(), word),
        };
        let mut names: Vec<String> = folders.iter().flat_map(|folder| self.names(folder)).collect();
        names.truncate(MOST_NAMES);
        names.sort();
        let near = suggest::closest(wanted, names.iter().map(String::as_str))?;
        match word.rsplit_once('/') {
            Some((folder, _)) => Some(format!("did you mean `{folder}/{near}`?")),
            None => Some(format!("no folder of PATH has `{word}`: did you mean `{near}`?")),
        }
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let names = || {
            let (tree, path) = self.tree(folder)?;
            let entry = resolve(&tree, &clean(path.as_bytes())).ok()?.entry.filter(Entry::is_dir)?;
            let children = tree.children(&entry).ok()?;
            Some(children.iter().map(|child| String::from_utf8_lossy(child.name()).into_owned()).collect())
        };
        names().unwrap_or_default()
    }

    /// What is known of a file; `None` where nobody can tell: in memory, in a cache.
    fn look(&self, path: &str) -> Option<Looks> {
        let (tree, inner) = self.tree(path)?;
        let Some(entry) = resolve(&tree, &clean(inner.as_bytes())).ok()?.entry else {
            return Some(Looks::default());
        };
        let mut looks = Looks {
            exists: true,
            is_folder: entry.is_dir(),
            is_executable: entry.mode & 0o111 != 0,
            ..Looks::default()
        };
        if entry.kind == Kind::File {
            tree.open(&entry).ok()?.take(HEAD_BYTES).read_to_end(&mut looks.head).ok()?;
        }
        let interpreter = runtime::interpreter(&looks.head);
        looks.interpreter_exists = interpreter.is_none_or(|path| self.exists(&path));
        Some(looks)
    }

    /// True also where nobody can tell.
    fn exists(&self, path: &str) -> bool {
        let Some((tree, inner)) = self.tree(&self.absolute(path)) else { return true };
        resolve(&tree, &clean(inner.as_bytes())).is_ok_and(|found| found.entry.is_some())
    }

    /// The tree that shows `path`, and the path in it.
    fn tree(&self, path: &str) -> Option<(Merged, String)> {
        let path = String::from_utf8(clean(path.as_bytes())).ok()?;
        let below = |target: &str| {
            let rest = format!("/{path}").strip_prefix(target)?.to_owned();
            (rest.is_empty() || rest.starts_with('/')).then_some(rest)
        };
        let mounts = self.spec.mounts.iter().rev();
        let mounted = mounts.filter_map(|mount| Some((below(mount.target.as_deref()?)?, &mount.kind))).next();
        match mounted {
            Some((rest, MountKind::Files { read, source, .. })) => {
                let result = &self.inputs[1 + read];
                Some((Merged::open(&folders(&result.chain, self.store)).ok()?, format!("{source}{rest}")))
            }
            Some(_) => None,
            None => {
                let mut chain = folders(&self.inputs[0].chain, self.store);
                chain.extend(self.staged.map(Staged::fs));
                Some((Merged::open(&chain).ok()?, path))
            }
        }
    }
}

/// What a shell's line complains of: `/bin/sh: 1: ./run.sh: not found`.
fn complained_of(line: &str) -> Option<&str> {
    let line = line.trim_end();
    let before = COMPLAINTS.iter().find_map(|complaint| line.strip_suffix(complaint))?;
    // `./run.sh: /bin/zsh: bad interpreter: No such file or directory`
    let before = match before.strip_suffix(": bad interpreter") {
        Some(script) => script.rsplit_once(": ").map_or(script, |(script, _)| script),
        None => before,
    };
    let word = before.rsplit(": ").next()?;
    (!word.is_empty() && !word.contains(char::is_whitespace)).then_some(word)
}

/// The first command of a shell's line, past assignments.
fn first_word(line: &str) -> Option<&str> {
    let is_assignment = |word: &str| {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
    };
    let mut words = line.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')'));
    let word = words.find(|word| !word.is_empty() && *word != "exec" && !is_assignment(word))?;
    // What the shell would expand or unquote is no name.
    (!word.contains(['$', '`', '"', '\'', '*', '?', '\\', '{', '~', '<', '>'])).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shells_complaint_names_its_command() {
        for (line, word) in [
            ("/bin/sh: 1: ./run.sh: not found", Some("./run.sh")),
            ("/bin/sh: ./run.sh: Permission denied", Some("./run.sh")),
            ("/bin/bash: line 1: ./run.sh: cannot execute: required file not found", Some("./run.sh")),
            ("bash: line 3: crul: command not found", Some("crul")),
            ("/bin/bash: ./x.sh: /bin/zsh: bad interpreter: No such file or directory", Some("./x.sh")),
            ("ls: cannot access '/x y': No such file or directory", None),
            ("done", None),
        ] {
            assert_eq!(complained_of(line), word, "{line}");
        }
    }

    #[test]
    fn the_first_command_stands_behind_assignments() {
        for (line, word) in [
            ("A=1 B=x ./run.sh --all", Some("./run.sh")),
            ("  exec /app/x;true", Some("/app/x")),
            ("(cd /x && ./y)", Some("cd")),
            ("$TOOL x", None),
            ("\"./a b\"", None),
            ("", None),
        ] {
            assert_eq!(first_word(line), word, "{line}");
        }
    }
}
