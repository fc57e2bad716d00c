//! Every case of `testdata/dockerfiles` that has an `image.json`, built and compared with what the peer made of it.
//!
//! A case is recorded by `testdata/record.py`, which tells what belongs to it; nothing of the peer is needed here.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::image::Image;
use crate::support::binary::{self, Kiln, Ran};
use crate::support::needs_root;

/// Builds at the same time: steps wait for processes and disks.
const THREADS: usize = 4;

/// Cases whose image differs, or that kiln refuses or accepts where the peer doesn't, and why that is meant.
const DECIDED: &[(&str, &str)] = &[
    (
        "add-tar-user-xattrs",
        "docker's layers hold security.capability only; kiln keeps what the archive brings",
    ),
    (
        "copy-chown-unknown-user",
        "the peer takes root for a user that isn't there; kiln says so, as buildah does",
    ),
    (
        "copy-exclude-of-files",
        "the peer excludes nothing from sources that are files, against its own manual",
    ),
    ("copy-from-stage-block-device", "the peer makes a character device of a block device"),
    ("label-with-nul", "kiln refuses a NUL byte: no text has one"),
    ("platform-of-scratch", "the peer ignores the platform that is asked for"),
    ("refused-copy-from-variable", "kiln takes variables in --from"),
    ("refused-mount-from-variable", "kiln takes variables in a mount's from="),
    ("refused-target-by-index", "kiln takes a stage's number, as --from does"),
    ("run-hard-links-across-steps", "overlayfs parts the names of a file when one of them is written"),
    ("run-stubs-of-mounts", "the peer leaves its mount points /dev, /proc and /sys behind"),
    ("workdir-dots", "the peer makes the directories that `..` leaves again"),
];

#[test]
fn images_equal_those_that_the_peer_recorded() {
    if !needs_root("images_equal_those_that_the_peer_recorded") {
        return;
    }
    let cases = cases();
    assert!(cases.len() >= 120, "{} recorded cases", cases.len());
    let kiln = Kiln::empty();
    kiln.run_with(&["import", "-", "busybox:latest"], &base_tar()).ok();
    let base = kiln.scratch().join("base.tar");
    kiln.ok(&["save", "-o", base.to_str().unwrap(), "busybox:latest"]);
    let base = fs::read(base).unwrap();
    let next = Mutex::new(cases.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let base = Image::read(&base, None);
                loop {
                    let Some(case) = next.lock().unwrap().next() else { return };
                    let found = differences(&kiln, case, &base);
                    wrong.lock().unwrap().extend(judged(case, found));
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The recorded cases.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfiles");
    let cases = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = cases.filter(|case| case.join("image.json").exists()).collect();
    cases.sort();
    cases
}

/// A decided difference has to be there, any other must not.
fn judged(case: &Path, found: String) -> Option<String> {
    let name = case.file_name().unwrap().to_str().unwrap();
    match DECIDED.iter().find(|(decided, _)| *decided == name) {
        Some((_, why)) if found.is_empty() => Some(format!("{name}: equal by now, so not decided: {why}")),
        None if !found.is_empty() => Some(format!("{name}\n{found}")),
        _ => None,
    }
}

/// Builds a case; gives a line for each thing that isn't as recorded.
fn differences(kiln: &Kiln, case: &Path, base: &Image) -> String {
    let recorded: Value = serde_json::from_slice(&fs::read(case.join("image.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir_in(kiln.scratch()).unwrap();
    let archive = folder.path().join("image.tar");
    let built = build(kiln, case, &context(case, folder.path()), &archive);
    let refused = recorded.get("refused");
    match (built.code, refused) {
        (0, Some(said)) => format!("    kiln builds what the peer refuses: {said}\n"),
        (1, Some(_)) => String::new(),
        (0, None) => {
            compare(&recorded, &Image::read(&fs::read(&archive).unwrap(), Some(base)).recording(base))
        }
        _ => format!("    kiln fails: {built}\n"),
    }
}

/// Makes the build context of a case.
fn context(case: &Path, folder: &Path) -> PathBuf {
    let context = folder.join("context");
    fs::create_dir(&context).unwrap();
    let script = case.join("context.sh");
    if script.exists() {
        let text = format!("umask 022; . {}", script.display());
        let made = Command::new("sh")
            .args(["-e", "-c", &text])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(&context)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&made.stderr));
    }
    fs::copy(case.join("Dockerfile"), context.join("Dockerfile")).unwrap();
    context
}

fn build(kiln: &Kiln, case: &Path, context: &Path, archive: &Path) -> Ran {
    let before = case.join("base.Dockerfile");
    if before.exists() {
        let name = format!("base-of-{}", case.file_name().unwrap().display());
        kiln.build(context, &["-f", before.to_str().unwrap(), "-t", &name]).ok();
    }
    let flags = fs::read_to_string(case.join("flags.txt")).unwrap_or_default();
    let folder = format!("{}/", case.display());
    let word = |word: &str| match word.strip_prefix('@') {
        Some(name) => format!("{folder}{name}"),
        None => word.replace("=@", &format!("={folder}")),
    };
    let mut words: Vec<String> = flags.lines().map(word).collect();
    words.extend(["-o".to_owned(), format!("type=docker,dest={}", archive.display())]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    binary::run(kiln.build_command(context, &words).current_dir(context))
}

/// The parts of the recording against those of kiln's image. What a recording leaves out isn't compared.
fn compare(recorded: &Value, made: &Value) -> String {
    let mut out = String::new();
    for part in ["architecture", "variant", "os", "author", "config", "history", "files"] {
        let only_files = recorded.get("history").is_none();
        if only_files && part != "files" {
            continue;
        }
        let (expected, actual) = (pieces(&recorded[part]), pieces(&made[part]));
        for (key, value) in &expected {
            let found = actual.iter().find(|(other, _)| other == key).map(|(_, value)| value);
            if found != Some(value) {
                let found = found.map_or("nothing".to_owned(), ToString::to_string);
                let _ = writeln!(out, "    {part} {key}\n        peer {value}\n        kiln {found}");
            }
        }
        for (key, value) in actual.iter().filter(|(key, _)| expected.iter().all(|(other, _)| other != key)) {
            let _ = writeln!(out, "    {part} {key}\n        peer nothing\n        kiln {value}");
        }
    }
    out
}

/// A value's members, the lines of a list by number, or the value alone.
fn pieces(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| (format!("{:02}", index + 1), item.clone()))
            .collect(),
        Value::Null => Vec::new(),
        other => vec![(String::new(), json!(other))],
    }
}

/// The base that the recordings were made with: `base_tar` of `testdata/record.py`.
fn base_tar() -> Vec<u8> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| fs::read(path).ok());
    let program = program.expect("the tests need the package busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind, name: &str, mode, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if kind == tar::EntryType::Symlink {
            header.set_link_name("busybox").unwrap();
        }
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
    };
    for name in ["bin", "dev", "etc", "home", "proc", "sys"] {
        add(tar::EntryType::Directory, name, 0o755, b"");
    }
    add(tar::EntryType::Directory, "root", 0o700, b"");
    add(tar::EntryType::Directory, "tmp", 0o1777, b"");
    add(tar::EntryType::Regular, "bin/busybox", 0o755, &program);
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n";
    add(tar::EntryType::Regular, "etc/passwd", 0o644, passwd.as_bytes());
    add(tar::EntryType::Regular, "etc/group", 0o644, b"root:x:0:\nuser:x:1000:\nstaff:x:50:\n");
    let applets = "cat chmod chown cp echo env find grep head id ln ls mkdir mkfifo mknod mv rm sh stat touch tr \
                   true wc";
    for applet in applets.split_whitespace() {
        add(tar::EntryType::Symlink, &format!("bin/{applet}"), 0o777, b"");
    }
    tar.into_inner().unwrap()
}
