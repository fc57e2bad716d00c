//! Containers that another OCI runtime runs, `--runtime`: with Debian's runc.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::binary::Kiln;
use crate::support::needs_root;
use crate::support::pty::Pty;

fn kiln(name: &str) -> Option<Kiln> {
    if !needs_root(name) {
        return None;
    }
    let is_there = ["/usr/sbin/runc", "/usr/bin/runc"].iter().any(|path| Path::new(path).exists());
    if !is_there {
        assert!(std::env::var_os("KILN_TEST_NO_SKIP").is_none(), "{name}: runc is not installed");
        println!("{name}: skipped: runc is not installed");
    }
    is_there.then(Kiln::busybox)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} did not happen");
}

/// The cgroups that are named after a container.
fn cgroups(id: &str) -> Vec<PathBuf> {
    let tops = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let all = tops.chain([PathBuf::from("/sys/fs/cgroup")]);
    all.map(|top| top.join("kiln").join(id)).filter(|folder| folder.exists()).collect()
}

#[test]
fn another_runtime_runs_a_program_and_its_end_comes_home() {
    let Some(kiln) = kiln("another_runtime_runs_a_program_and_its_end_comes_home") else { return };
    let script = "cat; echo err >&2; id -u; hostname; grep -c . /etc/hosts; grep Seccomp: /proc/self/status
        cat /proc/sys/net/ipv4/ip_forward; touch /ro/x 2>/dev/null || echo ro; ls -l /dev/fuse | cut -c1; exit 7";
    let host = kiln.scratch().join("host");
    fs::create_dir(&host).unwrap();
    let bind = format!("{}:/ro:ro", host.display());
    let words = [
        "run",
        "-i",
        "--rm",
        "--runtime",
        "runc",
        "-u",
        "1000",
        "-h",
        "box",
        "-v",
        &bind,
        "--device",
        "/dev/fuse",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--memory",
        "64m",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let ran = kiln.run_with(&words, b"given\n");
    assert_eq!(ran.code, 7, "{}", ran.error);
    assert!(ran.out.starts_with("given\n1000\nbox\n"), "{}", ran.out);
    assert!(ran.out.ends_with("Seccomp:\t2\n1\nro\nc\n"), "{}", ran.out);
    assert_eq!(ran.error, "err\n");
    // It has the container's address, and nothing is left.
    let shown = kiln.ok(&["run", "--rm", "--runtime", "runc", "busybox", "ip", "addr", "show", "eth0"]);
    assert!(shown.contains("inet "), "{shown}");
    let removed = kiln.root().join("containers/removed");
    eventually("the folders go", || fs::read_dir(&removed).unwrap().next().is_none());
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
}

#[test]
fn its_container_is_handled_as_any_other() {
    let Some(kiln) = kiln("its_container_is_handled_as_any_other") else { return };
    let script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    let health = ["--health-cmd", "test -e /healthy", "--health-interval", "200ms"];
    let words =
        [&["run", "-d", "--name", "box", "--runtime", "runc"][..], &health, &["busybox", "sh", "-c", script]];
    let id = kiln.ok(&words.concat()).trim().to_owned();
    assert!(kiln.ok(&["inspect", "-f", "{{.HostConfig.Runtime}}", "box"]).trim().ends_with("/runc"));
    eventually("it is up", || kiln.ok(&["logs", "box"]) == "up\n");
    // Further processes are the runtime's too.
    let exec = kiln.run(&[
        "exec",
        "-u",
        "5",
        "-w",
        "/tmp",
        "-e",
        "A=b",
        "box",
        "sh",
        "-c",
        "id -u; pwd; echo $A; exit 4",
    ]);
    assert_eq!((exec.code, exec.out.as_str()), (4, "5\n/tmp\nb\n"), "{}", exec.error);
    assert_eq!(kiln.ok(&["exec", "-t", "box", "busybox", "tty"]).trim(), "/dev/pts/0");
    assert_eq!(kiln.run(&["exec", "box", "lost"]).code, 127);
    let state = |kiln: &Kiln| {
        kiln.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "box"]).trim().to_owned()
    };
    kiln.ok(&["pause", "box"]);
    assert_eq!(state(&kiln), "paused 0");
    kiln.ok(&["unpause", "box"]);
    kiln.ok(&["exec", "box", "touch", "/healthy"]);
    let health = ["inspect", "-f", "{{.State.Health.Status}}", "box"];
    eventually("it is healthy", || kiln.ok(&health).trim() == "healthy");
    assert!(kiln.ok(&["top", "box"]).contains("sleep 0.05"));
    assert!(kiln.ok(&["stats", "--no-stream", "box"]).contains("box"));
    kiln.ok(&["update", "--pids-limit", "50", "box"]);
    assert_eq!(kiln.ok(&["exec", "box", "cat", "/sys/fs/cgroup/pids/pids.max"]).trim(), "50");
    // What it wrote is still there in the next run.
    kiln.ok(&["restart", "box"]);
    assert_eq!(kiln.ok(&["diff", "box"]), "A /healthy\n");
    kiln.ok(&["stop", "box"]);
    assert_eq!(state(&kiln), "exited 3");
    assert_eq!(kiln.ok(&["logs", "box"]), "up\nbye\nup\nbye\n");
    kiln.ok(&["start", "box"]);
    kiln.ok(&["kill", "box"]);
    eventually("it has ended", || state(&kiln) == "exited 137");
    kiln.ok(&["rm", "box"]);
    assert!(cgroups(&id).is_empty(), "{:?}", cgroups(&id));
    assert!(!kiln.root().join("containers").join(&id).exists());
}

#[test]
fn its_terminal_is_typed_on_and_left() {
    let Some(kiln) = kiln("its_terminal_is_typed_on_and_left") else { return };
    let words = ["run", "-it", "--name", "box", "--network", "none", "--runtime", "runc", "busybox", "sh"];
    let mut first = Pty::spawn(&kiln.command(&words));
    first.expect("# ");
    first.send("here=yes; stty size\r");
    first.expect("24 80");
    first.send("\x10\x11");
    assert_eq!(first.wait().0, 0);
    let mut second = Pty::spawn(&kiln.command(&["attach", "box"]));
    second.send("echo is-$here; exit 5\r");
    second.expect("is-yes");
    assert_eq!(second.wait().0, 5);
}

#[test]
fn a_start_that_it_refuses_tells_its_words_and_dockers_code() {
    let Some(kiln) = kiln("a_start_that_it_refuses_tells_its_words_and_dockers_code") else { return };
    let run = |words: &[&str]| kiln.run(&[&["run", "--rm", "--network", "none"][..], words].concat());
    for (program, code, word) in [("lost", 127, "not found"), ("/bin", 126, "permission denied")] {
        let ran = run(&["--runtime", "runc", "busybox", program]);
        assert_eq!(ran.code, code, "{}", ran.error);
        assert!(ran.error.contains("runc: ") && ran.error.contains(word), "{}", ran.error);
    }
    for (words, word) in [
        (&["--runtime", "lost"][..], "`--runtime`"),
        (&["--runtime", "/etc/passwd"], "`--runtime`"),
        (&["--runtime", "/bin/false"], "false: "),
        (&["--runtime", "runc", "--init"], "`--init` is not possible"),
        (&["--runtime", "runc", "--userns", "auto"], "`--userns auto` is not possible"),
    ] {
        let ran = run(&[words, &["busybox", "true"]].concat());
        assert_eq!(ran.code, 125, "{}", ran.error);
        assert!(ran.error.contains(word), "{}", ran.error);
    }
    assert_eq!(run(&["--runtime", "kiln", "busybox", "echo", "own"]).out, "own\n");
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_killed_monitor_is_noticed_and_its_program_ended() {
    let Some(kiln) = kiln("a_killed_monitor_is_noticed_and_its_program_ended") else { return };
    let words =
        ["run", "-d", "--name", "box", "--network", "none", "--runtime", "runc", "busybox", "sleep", "1000"];
    let id = kiln.ok(&words).trim().to_owned();
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", "box"]).trim().to_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    let monitor = rustix::process::Pid::from_raw(parent).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    let state = ["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "box"];
    eventually("it is noticed", || kiln.ok(&state).trim() == "exited 255");
    assert!(cgroups(&id).is_empty(), "{:?}", cgroups(&id));
    // The next start finds nothing in its way.
    kiln.ok(&["start", "box"]);
    assert_eq!(kiln.ok(&["exec", "box", "echo", "again"]), "again\n");
    kiln.ok(&["rm", "-f", "box"]);
    assert!(cgroups(&id).is_empty(), "{:?}", cgroups(&id));
}
