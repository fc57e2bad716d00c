//! Limits of containers: cgroups, pause and update.

use std::path::Path;
use std::process::Command;

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

/// Starts a container in the background that counts in a file how long it runs.
fn counting(kiln: &Kiln, flags: &[&str]) {
    let script = "trap 'exit 5' TERM; while :; do echo x >> /n; sleep 0.05; done";
    kiln.ok(&[&["run", "-d", "--name", "box", "--network", "none"], flags, &["busybox", "sh", "-c", script]]
        .concat());
}

/// Where the file that [`counting`] writes is on the host.
fn counted(kiln: &Kiln) -> u64 {
    let id = kiln.ok(&["inspect", "-f", "{{.Id}}", "box"]);
    let file = kiln.root().join("containers").join(id.trim()).join("upper/n");
    std::fs::metadata(file).map_or(0, |found| found.len())
}

fn grows(kiln: &Kiln) -> bool {
    let before = counted(kiln);
    (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        counted(kiln) > before
    })
}

#[test]
fn a_paused_container_stands_still_until_it_is_unpaused() {
    if !needs_root("limits::a_paused_container_stands_still_until_it_is_unpaused") {
        return;
    }
    let kiln = Kiln::busybox();
    counting(&kiln, &[]);
    assert!(grows(&kiln));
    assert_eq!(kiln.ok(&["pause", "box"]), "box\n");
    let before = counted(&kiln);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(counted(&kiln), before);
    let status = kiln.ok(&["ps", "--format", "{{.Status}} {{.State}}"]);
    assert!(status.starts_with("Up ") && status.ends_with("(Paused) paused\n"), "{status}");
    assert_eq!(kiln.ok(&["ps", "-q", "--filter", "status=paused"]).lines().count(), 1);
    let state = kiln.ok(&["inspect", "-f", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}", "box"]);
    assert_eq!(state, "paused true true\n");
    for (words, text) in [
        (&["exec", "box", "true"][..], "container box is paused"),
        (&["pause", "box"], "already paused"),
        (&["rm", "box"], "container box is paused"),
        (&["start", "box"], "container box is paused"),
        (&["attach", "box"], "paused"),
    ] {
        let ran = kiln.run(words);
        assert!(ran.code != 0 && ran.error.contains(text), "{words:?}: {}", ran.error);
    }
    assert_eq!(kiln.ok(&["unpause", "box"]), "box\n");
    assert!(grows(&kiln));
    assert_eq!(kiln.ok(&["exec", "box", "echo", "here"]), "here\n");
    let ran = kiln.run(&["unpause", "box"]);
    assert!(ran.code == 1 && ran.error.contains("not paused"), "{}", ran.error);
    kiln.ok(&["kill", "box"]);
    let ran = kiln.run(&["pause", "box"]);
    assert!(ran.code == 1 && ran.error.contains("not running"), "{}", ran.error);
    let actions = kiln.ok(&["events", "--since", "1", "--until", "0s", "--format", "{{.Action}}"]);
    assert!(actions.contains("pause\nunpause\n"), "{actions}");
}

#[test]
fn a_paused_container_can_be_ended() {
    if !needs_root("limits::a_paused_container_can_be_ended") {
        return;
    }
    let kiln = Kiln::busybox();
    for (words, code) in
        [(&["stop", "box"][..], "5"), (&["kill", "box"], "137"), (&["kill", "-s", "TERM", "box"], "5")]
    {
        counting(&kiln, &[]);
        assert!(grows(&kiln));
        kiln.ok(&["pause", "box"]);
        kiln.ok(words);
        assert_eq!(kiln.ok(&["wait", "box"]).trim(), code, "{words:?}");
        assert_eq!(
            kiln.ok(&["inspect", "-f", "{{.State.Paused}} {{.State.Status}}", "box"]),
            "false exited\n"
        );
        kiln.ok(&["rm", "box"]);
    }
    counting(&kiln, &[]);
    kiln.ok(&["pause", "box"]);
    kiln.ok(&["rm", "-f", "box"]);
    counting(&kiln, &[]);
    kiln.ok(&["pause", "box"]);
    kiln.ok(&["restart", "-t", "5", "box"]);
    assert!(grows(&kiln));
}

/// The content of a file of the container's cgroup of `controller`; of the unified one where there is no other.
fn of_cgroup(kiln: &Kiln, controller: &str, file: &str) -> String {
    let id = kiln.ok(&["inspect", "-f", "{{.Id}}", "box"]);
    let top = Path::new("/sys/fs/cgroup").join(controller).join("kiln").join(id.trim());
    std::fs::read_to_string(top.join(file)).unwrap_or_default().trim().to_owned()
}

#[test]
fn limits_change_while_it_runs_and_stay_for_the_next_start() {
    if !needs_root("limits::limits_change_while_it_runs_and_stay_for_the_next_start")
        || !Path::new("/sys/fs/cgroup/memory").exists()
    {
        return;
    }
    let kiln = Kiln::busybox();
    counting(&kiln, &["-m", "64m"]);
    let words = [
        "update",
        "-m",
        "128m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "30",
        "-c",
        "700",
        "--cpuset-cpus",
        "0",
        "box",
    ];
    assert_eq!(kiln.ok(&words), "box\n");
    for _ in 0..2 {
        assert_eq!(of_cgroup(&kiln, "memory", "memory.limit_in_bytes"), "134217728");
        assert_eq!(of_cgroup(&kiln, "cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(of_cgroup(&kiln, "cpu", "cpu.shares"), "700");
        assert_eq!(of_cgroup(&kiln, "pids", "pids.max"), "30");
        // What ran before is under the new limits, and what comes later too.
        assert!(!of_cgroup(&kiln, "pids", "cgroup.procs").is_empty());
        let inside = kiln.ok(&["exec", "box", "grep", "Cpus_allowed_list", "/proc/self/status"]);
        assert_eq!(inside.split_whitespace().last(), Some("0"), "{inside}");
        assert!(grows(&kiln));
        kiln.ok(&["restart", "-t", "5", "box"]);
    }
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}";
    assert_eq!(kiln.ok(&["inspect", "-f", shown, "box"]), "134217728 500000000 30\n");
    kiln.ok(&["update", "-m", "32m", "--pids-limit", "-1", "box"]);
    assert_eq!(of_cgroup(&kiln, "memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!(of_cgroup(&kiln, "pids", "pids.max"), "max");
    for (words, text) in [
        (&["update", "--cpuset-cpus", "77", "box"][..], "--cpuset-cpus"),
        (&["update", "-m", "1m", "box"], "--memory"),
        (&["update", "box"], "nothing to change"),
        (&["update", "--restart", "often", "box"], "--restart"),
        (&["update", "-m", "64m", "nobody"], "nobody"),
    ] {
        let ran = kiln.run(words);
        assert!(ran.code != 0 && ran.error.contains(text), "{words:?}: {}", ran.error);
    }
    assert_eq!(kiln.ok(&["inspect", "-f", "{{.HostConfig.Memory}}", "box"]), "33554432\n");
}

#[test]
fn a_stopped_container_is_updated_for_its_next_start() {
    if !needs_root("limits::a_stopped_container_is_updated_for_its_next_start") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&[
        "create",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "cat",
        "/sys/fs/cgroup/pids/pids.max",
    ]);
    kiln.ok(&["update", "--pids-limit", "33", "--restart", "on-failure:2", "box"]);
    let shown = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(kiln.ok(&["inspect", "-f", shown, "box"]), "on-failure 2\n");
    if Path::new("/sys/fs/cgroup/pids").exists() {
        assert_eq!(kiln.ok(&["start", "-a", "box"]), "33\n");
    }
}

#[test]
fn a_process_killed_for_memory_is_told_while_the_program_goes_on() {
    if !needs_root("limits::a_process_killed_for_memory_is_told_while_the_program_goes_on") {
        return;
    }
    let kiln = Kiln::busybox();
    let script = "(dd if=/dev/zero of=/dev/null bs=64M count=1) 2>/dev/null; echo child ended; sleep 600";
    kiln.ok(&["run", "-d", "--name", "box", "--network", "none", "-m", "24m", "busybox", "sh", "-c", script]);
    let is_told = || {
        kiln.ok(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.Status}}", "box"]) == "true running\n"
            && kiln
                .ok(&["events", "--since", "1", "--until", "0s", "--format", "{{.Action}}"])
                .contains("oom\n")
    };
    let told = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        is_told()
    });
    assert!(told);
    kiln.ok(&["kill", "box"]);
    let events = kiln.ok(&["events", "--since", "1", "--until", "0s", "--format", "{{.Action}}"]);
    assert_eq!(events.matches("oom\n").count(), 1, "{events}");
    let ran = kiln.run(&[
        "run",
        "--name",
        "big",
        "--network",
        "none",
        "-m",
        "24m",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=64M",
        "count=1",
    ]);
    assert_eq!(ran.code, 137, "{}", ran.error);
    assert_eq!(kiln.ok(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "big"]), "true 137\n");
}

#[test]
fn a_paused_container_stays_as_healthy_as_it_was() {
    if !needs_root("limits::a_paused_container_stays_as_healthy_as_it_was") {
        return;
    }
    let kiln = Kiln::busybox();
    // A probe is under way nearly always.
    let check = ["--health-cmd", "sleep 1", "--health-interval", "50ms", "--health-timeout", "3s"];
    counting(&kiln, &[&check[..], &["--health-retries", "3"]].concat());
    let health = || kiln.ok(&["inspect", "-f", "{{.State.Health.Status}}", "box"]);
    let is_healthy = || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        health() == "healthy\n"
    };
    assert!((0..600).any(|_| is_healthy()));
    std::thread::sleep(std::time::Duration::from_millis(300));
    kiln.ok(&["pause", "box"]);
    let probes = || kiln.ok(&["inspect", "-f", "{{json .State.Health.Log}}", "box"]);
    let before = probes();
    std::thread::sleep(std::time::Duration::from_millis(3500));
    assert_eq!(probes(), before);
    kiln.ok(&["unpause", "box"]);
    assert!((0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        probes() != before
    }));
    assert_eq!(health(), "healthy\n");
}

/// Runs kiln where `view` has taken some of the cgroups away; gives what it wrote.
fn on_machine(kiln: &Kiln, view: &str, words: &[&str]) -> String {
    let inner = kiln.command(words);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg(format!("{view} && exec \"$0\" \"$@\"")).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn a_machine_may_have_one_version_of_cgroups_alone() {
    if !needs_root("limits::a_machine_may_have_one_version_of_cgroups_alone")
        || !Path::new("/sys/fs/cgroup/unified").exists()
    {
        return;
    }
    for view in
        ["umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup", "umount /sys/fs/cgroup/unified"]
    {
        let kiln = Kiln::busybox();
        let does = |words: &[&str]| on_machine(&kiln, view, words);
        let script = "while :; do :; done";
        does(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
        let cpu = || {
            let shown = does(&["stats", "--no-stream", "--format", "{{.CPUPerc}} {{.PIDs}}", "box"]);
            let (cpu, pids) = shown.trim().split_once("% ").unwrap();
            assert_eq!(pids, "1", "{view}");
            cpu.parse::<f64>().unwrap()
        };
        assert!((0..50).any(|_| cpu() > 0.5), "{view}");
        does(&["pause", "box"]);
        assert!(does(&["ps"]).contains("(Paused)"), "{view}");
        assert!((0..50).any(|_| cpu() < 0.01), "{view}");
        assert!(does(&["top", "box"]).contains(script), "{view}");
        does(&["unpause", "box"]);
        assert!((0..50).any(|_| cpu() > 0.5), "{view}");
        assert_eq!(does(&["exec", "box", "echo", "here"]), "here\n");
        does(&["pause", "box"]);
        does(&["kill", "box"]);
        assert_eq!(does(&["wait", "box"]), "137\n", "{view}");
        does(&["rm", "box"]);
    }
}
