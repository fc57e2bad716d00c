//! Running the program: the search in `PATH`, and what is looked at when that fails.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{StartError, StartErrorKind};
use super::explain::{HEAD_BYTES, Looks, hint, interpreter, reason};
use super::inroot::may_execute;
use super::stub::Stub;
use super::user::User;
use crate::redacted::Redacted;
use crate::sys;

/// `PATH` when the environment has none, as docker sets it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program about to be run.
#[derive(Debug)]
pub struct Program {
    name: String,
    path: String,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Completes the environment with `PATH` and `HOME`. A NUL byte ends an argument where the kernel would end it.
    pub fn new(args: &[String], env: &[String], secrets: &[(String, Redacted)], user: &User) -> Program {
        let value = |name: &str| {
            let found = env.iter().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.map(str::to_owned)
        };
        let mut all = env.to_vec();
        let path = value("PATH").unwrap_or_else(|| {
            all.push(format!("PATH={DEFAULT_PATH}"));
            DEFAULT_PATH.to_owned()
        });
        if value("HOME").is_none_or(|home| home.is_empty()) {
            all.retain(|line| line != "HOME=");
            all.push(format!("HOME={}", user.home));
        }
        let name_of = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
        all.retain(|line| !secrets.iter().any(|(name, _)| *name == name_of(line)));
        let mut env = strings(&all);
        env.extend(
            secrets.iter().map(|(name, value)| until_nul(&[name.as_bytes(), b"=", value.reveal()].concat())),
        );
        let name = args.first().cloned().unwrap_or_default();
        Program { name, path, args: strings(args), env }
    }

    /// Returns what was asked for.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns where it may be. Apart from [`Program::run`], since a filter may not let it be looked for.
    pub fn find(&self) -> Vec<String> {
        if self.name.contains('/') {
            return vec![self.name.clone()];
        }
        let folders = self.path.split(':').map(|folder| if folder.is_empty() { "." } else { folder });
        let paths = folders.map(|folder| format!("{}/{}", folder.trim_end_matches('/'), self.name));
        paths.filter(|path| Path::new(path).is_file()).collect()
    }

    /// Returns where it is to be run from, for who has only one attempt: the first place that lets it.
    pub(super) fn choose(&self) -> Result<String, StartError> {
        if self.name.is_empty() {
            return Err(StartError::new("exec", "no command specified"));
        }
        let paths = self.find();
        let allowed = paths.iter().find(|path| may_execute(Path::new(path)));
        allowed.or(paths.first()).cloned().ok_or_else(|| self.not_found())
    }

    /// Becomes the program at `path` by way of `stub`; returns only when not even that runs.
    pub(super) fn run_by(self, stub: &Stub, path: &str) -> StartError {
        let error = stub.run(until_nul(path.as_bytes()), &self.args, &self.env);
        StartError::new("exec", format!("cannot run the program before the program: {error}"))
    }

    fn not_found(&self) -> StartError {
        StartError {
            stage: "exec".into(),
            kind: StartErrorKind::NotFound,
            message: format!("exec: {:?}: executable file not found in $PATH", self.name),
            errno: libc::ENOENT,
            hint: None,
        }
    }

    /// Becomes the program at the first of `paths` that lets it; returns only the reason why it could not.
    pub fn run(self, paths: Vec<String>) -> StartError {
        if self.name.is_empty() {
            return StartError::new("exec", "no command specified");
        }
        let mut refused = None;
        for path in paths {
            let errno = self.try_path(&path);
            if errno != libc::EACCES || self.name.contains('/') {
                return explain(&self.name, &path, errno);
            }
            refused.get_or_insert((path, errno));
        }
        match refused {
            Some((path, errno)) => explain(&self.name, &path, errno),
            None => self.not_found(),
        }
    }

    fn try_path(&self, path: &str) -> i32 {
        match strings(&[path.to_owned()]).first() {
            Some(path) => execute(path, &self.args, &self.env),
            None => libc::ENOENT,
        }
    }
}

fn execute(path: &CStr, args: &[CString], env: &[CString]) -> i32 {
    sys::exec::execute(path, args, env).raw_os_error().unwrap_or(libc::EIO)
}

fn strings(texts: &[String]) -> Vec<CString> {
    texts.iter().map(|text| until_nul(text.as_bytes())).collect()
}

fn until_nul(bytes: &[u8]) -> CString {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    CString::new(bytes).expect("the text was cut at its first NUL")
}

/// Says why the program `name` at `path` doesn't run, from inside of its root and as its user.
pub(super) fn explain(name: &str, path: &str, errno: i32) -> StartError {
    let mut looks = Looks {
        exists: std::fs::symlink_metadata(path).is_ok() && std::fs::metadata(path).is_ok(),
        is_folder: Path::new(path).is_dir(),
        is_executable: may_execute(Path::new(path)),
        is_noexec: is_noexec(path),
        ..Looks::default()
    };
    if Path::new(path).is_file() {
        let head = File::open(path).and_then(|file| {
            let mut head = Vec::new();
            file.take(HEAD_BYTES).read_to_end(&mut head).map(|_| head)
        });
        looks.head = head.unwrap_or_default();
    }
    looks.interpreter_exists = interpreter(&looks.head).is_none_or(|path| Path::new(&path).exists());
    let (kind, reason) = reason(&looks, errno);
    StartError {
        stage: "exec".into(),
        kind,
        message: match looks.exists {
            true => format!("exec: {name:?}: {reason}"),
            false => format!("exec: {name:?}: stat {path}: {reason}"),
        },
        errno,
        hint: hint(&looks),
    }
}

/// Tells whether the filesystem that has `path` runs no programs.
fn is_noexec(path: &str) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User { uid: 0, gid: 0, groups: vec![], home: "/root".into() }
    }

    fn env_of(env: &[&str]) -> Vec<String> {
        let env: Vec<String> = env.iter().map(|line| (*line).to_owned()).collect();
        let program = Program::new(&["x".to_owned()], &env, &[], &user());
        program.env.iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn path_and_home_are_added_only_when_missing() {
        assert_eq!(env_of(&["A=1"]), ["A=1", &format!("PATH={DEFAULT_PATH}"), "HOME=/root"]);
        assert_eq!(env_of(&["PATH=/x", "HOME=/y"]), ["PATH=/x", "HOME=/y"]);
    }
}
