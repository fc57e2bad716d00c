//! `kiln stats` and `kiln top`.

use std::time::{Duration, Instant};

use crate::support::binary::Kiln;
use crate::support::needs_root;
use crate::support::pty::Pty;

/// Starts busybox in the background as `box`.
fn start(kiln: &Kiln, flags: &[&str], script: &str) {
    let words =
        [&["run", "-d", "--name", "box", "--network", "none"], flags, &["busybox", "sh", "-c", script]]
            .concat();
    kiln.ok(&words);
}

#[test]
fn top_shows_the_processes_as_ps_of_the_host() {
    if !needs_root("stats::top_shows_the_processes_as_ps_of_the_host") {
        return;
    }
    let kiln = Kiln::busybox();
    start(&kiln, &["-u", "12345"], "sleep 601 & sleep 602; true");
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", "box"]);
    let is_complete = |text: &str| {
        let runs = |command: &str| text.lines().any(|line| line.ends_with(&format!("  {command}")));
        runs("sleep 601") && runs("sleep 602")
    };
    let end = Instant::now() + Duration::from_secs(30);
    let mut shown = kiln.ok(&["top", "box"]);
    while !is_complete(&shown) && Instant::now() < end {
        shown = kiln.ok(&["top", "box"]);
    }
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert!(shown.starts_with(
        "UID                 PID                 PPID                C                   STIME"
    ));
    assert_eq!(lines.len(), 4, "{shown}");
    for line in &lines[1..] {
        assert_eq!((line[0], line[5], line[6]), ("12345", "?", "00:00:00"), "{shown}");
    }
    let first = lines.iter().find(|line| line[1] == pid.trim()).unwrap();
    assert_eq!(first[7..9], ["sh", "-c"]);
    let child = lines.iter().find(|line| line[7..] == ["sleep", "602"]).unwrap();
    assert_eq!(child[2], pid.trim());
    assert_eq!(
        kiln.ok(&["top", "box", "aux"]).lines().next().unwrap().split_whitespace().last(),
        Some("COMMAND")
    );
    let threads = kiln.ok(&["top", "box", "-eLf"]);
    let threads: Vec<Vec<&str>> = threads.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(threads[0][3..6], ["LWP", "C", "NLWP"]);
    assert!(threads.iter().any(|line| line[1] == pid.trim() && line[3] == pid.trim() && line[5] == "1"));
    let own = kiln.ok(&["top", "box", "-o", "pid,ppid=PARENT,comm"]);
    assert_eq!(
        own.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["PID", "PARENT", "COMMAND"]
    );
    let ran = kiln.run(&["top", "box", "-o", "colour"]);
    assert!(ran.code == 1 && ran.error.contains("`colour`"), "{}", ran.error);
    kiln.run(&["top", "box", "-p", pid.trim()]).fails_with(&["`-p` chooses processes", "-ef"]);
    kiln.ok(&["pause", "box"]);
    assert!(is_complete(&kiln.ok(&["container", "top", "box"])));
    kiln.ok(&["kill", "box"]);
    let ran = kiln.run(&["top", "box"]);
    assert!(ran.code == 1 && ran.error.contains("not running"), "{}", ran.error);
}

#[test]
fn stats_show_what_a_container_uses() {
    if !needs_root("stats::stats_show_what_a_container_uses") {
        return;
    }
    let kiln = Kiln::busybox();
    start(&kiln, &["-m", "64m"], "while :; do :; done");
    let end = Instant::now() + Duration::from_secs(30);
    let mut row = Vec::new();
    while Instant::now() < end {
        let shown = kiln.ok(&["stats", "--no-stream", "box"]);
        let head =
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS\n";
        let columns = |text: &str| {
            text.split("  ")
                .filter(|word| !word.is_empty())
                .map(|word| word.trim().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(columns(shown.lines().next().unwrap()), columns(head.trim()));
        row = columns(shown.lines().nth(1).unwrap());
        if row[2].trim_end_matches('%').parse::<f64>().unwrap() > 1.0 {
            break;
        }
    }
    assert_eq!(row.len(), 8, "{row:?}");
    assert_eq!((row[1].as_str(), row[7].as_str()), ("box", "1"));
    assert!(row[2].trim_end_matches('%').parse::<f64>().unwrap() > 1.0, "{row:?}");
    assert!(row[3].ends_with("/ 64MiB"), "{row:?}");
    kiln.ok(&["create", "--name", "still", "busybox", "true"]);
    let names = |words: &[&str]| {
        let mut names: Vec<_> = kiln.ok(words).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(&["stats", "--no-stream", "--format", "{{.Name}}"]), ["box"]);
    assert_eq!(
        names(&["stats", "--no-stream", "-a", "--format", "{{.Name}} {{.PIDs}}"]),
        ["box 1", "still 0"]
    );
    let json: serde_json::Value =
        serde_json::from_str(&kiln.ok(&["stats", "--no-stream", "--no-trunc", "--format", "json", "box"]))
            .unwrap();
    assert_eq!((json["Name"].as_str(), json["ID"].as_str().map(str::len)), (Some("box"), Some(64)));
    let ran = kiln.run(&["stats", "--no-stream", "nobody"]);
    assert!(ran.code == 1 && ran.error.contains("nobody"), "{}", ran.error);
}

#[test]
fn stats_are_painted_again_on_a_terminal_until_the_container_is_gone() {
    if !needs_root("stats::stats_are_painted_again_on_a_terminal_until_the_container_is_gone") {
        return;
    }
    let kiln = Kiln::busybox();
    start(&kiln, &["--rm"], "sleep 600");
    let mut pty = Pty::spawn(&kiln.command(&["stats", "box"]));
    for _ in 0..3 {
        pty.expect("\x1b[2J\x1b[H");
        pty.expect("CONTAINER ID");
        pty.expect("box");
    }
    kiln.ok(&["kill", "box"]);
    assert_eq!(pty.wait().0, 0);
}
