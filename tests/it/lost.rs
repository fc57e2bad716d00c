//! Containers whose monitor, starter or program was killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::binary::{Kiln, names};
use crate::support::needs_root;

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

fn inspect(kiln: &Kiln, container: &str, format: &str) -> String {
    kiln.ok(&["inspect", "--format", format, container]).trim().to_owned()
}

/// Waits for something that another process is about to do.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All processes of this machine.
fn processes() -> impl Iterator<Item = String> {
    names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The monitors of a store's containers, by the locks that they hold.
fn monitors(kiln: &Kiln) -> Vec<Pid> {
    let is_ours = |pid: &String| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let fds = PathBuf::from(format!("/proc/{pid}/fd"));
        let holds =
            |fd: &String| std::fs::read_link(fds.join(fd)).is_ok_and(|path| path.starts_with(kiln.root()));
        line.windows(8).any(|part| part == b"_monitor") && names(&fds).iter().any(holds)
    };
    processes().filter(is_ours).filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Commands of this store that name a file of it, and what they have forked: until its program runs, a monitor has the
/// words of its command.
fn starters(kiln: &Kiln) -> usize {
    let scratch = kiln.scratch();
    let words = scratch.to_str().unwrap().as_bytes();
    let is_ours = |pid: &String| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(words.len()).any(|part| part == words)
    };
    processes().filter(is_ours).count()
}

/// The children of a process, such as a monitor's program.
fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Where folders of the store are mounted, in any mount namespace of the machine.
fn mounts(kiln: &Kiln) -> Vec<String> {
    let root = kiln.root().to_str().unwrap();
    let of = |pid: String| std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let lines: String = processes().map(of).collect();
    lines.lines().filter(|line| line.contains(root)).map(str::to_owned).collect()
}

/// The cgroups of container `id`.
fn cgroups(id: &str) -> Vec<PathBuf> {
    let all = Path::new("/sys/fs/cgroup");
    let hierarchies = names(all).into_iter().map(|name| all.join(name)).chain([all.to_owned()]);
    hierarchies.map(|hierarchy| hierarchy.join("kiln").join(id)).filter(|folder| folder.exists()).collect()
}

/// Kills a process, and sees the kernel take it down: until then it holds its locks.
fn kill(pid: Pid) {
    // It may have ended by itself.
    let _ = kill_process(pid, Signal::KILL);
    eventually("it is taken down", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])))
    });
}

#[test]
fn a_policy_starts_a_container_again_whose_monitor_was_killed() {
    let Some(kiln) = kiln("a_policy_starts_a_container_again_whose_monitor_was_killed") else { return };
    let run = ["run", "-d", "--restart", "unless-stopped", "--name", "box", "busybox", "sleep", "1000"];
    kiln.ok(&run);
    let pid = || inspect(&kiln, "box", "{{.State.Pid}}");
    let before = pid();
    for monitor in monitors(&kiln) {
        kill(monitor);
    }
    eventually("it runs anew", || {
        kiln.ok(&["ps", "--format", "{{.Names}} {{.State}}"]) == "box running\n" && pid() != before
    });
    kiln.ok(&["exec", "box", "ip", "addr", "show", "eth0"]);
    kiln.ok(&["stop", "-t", "0", "box"]);
    eventually("its monitor has cleaned up", || monitors(&kiln).is_empty());
    assert_eq!(inspect(&kiln, "box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
}

#[test]
fn the_health_of_a_container_whose_monitor_was_killed_is_dockers_of_a_stopped_one() {
    let Some(kiln) = kiln("the_health_of_a_container_whose_monitor_was_killed_is_dockers_of_a_stopped_one")
    else {
        return;
    };
    let run = ["run", "-d", "--network", "none", "--name", "box", "--health-cmd", "true"];
    kiln.ok(&[&run[..], &["busybox", "sleep", "1000"]].concat());
    let health = || inspect(&kiln, "box", "{{.State.Status}} {{.State.Health.Status}}");
    assert_eq!(health(), "running starting");
    monitors(&kiln).into_iter().for_each(kill);
    assert_eq!(health(), "exited unhealthy");
    kiln.ok(&["start", "box"]);
    assert_eq!(health(), "running starting");
    kiln.ok(&["rm", "-f", "box"]);
}

#[test]
fn an_end_that_was_recorded_is_not_forgotten_with_the_monitor() {
    let Some(kiln) = kiln("an_end_that_was_recorded_is_not_forgotten_with_the_monitor") else { return };
    let script = "exit 3";
    let run = ["run", "-d", "--network", "none", "--restart", "on-failure:7", "--name", "box"];
    kiln.ok(&[&run[..], &["busybox", "sh", "-c", script]].concat());
    // It is the same one for all runs. Looking for it takes longer on a busy machine than the first delays.
    let monitors = monitors(&kiln);
    eventually("it waits for its next start", || {
        inspect(&kiln, "box", "{{.State.Status}} {{.RestartCount}}") == "restarting 6"
    });
    let words = ["ps", "-a", "--format", "{{.State}}"];
    let record = kiln.root().join("containers");
    let folder = names(&record).into_iter().find(|name| name.len() == 64).unwrap();
    monitors.into_iter().for_each(kill);
    let state = std::fs::read_to_string(record.join(folder).join("state.json")).unwrap();
    assert!(state.contains("\"exit_code\":3"), "{state}");
    // The next command goes on with it.
    assert_ne!(kiln.ok(&words), "");
    eventually("it has given up", || {
        inspect(&kiln, "box", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}") == "exited 3"
    });
}

#[test]
fn a_restore_starts_what_should_run_after_a_reboot() {
    let Some(kiln) = kiln("a_restore_starts_what_should_run_after_a_reboot") else { return };
    for (name, policy) in
        [("always", "always"), ("stopped", "unless-stopped"), ("kept", "unless-stopped"), ("plain", "no")]
    {
        let run = ["run", "-d", "--network", "none", "--restart", policy, "--name", name];
        kiln.ok(&[&run[..], &["busybox", "sleep", "1000"]].concat());
    }
    kiln.ok(&["create", "--restart", "always", "--name", "never-started", "busybox", "sleep", "1000"]);
    kiln.ok(&["stop", "-t", "0", "always", "stopped"]);
    kiln.ok(&["run", "-d", "--rm", "--network", "none", "--name", "transient", "busybox", "sleep", "1000"]);
    // What a machine's sudden end leaves: no process, and records that tell of another boot.
    // Those that were stopped have told their end, and clean up.
    eventually("three are left", || monitors(&kiln).len() == 3);
    monitors(&kiln).into_iter().for_each(kill);
    eventually("they are gone", || mounts(&kiln).is_empty());
    assert_eq!(kiln.ok(&["system", "restore"]), "always\nkept\n");
    let shown = kiln.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
    assert_eq!(shown, "never-started created\nplain exited\nkept running\nstopped exited\nalways running\n");
    assert_eq!(kiln.ok(&["system", "restore"]), "");
    kiln.ok(&["rm", "-f", "always", "kept"]);
}

#[test]
fn a_run_that_was_killed_before_its_start_leaves_no_container() {
    let Some(kiln) = kiln("a_run_that_was_killed_before_its_start_leaves_no_container") else { return };
    let id = kiln.ok(&["create", "--rm", "--name", "box", "busybox", "true"]);
    let config = kiln.root().join("containers").join(id.trim()).join("config.json");
    assert_eq!(kiln.ok(&["ps", "-aq", "--no-trunc"]), id, "one that was only made stays");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"transient\":false", "\"transient\":true")).unwrap();
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
    kiln.ok(&["create", "--name", "box", "busybox", "true"]);
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Command,
    Monitor,
    Program,
}

const VICTIMS: [Victim; 3] = [Victim::Command, Victim::Monitor, Victim::Program];
const MOMENTS: u64 = 24;
/// Longer than a start takes, and its program lives.
const LONGEST_MS: u64 = 400;

/// Starts a container, kills `victim` after a while; gives the id if it came to that.
fn kill_at(kiln: &Kiln, moment: u64, after: Duration) -> (Victim, Option<String>) {
    let victim = VICTIMS[usize::try_from(moment % 3).unwrap()];
    let file = kiln.scratch().join(format!("id{moment}"));
    let name = format!("m{moment}");
    let mut words = vec!["run", "--name", &name, "--cidfile", file.to_str().unwrap()];
    words.extend(moment.is_multiple_of(2).then_some("--rm"));
    words.extend(["--network", if moment % 4 < 2 { "none" } else { "bridge" }]);
    words.extend(["busybox", "sleep", "0.2"]);
    let mut command = kiln.command(&words);
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    let monitors = monitors(kiln);
    match victim {
        Victim::Command => drop(child.kill()),
        Victim::Monitor => monitors.into_iter().for_each(kill),
        Victim::Program => monitors.into_iter().flat_map(children).for_each(kill),
    }
    child.wait().unwrap();
    // A command that was killed early leaves the file empty.
    (victim, std::fs::read_to_string(file).ok().filter(|id| !id.is_empty()))
}

#[test]
fn kills_at_any_moment_leave_records_that_are_true() {
    let Some(kiln) = kiln("kills_at_any_moment_leave_records_that_are_true") else { return };
    let seed = std::env::var("KILN_MOMENTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random: u64 = seed.unwrap_or(0x2545_f491_4f6c_dd1d);
    let mut ids = Vec::new();
    for moment in 0..MOMENTS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_millis((random >> 33) % LONGEST_MS);
        let (victim, id) = kill_at(&kiln, moment, after);
        let what = format!("moment {moment}: {victim:?} after {after:?}");
        // The next command tells what is so: who is killed alone goes on until its end.
        if victim != Victim::Command {
            eventually(&format!("the truth at {what}"), || kiln.ok(&["ps", "-q"]).is_empty());
        }
        // A monitor that has got its task starts the container, whoever gave it.
        eventually(&format!("the end at {what}"), || {
            starters(&kiln) == 0 && monitors(&kiln).is_empty() && kiln.ok(&["ps", "-q"]).is_empty()
        });
        let shown = kiln.ok(&["ps", "-a", "--format", "{{.Names}}"]);
        if moment.is_multiple_of(2) {
            assert!(!shown.lines().any(|name| name == format!("m{moment}")), "{what}: --rm\n{shown}");
        } else if let Some(id) = &id {
            let told = inspect(&kiln, id, "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}");
            let known = [
                "created 0",
                "created 125 the process",
                "exited 0",
                "exited 137",
                "exited 255 its monitor was lost",
            ];
            assert!(known.iter().any(|known| told.starts_with(known)), "{what}: {told}");
        }
        ids.extend(id);
    }
    eventually("no monitor is left", || monitors(&kiln).is_empty());
    eventually("nothing is mounted", || mounts(&kiln).is_empty());
    for id in kiln.ok(&["ps", "-aq"]).lines() {
        kiln.ok(&["rm", "-f", id]);
    }
    kiln.ok(&["container", "prune", "-f"]);
    for id in ids {
        assert_eq!(cgroups(&id), Vec::<PathBuf>::new());
    }
    assert_eq!(names(&kiln.root().join("containers/names")), Vec::<String>::new());
    assert_eq!(names(&kiln.root().join("containers/removed")), Vec::<String>::new());
}

#[test]
fn a_monitor_that_hangs_keeps_nobody_from_removing_its_container() {
    let Some(kiln) = kiln("a_monitor_that_hangs_keeps_nobody_from_removing_its_container") else { return };
    let id = kiln.ok(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]);
    for monitor in monitors(&kiln) {
        kill_process(monitor, Signal::STOP).unwrap();
    }
    assert_eq!(kiln.ok(&["rm", "-f", id.trim()]), id);
    eventually("it is gone", || monitors(&kiln).is_empty());
    assert_eq!(cgroups(id.trim()), Vec::<PathBuf>::new());
}

#[test]
fn verbs_that_are_cut_short_leave_a_container_that_obeys_the_next_one() {
    let Some(kiln) = kiln("verbs_that_are_cut_short_leave_a_container_that_obeys_the_next_one") else {
        return;
    };
    let seed = std::env::var("KILN_MOMENTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random: u64 = seed.unwrap_or(0x9e37_79b9_7f4a_7c15);
    let verbs: [&[&str]; 6] = [
        &["restart", "-t", "0", "box"],
        &["stop", "-t", "0", "box"],
        &["rename", "box", "box2"],
        &["exec", "box", "sleep", "0.05"],
        &["rm", "-f", "box"],
        &["kill", "box"],
    ];
    for (moment, verb) in verbs.iter().cycle().take(24).enumerate() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_millis((random >> 33) % 60);
        let network = if moment < 12 { "none" } else { "bridge" };
        let id = kiln.ok(&["run", "-d", "--network", network, "--name", "box", "busybox", "sleep", "1000"]);
        let mut child = kiln.command(verb).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        match moment % 2 {
            0 => drop(child.kill()),
            _ => monitors(&kiln).into_iter().for_each(kill),
        }
        child.wait().unwrap();
        let what = format!("moment {moment}: {verb:?} after {after:?}");
        let shown = kiln.ok(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}} {{.Names}}"]);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines.len() <= 1, "{what}: {shown}");
        if let [line] = lines.as_slice() {
            let name = line.rsplit(' ').next().unwrap();
            assert!(line.starts_with(id.trim()) && (name == "box" || name == "box2"), "{what}: {shown}");
            // Whatever was cut short is done by saying it again.
            kiln.ok(&["restart", "-t", "0", name]);
            assert_eq!(kiln.ok(&["exec", name, "echo", "here"]), "here\n", "{what}");
            kiln.ok(&["rm", "-f", name]);
        } else {
            assert_eq!(verb[0], "rm", "{what}");
        }
        eventually(&format!("no monitor is left at {what}"), || monitors(&kiln).is_empty());
    }
    kiln.ok(&["container", "prune", "-f"]);
    eventually("nothing is mounted", || mounts(&kiln).is_empty());
    let names = names(&kiln.root().join("containers/names"));
    // A rename that was cut short may leave the name that it did not give; it is free.
    assert!(names.iter().all(|name| name == "box2"), "{names:?}");
    kiln.ok(&["create", "--name", "box2", "busybox", "true"]);
}

#[test]
fn a_unit_for_the_next_boot_is_printed() {
    let unit = Kiln::empty().ok(&["system", "restore", "--unit"]);
    let start = format!("ExecStart={} system restore\n", env!("CARGO_BIN_EXE_kiln"));
    assert!(unit.starts_with("[Unit]\n") && unit.contains(&start), "{unit}");
}
