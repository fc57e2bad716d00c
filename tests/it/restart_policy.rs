//! Containers that are started again by themselves.

use std::time::{Duration, Instant};

use crate::support::binary::Kiln;
use crate::support::needs_root;

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

fn run(kiln: &Kiln, name: &str, policy: &str, script: &str) {
    let words = [
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        "--restart",
        policy,
        "busybox",
        "sh",
        "-c",
        script,
    ];
    kiln.ok(&words);
}

fn inspect(kiln: &Kiln, container: &str, format: &str) -> String {
    kiln.ok(&["inspect", "--format", format, container]).trim().to_owned()
}

fn state(kiln: &Kiln, container: &str) -> String {
    inspect(kiln, container, "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}")
}

/// Waits for something that another process is about to do.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn on_failure_starts_again_so_many_times() {
    let Some(kiln) = kiln("on_failure_starts_again_so_many_times") else { return };
    run(&kiln, "box", "on-failure:2", "echo run; exit 3");
    eventually("it has given up", || state(&kiln, "box") == "exited 3 2");
    assert_eq!(kiln.ok(&["logs", "box"]), "run\nrun\nrun\n");
    run(&kiln, "fine", "on-failure", "exit 0");
    kiln.ok(&["wait", "fine"]);
    assert_eq!(state(&kiln, "fine"), "exited 0 0");
    // The user's start begins a new count.
    kiln.ok(&["start", "box"]);
    eventually("it has given up again", || state(&kiln, "box") == "exited 3 2");
    assert_eq!(kiln.ok(&["logs", "box"]).matches("run").count(), 6);
    let format = "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(inspect(&kiln, "box", format), "on-failure 2");
}

#[test]
fn always_starts_again_until_the_user_stops_it() {
    let Some(kiln) = kiln("always_starts_again_until_the_user_stops_it") else { return };
    run(&kiln, "box", "always", "exit 0");
    let restarts = || inspect(&kiln, "box", "{{.RestartCount}}").parse::<u32>().unwrap();
    eventually("it was started again", || restarts() >= 3);
    let status = || kiln.ok(&["ps", "-a", "--format", "{{.Status}}"]);
    eventually("it waits for the next start", || status().starts_with("Restarting (0)"));
    let refused = kiln.run(&["rm", "box"]);
    assert_eq!(refused.code, 1, "{refused}");
    kiln.ok(&["stop", "box"]);
    assert!(status().starts_with("Exited (0)"), "{}", status());
    let before = restarts();
    kiln.ok(&["start", "box"]);
    eventually("the count began anew", || restarts() < before);
    kiln.ok(&["rm", "-f", "box"]);
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_program_that_fails_is_started_and_one_that_the_user_kills_is_not() {
    let Some(kiln) = kiln("a_program_that_fails_is_started_and_one_that_the_user_kills_is_not") else {
        return;
    };
    run(&kiln, "box", "unless-stopped", "while :; do sleep 0.05; done");
    let pid = || inspect(&kiln, "box", "{{.State.Pid}}");
    let before = pid();
    // Not by kiln: a failure like any other.
    let killed = std::process::Command::new("kill").args(["-9", &before]).status().unwrap();
    assert!(killed.success());
    eventually("it runs again", || state(&kiln, "box") == "running 0 1" && pid() != before);
    let script = ["exec", "box", "true"];
    kiln.ok(&script);
    kiln.ok(&["kill", "box"]);
    assert_eq!(state(&kiln, "box"), "exited 137 1");
    // A restart is a start of the user's.
    kiln.ok(&["restart", "box"]);
    assert_eq!(state(&kiln, "box"), "running 0 0");
}

#[test]
fn who_is_attached_gets_the_first_code() {
    let Some(kiln) = kiln("who_is_attached_gets_the_first_code") else { return };
    let words = ["run", "--name", "box", "--network", "none", "--restart", "always", "busybox", "sh", "-c"];
    let ran = kiln.run(&[&words[..], &["echo out; exit 4"]].concat());
    assert_eq!((ran.code, ran.out.as_str()), (4, "out\n"));
    eventually("it goes on", || inspect(&kiln, "box", "{{.RestartCount}}") != "0");
    kiln.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_policy_that_makes_no_sense_is_refused() {
    let kiln = Kiln::empty();
    for (words, name) in [(["--rm", "--restart", "always"], "--rm"), (["--restart", "x", "-d"], "`x`")] {
        let ran = kiln.run(&[&["run"], &words[..], &["busybox"]].concat());
        assert!(ran.code == 125 && ran.error.contains("--restart") && ran.error.contains(name), "{ran}");
    }
}
