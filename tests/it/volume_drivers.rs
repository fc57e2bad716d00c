//! Volumes whose driver has options: what they name is mounted while containers use them.

use std::process::Command;

use crate::support::binary::{Kiln, Ran, gone};
use crate::support::needs_root;

fn sh(kiln: &Kiln, volume: &str, script: &str) -> Ran {
    let bind = format!("{volume}:/x");
    kiln.run(&["run", "--rm", "--network", "none", "-v", &bind, "busybox", "sh", "-c", script])
}

fn create(kiln: &Kiln, name: &str, options: &[&str]) -> Ran {
    let options = options.iter().flat_map(|option| ["-o", option]);
    let words: Vec<&str> = ["volume", "create"].into_iter().chain(options).chain([name]).collect();
    kiln.run(&words)
}

/// The mounts of the machine that lie in the store's volumes.
fn mounts(kiln: &Kiln) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let volumes = kiln.root().join("volumes");
    table.lines().filter(|line| line.contains(volumes.to_str().unwrap())).map(str::to_owned).collect()
}

#[test]
fn a_bind_shows_the_hosts_folder_and_outlives_the_volume() {
    if !needs_root("a_bind_shows_the_hosts_folder_and_outlives_the_volume") {
        return;
    }
    let kiln = Kiln::busybox();
    let host = kiln.scratch().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "host\n").unwrap();
    let device = format!("device={}", host.display());
    create(&kiln, "data", &["type=none", "o=bind", &device]).ok();
    assert_eq!(sh(&kiln, "data", "cat /x/file; echo new > /x/new").ok().out, "host\n");
    assert_eq!(std::fs::read_to_string(host.join("new")).unwrap(), "new\n");
    kiln.settle();
    assert_eq!(mounts(&kiln), [""; 0], "nobody uses it any more");
    create(&kiln, "fixed", &["o=bind,ro", &device]).ok();
    assert_eq!(sh(&kiln, "fixed", "echo > /x/file").code, 1);
    let options = kiln.ok(&["volume", "inspect", "-f", "{{.Options.o}} {{.Options.type}}", "data"]);
    assert_eq!(options, "bind none\n");
    kiln.run(&["volume", "import", "-f", "data"]).fails_with(&["its driver mounts"]);
    assert_eq!(kiln.ok(&["volume", "clone", "data", "copy"]), "copy\n");
    assert_eq!(sh(&kiln, "copy", "cat /x/file").ok().out, "host\n");
    // Files of a container that doesn't run are found there, too.
    kiln.ok(&["create", "--name", "box", "-v", "data:/x", "busybox", "true"]);
    let there = kiln.scratch().join("there");
    kiln.ok(&["cp", "box:/x/file", there.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(there).unwrap(), "host\n");
    kiln.ok(&["rm", "box"]);
    kiln.ok(&["volume", "rm", "data", "fixed", "copy"]);
    assert!(host.join("file").exists(), "what is mounted isn't the volume's to delete");
    assert_eq!(mounts(&kiln), [""; 0]);
}

#[test]
fn memory_is_shared_by_all_that_run_and_gone_after() {
    if !needs_root("memory_is_shared_by_all_that_run_and_gone_after") {
        return;
    }
    let kiln = Kiln::busybox();
    create(&kiln, "mem", &["type=tmpfs", "device=tmpfs", "o=size=1m,mode=700"]).ok();
    for name in ["one", "two"] {
        let words =
            ["run", "-d", "--name", name, "--network", "none", "-v", "mem:/x", "busybox", "sleep", "1000"];
        kiln.ok(&words);
    }
    kiln.ok(&["exec", "one", "sh", "-c", "echo shared > /x/file"]);
    assert_eq!(kiln.ok(&["exec", "two", "cat", "/x/file"]), "shared\n");
    assert_eq!(kiln.ok(&["exec", "two", "stat", "-f", "-c", "%b*%S", "/x"]), "256*4096\n");
    kiln.ok(&["rm", "-f", "one"]);
    assert_eq!(kiln.ok(&["exec", "two", "cat", "/x/file"]), "shared\n", "the other one still has it");
    kiln.run(&["volume", "rm", "mem"]).fails_with(&["in use by container `two`"]);
    kiln.ok(&["rm", "-f", "two"]);
    kiln.settle();
    assert_eq!(mounts(&kiln), [""; 0]);
    assert_eq!(sh(&kiln, "mem", "ls /x").ok().out, "");
}

#[test]
fn a_killed_monitor_leaves_no_mount_past_the_next_command() {
    if !needs_root("a_killed_monitor_leaves_no_mount_past_the_next_command") {
        return;
    }
    let kiln = Kiln::busybox();
    create(&kiln, "mem", &["type=tmpfs"]).ok();
    kiln.ok(&["run", "-d", "--name", "box", "--network", "none", "-v", "mem:/x", "busybox", "sleep", "1000"]);
    assert_eq!(mounts(&kiln).len(), 1);
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", "box"]);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
    let monitor = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    assert!(Command::new("kill").args(["-9", monitor]).status().unwrap().success());
    gone("the mount", || {
        kiln.ok(&["ps", "-a"]);
        mounts(&kiln)
    });
    kiln.ok(&["rm", "box"]);
    // What is mounted there without a user is found, too.
    let data = kiln.root().join("volumes/mem/_data");
    assert!(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&data).status().unwrap().success());
    let told = kiln.run(&["system", "check"]).out;
    assert!(told.contains("belongs to no container that runs"), "{told}");
    kiln.run(&["system", "check", "--repair"]);
    assert_eq!(mounts(&kiln), [""; 0]);
}

#[test]
fn what_cannot_be_mounted_is_told_with_the_kernels_reason() {
    if !needs_root("what_cannot_be_mounted_is_told_with_the_kernels_reason") {
        return;
    }
    let kiln = Kiln::busybox();
    for (options, expected) in [
        (&["colour=red"][..], "unknown option `colour`"),
        (&["device=/srv"], "needs a type"),
        (&["type=ext4"], "needs a device"),
        (&["o=bind", "device=srv"], "must be an absolute path"),
    ] {
        create(&kiln, "bad", options).fails_with(&[expected]);
    }
    create(&kiln, "gone", &["o=bind", "device=/nowhere"]).ok();
    sh(&kiln, "gone", "true").refused_with(&["cannot mount volume `gone`", "/nowhere", "does not exist"]);
    create(&kiln, "odd", &["type=tmpfs", "o=colour=red"]).ok();
    sh(&kiln, "odd", "true").refused_with(&["cannot mount volume `odd`", "refuses the options `colour=red`"]);
    create(&kiln, "net", &["type=nfs", "o=addr=127.0.0.1,rw", "device=:/export"]).ok();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap();
    if !filesystems.lines().any(|line| line.ends_with("\tnfs")) {
        let told = sh(&kiln, "net", "true").refused_with(&["cannot mount volume `net`: nfs `:/export`"]);
        assert!(told.error.contains("this kernel has no filesystem `nfs`"), "{told}");
    }
    let text = "src=made,dst=/x,volume-opt=type=tmpfs,\"volume-opt=o=size=1m,mode=711\"";
    let made =
        kiln.run(&["run", "--rm", "--network", "none", "--mount", text, "busybox", "stat", "-c", "%a", "/x"]);
    assert_eq!(made.ok().out, "711\n");
    assert_eq!(mounts(&kiln), [""; 0]);
}
