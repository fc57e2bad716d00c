//! Debian's podman with kiln as its runtime.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::binary::{Ran, busybox_tar, run};
use crate::support::needs_root;

/// What podman has to be told on a machine whose root can't raise limits.
const LIMITS: [&str; 6] =
    ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// A podman with storage of its own; its containers are gone when dropped.
struct Podman {
    folder: TempDir,
}

impl Podman {
    /// With the image `box`; `None` where there is no podman.
    fn new() -> Option<Podman> {
        if !Path::new("/usr/bin/podman").exists() {
            println!("skipped: podman is not installed");
            return None;
        }
        let podman = Podman { folder: tempfile::tempdir().unwrap() };
        let (kiln, states) = (env!("CARGO_BIN_EXE_kiln"), podman.folder.path().join("states"));
        let wrapper = format!("#!/bin/sh\nexec {kiln} runtime --root {} \"$@\"\n", states.display());
        fs::write(podman.wrapper(), wrapper).unwrap();
        fs::set_permissions(podman.wrapper(), fs::Permissions::from_mode(0o755)).unwrap();
        let tar = podman.folder.path().join("box.tar");
        fs::write(&tar, busybox_tar()).unwrap();
        podman.run(&["import", tar.to_str().unwrap(), "box"]).ok();
        Some(podman)
    }

    fn wrapper(&self) -> String {
        self.folder.path().join("kiln-runtime").to_str().unwrap().to_owned()
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("/usr/bin/podman");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.folder.path());
        for (flag, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.folder.path().join(name));
        }
        command.args(["--storage-driver", "vfs", "--events-backend", "file", "--cgroup-manager=cgroupfs"]);
        run(command.arg("--runtime").arg(self.wrapper()).args(words))
    }

    /// `podman run WORDS…`
    fn start(&self, words: &[&str]) -> Ran {
        self.run(&[&["run"], &LIMITS[..], words].concat())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "--all", "--force", "--time", "0"]);
        self.run(&["rmi", "--all", "--force"]);
    }
}

#[test]
fn podman_runs_execs_stops_and_removes() {
    if !needs_root("podman_runs_execs_stops_and_removes") {
        return;
    }
    let Some(podman) = Podman::new() else { return };
    let ran = podman.start(&[
        "--rm",
        "box",
        "sh",
        "-c",
        "echo hello; grep -E 'CapEff|Seccomp:' /proc/self/status; exit 5",
    ]);
    assert_eq!(ran.code, 5, "{ran}");
    assert_eq!(ran.out, "hello\nCapEff:\t00000000800405fb\nSeccomp:\t2\n", "{ran}");
    // A terminal, by podman's console socket.
    let ran = podman.start(&["--rm", "-t", "box", "sh", "-c", "tty"]).ok();
    assert_eq!(ran.out.trim(), "/dev/pts/0");
    let ran = podman.start(&["--rm", "box", "nope"]);
    assert_eq!(ran.code, 127, "{ran}");

    podman.start(&["-d", "--name", "one", "box", "sleep", "1000"]).ok();
    let ran = podman.run(&["exec", "one", "sh", "-c", "echo in; exit 7"]);
    assert_eq!((ran.code, ran.out.as_str()), (7, "in\n"), "{ran}");
    assert_eq!(podman.run(&["exec", "one", "nope"]).code, 127);
    podman.run(&["update", "--memory", "64m", "one"]).ok();
    podman.run(&["pause", "one"]).ok();
    assert!(podman.run(&["ps", "--all"]).ok().out.contains("Paused"));
    podman.run(&["unpause", "one"]).ok();
    podman.run(&["stop", "--time", "1", "one"]).ok();
    assert!(podman.run(&["ps", "--all"]).ok().out.contains("Exited (137)"));
    podman.run(&["start", "one"]).ok();
    podman.run(&["kill", "one"]).ok();
    podman.run(&["wait", "one"]).ok();
    podman.run(&["rm", "one"]).ok();
    assert_eq!(podman.run(&["ps", "--all", "--quiet"]).ok().out, "");
    // Nothing is kept of any of them.
    let states = fs::read_dir(podman.folder.path().join("states")).unwrap();
    assert_eq!(states.count(), 0);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(podman.folder.path().join("root/vfs").to_str().unwrap()), "{mounts}");
}

#[test]
fn podman_gives_containers_ids_of_their_own() {
    if !needs_root("podman_gives_containers_ids_of_their_own") {
        return;
    }
    let Some(podman) = Podman::new() else { return };
    let data = podman.folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("in"), "x").unwrap();
    let volumes = [format!("{}:/mapped:idmap", data.display()), format!("{}:/plain", data.display())];
    let script = "id -u; tr -s ' ' < /proc/self/uid_map; stat -c %u / /etc/hosts /mapped/in /plain/in; echo fine > /dev/stdout";
    let ids = ["--uidmap", "0:100000:65536"];
    let words = ["--rm", "-v", &volumes[0], "-v", &volumes[1], "box", "sh", "-c", script];
    let ran = podman.start(&[&ids[..], &words].concat()).ok();
    assert_eq!(ran.out, "0\n 0 100000 65536\n0\n0\n0\n65534\nfine\n", "{ran}");
    let ran = podman.start(&[&ids[..], &["--rm", "-t", "box", "sh", "-c", "tty"]].concat()).ok();
    assert_eq!(ran.out.trim(), "/dev/pts/0");
    podman.start(&[&ids[..], &["-d", "--name", "one", "box", "sleep", "1000"]].concat()).ok();
    assert_eq!(podman.run(&["exec", "-u", "5", "one", "id", "-u"]).ok().out, "5\n");
    // Another container in the same namespace.
    podman.start(&["-d", "--name", "two", "--userns", "container:one", "box", "sleep", "1000"]).ok();
    let map = ["exec", "two", "cat", "/proc/self/uid_map"];
    assert!(podman.run(&map).ok().out.contains("100000"));
    podman.run(&["stop", "--time", "0", "two", "one"]).ok();
    // A cleaner that podman itself leaves behind may be at the same container.
    for name in ["two", "one"] {
        let removed = || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            podman.run(&["rm", "--force", "--ignore", name]).code == 0
        };
        assert!((0..50).any(|_| removed()), "{name} stays");
    }
}
