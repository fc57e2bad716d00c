//! Running the program: the search in `PATH`, and words for each way in which that fails.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{StartError, StartErrorKind, errno_text};
use super::inroot::may_execute;
use super::user::User;
use crate::redacted::Redacted;
use crate::sys;

/// `PATH` when the environment has none, as docker sets it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of a file is read to explain why it doesn't run.
const HEAD_BYTES: u64 = 4096;

/// A program about to be run.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    path: String,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Completes the environment with `PATH` and `HOME`. A NUL byte ends an argument where the kernel would end it.
    pub(super) fn new(
        args: &[String],
        env: &[String],
        secrets: &[(String, Redacted)],
        user: &User,
    ) -> Program {
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

    /// Becomes the program; returns only the reason why it could not.
    pub(super) fn run(self) -> StartError {
        if self.name.is_empty() {
            return StartError::new("exec", "no command specified");
        }
        if self.name.contains('/') {
            return explain(&self.name, &self.name, self.try_path(&self.name));
        }
        let mut refused = None;
        for folder in self.path.split(':') {
            let folder = if folder.is_empty() { "." } else { folder };
            let path = format!("{}/{}", folder.trim_end_matches('/'), self.name);
            if !Path::new(&path).is_file() {
                continue;
            }
            let errno = self.try_path(&path);
            if errno != libc::EACCES {
                return explain(&self.name, &path, errno);
            }
            refused.get_or_insert((path, errno));
        }
        match refused {
            Some((path, errno)) => explain(&self.name, &path, errno),
            None => StartError {
                stage: "exec".into(),
                kind: StartErrorKind::NotFound,
                message: format!("exec: {:?}: executable file not found in $PATH", self.name),
                errno: libc::ENOENT,
            },
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

/// What is known of a file that didn't run.
#[derive(Debug, Default)]
struct Looks {
    exists: bool,
    is_folder: bool,
    is_executable: bool,
    head: Vec<u8>,
    interpreter_exists: bool,
}

fn explain(name: &str, path: &str, errno: i32) -> StartError {
    let mut looks = Looks {
        exists: std::fs::symlink_metadata(path).is_ok() && std::fs::metadata(path).is_ok(),
        is_folder: Path::new(path).is_dir(),
        is_executable: may_execute(Path::new(path)),
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
    }
}

/// Says why a file that looks so gave this error.
fn reason(looks: &Looks, errno: i32) -> (StartErrorKind, String) {
    use StartErrorKind::{NotExecutable, NotFound, Other};
    let script = shebang(&looks.head);
    match errno {
        libc::ENOENT | libc::ENOTDIR if !looks.exists => (NotFound, errno_text(errno)),
        libc::EACCES if looks.is_folder => (NotExecutable, "is a directory".into()),
        libc::ENOENT => match (script, interpreter(&looks.head)) {
            (Some(line), _) if line.ends_with('\r') => (
                NotFound,
                format!(
                    "the script's first line `#!{}` ends with a carriage return: save the file with LF line ends",
                    line.trim_end()
                ),
            ),
            (Some(_), Some(path)) => {
                (NotFound, format!("the script's interpreter `{path}` is not in the image"))
            }
            (None, Some(path)) => (
                NotFound,
                format!(
                    "its dynamic loader `{path}` is not in the image: it was linked for another C library"
                ),
            ),
            _ => (NotFound, errno_text(errno)),
        },
        libc::EACCES if !looks.is_executable => {
            (NotExecutable, "permission denied: the file has no execute permission for this user".into())
        }
        libc::EACCES if script.is_some() => {
            (NotExecutable, "permission denied: the script's interpreter can't be run by this user".into())
        }
        libc::ENOEXEC => (NotExecutable, format!("exec format error: {}", format_reason(&looks.head))),
        libc::EACCES | libc::EPERM => (NotExecutable, "permission denied".into()),
        libc::E2BIG => (NotExecutable, "the arguments and the environment are too long".into()),
        libc::ELOOP | libc::ENAMETOOLONG => (NotExecutable, errno_text(errno)),
        _ => (Other, errno_text(errno)),
    }
}

/// Returns the first line of a script without its `#!`.
fn shebang(head: &[u8]) -> Option<&str> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    std::str::from_utf8(line).ok()
}

/// Returns the path of a script's interpreter or of an ELF file's dynamic loader.
fn interpreter(head: &[u8]) -> Option<String> {
    if let Some(line) = shebang(head) {
        return line.trim_start_matches([' ', '\t']).split([' ', '\t']).next().map(str::to_owned);
    }
    elf_loader(head)
}

/// `EI_CLASS` of 64-bit files, the size of their program headers, and `PT_INTERP`.
const ELF64: u8 = 2;
const PT_INTERP: u64 = 3;

fn number(bytes: &[u8], offset: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

fn elf_loader(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"\x7fELF") || head.get(5) != Some(&1) {
        return None;
    }
    let wide = head.get(4) == Some(&ELF64);
    let (table, size, count) = if wide {
        (number(head, 32, 8)?, number(head, 54, 2)?, number(head, 56, 2)?)
    } else {
        (number(head, 28, 4)?, number(head, 42, 2)?, number(head, 44, 2)?)
    };
    for index in 0..count {
        let entry = usize::try_from(table.checked_add(index * size)?).ok()?;
        if number(head, entry, 4)? != PT_INTERP {
            continue;
        }
        let (offset, length) = if wide {
            (number(head, entry.checked_add(8)?, 8)?, number(head, entry.checked_add(32)?, 8)?)
        } else {
            (number(head, entry.checked_add(4)?, 4)?, number(head, entry.checked_add(16)?, 4)?)
        };
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        let path = head.get(start..end)?.split(|&byte| byte == 0).next()?;
        return String::from_utf8(path.to_vec()).ok();
    }
    None
}

/// `e_machine` numbers of the architectures that images come for.
const MACHINES: [(u64, &str); 8] = [
    (3, "386"),
    (8, "mips"),
    (21, "ppc64le"),
    (22, "s390x"),
    (40, "arm"),
    (62, "amd64"),
    (183, "arm64"),
    (243, "riscv64"),
];

fn format_reason(head: &[u8]) -> String {
    if head.is_empty() {
        return "the file is empty or can't be read".into();
    }
    if !head.starts_with(b"\x7fELF") {
        let is_text = head.iter().all(|&byte| byte >= 32 || matches!(byte, b'\n' | b'\r' | b'\t'));
        let reason = match is_text {
            true => "it is a text file without a `#!` line",
            false => "it is neither a program nor a script",
        };
        return reason.into();
    }
    let machine = number(head, 18, 2).unwrap_or(0);
    match MACHINES.iter().find(|(number, _)| *number == machine) {
        Some((_, name)) => format!("it is a program for {name}, this machine is {}", this_machine()),
        None => format!("it is a program for machine type {machine}, this machine is {}", this_machine()),
    }
}

fn this_machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
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

    fn looks(head: &[u8]) -> Looks {
        Looks { exists: true, is_executable: true, head: head.to_vec(), ..Looks::default() }
    }

    #[test]
    fn each_failure_has_its_class_and_words() {
        use StartErrorKind::{NotExecutable, NotFound};
        let missing = Looks::default();
        let plain = Looks { is_executable: false, ..looks(b"echo") };
        let folder = Looks { is_folder: true, ..looks(b"") };
        let mut arm = b"\x7fELF\x02\x01".to_vec();
        arm.resize(18, 0);
        arm.extend([183, 0]);
        let cases = [
            (&missing, libc::ENOENT, NotFound, "no such file or directory"),
            (
                &looks(b"#!/bin/bash -e\necho"),
                libc::ENOENT,
                NotFound,
                "interpreter `/bin/bash` is not in the image",
            ),
            (&looks(b"#!/bin/sh\r\necho"), libc::ENOENT, NotFound, "carriage return"),
            (&plain, libc::EACCES, NotExecutable, "no execute permission"),
            (&folder, libc::EACCES, NotExecutable, "is a directory"),
            (&looks(b"echo hi\n"), libc::ENOEXEC, NotExecutable, "text file without a `#!` line"),
            (&looks(b""), libc::ENOEXEC, NotExecutable, "empty"),
            (&looks(&arm), libc::ENOEXEC, NotExecutable, "a program for arm64"),
        ];
        for (looks, errno, kind, text) in cases {
            let (got, reason) = reason(looks, errno);
            assert_eq!(got, kind, "{reason}");
            assert!(reason.contains(text), "{reason}");
        }
    }

    #[test]
    fn a_loader_is_read_from_the_program_header() {
        let path = b"/lib64/ld-linux-x86-64.so.2\0";
        let mut elf = vec![0; 120];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 3;
        elf[72] = 120;
        elf[96] = path.len() as u8;
        elf.extend(path);
        assert_eq!(elf_loader(&elf).as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        elf[72] = 255;
        assert_eq!(elf_loader(&elf), None);
        elf[32..40].fill(0xff);
        assert_eq!(elf_loader(&elf), None);
    }
}
