//! `kiln logs`: drivers, rotation, and what is shown.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::oci::wait_until;
use crate::support::binary::{Kiln, names};
use crate::support::needs_root;

/// Runs a script in a container `web` to its end, with further flags.
fn ran(kiln: &Kiln, flags: &[&str], script: &str) {
    let words: Vec<&str> =
        ["run", "--network", "none", "--name", "web"].iter().chain(flags).copied().collect();
    kiln.run(&[&words[..], &["busybox", "sh", "-c", script]].concat()).ok();
}

/// The names of the log files of the only container.
fn files(kiln: &Kiln) -> Vec<String> {
    let id = kiln.ok(&["ps", "-aq", "--no-trunc"]);
    let folder = kiln.root().join("containers").join(id.trim());
    let files = names(&folder).into_iter().filter_map(|name| name.strip_prefix(id.trim()).map(str::to_owned));
    files.collect()
}

#[test]
fn bytes_that_are_no_text_come_back_as_they_were() {
    if !needs_root("bytes_that_are_no_text_come_back_as_they_were") {
        return;
    }
    for driver in ["json-file", "local"] {
        let kiln = Kiln::busybox();
        let script = "head -c 200000 /dev/urandom > /noise; cat /noise; echo err >&2; cat /noise | wc -c >&2";
        ran(&kiln, &["--log-driver", driver], script);
        let noise = {
            let id = kiln.ok(&["ps", "-aq", "--no-trunc"]);
            std::fs::read(kiln.root().join("containers").join(id.trim()).join("upper/noise")).unwrap()
        };
        let output = kiln.command(&["logs", "web"]).output().unwrap();
        assert!(output.stdout == noise, "{driver}: {} bytes of {}", output.stdout.len(), noise.len());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n200000\n");
    }
}

#[test]
fn logs_are_rotated_as_the_flags_say() {
    if !needs_root("logs_are_rotated_as_the_flags_say") {
        return;
    }
    let script = "i=0; while [ $i -lt 1000 ]; do echo line $i; i=$((i+1)); done";
    for (driver, compress, expected) in [
        ("json-file", "false", &["-json.log", "-json.log.1"][..]),
        ("json-file", "true", &["-json.log", "-json.log.1.gz"]),
        ("local", "true", &["-local.log", "-local.log.1.gz"]),
    ] {
        let kiln = Kiln::busybox();
        let compress = format!("compress={compress}");
        let options = ["--log-opt", "max-size=5k", "--log-opt", "max-file=2", "--log-opt", &compress];
        ran(&kiln, &[&["--log-driver", driver][..], &options].concat(), script);
        assert_eq!(files(&kiln), expected, "{driver} {compress}");
        let shown = kiln.ok(&["logs", "web"]);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines.len() > 50 && lines.len() < 1000 && lines.last() == Some(&"line 999"),
            "{}",
            lines.len()
        );
        let first: usize = lines[0].strip_prefix("line ").unwrap().parse().unwrap();
        assert_eq!(lines.len(), 1000 - first, "nothing is missing in between");
        assert_eq!(kiln.ok(&["logs", "-n", "2", "web"]), "line 998\nline 999\n");
        let many = (lines.len() - 1).to_string();
        assert_eq!(kiln.ok(&["logs", "--tail", &many, "web"]).lines().count(), lines.len() - 1);
        let shown = kiln.ok(&["inspect", "-f", "{{.HostConfig.LogConfig.Type}} {{.LogPath}}", "web"]);
        assert!(shown.starts_with(driver) && shown.trim_end().ends_with(expected[0]), "{shown}");
    }
}

#[test]
fn a_follower_reads_over_rotations_to_the_end() {
    if !needs_root("a_follower_reads_over_rotations_to_the_end") {
        return;
    }
    let kiln = Kiln::busybox();
    let script = "read go; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done";
    let options = ["--log-opt", "max-size=20k", "--log-opt", "max-file=20", "--log-opt", "compress=true"];
    let words = ["run", "-i", "--network", "none", "--name", "web"];
    let mut command = kiln.command(&[&words[..], &options, &["busybox", "sh", "-c", script]].concat());
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while kiln.ok(&["ps", "-q"]).is_empty() {}
    let follower = kiln.command(&["logs", "-f", "web"]).stdout(Stdio::piped()).spawn().unwrap();
    // The end of its input is its start.
    drop(program.stdin.take());
    // `read` failed, the loop didn't.
    assert!(program.wait().unwrap().success());
    let output = follower.wait_with_output().unwrap();
    let expected: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    assert!(String::from_utf8_lossy(&output.stdout) == expected, "{} bytes", output.stdout.len());
}

/// A writer who never rests keeps nobody who doesn't follow.
#[test]
fn what_is_written_meanwhile_is_not_waited_for() {
    if !needs_root("what_is_written_meanwhile_is_not_waited_for") {
        return;
    }
    for driver in ["json-file", "local"] {
        let kiln = Kiln::busybox();
        let flags =
            ["--network", "none", "--log-driver", driver, "--log-opt", "max-size=1m", "--name", "web"];
        kiln.ok(&[&["run", "-d"], &flags[..], &["busybox", "sh", "-c", "while :; do echo y; done"]].concat());
        wait_until("a rotation", || files(&kiln).len() > 1);
        for _ in 0..3 {
            assert_eq!(kiln.ok(&["logs", "--tail", "3", "web"]), "y\ny\ny\n", "{driver}");
        }
        assert!(kiln.ok(&["logs", "web"]).starts_with("y\n"));
        assert!(!kiln.ok(&["logs", "--until", "0", "--tail", "2", "web"]).is_empty());
        assert!(!kiln.ok(&["logs", "--until", "1ms", "--tail", "2", "web"]).is_empty());
        let soon = kiln.ok(&["logs", "-f", "--tail", "1", "--until", "-1s", "web"]);
        assert!(soon.starts_with("y\n"));
        kiln.ok(&["rm", "-f", "web"]);
    }
}

#[test]
fn lines_are_chosen_and_explained() {
    if !needs_root("lines_are_chosen_and_explained") {
        return;
    }
    let kiln = Kiln::busybox();
    let options =
        ["-l", "tier=front", "-e", "ZONE=eu", "--log-opt", "labels=tier", "--log-opt", "env-regex=^ZO"];
    let tag = ["--log-opt", "tag={{.Name}}/{{.ImageName}}"];
    let script = "echo one; head -c 40000 /dev/zero | tr '\\0' x; echo; echo last >&2";
    ran(&kiln, &[&options[..], &tag].concat(), script);
    let details = kiln.run(&["logs", "--details", "-n", "1", "web"]).ok();
    assert_eq!(details.error, "ZONE=eu,tag=web/busybox,tier=front last\n");
    let timed = kiln.ok(&["logs", "-t", "web"]);
    let lines: Vec<&str> = timed.lines().collect();
    assert_eq!(lines.len(), 2, "a long line has one time");
    let (time, text) = lines[0].split_once(' ').unwrap();
    assert!(time.len() == 30 && time.ends_with('Z') && text == "one", "{}", lines[0]);
    assert_eq!(lines[1].len(), 31 + 40000);
    assert_eq!(kiln.run(&["logs", "--since", "0s", "web"]).ok().out, "");
    assert_eq!(kiln.run(&["logs", "--until", "1h", "web"]).ok().error, "");
    assert_eq!(kiln.ok(&["logs", "--since", "1h", "--tail", "all", "web"]).lines().count(), 2);
}

#[test]
fn drivers_without_a_log_and_mistakes_say_so() {
    if !needs_root("drivers_without_a_log_and_mistakes_say_so") {
        return;
    }
    let kiln = Kiln::busybox();
    ran(&kiln, &["--log-driver", "none"], "echo lost");
    assert_eq!(files(&kiln), [""; 0]);
    kiln.run(&["logs", "web"]).fails_with(&["log driver `none`"]);
    for (flags, words) in [
        (&["--log-driver", "syslog"][..], &["--log-driver", "syslog"][..]),
        (&["--log-opt", "max-size=big"], &["--log-opt max-size", "big"]),
        (&["--log-opt", "max-file=0"], &["--log-opt max-file"]),
        (&["--log-opt", "colour=red"], &["colour"]),
        (&["--log-opt", "nothing"], &["--log-opt", "nothing"]),
        (&["--log-driver", "journald"], &["journald", "/run/systemd/journal/socket"]),
    ] {
        let ran = kiln.run(&[&["create"][..], flags, &["busybox", "true"]].concat());
        assert_eq!(ran.code, 125, "{ran}");
        words.iter().for_each(|word| assert!(ran.error.contains(word), "{ran}"));
    }
    assert_eq!(kiln.ok(&["ps", "-aq"]).lines().count(), 1, "nothing was made");
}

/// The process that writes the log of the only container.
fn pump(kiln: &Kiln) -> Option<Pid> {
    let root = kiln.root().to_str().unwrap();
    let is_pump = |id: &String| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("\0_pump\0") && line.contains(root)
    };
    let id = names(std::path::Path::new("/proc")).into_iter().find(is_pump)?;
    Pid::from_raw(id.parse().ok()?)
}

#[test]
fn a_log_that_hangs_does_not_hold_the_program() {
    if !needs_root("a_log_that_hangs_does_not_hold_the_program") {
        return;
    }
    let kiln = Kiln::busybox();
    ran(&kiln, &["--log-opt", "mode=non-blocking"], "echo one; echo two >&2");
    let shown = kiln.run(&["logs", "web"]).ok();
    assert_eq!(
        (shown.out.as_str(), shown.error.as_str()),
        ("one\n", "two\n"),
        "all is there at the end of the run"
    );
    kiln.ok(&["rm", "web"]);

    let words = ["run", "-i", "--network", "none", "--name", "web", "--log-opt", "mode=non-blocking"];
    let script = "read go; head -c 20000000 /dev/zero; exit 7";
    let mut command = kiln.command(&[&words[..], &["busybox", "sh", "-c", script]].concat());
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let writer = loop {
        if let Some(writer) = pump(&kiln).filter(|_| !kiln.ok(&["ps", "-q"]).is_empty()) {
            break writer;
        }
    };
    kill_process(writer, Signal::STOP).unwrap();
    drop(program.stdin.take());
    assert_eq!(program.wait().unwrap().code(), Some(7), "20 MB went through without the log");
    kill_process(writer, Signal::CONT).unwrap();
    kiln.settle();
}
