//! `kiln volume export`, `import`, `clone` and `snapshot`, while containers write and when kiln is killed.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use crate::support::binary::{Kiln, Ran, finish, gone, start};
use crate::support::needs_root;

/// Writes the same number to two files over and over, the second one after the first.
const WRITER: &str = "i=0; while true; do i=$((i+1)); echo $i > /x/one; echo $i > /x/two; done";

fn run(kiln: &Kiln, words: &[&str]) -> Ran {
    let words: Vec<&str> = ["run", "--network", "none"].iter().chain(words).copied().collect();
    kiln.run(&words)
}

fn sh(kiln: &Kiln, volume: &str, script: &str) -> Ran {
    run(kiln, &["--rm", "-v", &format!("{volume}:/x"), "busybox", "sh", "-c", script])
}

/// The numbers in both files of a copy.
fn pair(kiln: &Kiln, volume: &str) -> (u64, u64) {
    let data = kiln.root().join("volumes").join(volume).join("_data");
    let read = |name: &str| std::fs::read_to_string(data.join(name)).unwrap().trim().parse().unwrap_or(0);
    (read("one"), read("two"))
}

/// The writer still makes progress.
fn writes_on(kiln: &Kiln, volume: &str) {
    let before = pair(kiln, volume).0;
    gone("the pause of the writer", || {
        // A file that is being written may be empty.
        let now = pair(kiln, volume).0;
        if now > before { Vec::new() } else { vec![format!("{now} after {before}")] }
    });
}

#[test]
fn an_exported_volume_comes_back_as_it_was() {
    if !needs_root("an_exported_volume_comes_back_as_it_was") {
        return;
    }
    let kiln = Kiln::busybox();
    let script = "cd /x; echo a > a; ln a b; ln -s /etc/passwd link; mkdir -p d/e; chmod 1750 d; chown 7:8 a d .; chmod 2770 .";
    sh(&kiln, "data", script).ok();
    let tar = kiln.scratch().join("data.tar");
    let tar = tar.to_str().unwrap();
    kiln.ok(&["volume", "export", "-o", tar, "data"]);
    kiln.ok(&["volume", "import", "new", tar]);
    let at = |volume: &str, name: &str| {
        std::fs::symlink_metadata(kiln.root().join("volumes").join(volume).join("_data").join(name)).unwrap()
    };
    for name in [".", "a", "b", "d", "d/e", "link"] {
        let (one, other) = (at("data", name), at("new", name));
        assert_eq!(
            (one.mode(), one.uid(), one.gid(), one.nlink(), one.mtime()),
            (other.mode(), other.uid(), other.gid(), other.nlink(), other.mtime()),
            "{name}"
        );
    }
    assert_eq!(at("new", "a").ino(), at("new", "b").ino());
    kiln.run(&["volume", "import", "new", tar]).fails_with(&["volume `new` is not empty", "--force"]);
    let bytes = std::fs::read(tar).unwrap();
    sh(&kiln, "new", "echo > /x/more").ok();
    assert_eq!(kiln.run_with(&["volume", "import", "--force", "new"], &bytes).ok().out, "");
    assert_eq!(sh(&kiln, "new", "ls /x").ok().out, "a\nb\nd\nlink\n", "what was there is gone");
    kiln.run_with(&["volume", "import", "other"], b"no archive").fails_with(&["archive"]);
    kiln.run_with(&["volume", "import", "-f", "new"], b"").fails_with(&["the archive is empty"]);
    kiln.run_with(&["volume", "import", "other"], &bytes[..700]).fails_with(&["truncated"]);
    assert_eq!(kiln.ok(&["volume", "ls", "-q"]), "data\nnew\n", "a broken archive makes no volume");
    run(&kiln, &["-d", "--name", "user", "-v", "new:/x", "busybox", "sleep", "1000"]).ok();
    let words = ["volume", "import", "-f", "new", tar];
    kiln.run(&words).fails_with(&["in use by container `user`, which is running"]);
    kiln.run(&["volume", "export", "missing"]).fails_with(&["no such volume"]);
}

#[test]
fn a_hostile_archive_stays_in_its_volume() {
    if !needs_root("a_hostile_archive_stays_in_its_volume") {
        return;
    }
    let kiln = Kiln::busybox();
    let outside = kiln.scratch().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let archive = |entries: &[(tar::EntryType, &str, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, name, link) in entries {
            let mut header = tar::Header::new_old();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, &[][..]).unwrap();
        }
        tar.into_inner().unwrap()
    };
    use tar::EntryType::{Link, Regular, Symlink};
    let target = outside.to_str().unwrap();
    for entries in [
        &[(Regular, "../../../escaped", "")][..],
        &[(Symlink, "out", target), (Regular, "out/escaped", "")],
        &[(Symlink, "up", ".."), (Regular, "up/escaped", "")],
        &[(Link, "hard", "../../../../etc/passwd")],
    ] {
        let ran = kiln.run_with(&["volume", "import", "data"], &archive(entries));
        assert_ne!(ran.code, 0, "{ran}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!kiln.root().join("volumes/escaped").exists() && !kiln.root().join("escaped").exists());
    assert_eq!(kiln.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn copies_are_of_one_moment_while_a_container_writes() {
    if !needs_root("copies_are_of_one_moment_while_a_container_writes") {
        return;
    }
    let kiln = Kiln::busybox();
    run(&kiln, &["-d", "--name", "writer", "-v", "data:/x", "busybox", "sh", "-c", WRITER]).ok();
    gone("the first round", || if pair_is_there(&kiln) { Vec::new() } else { vec!["none yet".into()] });
    for round in 0..5 {
        let copy = format!("copy{round}");
        assert_eq!(kiln.ok(&["volume", "clone", "data", &copy]), format!("{copy}\n"));
        let (one, two) = pair(&kiln, &copy);
        // Between the two writes, or while one file is being written.
        assert!(one == 0 || two == 0 || one == two || one == two + 1, "round {round}: {one} {two}");
        writes_on(&kiln, "data");
    }
    // A paused one stays so.
    kiln.ok(&["pause", "writer"]);
    kiln.ok(&["volume", "clone", "data", "paused"]);
    assert_eq!(kiln.ok(&["inspect", "-f", "{{.State.Status}}", "writer"]), "paused\n");
    assert_eq!(pair(&kiln, "paused"), pair(&kiln, "data"));
    kiln.ok(&["unpause", "writer"]);
    writes_on(&kiln, "data");
    kiln.ok(&["rm", "-f", "writer"]);
}

fn pair_is_there(kiln: &Kiln) -> bool {
    kiln.root().join("volumes/data/_data/two").exists()
}

#[test]
fn a_snapshot_is_kept_as_it_is() {
    if !needs_root("a_snapshot_is_kept_as_it_is") {
        return;
    }
    let kiln = Kiln::busybox();
    sh(&kiln, "data", "echo old > /x/file").ok();
    assert_eq!(kiln.ok(&["volume", "snapshot", "--label", "why=test", "data", "monday"]), "monday\n");
    let named = kiln.ok(&["volume", "snapshot", "data"]);
    assert!(named.starts_with("data-20") && named.trim().ends_with('Z'), "{named}");
    sh(&kiln, "data", "echo new > /x/file").ok();
    assert_eq!(sh(&kiln, "monday", "cat /x/file").ok().out, "old\n");
    let refused = sh(&kiln, "monday", "echo > /x/file");
    assert!(refused.code == 1 && refused.error.contains("Read-only file system"), "{refused}");
    let labels = kiln.ok(&["volume", "inspect", "-f", "{{json .Labels}}", "monday"]);
    assert_eq!(labels, "{\"kiln.snapshot.of\":\"data\",\"why\":\"test\"}\n");
    assert_eq!(kiln.ok(&["volume", "clone", "monday", "back"]), "back\n");
    assert_eq!(sh(&kiln, "back", "echo more >> /x/file; cat /x/file").ok().out, "old\nmore\n");
    kiln.run(&["volume", "snapshot", "data", "monday"]).fails_with(&["`monday` already exists"]);
    kiln.run(&["volume", "clone", "missing", "x1"]).fails_with(&["no such volume: missing"]);
    kiln.run(&["volume", "clone", "data", "../x"]).fails_with(&["is not a volume name"]);
    kiln.run_with(&["volume", "import", "-f", "monday"], b"").fails_with(&["snapshot"]);
}

#[test]
fn a_killed_copy_lets_the_container_go_on_and_leaves_nothing() {
    if !needs_root("a_killed_copy_lets_the_container_go_on_and_leaves_nothing") {
        return;
    }
    let kiln = Kiln::busybox();
    let script = format!("dd if=/dev/zero bs=1M count=200 2>/dev/null | tr '\\0' x > /x/big; {WRITER}");
    run(&kiln, &["-d", "--name", "writer", "-v", "data:/x", "busybox", "sh", "-c", &script]).ok();
    gone("the first round", || if pair_is_there(&kiln) { Vec::new() } else { vec!["none yet".into()] });
    for delay in [5, 20, 60] {
        let mut copying = start(kiln.command(&["volume", "clone", "data", "copy"]).stdin(Stdio::null()));
        std::thread::sleep(Duration::from_millis(delay));
        let _ = copying.kill();
        finish(copying);
        writes_on(&kiln, "data");
        kiln.run(&["volume", "rm", "-f", "copy"]).ok();
    }
    kiln.ok(&["volume", "prune", "-f"]);
    let left = std::fs::read_dir(kiln.root().join("volumes/.new")).unwrap().count();
    assert_eq!(left, 0, "what was begun is swept");
    assert_eq!(kiln.ok(&["volume", "ls", "-q"]), "data\n");
    kiln.ok(&["rm", "-f", "writer"]);
}
