//! Process trees in a busybox root filesystem: what they see, what they may, and what stays behind.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln::redacted::Redacted;
use kiln::runtime::{
    Exit, How, Launcher, Limits, Mount, Net, Rights, Spec, StartError, StartErrorKind, StepIo,
};
use kiln_cache::Mounts;

use crate::support::needs_root;

mod ahead;
mod direct;
mod probe;

const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A busybox root filesystem as an overlay, and a launcher.
struct Box {
    dir: tempfile::TempDir,
    launcher: Launcher,
}

/// What a step left.
#[derive(Debug)]
struct Output {
    exit: Exit,
    text: String,
}

impl Box {
    fn new() -> Box {
        let dir = tempfile::tempdir().unwrap();
        let lower = dir.path().join("lower");
        for folder in ["bin", "etc", "tmp", "root"] {
            fs::create_dir_all(lower.join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
            symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n")
            .unwrap();
        fs::write(lower.join("etc/group"), "root:x:0:\nweb:x:44:\nmedia:x:70:web\n").unwrap();
        fs::set_permissions(lower.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::create_dir(dir.path().join("upper")).unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        let launcher = Launcher::start_from(Path::new(env!("CARGO_BIN_EXE_kiln"))).unwrap();
        Box { dir, launcher }
    }

    fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    fn spec(&self, args: &[&str]) -> Spec {
        Spec {
            id: format!("test-{}-{}", std::process::id(), self.dir.path().file_name().unwrap().display())
                .replace("/", "")
                .replace(".tmp", "tmp"),
            rootfs: Mounts {
                lowers: vec![self.lower()],
                upper: Some(self.upper()),
                work: Some(self.dir.path().join("work")),
            },
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            hostname: "kilntest".into(),
            ..Spec::default()
        }
    }

    fn run(&self, spec: &Spec) -> Result<Output, StartError> {
        let (mut read, write) = pipe();
        let stderr = write.try_clone().unwrap();
        let step =
            self.launcher.run(spec, StepIo { stdin: None, stdout: write, stderr, keep: Vec::new() }, None)?;
        let mut text = Vec::new();
        read.read_to_end(&mut text).unwrap();
        Ok(Output { exit: step.wait()?, text: String::from_utf8_lossy(&text).into_owned() })
    }

    fn shell(&self, script: &str) -> Output {
        self.run(&self.spec(&[SHELL[0], SHELL[1], script])).unwrap()
    }

    /// Runs a script that must succeed, and gives what it wrote.
    fn says(&self, script: &str) -> String {
        let output = self.shell(script);
        assert_eq!(output.exit, Exit::Code(0), "{script}: {}", output.text);
        output.text.trim().to_owned()
    }
}

fn pipe() -> (fs::File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (fs::File::from(read), write)
}

#[test]
fn codes_and_signals_come_home() {
    if !needs_root("runtime::codes_and_signals_come_home") {
        return;
    }
    let b = Box::new();
    assert_eq!(b.run(&b.spec(&["true"])).unwrap().exit, Exit::Code(0));
    assert_eq!(b.shell("exit 42").exit, Exit::Code(42));
    // Pid 1 of a namespace can't be killed from inside; by the launcher it can.
    let (_read, write) = pipe();
    let io = StepIo { stdin: None, stdout: write.try_clone().unwrap(), stderr: write, keep: Vec::new() };
    let step = b.launcher.run(&b.spec(&["sleep", "1000"]), io, None).unwrap();
    step.killer().kill(9);
    assert_eq!(step.wait().unwrap(), Exit::Signal(9));
}

#[test]
fn a_program_that_cannot_run_is_explained() {
    if !needs_root("runtime::a_program_that_cannot_run_is_explained") {
        return;
    }
    let b = Box::new();
    let write = |name: &str, text: &[u8], mode: u32| {
        let path = b.lower().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("crlf", b"#!/bin/sh\r\necho\n", 0o755);
    write("perl", b"#!/usr/bin/perl\n", 0o755);
    write("plain", b"#!/bin/sh\n", 0o644);
    write("text", b"echo hi\n", 0o755);
    // A program of the machine's, whose loader the image lacks.
    write("dynamic", &fs::read("/bin/ls").unwrap(), 0o755);
    use StartErrorKind::{NotExecutable, NotFound};
    let cases = [
        ("nope", NotFound, "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", NotFound, "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/crlf", NotFound, "carriage return"),
        ("/perl", NotFound, "`/usr/bin/perl` is not in the image"),
        ("/plain", NotExecutable, "permission denied"),
        ("/text", NotExecutable, "exec format error"),
        ("/dynamic", NotFound, "`/lib64/ld-linux-x86-64.so.2`"),
        ("/etc", NotExecutable, "is a directory"),
    ];
    for (program, kind, text) in cases {
        let error = b.run(&b.spec(&[program])).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(text), "{error}");
    }
    let error = b.run(&Spec { user: "nobody2".into(), ..b.spec(&["true"]) }).unwrap_err();
    assert_eq!(error.exit_code(), 125);
    assert!(error.message.contains("unable to find user nobody2"), "{error}");
}

#[test]
fn the_sandbox_is_dockers() {
    if !needs_root("runtime::the_sandbox_is_dockers") {
        return;
    }
    let b = Box::new();
    assert_eq!(b.says("hostname"), "kilntest");
    assert_eq!(b.says("echo $$"), "1");
    assert_eq!(
        b.says("pwd; echo $HOME $PATH"),
        "/\n/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    );
    assert_eq!(b.says("umask; id -u; id -G"), "0022\n0\n0");
    assert_eq!(b.says("ls /proc/self/fd | wc -l"), "4", "stdio and the folder being read");
    let caps = b.run(&b.spec(&["cat", "/proc/1/status"])).unwrap().text;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
    ] {
        assert!(caps.contains(line), "{line} in {caps}");
    }
    assert_eq!(
        b.says("ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v :; wc -c < /proc/interrupts"),
        "0"
    );
    for refused in [
        "mount -t tmpfs x /tmp",
        "umount /proc",
        "unshare -m true",
        "echo 1 > /proc/sys/kernel/panic",
        "echo b > /proc/sysrq-trigger",
        "mkdir /sys/x",
        "mknod /tmp/sda b 8 0 && cat /tmp/sda",
        "rm /dev/null",
        "chmod 777 /dev/null",
        "hostname other",
        "echo x > /proc/1/oom_score_adj && echo -1000 > /proc/1/oom_score_adj",
    ] {
        assert_ne!(b.shell(refused).exit, Exit::Code(0), "{refused}");
    }
    let dev = b
        .says("ls /dev | tr '\\n' ' '; ls -l /dev/stdin /dev/ptmx | sed 's/.*-> //'; stat -c %t:%T /dev/tty");
    assert_eq!(
        dev,
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero /proc/self/fd/0\npts/ptmx\n5:0"
            .replace("/proc/self/fd/0\npts/ptmx", "pts/ptmx\n/proc/self/fd/0")
    );
    assert_eq!(b.says("echo x > /dev/null; head -c 3 /dev/zero | wc -c; touch /dev/shm/x /dev/new"), "3");
}

#[test]
fn users_groups_and_folders() {
    if !needs_root("runtime::users_groups_and_folders") {
        return;
    }
    let b = Box::new();
    let web = Spec { user: "web".into(), cwd: "/srv/new".into(), ..b.spec(&[SHELL[0], SHELL[1], ""]) };
    let script = |script: &str| Spec { args: vec!["sh".into(), "-c".into(), script.into()], ..web.clone() };
    let output = b.run(&script("id -u; id -g; id -G; echo $HOME; pwd; touch x; stat -c %u:%g . ; grep CapEff /proc/self/status; grep CapBnd /proc/self/status"));
    assert_eq!(
        output.unwrap().text,
        "33\n44\n44 70\n/srv\n/srv/new\n33:44\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n"
    );
    let output = b.run(&script("echo again > /dev/stderr; echo out > /proc/self/fd/1")).unwrap();
    assert_eq!(output.text, "again\nout\n", "a user without rights opens its stdio again");
    let no_new = Spec {
        rights: Rights { no_new_privileges: true, ..Rights::default() },
        ..script("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status")
    };
    assert_eq!(b.run(&no_new).unwrap().text, "NoNewPrivs:\t1\nSeccomp:\t2\n");
    let readonly = Spec { readonly_root: true, ..b.spec(&["touch", "/x"]) };
    assert_ne!(b.run(&readonly).unwrap().exit, Exit::Code(0));
    let hostile = Spec { cwd: "/proc/self/fd/7".into(), ..b.spec(&["true"]) };
    assert!(b.run(&hostile).is_err(), "a working directory in somebody's descriptors");
}

#[test]
fn mounts_stay_inside_the_root() {
    if !needs_root("runtime::mounts_stay_inside_the_root") {
        return;
    }
    let b = Box::new();
    let host = b.dir.path().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("f"), "from the host").unwrap();
    symlink("/../../../../../../etc/passwd-of-kiln-test", b.lower().join("etc/resolv.conf")).unwrap();
    let file = |target: &str, readonly| Mount::File {
        target: target.into(),
        content: Redacted::new("nameserver 127.0.0.53\n"),
        owner: (0, 0),
        mode: 0o644,
        readonly,
    };
    let bind = |target: &str, readonly| Mount::Bind {
        source: host.clone(),
        target: target.into(),
        readonly,
        how: How::default(),
    };
    let tmpfs = Mount::Tmpfs {
        target: "/t".into(),
        size: Some(1 << 20),
        mode: Some(0o700),
        exec: false,
        readonly: false,
        suid: false,
        options: Vec::new(),
    };
    let with = |mounts: Vec<Mount>, script: &str| Spec { mounts, ..b.spec(&["sh", "-c", script]) };
    let all = vec![
        file("/etc/resolv.conf", true),
        file("/etc/hosts", false),
        bind("/data/a", false),
        bind("/ro", true),
        tmpfs,
    ];
    let output = b.run(&with(
        all,
        "cat /etc/resolv.conf /data/a/f; echo more >> /etc/hosts && wc -l < /etc/hosts; echo x >> /etc/resolv.conf; \
         touch /ro/x; touch /data/a/new /t/y; stat -c %a /t",
    ));
    let text = output.unwrap().text;
    assert!(text.contains("nameserver 127.0.0.53\nfrom the host2\n"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.ends_with("700\n") && host.join("new").exists() && !host.join("x").exists(), "{text}");
    assert!(!Path::new("/etc/passwd-of-kiln-test").exists());
    for target in ["/proc/x", "/sys/y", "/proc", "/proc/sys/kernel", "/", "/.."] {
        let error = b.run(&with(vec![bind(target, false)], "true")).unwrap_err();
        assert_eq!(error.kind, StartErrorKind::Other, "{target}: {error}");
    }
    symlink("/proc/1", b.lower().join("sneaky")).unwrap();
    assert!(b.run(&with(vec![bind("/sneaky/cwd", false)], "true")).is_err());
    let missing =
        Mount::Bind { source: host.join("none"), target: "/m".into(), readonly: false, how: How::default() };
    assert!(b.run(&with(vec![missing], "true")).unwrap_err().message.contains("none"));
}

#[test]
fn a_step_leaves_only_what_it_wrote() {
    if !needs_root("runtime::a_step_leaves_only_what_it_wrote") {
        return;
    }
    let b = Box::new();
    let lower_time = fs::metadata(b.lower().join("etc")).unwrap().mtime_nsec();
    let mounts = ["/etc/resolv.conf", "/etc/hosts", "/run/secrets/key"].map(|target| Mount::File {
        target: target.into(),
        content: Redacted::new("x"),
        owner: (0, 0),
        mode: 0o444,
        readonly: true,
    });
    let spec = |script: &str| Spec {
        mounts: mounts.to_vec(),
        remove_stubs: true,
        volatile: true,
        ..b.spec(&["sh", "-c", script])
    };
    let clean = || {
        fs::remove_dir_all(b.dir.path().join("work")).unwrap();
        fs::create_dir(b.dir.path().join("work")).unwrap();
    };
    let before = fs::metadata(b.upper()).unwrap().mtime_nsec();
    assert_eq!(b.run(&spec("cat /etc/hosts /run/secrets/key")).unwrap().text, "xx");
    let names = |dir: PathBuf| -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(b.upper()), Vec::<String>::new());
    assert_eq!(fs::metadata(b.upper()).unwrap().mtime_nsec(), before);
    clean();
    b.run(&spec("touch /run/mine")).unwrap();
    assert_eq!(
        (names(b.upper()), names(b.upper().join("run"))),
        (vec!["run".to_owned()], vec!["mine".to_owned()])
    );
    clean();
    b.run(&spec("chmod 700 /etc")).unwrap();
    assert_eq!(names(b.upper()), ["etc", "run"], "a changed mode is a change");
    assert_eq!(names(b.upper().join("etc")), Vec::<String>::new());
    assert_eq!(fs::metadata(b.upper().join("etc")).unwrap().mtime_nsec(), lower_time);
}

#[test]
fn what_a_step_leaves_running_dies_with_it() {
    if !needs_root("runtime::what_a_step_leaves_running_dies_with_it") {
        return;
    }
    let b = Box::new();
    let mounts_before = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let output = b.shell("(sleep 12345 >/dev/null 2>&1 &) ; echo done");
    assert_eq!((output.exit, output.text.as_str()), (Exit::Code(0), "done\n"));
    assert!(!is_running("12345"));
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(), mounts_before);
    // Dropped, a step is dead.
    let (_read, write) = pipe();
    let io = StepIo { stdin: None, stdout: write.try_clone().unwrap(), stderr: write, keep: Vec::new() };
    drop(b.launcher.run(&b.spec(&["sleep", "12346"]), io, None).unwrap());
    assert!(!is_running("12346"));
}

/// Tells whether a process has `argument` among its arguments.
fn is_running(argument: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|part| part == argument.as_bytes())
    })
}

#[test]
fn many_steps_run_at_once() {
    if !needs_root("runtime::many_steps_run_at_once") {
        return;
    }
    let boxes: Vec<Box> = (0..4).map(|_| Box::new()).collect();
    let launcher = &boxes[0].launcher;
    std::thread::scope(|scope| {
        for (index, b) in boxes.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..5 {
                    let (mut read, write) = pipe();
                    let io = StepIo {
                        stdin: None,
                        stdout: write.try_clone().unwrap(),
                        stderr: write,
                        keep: Vec::new(),
                    };
                    let spec = b.spec(&["sh", "-c", &format!("echo {index}; exit {index}")]);
                    let step = launcher.run(&spec, io, None).unwrap();
                    let mut text = String::new();
                    read.read_to_string(&mut text).unwrap();
                    assert_eq!(
                        (step.wait().unwrap(), text),
                        (Exit::Code(index as i32), format!("{index}\n"))
                    );
                }
            });
        }
    });
}

#[test]
fn limits_hold_and_their_cgroups_go() {
    if !needs_root("runtime::limits_hold_and_their_cgroups_go") {
        return;
    }
    let b = Box::new();
    let limits =
        Limits { memory: Some(32 << 20), pids: Some(20), cpu_quota: Some(50_000), ..Limits::default() };
    let spec = Spec {
        limits: limits.clone(),
        ..b.spec(&["sh", "-c", "cat /proc/self/cgroup; x=a; while true; do x=$x$x; done"])
    };
    let (mut read, write) = pipe();
    let io = StepIo { stdin: None, stdout: write.try_clone().unwrap(), stderr: write, keep: Vec::new() };
    let step = b.launcher.run(&spec, io, None).unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    let ended = step.wait_ended().unwrap();
    assert!(ended.oom_killed, "{ended:?} {text}");
    assert!(
        text.lines().any(|line| line.contains("memory:/") && line.ends_with(":/")) || text.contains("0::/\n")
    );
    let forks = Spec { limits, ..b.spec(&["sh", "-c", "for i in $(seq 50); do sleep 9 & done; echo never"]) };
    assert!(!b.run(&forks).unwrap().text.contains("never"));
    let left = Command::new("find").args(["/sys/fs/cgroup", "-name", &spec.id]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[test]
fn the_hosts_network_only_when_asked() {
    if !needs_root("runtime::the_hosts_network_only_when_asked") {
        return;
    }
    let b = Box::new();
    let inode = |text: String| text.trim().to_owned();
    let own = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_ne!(inode(b.says("readlink /proc/self/ns/net")), own);
    let host = Spec { network: Net::Host, ..b.spec(&["readlink", "/proc/self/ns/net"]) };
    assert_eq!(inode(b.run(&host).unwrap().text), own);
}

#[test]
fn kilns_own_program_cannot_be_written_from_inside() {
    if !needs_root("runtime::kilns_own_program_cannot_be_written_from_inside") {
        return;
    }
    let b = Box::new();
    // The classic attack runs /proc/self/exe of the process that is about to become the program.
    symlink("/proc/self/exe", b.lower().join("entry")).unwrap();
    let privileged = Spec { rights: Rights::all(), privileged: true, ..b.spec(&["/entry"]) };
    for spec in [b.spec(&["/entry"]), privileged] {
        // Either it fails to start or it runs kiln's program inside, from a mount that refuses writes.
        let _ = b.run(&spec);
    }
    let fd = kiln::runtime::sealed_program().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let error = fs::OpenOptions::new().write(true).open(path).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)), "{error}");
}

/// Not a test: prints what a step costs. `cargo test --release --test it -- --ignored --nocapture how_long`.
#[test]
#[ignore = "prints times"]
fn how_long_a_step_takes() {
    if !needs_root("runtime::how_long_a_step_takes") {
        return;
    }
    let b = Box::new();
    let netns = std::thread::spawn(|| {
        kiln::sys::netns::unshare_network().unwrap();
        OwnedFd::from(fs::File::open("/proc/thread-self/ns/net").unwrap())
    });
    let netns = netns.join().unwrap();
    let file = |target: &str| Mount::File {
        target: target.into(),
        content: Redacted::new("x".repeat(200)),
        owner: (0, 0),
        mode: 0o644,
        readonly: true,
    };
    let spec = Spec {
        volatile: true,
        remove_stubs: true,
        mounts: vec![file("/etc/hosts"), file("/etc/resolv.conf")],
        ..b.spec(&["/bin/busybox", "true"])
    };
    let mut started = Vec::new();
    let mut whole = Vec::new();
    for _ in 0..300 {
        let work = b.dir.path().join("work");
        fs::remove_dir_all(&work).unwrap();
        fs::create_dir(&work).unwrap();
        let (_read, write) = pipe();
        let io = StepIo { stdin: None, stdout: write.try_clone().unwrap(), stderr: write, keep: Vec::new() };
        let before = std::time::Instant::now();
        let step = b.launcher.run(&spec, io, Some(netns.try_clone().unwrap())).unwrap();
        started.push(before.elapsed().as_micros());
        assert_eq!(step.wait().unwrap(), Exit::Code(0));
        whole.push(before.elapsed().as_micros());
    }
    for (name, times) in [("running after", &mut started), ("gone after", &mut whole)] {
        times.sort_unstable();
        println!("{name}: p10 {} µs, median {} µs, p90 {} µs", times[30], times[150], times[270]);
    }
}
