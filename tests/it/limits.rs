//! Limits of containers: cgroups, pause and update.

use std::path::Path;

use crate::support::binary::Kiln;
use crate::support::needs_root;

/// Runs busybox with `flags` and gives the content of the first of `files` that its own view of the cgroups has;
/// v2 lacks some.
fn read_inside(kiln: &Kiln, flags: &[&str], files: &str) -> Option<String> {
    let script = format!("for f in {files}; do cat /sys/fs/cgroup/$f 2>/dev/null && exit 0; done; exit 77");
    let words = [&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", &script]].concat();
    let ran = kiln.run(&words);
    if ran.code != 0 && !Path::new("/sys/fs/cgroup/memory").exists() {
        return None;
    }
    Some(ran.ok().out.trim().to_owned())
}

#[test]
fn limits_by_flags_reach_the_kernel() {
    if !needs_root("limits::limits_by_flags_reach_the_kernel") {
        return;
    }
    let kiln = Kiln::busybox();
    let memory = "memory/memory.limit_in_bytes memory.max";
    for (flags, files, expected) in [
        (&["-m", "64m"][..], memory, "67108864"),
        (&["-m", "64m"], "memory/memory.memsw.limit_in_bytes", "134217728"),
        (&["-m", "64m", "--memory-swap", "100m"], "memory/memory.memsw.limit_in_bytes", "104857600"),
        (&["--memory-reservation", "32m"], "memory/memory.soft_limit_in_bytes memory.low", "33554432"),
        (&["--memory-swappiness", "7"], "memory/memory.swappiness", "7"),
        (&["-c", "512"], "cpu/cpu.shares", "512"),
        (&["--cpus", "0.5"], "cpu/cpu.cfs_quota_us", "50000"),
        (&["--cpu-period", "50000", "--cpu-quota", "25000"], "cpu/cpu.cfs_period_us", "50000"),
        (&["--cpu-quota", "25000"], "cpu/cpu.cfs_quota_us", "25000"),
        (&["--cpuset-cpus", "0", "--cpuset-mems", "0"], "cpuset/cpuset.cpus cpuset.cpus", "0"),
        (&["--pids-limit", "50"], "pids/pids.max pids.max", "50"),
        (&["--blkio-weight", "300"], "blkio/blkio.bfq.weight io.bfq.weight", "300"),
    ] {
        if let Some(value) = read_inside(&kiln, flags, files) {
            assert_eq!(value, expected, "{flags:?}");
        }
    }
    let oom = read_inside(&kiln, &["-m", "64m", "--oom-kill-disable"], "memory/memory.oom_control");
    assert!(oom.is_none_or(|oom| oom.contains("oom_kill_disable 1")));
}

#[test]
fn a_bad_limit_names_its_flag_and_makes_nothing() {
    if !needs_root("limits::a_bad_limit_names_its_flag_and_makes_nothing") {
        return;
    }
    let kiln = Kiln::busybox();
    for (flags, flag) in [
        (&["-m", "lots"][..], "--memory"),
        (&["-m", "1m"], "--memory"),
        (&["-m", "64m", "--memory-swap", "32m"], "--memory-swap"),
        (&["--memory-swap", "64m"], "--memory-swap"),
        (&["--memory-swap", "x"], "--memory-swap"),
        (&["--memory-reservation", "y"], "--memory-reservation"),
        (&["--memory-swappiness", "101"], "--memory-swappiness"),
        (&["--memory-swappiness", "-7"], "--memory-swappiness"),
        (&["--cpus", "x"], "--cpus"),
        (&["--cpus", "4000"], "--cpus"),
        (&["--cpus", "1", "--cpu-quota", "5000"], "--cpus"),
        (&["--cpu-shares", "1"], "--cpu-shares"),
        (&["-c", "x"], "--cpu-shares"),
        (&["--cpu-period", "1"], "--cpu-period"),
        (&["--cpu-quota", "1"], "--cpu-quota"),
        (&["--cpuset-cpus", "0-"], "--cpuset-cpus"),
        (&["--cpuset-cpus", "5000"], "--cpuset-cpus"),
        (&["--cpuset-mems", "900"], "--cpuset-mems"),
        (&["--pids-limit", "x"], "--pids-limit"),
        (&["--blkio-weight", "5"], "--blkio-weight"),
        (&["--blkio-weight-device", "/dev/null:100"], "--blkio-weight-device"),
        (&["--device-read-bps", "/dev/null:1mb"], "--device-read-bps"),
        (&["--device-write-iops", "loop"], "--device-write-iops"),
        (&["--cgroup-parent", "../x"], "--cgroup-parent"),
        (&["--kernel-memory", "5m"], "--kernel-memory"),
    ] {
        let ran = kiln.run(&[&["run", "--rm"], flags, &["busybox", "true"]].concat());
        assert_eq!(ran.code, 125, "{flags:?}: {}", ran.error);
        assert!(ran.error.contains(flag), "{flags:?}: {}", ran.error);
    }
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_cgroup_is_made_where_the_user_wants_it() {
    if !needs_root("limits::a_cgroup_is_made_where_the_user_wants_it") {
        return;
    }
    let kiln = Kiln::busybox();
    let parent = format!("kiln-test-{}", std::process::id());
    kiln.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--cgroup-parent",
        &format!("/{parent}"),
        "--pids-limit",
        "20",
        "busybox",
        "sleep",
        "600",
    ]);
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", "box"]);
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
    let id = kiln.ok(&["inspect", "-f", "{{.Id}}", "box"]);
    assert!(cgroups.lines().any(|line| line.ends_with(&format!("/{parent}/{}", id.trim()))), "{cgroups}");
    // A further process comes to the same place.
    assert!(kiln.ok(&["exec", "box", "cat", "/proc/self/cgroup"]).lines().all(|line| !line.contains("..")));
    kiln.ok(&["rm", "-f", "box"]);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        for path in [hierarchy.path().join(&parent), Path::new("/sys/fs/cgroup").join(&parent)] {
            // Only this test's own folder; the container's in it is gone.
            assert!(!path.exists() || std::fs::remove_dir(&path).is_ok(), "{}", path.display());
        }
    }
}
