//! Health checks.

use std::time::{Duration, Instant};

use crate::support::binary::Kiln;
use crate::support::needs_root;

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

fn run(kiln: &Kiln, options: &[&str]) {
    let words = [&["run", "-d", "--network", "none"], options, &["busybox", "sleep", "1000"]].concat();
    kiln.ok(&words);
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

fn becomes(kiln: &Kiln, container: &str, health: &str) {
    let what = format!("{container} is {health}");
    eventually(&what, || inspect(kiln, container, "{{.State.Health.Status}}") == health);
}

#[test]
fn a_container_is_starting_then_healthy_then_unhealthy() {
    let Some(kiln) = kiln("a_container_is_starting_then_healthy_then_unhealthy") else { return };
    let options = [
        "--name",
        "box",
        "--health-cmd",
        "cat /state && test ! -e /bad",
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
    ];
    run(&kiln, &options);
    let status = || kiln.ok(&["ps", "--format", "{{.Status}}"]);
    assert!(status().contains("(health: starting)"), "{}", status());
    kiln.ok(&["exec", "box", "sh", "-c", "echo good > /state"]);
    becomes(&kiln, "box", "healthy");
    assert!(status().contains("(healthy)"), "{}", status());
    let probe = "{{(index .State.Health.Log 4).ExitCode}} {{(index .State.Health.Log 4).Output}}";
    eventually("five probes are kept", || {
        kiln.run(&["inspect", "--format", probe, "box"]).out.trim_end() == "0 good"
    });
    assert_eq!(inspect(&kiln, "box", "{{len .State.Health.Log}} {{.State.Health.FailingStreak}}"), "5 0");
    kiln.ok(&["exec", "box", "touch", "/bad"]);
    becomes(&kiln, "box", "unhealthy");
    kiln.ok(&["exec", "box", "rm", "/bad"]);
    becomes(&kiln, "box", "healthy");
    let words =
        ["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}", "-f", "container=box"];
    let events = kiln.ok(&words);
    let health: Vec<_> = events.lines().filter_map(|line| line.strip_prefix("health_status: ")).collect();
    assert!(health.windows(2).all(|two| two[0] != two[1]) && health.contains(&"unhealthy"), "{events}");
    // The helpers of all these probes were reaped.
    let monitor = format!("/proc/{}/stat", inspect(&kiln, "box", "{{.State.Pid}}"));
    let stat = std::fs::read_to_string(monitor).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    let children = || {
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
            .unwrap()
            .split_whitespace()
            .count()
    };
    assert!(children() < 5, "{}", children());
    kiln.ok(&["rm", "-f", "box"]);
}

#[test]
fn failures_of_the_start_period_do_not_count() {
    let Some(kiln) = kiln("failures_of_the_start_period_do_not_count") else { return };
    let options = [
        "--name",
        "box",
        "--health-cmd",
        "false",
        "--health-interval",
        "1h",
        "--health-retries",
        "1",
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "50ms",
    ];
    run(&kiln, &options);
    eventually("it was looked at", || {
        inspect(&kiln, "box", "{{len .State.Health.Log}} {{.State.Health.Status}}") == "5 starting"
    });
    assert_eq!(inspect(&kiln, "box", "{{.State.Health.FailingStreak}}"), "0");
    kiln.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_probe_that_takes_too_long_is_ended() {
    let Some(kiln) = kiln("a_probe_that_takes_too_long_is_ended") else { return };
    let options = [
        "--name",
        "box",
        "--health-cmd",
        "sleep 777",
        "--health-interval",
        "50ms",
        "--health-timeout",
        "100ms",
        "--health-retries",
        "1",
    ];
    run(&kiln, &options);
    becomes(&kiln, "box", "unhealthy");
    let format = "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
    assert_eq!(inspect(&kiln, "box", format), "-1 Health check exceeded timeout (100ms)");
    // Nor is it in the way of anything else.
    assert_eq!(kiln.ok(&["exec", "box", "echo", "here"]), "here\n");
    kiln.ok(&["stop", "-t", "0", "box"]);
    assert_eq!(inspect(&kiln, "box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
}

#[test]
fn the_images_check_is_taken_over_or_left_out() {
    let Some(kiln) = kiln("the_images_check_is_taken_over_or_left_out") else { return };
    let file = "FROM busybox\nHEALTHCHECK --interval=7s --retries=4 CMD [\"true\"]\n";
    let context = kiln.context(&[("Dockerfile", file)]);
    kiln.build(&context, &["-t", "checked"]).ok();
    let created = |options: &[&str]| {
        let id = kiln.ok(&[&["create"], options, &["checked", "true"]].concat());
        kiln.ok(&["inspect", "-f", "{{json .Config}}", id.trim()])
    };
    let own = created(&["--health-timeout", "2s"]);
    for part in
        [r#""Test":["CMD","true"]"#, r#""Interval":7000000000"#, r#""Timeout":2000000000"#, r#""Retries":4"#]
    {
        assert!(own.contains(part), "{own}");
    }
    assert!(!created(&["--no-healthcheck"]).contains("Healthcheck"));
    for bad in [["--health-interval", "10us"], ["--health-timeout", "soon"], ["--health-retries", "-1"]] {
        let ran = kiln.run(&[&["create"], &bad[..], &["checked"]].concat());
        assert!(ran.code == 125 && ran.error.contains(bad[0]), "{ran}");
    }
    let ran = kiln.run(&["create", "--no-healthcheck", "--health-cmd", "x", "checked"]);
    assert!(ran.code == 125 && ran.error.contains("--no-healthcheck"), "{ran}");
}
