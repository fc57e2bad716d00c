//! Why a file doesn't run, read from the file itself.
//!
//! The kernel has one word for many mistakes: a script whose interpreter is missing "isn't found", though everybody
//! sees it. Pure: who asks has read the file's first bytes and knows what else there is.

use super::error::{StartErrorKind, errno_text};

/// How much of a file has to be read to explain why it doesn't run.
pub const HEAD_BYTES: u64 = 4096;

/// What is known of a file that didn't run.
#[derive(Debug, Default)]
pub struct Looks {
    /// There is something of that name.
    pub exists: bool,
    /// It is a folder.
    pub is_folder: bool,
    /// Its mode lets the user run it.
    pub is_executable: bool,
    /// Its filesystem runs no programs.
    pub is_noexec: bool,
    /// Its first bytes, up to [`HEAD_BYTES`].
    pub head: Vec<u8>,
    /// What [`interpreter`] names is there, or it names nothing.
    pub interpreter_exists: bool,
}

/// Says why a file that looks so gave this error.
pub(super) fn reason(looks: &Looks, errno: i32) -> (StartErrorKind, String) {
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
        libc::EACCES if looks.is_noexec => {
            (NotExecutable, "permission denied: its filesystem is mounted `noexec`".into())
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

/// Says why a file that looks so can't be run, when that is sure.
///
/// For a shell's failure: a text without a first line `#!` is none, a shell reads it itself.
pub fn defect(looks: &Looks) -> Option<String> {
    let errno = if looks.is_folder || !looks.is_executable {
        libc::EACCES
    } else if looks.head.is_empty() || is_foreign(&looks.head) {
        libc::ENOEXEC
    } else if !looks.interpreter_exists {
        libc::ENOENT
    } else {
        return None;
    };
    Some(reason(looks, errno).1)
}

/// Returns what to do about a file that can't be run.
pub fn hint(looks: &Looks) -> Option<String> {
    if !looks.exists || looks.is_folder || looks.is_noexec {
        return None;
    }
    let script = shebang(&looks.head);
    let hint = match (script, interpreter(&looks.head)) {
        _ if !looks.is_executable => "make it executable: `COPY --chmod=755 …`, or `RUN chmod +x …`".to_owned(),
        _ if is_foreign(&looks.head) => {
            format!("bring the program for {}, or build with `--platform`", this_machine())
        }
        (Some(line), _) if line.ends_with('\r') => {
            "save the file with LF line ends; `*.sh text eol=lf` in .gitattributes keeps git from changing them".into()
        }
        (Some(_), Some(path)) if !looks.interpreter_exists => {
            format!("install `{path}`, or begin the script with one that the image has, such as `#!/bin/sh`")
        }
        (None, Some(_)) if !looks.interpreter_exists => {
            "use a base image with that C library (glibc or musl), or link the program statically".into()
        }
        (None, None) if is_text(&looks.head) && !looks.head.is_empty() => "begin the file with `#!/bin/sh`".into(),
        _ => return None,
    };
    Some(hint)
}

/// Tells whether this is a program for another machine.
fn is_foreign(head: &[u8]) -> bool {
    // A machine of 64 bits mostly runs the programs of its elder of 32.
    let known = MACHINES.iter().find(|(_, name)| *name == this_machine()).map(|(number, _)| *number);
    let runs = |machine: u64| Some(machine) == known || (machine == 3 && known == Some(62));
    machine(head).is_some_and(|machine| !runs(machine))
}

/// Returns `e_machine` of an ELF file, in the file's own order of bytes.
fn machine(head: &[u8]) -> Option<u64> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let number = number(head, 18, 2)?;
    Some(if head.get(5) == Some(&2) { number >> 8 | (number & 0xff) << 8 } else { number })
}

fn is_text(head: &[u8]) -> bool {
    head.iter().all(|&byte| byte >= 32 || matches!(byte, b'\n' | b'\r' | b'\t'))
}

/// Returns the first line of a script without its `#!`.
fn shebang(head: &[u8]) -> Option<&str> {
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    std::str::from_utf8(line).ok()
}

/// Returns the path of a script's interpreter or of an ELF file's dynamic loader.
pub fn interpreter(head: &[u8]) -> Option<String> {
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
        let reason = match is_text(head) {
            true => "it is a text file without a `#!` line",
            false => "it is neither a program nor a script",
        };
        return reason.into();
    }
    let machine = machine(head).unwrap_or(0);
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
