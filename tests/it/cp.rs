//! `kiln cp`, `diff` and `export`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::kiln::Kiln;
use crate::support::needs_root;
use crate::support::pty::Pty;

const CONFIG: &str = r#"{"Cmd":["sh"],"Env":["PATH=/bin"]}"#;

/// A store with busybox in it; none where the test can't run.
fn kiln(name: &str) -> Option<Kiln> {
    if !needs_root(name) {
        return None;
    }
    let kiln = Kiln::new();
    kiln.add_busybox(CONFIG).then_some(kiln)
}

/// What a command that fails says.
fn refused(kiln: &Kiln, words: &[&str]) -> String {
    let output = kiln.run(words);
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The regular files of a tar, with their contents, and all names.
fn entries(tar: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = String::new();
        let _ = entry.read_to_string(&mut content);
        found.insert(name, content);
    }
    found
}

#[test]
fn diff_names_what_was_added_changed_and_deleted() {
    let Some(kiln) = kiln("diff_names_what_was_added_changed_and_deleted") else { return };
    kiln.ok(&["run", "--name", "fresh", "--network", "none", "busybox", "true"]);
    assert_eq!(kiln.ok(&["diff", "fresh"]), "", "what kiln mounts is no change");
    let script = "echo x >> /etc/passwd; rm /etc/group; mkdir -p /q/r; echo 1 > /q/r/s; mkdir /w; mv /w /w2; \
                  rm -r /data/sub; mkdir /data/sub; touch /data/sub/new; echo a > /tmp/a; rm /tmp/a; \
                  chmod 755 /bin/busybox; touch /bin";
    kiln.ok(&["run", "--name", "busy", "--network", "none", "-v", "/vol", "busybox", "sh", "-c", script]);
    let expected = "C /data\nC /data/sub\nD /data/sub/file\nA /data/sub/new\nC /etc\nD /etc/group\nC /etc/passwd\n\
                    A /q\nA /q/r\nA /q/r/s\nA /vol\nA /w2";
    assert_eq!(kiln.ok(&["diff", "busy"]), expected);
    kiln.ok(&[
        "run",
        "-d",
        "--name",
        "alive",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "touch /x; sleep 999",
    ]);
    for _ in 0..400 {
        if kiln.ok(&["container", "diff", "alive"]) == "A /x" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    assert_eq!(kiln.ok(&["diff", "alive"]), "A /x");
    assert!(refused(&kiln, &["diff", "nobody"]).contains("no such container: nobody"));
}

#[test]
fn export_writes_the_merged_files_without_volumes() {
    let Some(kiln) = kiln("export_writes_the_merged_files_without_volumes") else { return };
    let script = "echo mine > /mine; rm /data/sub/file; echo vol > /vol/inside; sleep 999";
    let run =
        ["run", "-d", "--name", "box", "--network", "none", "-v", "/vol", "busybox", "sh", "-c", script];
    kiln.ok(&run);
    kiln.ok(&["exec", "box", "sh", "-c", "until [ -e /vol/inside ]; do sleep 0.02; done"]);
    let output = kiln.run(&["export", "box"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = entries(&output.stdout);
    assert_eq!(files["mine"], "mine\n");
    assert!(files.contains_key("bin/busybox") && files.contains_key("vol/"), "{:?}", files.keys());
    assert!(!files.contains_key("data/sub/file") && !files.contains_key("vol/inside"));
    kiln.ok(&["kill", "box"]);
    kiln.ok(&["wait", "box"]);
    let path = kiln.root.path().join("out.tar");
    kiln.ok(&["container", "export", "-o", path.to_str().unwrap(), "box"]);
    assert_eq!(entries(&std::fs::read(&path).unwrap())["mine"], "mine\n");
    refused(&kiln, &["export", "-o", "/nowhere/at/all.tar", "box"]);
    refused(&kiln, &["export", "nobody"]);
}

/// A container `box`, running or not, and a folder of the machine with `file`, `dir/sub/x` and `link`.
fn a_box(kiln: &Kiln, running: bool, more: &[&str]) -> PathBuf {
    let verb: &[&str] = if running { &["run", "-d"] } else { &["create"] };
    let name = ["--name", "box", "--network", "none"];
    kiln.ok(&[verb, &name, more, &["busybox", "sleep", "999"]].concat());
    let here = kiln.root.path().join("here");
    std::fs::create_dir_all(here.join("dir/sub")).unwrap();
    std::fs::write(here.join("file"), "hi\n").unwrap();
    std::fs::write(here.join("dir/sub/x"), "x\n").unwrap();
    symlink("file", here.join("link")).unwrap();
    std::os::unix::fs::chown(here.join("file"), Some(1234), Some(1235)).unwrap();
    std::fs::set_permissions(here.join("file"), PermissionsExt::from_mode(0o4751)).unwrap();
    here
}

/// `kiln cp` with a folder of the machine as working directory; gives what it says when it fails.
fn cp(kiln: &Kiln, here: &Path, words: &[&str]) -> Result<(), String> {
    let output = kiln.command(&[&["cp"], words].concat()).current_dir(here).output().unwrap();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(String::from_utf8(output.stderr).unwrap()),
        other => panic!("{words:?}: {other:?} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The mounts that the machine has in the store.
fn mounts(kiln: &Kiln) -> String {
    let all = read("/proc/self/mountinfo");
    let root = kiln.root.path().display().to_string();
    all.lines().filter(|line| line.contains(&root)).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_the_kernel_makes_as_it_is_read_is_copied_whole_or_refused() {
    let Some(kiln) = kiln("what_the_kernel_makes_as_it_is_read_is_copied_whole_or_refused") else { return };
    let here = a_box(&kiln, true, &["--tmpfs", "/mem"]);
    for words in [["box:", "copy"], ["file", "box:"]] {
        assert!(cp(&kiln, &here, &words).unwrap_err().contains("the path in `box:` is empty"));
    }
    kiln.ok(&["exec", "box", "sh", "-c", "echo one > /mem/file; echo two > /dev/shm/file"]);
    for (path, content) in
        [("/sys/class/net/lo/mtu", "65536\n"), ("/mem/file", "one\n"), ("/dev/shm/file", "two\n")]
    {
        cp(&kiln, &here, &[&format!("box:{path}"), "copy"]).unwrap();
        assert_eq!(read(here.join("copy")), content, "{path}");
        std::fs::remove_file(here.join("copy")).unwrap();
    }
    for path in ["/proc/version", "/proc/sys/kernel/hostname", "/proc/1/exe", "/proc/1", "/proc"] {
        let refused = cp(&kiln, &here, &[&format!("box:{path}"), "copy"]).unwrap_err();
        assert!(refused.contains(path) && refused.contains("kiln exec box"), "{refused}");
        assert!(!here.join("copy").exists(), "{path}");
    }
    // What this machine says to who copies is a file as any other.
    cp(&kiln, &here, &["/proc/sys/kernel/ostype", "box:/mem/x"]).unwrap();
    let ours = std::fs::read_to_string("/proc/sys/kernel/ostype").unwrap();
    assert_eq!(kiln.ok(&["exec", "box", "cat", "/mem/x"]), ours.trim_end());
    kiln.ok(&["rm", "-f", "box"]);
}

#[test]
fn copies_are_named_by_dockers_rules_running_or_not() {
    let Some(kiln) = kiln("copies_are_named_by_dockers_rules_running_or_not") else { return };
    for running in [true, false] {
        let here = &a_box(&kiln, running, &[]);
        let before = mounts(&kiln);
        // Into the container.
        for words in [
            ["file", "box:/new"],
            ["file", "box:/tmp"],
            ["file", "box:tmp/../tmp/again"],
            ["dir", "box:/newdir"],
            ["dir", "box:/tmp/"],
            ["dir/.", "box:/data"],
            ["link", "box:/l"],
        ] {
            cp(&kiln, here, &words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
        cp(&kiln, here, &["-L", "link", "box:/followed"]).unwrap();
        cp(&kiln, here, &["file", "box:/l2/../l"]).unwrap();
        // And out again, seen from outside and inside.
        let out = here.join("out");
        std::fs::create_dir_all(&out).unwrap();
        for words in [
            ["box:/new", "out/a"],
            ["box:/newdir", "out"],
            ["box:/newdir/.", "out/contents"],
            ["box:/newdir/.", "out"],
            ["box:/data/sub/file", "out/"],
            ["box:/tmp/dir/sub", "out/named"],
            ["box:/l", "out/link"],
            ["box:/", "out/everything"],
        ] {
            cp(&kiln, here, &words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
        assert_eq!(read(out.join("a")), "hi\n");
        for name in ["newdir/sub/x", "contents/sub/x", "sub/x", "named/x", "everything/data/sub/x"] {
            assert_eq!(read(out.join(name)), "x\n", "{name}");
        }
        assert_eq!(read(out.join("file")), "from the image\n");
        assert!(!out.join("everything/proc/self").exists() && !out.join("everything/dev/null").exists());
        assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("file"));
        assert_eq!(read(out.join("everything/followed")), "hi\n");
        assert_eq!(read(out.join("everything/tmp/again")), "hi\n");
        for (words, why) in [
            (["dir", "box:/new"], "cannot copy directory"),
            (["box:/newdir", "file"], "cannot copy directory"),
            (["file", "box:/nope/x"], "could not find the file /nope in container box"),
            (["file", "box:/nope/"], "no such directory"),
            (["box:/nope", "."], "could not find the file /nope in container box"),
            (["box:/new", "./zz/yy"], "directory `zz` does not exist"),
            (["box:/new", "./zz/"], "no such directory"),
            (["nofile", "box:/x"], "cannot open `nofile`"),
            (["box:a", "box:b"], "copying between containers is not supported"),
            (["file", "dir"], "must specify at least one container source"),
            (["file", "nobody:/x"], "no such container: nobody"),
            (["dir", "box:/new/x"], "cannot use /new/x in container box: Not a directory"),
        ] {
            let said = cp(&kiln, here, &words).unwrap_err();
            assert!(said.contains(why), "{words:?}: {said}");
        }
        assert_eq!(mounts(&kiln), before, "nothing stays mounted");
        if !running {
            assert!(!kiln.ok(&["diff", "box"]).contains("/proc"), "looking makes no mount point");
            kiln.ok(&["start", "box"]);
        }
        let look = "cat /new /tmp/file /newdir/sub/x /tmp/dir/sub/x /data/sub/x; readlink /l; cat /l";
        assert_eq!(kiln.ok(&["exec", "box", "sh", "-c", look]), "hi\nhi\nx\nx\nx\nfile\nhi");
        kiln.ok(&["rm", "-f", "box"]);
        std::fs::remove_dir_all(here).unwrap();
    }
}

#[test]
fn a_hole_stays_a_hole() {
    let Some(kiln) = kiln("a_hole_stays_a_hole") else { return };
    let here = a_box(&kiln, false, &[]);
    std::fs::File::create(here.join("holey")).unwrap().set_len(50_000_001).unwrap();
    cp(&kiln, &here, &["holey", "box:/tmp/holey"]).unwrap();
    cp(&kiln, &here, &["box:/tmp/holey", "back"]).unwrap();
    let copied = std::fs::metadata(here.join("back")).unwrap();
    assert_eq!(copied.len(), 50_000_001);
    assert!(copied.blocks() < 1000, "{} blocks", copied.blocks());
}

#[test]
fn owners_and_rights_come_over_with_archive_only() {
    let Some(kiln) = kiln("owners_and_rights_come_over_with_archive_only") else { return };
    let here = &a_box(&kiln, true, &["--privileged"]);
    cp(&kiln, here, &["file", "box:/plain"]).unwrap();
    cp(&kiln, here, &["-a", "file", "box:/kept"]).unwrap();
    let stat = ["exec", "box", "stat", "-c", "%u:%g %a", "/plain", "/kept"];
    assert_eq!(kiln.ok(&stat), "0:0 4751\n1234:1235 4751");
    kiln.ok(&[
        "exec",
        "box",
        "sh",
        "-c",
        "mkdir /d && mknod /d/disk b 8 0 && mkfifo /d/fifo && chmod 666 /d/*",
    ]);
    kiln.ok(&["exec", "box", "sh", "-c", "cp -p /kept /d/ && touch -d '2001-02-03 04:05:06' /d/kept"]);
    let output = kiln.command(&["cp", "box:/d", "safe"]).current_dir(here).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not copied: device `safe/disk`"), "{said}");
    let kept = std::fs::metadata(here.join("safe/kept")).unwrap();
    assert_eq!((kept.uid(), kept.gid(), kept.mode() & 0o7777), (0, 0, 0o751));
    assert_eq!(kept.mtime(), 981_173_106);
    assert!(!here.join("safe/disk").exists() && here.join("safe/fifo").exists());
    cp(&kiln, here, &["--archive", "box:/d", "all"]).unwrap();
    let kept = std::fs::metadata(here.join("all/kept")).unwrap();
    assert_eq!((kept.uid(), kept.gid(), kept.mode() & 0o7777), (1234, 1235, 0o4751));
    assert_eq!(std::fs::metadata(here.join("all/disk")).unwrap().rdev(), 0x800);
}

#[test]
fn owners_are_those_inside_of_a_user_namespace() {
    let Some(kiln) = kiln("owners_are_those_inside_of_a_user_namespace") else { return };
    let here = a_box(&kiln, true, &["--userns", "auto", "-v", "vol:/vol"]);
    kiln.ok(&["exec", "box", "sh", "-c", "echo x > /in; chown 7:8 /in"]);
    for target in ["box:/plain", "box:/vol/plain"] {
        cp(&kiln, &here, &["file", target]).unwrap();
    }
    cp(&kiln, &here, &["-a", "file", "box:/kept"]).unwrap();
    cp(&kiln, &here, &["dir", "box:/newdir"]).unwrap();
    let stat = ["exec", "box", "stat", "-c", "%u:%g", "/plain", "/vol/plain", "/kept", "/newdir/sub/x"];
    assert_eq!(kiln.ok(&stat), "0:0\n0:0\n1234:1235\n0:0");
    for _stopped in [false, true] {
        cp(&kiln, &here, &["-a", "box:/in", "out"]).unwrap();
        let out = std::fs::metadata(here.join("out")).unwrap();
        assert_eq!((out.uid(), out.gid()), (7, 8));
        let tar = kiln.run(&["cp", "box:/in", "-"]).stdout;
        let mut archive = tar::Archive::new(&tar[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (7, 8));
        kiln.run(&["kill", "box"]);
        kiln.ok(&["wait", "box"]);
    }
}

#[test]
fn a_dash_is_a_tar_both_ways() {
    let Some(kiln) = kiln("a_dash_is_a_tar_both_ways") else { return };
    for running in [true, false] {
        let here = &a_box(&kiln, running, &[]);
        let tar = kiln.run(&["cp", "box:/data", "-"]);
        assert!(tar.status.success());
        assert_eq!(entries(&tar.stdout)["data/sub/file"], "from the image\n");
        let contents = kiln.run(&["cp", "box:/data/.", "-"]).stdout;
        assert_eq!(entries(&contents).keys().next().map(String::as_str), Some("./"));
        assert_eq!(entries(&contents)["./sub/file"], "from the image\n");
        let pipe = |words: &[&str], input: &[u8]| {
            let mut command = kiln.command(words);
            let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // A copy that is refused doesn't read it.
            let _ = child.stdin.take().unwrap().write_all(input);
            child.wait_with_output().unwrap()
        };
        assert!(pipe(&["cp", "-", "box:/tmp"], &tar.stdout).status.success());
        std::fs::write(here.join("t.tar"), &tar.stdout).unwrap();
        let gzip = std::process::Command::new("gzip").arg("-c").arg(here.join("t.tar")).output().unwrap();
        cp(&kiln, here, &["dir", "box:/packed"]).unwrap();
        assert!(pipe(&["cp", "-", "box:/packed"], &gzip.stdout).status.success());
        for copied in ["/tmp/data/sub/file", "/packed/data/sub/file"] {
            let place = format!("box:{copied}");
            cp(&kiln, here, &[&place, "copied"]).unwrap();
            assert_eq!(read(here.join("copied")), "from the image\n");
        }
        let refused = pipe(&["cp", "-", "box:/etc/passwd"], &tar.stdout);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("destination `box:/etc/passwd` must be a directory"), "{said}");
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..7].copy_from_slice(b"../evil");
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(0);
        header.set_cksum();
        let said = String::from_utf8(pipe(&["cp", "-", "box:/tmp"], header.as_bytes()).stderr).unwrap();
        assert!(said.contains("leads out of it"), "{said}");
        kiln.ok(&["rm", "-f", "box"]);
        std::fs::remove_dir_all(here).unwrap();
    }
}

#[test]
fn volumes_and_binds_of_the_container_are_honoured() {
    let Some(kiln) = kiln("volumes_and_binds_of_the_container_are_honoured") else { return };
    for running in [true, false] {
        let folder = kiln.root.path().join("bound");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("mine"), "bound\n").unwrap();
        let (bind, ro) = (format!("{}:/b", folder.display()), format!("{}:/ro:ro", folder.display()));
        let here = &a_box(&kiln, running, &["-v", "named:/data", "-v", &bind, "-v", &ro]);
        cp(&kiln, here, &["box:/b/mine", "mine"]).unwrap();
        assert_eq!(read(here.join("mine")), "bound\n");
        cp(&kiln, here, &["file", "box:/b/put"]).unwrap();
        assert_eq!(read(folder.join("put")), "hi\n", "a bind is the machine's folder");
        cp(&kiln, here, &["file", "box:/data/put"]).unwrap();
        let said = cp(&kiln, here, &["file", "box:/ro/put"]).unwrap_err();
        assert!(said.contains("mounted volume is marked read-only"), "{said}");
        cp(&kiln, here, &["box:/ro/.", "ro"]).unwrap();
        assert_eq!(read(here.join("ro/put")), "hi\n");
        let look =
            ["run", "--rm", "--network", "none", "-v", "named:/v", "busybox", "cat", "/v/put", "/v/sub/file"];
        assert_eq!(kiln.ok(&look), "hi\nfrom the image");
        kiln.ok(&["rm", "-f", "box"]);
        std::fs::remove_dir_all(here).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
    for running in [true, false] {
        let here = &a_box(&kiln, running, &["--read-only", "-v", "/vol"]);
        let said = cp(&kiln, here, &["file", "box:/tmp/x"]).unwrap_err();
        assert!(said.contains("container rootfs is marked read-only"), "{said}");
        cp(&kiln, here, &["file", "box:/vol/x"]).unwrap();
        kiln.ok(&["rm", "-f", "-v", "box"]);
        std::fs::remove_dir_all(here).unwrap();
    }
}

#[test]
fn the_links_of_a_container_lead_nowhere_else() {
    let Some(kiln) = kiln("the_links_of_a_container_lead_nowhere_else") else { return };
    let victim = kiln.root.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("secret"), "of the machine").unwrap();
    let path = victim.display().to_string();
    let script = format!(
        "ln -s {path} /abs; ln -s ../../../../../../..{path} /rel; ln -s /proc/1/root/{path} /magic; \
         ln -s {path}/secret /file; mkdir /made; ln -s {path}/new /made/dangling; sleep 999"
    );
    kiln.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", &script]);
    kiln.ok(&["exec", "box", "sh", "-c", "until [ -L /made/dangling ]; do sleep 0.02; done"]);
    let here = kiln.root.path().join("here");
    std::fs::create_dir(&here).unwrap();
    std::fs::write(here.join("payload"), "attack").unwrap();
    for running in [true, false] {
        for link in ["/abs", "/rel", "/magic"] {
            for source in [format!("box:{link}/"), format!("box:{link}/."), format!("box:{link}/secret")] {
                cp(&kiln, &here, &[&source, "got"]).unwrap_err();
            }
            let target = format!("box:{link}/");
            cp(&kiln, &here, &["payload", &target]).unwrap_err();
            cp(&kiln, &here, &["payload", &format!("box:{link}/put")]).unwrap_err();
        }
        cp(&kiln, &here, &["-L", "box:/file", "got"]).unwrap_err();
        cp(&kiln, &here, &["payload", "box:/made/dangling"]).unwrap_err();
        // A link on the machine that stands in the way of what comes out isn't followed either.
        let out = here.join(format!("out-{running}"));
        std::fs::create_dir(&out).unwrap();
        symlink(&victim, out.join("data")).unwrap();
        let said = cp(&kiln, &here, &["box:/data", out.to_str().unwrap()]).unwrap_err();
        assert!(said.contains("cannot overwrite non-directory"), "{said}");
        kiln.run(&["kill", "box"]);
        kiln.ok(&["wait", "box"]);
    }
    assert!(!here.join("got").exists());
    let names: Vec<_> = std::fs::read_dir(&victim).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(read(victim.join("secret")), "of the machine");
}

#[test]
fn a_container_that_exchanges_folders_for_links_gains_nothing() {
    let Some(kiln) = kiln("a_container_that_exchanges_folders_for_links_gains_nothing") else { return };
    let victim = kiln.root.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("secret"), "of the machine").unwrap();
    let path = victim.display();
    let script = format!(
        "mkdir -p /t/a/b; echo inside > /t/a/b/secret; ln -s {path} /link; ln -s {path} /t/a/link; \
         while :; do mv /t/a/b /t/a/c; mv /t/a/link /t/a/b; mv /t/a/b /t/a/link; mv /t/a/c /t/a/b; done"
    );
    kiln.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", &script]);
    kiln.ok(&["exec", "box", "sh", "-c", "until [ -L /t/a/link -o -L /t/a/b ]; do sleep 0.02; done"]);
    let here = kiln.root.path().join("here");
    std::fs::create_dir_all(here.join("tree/a/b")).unwrap();
    std::fs::write(here.join("tree/a/b/payload"), "attack").unwrap();
    let mut copied = 0;
    for round in 0..40 {
        let out = format!("out{round}");
        copied += i32::from(cp(&kiln, &here, &["box:/t/.", &out]).is_ok());
        copied += i32::from(cp(&kiln, &here, &["tree/.", "box:/t"]).is_ok());
        copied += i32::from(cp(&kiln, &here, &["tree/a/b/payload", "box:/t/a/b/"]).is_ok());
        let got = here.join(&out).join("a/b/secret");
        let through_link = here.join(&out).join("a/b").is_symlink();
        if let Ok(text) = std::fs::read_to_string(&got)
            && !through_link
        {
            assert_eq!(text, "inside\n");
        }
    }
    assert!(copied > 0, "some copies meet a quiet moment");
    let names: Vec<_> = std::fs::read_dir(&victim).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(read(victim.join("secret")), "of the machine");
}

#[test]
fn a_copy_that_is_killed_leaves_nothing_mounted_and_the_container_usable() {
    let Some(kiln) = kiln("a_copy_that_is_killed_leaves_nothing_mounted_and_the_container_usable") else {
        return;
    };
    let here = a_box(&kiln, false, &["-v", "vol:/vol"]);
    let before = mounts(&kiln);
    for number in 0..600 {
        std::fs::write(here.join(format!("dir/sub/{number}")), vec![7; 20_000]).unwrap();
    }
    cp(&kiln, &here, &["dir", "box:/big"]).unwrap();
    let verbs: [&[&str]; 6] = [
        &["cp", "dir", "box:/put"],
        &["cp", "dir", "box:/vol/put"],
        &["cp", "box:/big", "out"],
        &["export", "-o", "out.tar", "box"],
        &["commit", "box"],
        &["diff", "box"],
    ];
    for moment in 0..30 {
        let mut command = kiln.command(verbs[moment % verbs.len()]);
        let mut child =
            command.current_dir(&here).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5 * moment as u64));
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(mounts(&kiln), before, "after moment {moment}");
    }
    kiln.ok(&["start", "box"]);
    assert_eq!(kiln.ok(&["exec", "box", "sh", "-c", "ls /big/sub | wc -l"]), "601");
}

#[test]
fn success_is_told_on_a_terminal_unless_it_is_to_be_quiet() {
    let Some(kiln) = kiln("success_is_told_on_a_terminal_unless_it_is_to_be_quiet") else { return };
    let here = a_box(&kiln, false, &[]);
    let file = here.join("file").display().to_string();
    let mut pty = Pty::spawn(&kiln.command(&["cp", &file, "box:/x"]));
    pty.expect("Successfully copied 2.05kB to box:/x");
    assert_eq!(pty.wait().0, 0);
    let pty = Pty::spawn(&kiln.command(&["cp", "-q", "box:/x", &file]));
    assert_eq!(pty.wait(), (0, String::new()));
    let output = kiln.run(&["cp", &file, "box:/x"]);
    assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()));
}
