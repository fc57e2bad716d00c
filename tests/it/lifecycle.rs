//! The verbs of a container's life.

use std::time::{Duration, Instant};

use crate::support::binary::Kiln;
use crate::support::needs_root;

/// Ends at SIGTERM, which a first process without a handler would not hear.
const POLITE: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";
/// Hears nothing but SIGKILL.
const STUBBORN: &str = "trap '' TERM; echo up; while :; do sleep 0.05; done";

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

fn run(kiln: &Kiln, options: &[&str], script: &str) -> String {
    let words = [&["run", "-d", "--network", "none"], options, &["busybox", "sh", "-c", script]].concat();
    kiln.ok(&words).trim().to_owned()
}

/// Waits until the program has said so many times that it is up: a signal before that finds no handler.
fn up(kiln: &Kiln, container: &str, times: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    while kiln.ok(&["logs", container]).matches("up\n").count() < times {
        assert!(Instant::now() < end, "{container} is not up");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn inspect(kiln: &Kiln, container: &str, format: &str) -> String {
    kiln.ok(&["inspect", "--format", format, container]).trim().to_owned()
}

#[test]
fn a_restart_gives_the_same_container_a_new_process() {
    let Some(kiln) = kiln("a_restart_gives_the_same_container_a_new_process") else { return };
    let id = run(&kiln, &["--name", "box"], &format!("echo started >> /starts; {POLITE}"));
    let format = "{{.State.Pid}} {{.State.StartedAt}}";
    let before = inspect(&kiln, &id, format);
    up(&kiln, "box", 1);
    assert_eq!(kiln.ok(&["restart", "box"]), "box\n");
    assert_ne!(inspect(&kiln, &id, format), before);
    assert_eq!(inspect(&kiln, &id, "{{.State.Status}} {{.RestartCount}}"), "running 0");
    up(&kiln, "box", 2);
    assert_eq!(kiln.ok(&["exec", "box", "cat", "/starts"]), "started\nstarted\n", "its files are its own");
    kiln.ok(&["stop", "box"]);
    kiln.ok(&["restart", "-t", "0", "box"]);
    assert_eq!(inspect(&kiln, &id, "{{.State.Status}}"), "running", "a stopped one is started");
    kiln.ok(&["stop", "-t", "0", "box"]);
    assert_eq!(inspect(&kiln, &id, "{{.State.Status}}"), "exited");
}

#[test]
fn a_restart_keeps_the_address_and_what_is_removed_at_its_end() {
    let Some(kiln) = kiln("a_restart_keeps_the_address_and_what_is_removed_at_its_end") else { return };
    let script = format!("ip addr show eth0 | grep -o 'inet [0-9.]*'; {POLITE}");
    let id = kiln.ok(&["run", "-d", "--rm", "--name", "box", "busybox", "sh", "-c", &script]);
    for times in 1..3 {
        up(&kiln, "box", times);
        kiln.ok(&["restart", "box"]);
    }
    up(&kiln, "box", 3);
    assert_eq!(inspect(&kiln, id.trim(), "{{.State.Status}}"), "running");
    let logs = kiln.ok(&["logs", "box"]);
    let lines: Vec<_> = logs.lines().filter(|line| *line != "up").collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| *line == lines[0]), "{logs}");
    kiln.ok(&["stop", "box"]);
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_restart_that_fails_says_why() {
    let Some(kiln) = kiln("a_restart_that_fails_says_why") else { return };
    let folder = kiln.scratch().join("data");
    std::fs::create_dir(&folder).unwrap();
    let volume = format!("{}:/data", folder.display());
    let id = run(&kiln, &["-v", &volume, "--stop-timeout", "0"], POLITE);
    std::fs::remove_dir(&folder).unwrap();
    let ran = kiln.run(&["restart", &id]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.error.contains("cannot start container"), "{ran}");
    assert_eq!(inspect(&kiln, &id, "{{.State.Status}}"), "exited");
    assert_ne!(inspect(&kiln, &id, "{{.State.Error}}"), "");
}

#[test]
fn a_renamed_container_is_found_by_its_new_name_alone() {
    let Some(kiln) = kiln("a_renamed_container_is_found_by_its_new_name_alone") else { return };
    let id = run(&kiln, &["--rm", "--name", "old"], POLITE);
    kiln.ok(&["create", "--name", "other", "busybox", "true"]);
    assert_eq!(kiln.ok(&["rename", "old", "new"]), "");
    assert_eq!(kiln.ok(&["ps", "--format", "{{.Names}}"]), "new\n");
    assert_eq!(inspect(&kiln, "new", "{{.Id}}"), id);
    assert!(kiln.run(&["inspect", "--type", "container", "old"]).error.contains("no such container"));
    let taken = kiln.run(&["rename", "new", "other"]);
    assert!(taken.code == 1 && taken.error.contains("already in use by container"), "{taken}");
    for bad in ["new", "a/b", "-x", ""] {
        assert_eq!(kiln.run(&["rename", &id, bad]).code, 1, "{bad}");
    }
    kiln.ok(&["create", "--name", "old", "busybox", "true"]);
    up(&kiln, "new", 1);
    kiln.ok(&["stop", "new"]);
    kiln.ok(&["create", "--name", "new", "busybox", "true"]);
    assert_eq!(kiln.ok(&["ps", "-a", "--format", "{{.Names}}"]), "new\nold\nother\n");
}

#[test]
fn the_time_to_stop_is_the_containers_unless_the_command_says_more() {
    let Some(kiln) = kiln("the_time_to_stop_is_the_containers_unless_the_command_says_more") else { return };
    let id = run(&kiln, &["--stop-timeout", "0"], STUBBORN);
    kiln.ok(&["stop", &id]);
    assert_eq!(inspect(&kiln, &id, "{{.State.ExitCode}}"), "137");
    let id = run(&kiln, &["--stop-timeout", "-1"], STUBBORN);
    kiln.ok(&["stop", "-t", "0", &id]);
    assert_eq!(inspect(&kiln, &id, "{{.State.ExitCode}}"), "137");
    let id = run(&kiln, &[], POLITE);
    up(&kiln, &id, 1);
    kiln.ok(&["stop", "-t", "-1", "-s", "TERM", &id]);
    assert_eq!(inspect(&kiln, &id, "{{.State.ExitCode}}"), "0");
}

#[test]
fn several_containers_answer_a_line_each_in_the_order_of_their_names() {
    let Some(kiln) = kiln("several_containers_answer_a_line_each_in_the_order_of_their_names") else {
        return;
    };
    for (name, script) in [("one", STUBBORN), ("two", POLITE), ("three", "exit 3")] {
        run(&kiln, &["--name", name], script);
    }
    assert_eq!(kiln.ok(&["wait", "three"]), "3\n");
    up(&kiln, "two", 1);
    let ran = kiln.run(&["stop", "-t", "1", "one", "nope", "two", "three"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "one\ntwo\nthree\n"), "{ran}");
    assert!(ran.error.contains("no such container: nope"), "{ran}");
    assert_eq!(kiln.ok(&["wait", "one", "two", "three"]), "137\n0\n3\n");
    assert_eq!(kiln.ok(&["restart", "-t", "0", "two", "one"]), "two\none\n");
    assert_eq!(kiln.ok(&["kill", "one", "two"]), "one\ntwo\n");
    let ran = kiln.run(&["kill", "one", "two"]);
    assert!(ran.code == 1 && ran.error.matches("is not running").count() == 2, "{ran}");
}

#[test]
fn a_container_that_is_started_at_this_moment_is_removed_by_force() {
    let Some(kiln) = kiln("a_container_that_is_started_at_this_moment_is_removed_by_force") else { return };
    for round in 0..10 {
        kiln.ok(&["create", "--name", "box", "busybox", "sleep", "1000"]);
        std::thread::scope(|scope| {
            let start = scope.spawn(|| kiln.run(&["start", "box"]));
            std::thread::sleep(Duration::from_millis(round * 3));
            kiln.ok(&["rm", "-f", "box"]);
            let started = start.join().unwrap();
            assert!(started.code == 0 || started.error.contains("no such container: box"), "{started}");
        });
        assert_eq!(kiln.ok(&["ps", "-aq"]), "");
    }
}
