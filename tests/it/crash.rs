//! `kill -9` in the middle of builds: the next one succeeds, and nothing half-made is seen or stays.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use kiln::network::Networks;
use kiln::oci::media_type;
use serde_json::json;

use crate::support::binary::{Kiln, busybox_tar, finish, gone, names, read, start};
use crate::support::needs_root;
use crate::support::registry::FakeRegistry;

fn mounts(root: &Path) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains(root.to_str().unwrap())).map(str::to_owned).collect()
}

/// Kills a kiln, and nothing that it started.
fn kill(mut child: Child) {
    child.kill().unwrap();
    finish(child);
}

/// What a store holds is whole, and after a collection only what its images need.
fn check(kiln: &Kiln) {
    kiln.settle();
    assert_eq!(mounts(kiln.root()), Vec::<String>::new());
    let bridge = Networks::new(&kiln.root().join("networks")).bridge().to_owned();
    gone("links", || names(&Path::new("/sys/class/net").join(&bridge).join("brif")));
}

/// Removes everything; a store of which nothing is used is empty.
fn empty(kiln: &Kiln) {
    kiln.ok(&["prune", "-f", "-a"]);
    for folder in ["snapshots", "blobs/sha256", "tmp", "trash", "leases"] {
        assert_eq!(names(&kiln.root().join(folder)), Vec::<String>::new(), "{folder}");
    }
}

#[test]
fn a_build_killed_at_any_moment_leaves_only_garbage() {
    if !needs_root("a_build_killed_at_any_moment_leaves_only_garbage") {
        return;
    }
    let kiln = Kiln::busybox();
    let big = "content\n".repeat(200_000);
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox AS a\nARG N\nCOPY big /big\nRUN sleep 0.05; echo a$N > /a; cat /big > /copy\n\
             FROM busybox AS b\nARG N\nRUN sleep 0.1 && echo b$N > /b && (sleep 500 &) && sleep 0.05\n\
             FROM busybox\nCOPY --from=a /a /copy /\nCOPY --from=b /b /\nWORKDIR /w\nRUN cat /a /b > /both; sleep 0.05\n",
        ),
        ("big", &big),
    ]);
    // A step that outlives nothing: its processes end with their kiln.
    for moment in 0..12_u64 {
        let argument = format!("N={moment}");
        let tag = format!("killed:{moment}");
        let words = ["--network", "bridge", "--build-arg", &argument, "-t", &tag];
        let child = start(&mut kiln.build_command(&context, &words));
        std::thread::sleep(Duration::from_millis(moment * 45));
        kill(child);
        check(&kiln);
        let listed = kiln.ok(&["images", "-q", &tag]);
        if !listed.is_empty() {
            // It was through already; then all of it has to be there.
            kiln.ok(&["save", &tag, "-o", kiln.scratch().join("saved").to_str().unwrap()]);
        }
        let files = kiln.build_files(&context, &words);
        assert_eq!(read(&files, "both"), format!("a{moment}\nb{moment}\n"));
        assert_eq!(read(&files, "copy").len(), big.len());
        check(&kiln);
    }
    kiln.ok(&["prune", "-f"]);
    assert_eq!(names(&kiln.root().join("tmp")), Vec::<String>::new());
    empty(&kiln);
}

#[test]
fn a_pull_killed_at_any_moment_leaves_only_garbage() {
    if !needs_root("a_pull_killed_at_any_moment_leaves_only_garbage") {
        return;
    }
    let registry = FakeRegistry::start();
    let base = busybox_tar();
    let extra = {
        let mut tar = tar::Builder::new(Vec::new());
        for number in 0..200 {
            let mut header = tar::Header::new_gnu();
            header.set_size(10_000);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("d/{number}"), &[b'x'; 10_000][..]).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let diffs: Vec<String> = [&base, &extra].map(|layer| kiln_cache::Digest::of(layer).to_string()).into();
    let config = json!({
        "architecture": kiln::oci::Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diffs },
    });
    let layers = [(media_type::OCI_LAYER, base.as_slice()), (media_type::OCI_LAYER, extra.as_slice())];
    registry.put_image("base", "latest", &layers, &config);
    let kiln = Kiln::empty();
    let text = format!("FROM {}/base\nRUN ls /d | wc -l > /count\n", registry.host());
    let context = kiln.context(&[("Dockerfile", &text)]);
    for moment in 0..10_u64 {
        let child = start(&mut kiln.build_command(&context, &["-t", "pulled"]));
        std::thread::sleep(Duration::from_millis(5 + moment * 25));
        kill(child);
        kiln.settle();
        for line in kiln.ok(&["images", "-q"]).lines() {
            kiln.ok(&["save", line, "-o", kiln.scratch().join("saved").to_str().unwrap()]);
        }
        if moment % 3 == 2 {
            empty(&kiln);
        }
    }
    assert_eq!(read(&kiln.build_files(&context, &[]), "count"), "200\n");
    empty(&kiln);
}

/// Tells whether this process, and so its children, ignores the signal.
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1
}

#[test]
fn an_interrupted_build_ends_its_steps() {
    if !needs_root("an_interrupted_build_ends_its_steps") {
        return;
    }
    let kiln = Kiln::busybox();
    let context =
        kiln.context(&[("Dockerfile", "FROM busybox\nRUN trap '' INT TERM; touch /x; sleep 600\n")]);
    // A shell starts its background jobs with SIGINT ignored, and what is ignored stays so.
    let signals: &[&str] = if is_ignored(2) { &["-TERM"] } else { &["-INT", "-TERM"] };
    for signal in signals {
        let child = start(&mut kiln.build_command(&context, &["-t", "never"]));
        std::thread::sleep(Duration::from_millis(300));
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args([*signal, &pid]).status().unwrap().success());
        let ended = finish(child);
        assert_ne!(ended.code, 0, "{ended}");
        check(&kiln);
        assert_eq!(kiln.ok(&["images", "-q", "never"]), "");
    }
    kiln.ok(&["prune", "-f"]);
    assert_eq!(names(&kiln.root().join("tmp")), Vec::<String>::new());
}
