//! `kiln cp`, `diff` and `export`.

use std::collections::BTreeMap;
use std::io::Read;

use crate::support::kiln::Kiln;
use crate::support::needs_root;

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
                  rm -r /data/sub; mkdir /data/sub; touch /data/sub/new; echo a > /tmp/a; rm /tmp/a";
    kiln.ok(&["run", "--name", "busy", "--network", "none", "-v", "/vol", "busybox", "sh", "-c", script]);
    let expected = "C /data\nC /data/sub\nD /data/sub/file\nA /data/sub/new\nC /etc\nD /etc/group\nC /etc/passwd\n\
                    A /q\nA /q/r\nA /q/r/s\nC /tmp\nA /vol\nA /w2";
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
