//! Starts without a launcher, terminals and further processes, each in a forked test process with one thread.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;

use kiln::runtime::{
    Cgroup, CgroupPlace, ExecSpec, Exit, Limits, Process, Rights, Spec, Stdio, Target, Tree, exec, resize,
    start,
};

use super::{Box, fs, is_running, pipe};
use crate::support::needs_root;

/// Runs `work` in a forked copy of this thread alone; its panic fails the test.
fn alone(work: impl FnOnce()) {
    #[expect(unsafe_code, reason = "the harness has threads; only a fork has one")]
    // SAFETY: the C library's fork leaves its own locks usable in the child, which ends by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        #[expect(
            unsafe_code,
            reason = "a lock of the harness, held at the fork, must not hang the test for ever"
        )]
        // SAFETY: takes a number only.
        unsafe {
            libc::alarm(60)
        };
        let result = std::panic::catch_unwind(AssertUnwindSafe(work));
        if let Err(panic) = &result {
            let text = panic.downcast_ref::<String>().map_or("it panicked", String::as_str);
            let _ = writeln!(std::io::stderr(), "{text}");
        }
        kiln::sys::process::exit_now(i32::from(result.is_err()));
    }
    let pid = rustix::process::Pid::from_raw(pid).expect("fork succeeds");
    let (_, status) =
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0), "the forked part failed; its message is above");
}

fn null() -> OwnedFd {
    fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap().into()
}

/// Stdio to a pipe whose read end comes back.
fn piped() -> (fs::File, Stdio) {
    let (read, write) = pipe();
    (read, Stdio::Fds([null(), write.try_clone().unwrap(), write]))
}

fn spec(b: &Box, script: &str) -> Spec {
    b.spec(&["sh", "-c", script])
}

fn exec_shell(target: &Target, script: &str, change: impl FnOnce(&mut ExecSpec)) -> (Exit, String) {
    let mut spec = ExecSpec { args: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecSpec::default() };
    change(&mut spec);
    let (mut read, stdio) = piped();
    let mut process = exec(target, &spec, stdio).unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    (process.wait().unwrap(), text)
}

fn sleeper(b: &Box, change: impl FnOnce(&mut Spec)) -> Process {
    let mut spec = spec(b, "echo up; exec sleep 1000");
    change(&mut spec);
    let (mut read, stdio) = piped();
    let process = start(&spec, stdio, None).unwrap();
    read.read_exact(&mut [0; 3]).unwrap();
    process
}

/// Reads the terminal to its end, which is an error number for a master.
fn read_terminal(master: OwnedFd) -> String {
    let mut text = Vec::new();
    let _ = fs::File::from(master).read_to_end(&mut text);
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_start_without_a_launcher() {
    if !needs_root("runtime::direct::a_start_without_a_launcher") {
        return;
    }
    let b = Box::new();
    alone(|| {
        let (mut read, stdio) = piped();
        let mut process = start(&spec(&b, "echo hello; exit 3"), stdio, None).unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!((process.wait().unwrap(), text.as_str()), (Exit::Code(3), "hello\n"));
        assert!(!process.finish().unwrap().oom_killed);
        let process = sleeper(&b, |_| {});
        process.kill(libc::SIGTERM).unwrap();
        process.kill(libc::SIGKILL).unwrap();
        assert_eq!(process.finish().unwrap().exit, Exit::Signal(9));
        let error = start(&b.spec(&["nope"]), piped().1, None).unwrap_err();
        assert_eq!(error.exit_code(), 127);
    });
}

#[test]
fn a_terminal_is_the_containers_own() {
    if !needs_root("runtime::direct::a_terminal_is_the_containers_own") {
        return;
    }
    let b = Box::new();
    alone(|| {
        let script = "tty; stty size; [ -t 0 ] && echo yes; stat -c %t /dev/console; read line; echo got $line; stty size";
        let spec = Spec { tty: Some((24, 80)), user: "web".into(), ..spec(&b, script) };
        let mut process = start(&spec, Stdio::Pty, None).unwrap();
        let master = process.take_pty().unwrap();
        resize(&master, 50, 132).unwrap();
        rustix::io::write(&master, b"word\n").unwrap();
        let exit = process.wait().unwrap();
        let text = read_terminal(master);
        assert_eq!(exit, Exit::Code(0), "{text}");
        for part in ["/dev/pts/0\n", "yes\n88\n", "got word\n", "50 132\n"] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
    });
}

#[test]
fn a_further_process_is_in_the_same_sandbox() {
    if !needs_root("runtime::direct::a_further_process_is_in_the_same_sandbox") {
        return;
    }
    let b = Box::new();
    alone(|| {
        let process = sleeper(&b, |spec| spec.limits = Limits { pids: Some(30), ..Limits::default() });
        let target = process.target().unwrap();
        let (exit, text) =
            exec_shell(&target, "hostname; ls /proc/self/fd | wc -l; cat /proc/1/cmdline; exit 9", |_| {});
        assert_eq!((exit, text.as_str()), (Exit::Code(9), "kilntest\n4\nsleep\u{0}1000\u{0}"));
        let (_, text) = exec_shell(&target, "cat /proc/self/status /proc/self/cgroup", |_| {});
        for line in ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "Seccomp:\t2", "pids:/\n"] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let namespaces = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done";
        let (_, own) = exec_shell(&target, namespaces, |_| {});
        let (_, first) =
            exec_shell(&target, &namespaces.replace("self", "1"), |spec| spec.rights = Rights::all());
        assert_eq!(own, first, "the same namespaces as the first process");
        let (_, text) = exec_shell(&target, "id -u; pwd; echo $HOME", |spec| {
            spec.user = "web".into();
            spec.cwd = "/tmp".into();
        });
        assert_eq!(text, "33\n/tmp\n/srv\n");
        process.kill(9).unwrap();
        process.finish().unwrap();
    });
}

#[test]
fn a_further_process_may_have_a_terminal_and_dies_with_the_container() {
    if !needs_root("runtime::direct::a_further_process_may_have_a_terminal_and_dies_with_the_container") {
        return;
    }
    let b = Box::new();
    alone(|| {
        let process = sleeper(&b, |_| {});
        let target = process.target().unwrap();
        let shell = |script: &str| ExecSpec {
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            tty: Some((10, 20)),
            ..ExecSpec::default()
        };
        let mut terminal = exec(&target, &shell("tty; stty size"), Stdio::Pty).unwrap();
        let master = terminal.take_pty().unwrap();
        assert_eq!(terminal.wait().unwrap(), Exit::Code(0));
        assert_eq!(read_terminal(master), "/dev/pts/0\n10 20\n");
        let mut left = exec(&target, &shell("sleep 98765"), piped().1).unwrap();
        process.kill(9).unwrap();
        assert_eq!(left.wait().unwrap(), Exit::Signal(9));
        process.finish().unwrap();
        assert!(!is_running("98765"));
        let gone = exec(&target, &shell("true"), piped().1).unwrap_err();
        assert!(gone.message.contains("not running"), "{gone}");
    });
}

#[test]
fn a_wrong_target_or_program_is_refused() {
    if !needs_root("runtime::direct::a_wrong_target_or_program_is_refused") {
        return;
    }
    let b = Box::new();
    alone(|| {
        let process = sleeper(&b, |_| {});
        let target = process.target().unwrap();
        let reused = Target { start_time: target.start_time + 1, ..target.clone() };
        let run = |target: &Target, change: &dyn Fn(&mut ExecSpec)| {
            let mut spec = ExecSpec { args: vec!["true".into()], ..ExecSpec::default() };
            change(&mut spec);
            exec(target, &spec, piped().1).map(|mut process| process.wait().unwrap())
        };
        assert_eq!(run(&target, &|_| {}), Ok(Exit::Code(0)));
        assert!(run(&reused, &|_| {}).unwrap_err().message.contains("not running"));
        assert_eq!(run(&target, &|spec| spec.args = vec!["nope".into()]).unwrap_err().exit_code(), 127);
        for cwd in ["/proc/self/fd/3", "/proc/1/cwd", "/none", "tmp"] {
            assert_eq!(run(&target, &|spec| spec.cwd = cwd.into()).unwrap_err().exit_code(), 125, "{cwd}");
        }
        // A passwd file that would hang a reader, put there by the container.
        let (exit, _) = exec_shell(&target, "rm /etc/passwd && mkfifo /etc/passwd", |_| {});
        assert_eq!(exit, Exit::Code(0));
        assert!(run(&target, &|spec| spec.user = "web".into()).unwrap_err().message.contains("regular file"));
        process.kill(9).unwrap();
        process.finish().unwrap();
    });
}

/// Waits until no process has `argument`; the deadline is far beyond what it takes.
fn wait_until_gone(argument: &str) {
    for _ in 0..500 {
        if !is_running(argument) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{argument} still runs");
}

/// Runs a launcher and a step in a forked process, and gives the pids of that process and of its launcher.
fn engine_with_step(b: &Box, argument: &str) -> (rustix::process::Pid, rustix::process::Pid) {
    let (mut read, write) = pipe();
    #[expect(unsafe_code, reason = "the engine to kill is a process of its own")]
    // SAFETY: as in `alone`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let program = std::path::Path::new(env!("CARGO_BIN_EXE_kiln"));
            let launcher = kiln::runtime::Launcher::start_from(program).unwrap();
            let (_read, end) = pipe();
            let io = kiln::runtime::StepIo {
                stdin: None,
                stdout: end.try_clone().unwrap(),
                stderr: end,
                keep: Vec::new(),
            };
            let step = launcher.run(&b.spec(&["sleep", argument]), io, None).unwrap();
            rustix::io::write(&write, format!("{}\n", step.pid()).as_bytes()).unwrap();
            loop {
                std::thread::park();
            }
        }));
        kiln::sys::process::exit_now(i32::from(result.is_err()));
    }
    drop(write);
    let mut line = [0; 16];
    let length = read.read(&mut line).unwrap();
    let step: i32 = String::from_utf8_lossy(&line[..length]).trim().parse().unwrap();
    let status = fs::read_to_string(format!("/proc/{step}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap().parse().unwrap();
    assert!(is_running(argument));
    (rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Pid::from_raw(parent).unwrap())
}

#[test]
fn a_step_dies_with_its_engine_and_with_its_launcher() {
    if !needs_root("runtime::direct::a_step_dies_with_its_engine_and_with_its_launcher") {
        return;
    }
    use rustix::process::{Signal, WaitOptions, kill_process, waitpid};
    let b = Box::new();
    for (argument, kill_the_engine) in [("45671", true), ("45672", false)] {
        let (engine, launcher) = engine_with_step(&b, argument);
        kill_process(if kill_the_engine { engine } else { launcher }, Signal::KILL).unwrap();
        wait_until_gone(argument);
        let _ = kill_process(engine, Signal::KILL);
        waitpid(Some(engine), WaitOptions::empty()).unwrap();
    }
}

#[test]
fn a_container_has_a_cgroup_without_limits_and_sees_no_other_hierarchy() {
    if !needs_root("runtime::direct::a_container_has_a_cgroup_without_limits_and_sees_no_other_hierarchy") {
        return;
    }
    let b = Box::new();
    alone(|| {
        let (mut read, stdio) = piped();
        let script = "cat /proc/self/cgroup; ls /sys/fs/cgroup; ip link show lo; sleep 1000 & echo on; wait";
        let spec = Spec { cgroup: CgroupPlace::Own, ..spec(&b, script) };
        let process = start(&spec, stdio, None).unwrap();
        let folders = process.target().unwrap().cgroup;
        assert!(!folders.is_empty() && folders.iter().all(|folder| folder.is_dir()), "{folders:?}");
        let mut text = String::new();
        while !text.ends_with("on\n") {
            let mut byte = [0];
            read.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
        }
        assert_eq!(process.cgroup().pids().len(), 2);
        // As whoever finds a container that lost its monitor: by the folders alone.
        let mut found = Cgroup::open(&folders);
        found.kill().unwrap();
        assert!(text.contains(",UP,LOWER_UP"), "{text}");
        let names: Vec<&str> = folders
            .iter()
            .map(|folder| folder.parent().and_then(|ours| ours.parent()?.file_name()?.to_str()).unwrap())
            .collect();
        if names != ["cgroup"] {
            let shown: Vec<&str> = text
                .lines()
                .skip_while(|line| line.contains(':'))
                .take_while(|line| !line.contains(':'))
                .collect();
            let mut expected = names.clone();
            expected.sort_unstable();
            assert_eq!(shown, expected, "{text}");
        }
        assert_eq!(process.finish().unwrap().exit, Exit::Signal(9));
        assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
        found.remove();
    });
}

#[test]
fn the_files_of_a_container_are_read_from_outside() {
    if !needs_root("runtime::direct::the_files_of_a_container_are_read_from_outside") {
        return;
    }
    let b = Box::new();
    fs::write(b.lower().join("note"), "layer").unwrap();
    alone(|| {
        let process = sleeper(&b, |_| {});
        let target = process.target().unwrap();
        let script =
            "echo own > /tmp/own; ln -s /proc/1/root/etc/passwd /tmp/out; ln -s /../../../note /tmp/up";
        exec_shell(&target, script, |_| {});
        let tree = Tree::of_running(&target).unwrap();
        assert_eq!(tree.read("/tmp/own", 100).unwrap().unwrap(), b"own\n");
        assert_eq!(tree.read("/tmp/up", 100).unwrap().unwrap(), b"layer");
        assert!(tree.open("/tmp/out", rustix::fs::OFlags::RDONLY).is_err(), "a magic link is not followed");
        assert!(tree.open("/proc/1/status", rustix::fs::OFlags::RDONLY).is_ok(), "mounts are seen");
        process.kill(9).unwrap();
        process.finish().unwrap();
        assert!(Tree::of_running(&target).is_err());
        let layers = Tree::of_layers(&b.spec(&[]).rootfs).unwrap();
        assert_eq!(layers.read("/tmp/own", 100).unwrap().unwrap(), b"own\n");
        assert_eq!(layers.read("/none", 100).unwrap(), None);
    });
}
