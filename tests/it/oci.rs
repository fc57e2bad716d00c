//! kiln as an OCI runtime: the lifecycle of the runtime-spec on bundles of our own.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::binary::{Ran, busybox_tar, run, start};
use crate::support::needs_root;
use crate::support::pty::Pty;

const PATIENCE: Duration = Duration::from_secs(60);

/// A bundle with busybox in it, and a folder for states; its containers are gone when dropped.
pub(crate) struct Bundle {
    folder: TempDir,
}

impl Bundle {
    /// Runs `script`; `change` has the last word on the config.
    pub(crate) fn new(script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
        let folder = tempfile::tempdir().unwrap();
        let rootfs = folder.path().join("rootfs");
        fs::create_dir(&rootfs).unwrap();
        fs::write(folder.path().join("busybox.tar"), busybox_tar()).unwrap();
        let tar = folder.path().join("busybox.tar");
        assert!(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&rootfs).status().unwrap().success());
        let bundle = Bundle { folder };
        bundle.ok(&["spec", "--bundle", bundle.path().to_str().unwrap()]);
        let mut config: Value =
            serde_json::from_slice(&fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["annotations"] = json!({"org.example.key": "value"});
        change(&mut config);
        fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
        bundle
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(self.path());
        command.arg("runtime").arg("--root").arg(self.file("states")).args(words).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words))
    }

    pub(crate) fn ok(&self, words: &[&str]) -> String {
        self.run(words).ok().out
    }

    /// Creates `c` with its output in the file `out`.
    pub(crate) fn create(&self, words: &[&str]) -> Ran {
        let out = fs::File::create(self.file("out")).unwrap();
        let errors = fs::File::create(self.file("errors")).unwrap();
        let mut command = self.command(&["create"]);
        let status = command.args(words).arg("c").stdout(out).stderr(errors).status().unwrap();
        let error = fs::read_to_string(self.file("errors")).unwrap();
        Ran { code: status.code().unwrap(), out: String::new(), error }
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", "c"])).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn until(&self, status: &str) {
        wait_until(status, || self.status() == status);
    }

    pub(crate) fn until_output(&self, text: &str) {
        let read = || fs::read_to_string(self.file("out")).unwrap_or_default();
        wait_until(text, || read().contains(text));
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for id in self.run(&["list", "--quiet"]).out.lines() {
            self.run(&["delete", "--force", id]);
        }
    }
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited for `{what}`");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn is_alive(pid: i64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_container_goes_from_created_to_stopped() {
    if !needs_root("a_container_goes_from_created_to_stopped") {
        return;
    }
    let bundle = Bundle::new("echo started; exec sleep 1000", |_| {});
    bundle.create(&["--pid-file", bundle.file("pid").to_str().unwrap()]).ok();
    let state = bundle.state();
    assert_eq!(state["ociVersion"], "1.0.2");
    assert_eq!((&state["id"], &state["status"]), (&json!("c"), &json!("created")));
    assert_eq!(state["bundle"], bundle.path().canonicalize().unwrap().to_str().unwrap());
    assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
    let pid = state["pid"].as_i64().unwrap();
    assert_eq!(fs::read_to_string(bundle.file("pid")).unwrap(), pid.to_string());
    assert!(is_alive(pid));
    // Nothing of the program has run yet.
    assert_eq!(fs::read_to_string(bundle.file("out")).unwrap(), "");
    bundle.ok(&["start", "c"]);
    bundle.until_output("started");
    assert_eq!((bundle.status().as_str(), bundle.state()["pid"].as_i64()), ("running", Some(pid)));
    bundle.ok(&["kill", "c", "KILL"]);
    bundle.until("stopped");
    assert_eq!(bundle.state()["pid"], 0);
    bundle.ok(&["delete", "c"]);
    bundle.run(&["state", "c"]).fails_with(&["container does not exist"]);
    assert_eq!(bundle.ok(&["list", "--format", "json"]).trim(), "[]");
}

#[test]
fn what_is_not_possible_now_is_refused_in_runcs_words() {
    if !needs_root("what_is_not_possible_now_is_refused_in_runcs_words") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000", |_| {});
    for words in [["state", "c"], ["start", "c"], ["kill", "c"], ["delete", "c"], ["pause", "c"]] {
        bundle.run(&words).fails_with(&["container does not exist"]);
    }
    bundle.ok(&["delete", "--force", "c"]);
    bundle.run(&["create", "../c"]).fails_with(&["invalid container ID format"]);
    bundle.run(&["create", "--bundle", "/nowhere", "c"]).fails_with(&["/nowhere"]);
    bundle.create(&[]).ok();
    bundle.create(&[]).fails_with(&["container with given ID already exists"]);
    bundle.ok(&["start", "c"]);
    bundle.run(&["start", "c"]).fails_with(&["cannot start an already running container"]);
    bundle.run(&["delete", "c"]).fails_with(&["cannot delete container c that is not stopped: running"]);
    bundle.run(&["resume", "c"]).fails_with(&["container not paused"]);
    bundle.run(&["kill", "c", "NOPE"]).fails_with(&["NOPE"]);
    bundle.ok(&["kill", "c", "9"]);
    bundle.until("stopped");
    bundle.run(&["kill", "c", "9"]).fails_with(&["container not running"]);
    bundle.run(&["start", "c"]).fails_with(&["cannot start a container that has stopped"]);
    let exec = bundle.run(&["exec", "c", "true"]);
    assert_eq!(exec.code, 255);
    assert!(exec.error.contains("cannot exec in a stopped container"), "{exec}");
    bundle.ok(&["delete", "c"]);
    // What was never started may go, and so may what runs, by force.
    bundle.create(&[]).ok();
    bundle.ok(&["delete", "c"]);
    bundle.create(&[]).ok();
    bundle.ok(&["start", "c"]);
    let pid = bundle.state()["pid"].as_i64().unwrap();
    bundle.ok(&["delete", "--force", "c"]);
    wait_until("the end of the process", || !is_alive(pid));
    assert!(!bundle.file("states/c").exists());
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_leaves_nothing() {
    if !needs_root("what_is_not_supported_is_refused_by_name_and_leaves_nothing") {
        return;
    }
    let bundle = Bundle::new("true", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    });
    bundle.create(&[]).fails_with(&["namespace of type `time`"]);
    assert!(!bundle.file("states/c").exists());
    bundle.run(&["create", "--no-pivot", "c"]).fails_with(&["--no-pivot"]);
    bundle.run(&["--systemd-cgroup", "create", "c"]).fails_with(&["--systemd-cgroup"]);
    let log = bundle.file("log");
    let words = ["--log", log.to_str().unwrap(), "--log-format", "json", "start", "nobody"];
    bundle.run(&words).fails_with(&["container does not exist"]);
    let line: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!("container does not exist")));
    // A program that isn't there is told at the creation, and its container is gone.
    let bundle = Bundle::new("", |config| config["process"]["args"] = json!(["nope"]));
    bundle.create(&[]).fails_with(&["executable file not found in $PATH"]);
    assert!(!bundle.file("states/c").exists());
}

/// A hook that notes its name, the state that it reads and where it runs.
pub(crate) fn hook(folder: &Path, name: &str) -> Value {
    let script =
        format!("cat > {0}/{name}.json; pwd > {0}/{name}.pwd; echo {name} >> {0}/order", folder.display());
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 60}])
}

#[test]
fn hooks_run_in_the_specs_order_with_the_state() {
    if !needs_root("hooks_run_in_the_specs_order_with_the_state") {
        return;
    }
    let notes = tempfile::tempdir().unwrap();
    let path = notes.path();
    let bundle = Bundle::new("echo program >> /notes/order; exec sleep 1000", |config| {
        let kinds = ["poststart", "prestart", "createRuntime", "createContainer", "poststop"];
        let mut hooks: serde_json::Map<String, Value> =
            kinds.iter().map(|kind| ((*kind).to_owned(), hook(path, kind))).collect();
        // This one is the container's own, and sees its files.
        hooks.insert("startContainer".into(), hook(Path::new("/notes"), "startContainer"));
        config["hooks"] = hooks.into();
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/notes", "type": "bind", "source": path, "options": ["rbind", "rw"],
        }));
    });
    let order = || fs::read_to_string(path.join("order")).unwrap_or_default();
    let state = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(path.join(format!("{name}.json"))).unwrap()).unwrap()
    };
    bundle.create(&[]).ok();
    assert_eq!(order(), "prestart\ncreateRuntime\ncreateContainer\n");
    let pid = bundle.state()["pid"].clone();
    assert_eq!((&state("createRuntime")["pid"], &state("createRuntime")["id"]), (&pid, &json!("c")));
    assert_eq!(state("prestart")["status"], "creating");
    assert_eq!(state("createContainer")["status"], "creating");
    bundle.ok(&["start", "c"]);
    wait_until("the hooks of the start", || order().lines().count() == 6);
    let all = order();
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines[3], "startContainer");
    // The program and the hook after its start run at the same time.
    assert!(lines[4..].contains(&"program") && lines[4..].contains(&"poststart"), "{all}");
    assert_eq!(state("startContainer")["status"], "created");
    assert_eq!(state("poststart")["status"], "running");
    let read = |name: &str| fs::read_to_string(path.join(format!("{name}.pwd"))).unwrap();
    let places = ["prestart", "poststart", "createContainer", "startContainer"].map(read).concat();
    let (at, rootfs) = (bundle.path().display(), bundle.file("rootfs"));
    assert_eq!(places, format!("{at}\n{at}\n{}\n/\n", rootfs.display()), "as runc's");
    bundle.ok(&["delete", "--force", "c"]);
    assert!(order().ends_with("poststop\n"));
    assert_eq!(state("poststop")["status"], "stopped");
}

#[test]
fn a_hook_that_fails_ends_the_creation() {
    if !needs_root("a_hook_that_fails_ends_the_creation") {
        return;
    }
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new("true", |config| {
            config["hooks"] = json!({kind: [{"path": "/bin/false"}]});
        });
        bundle.create(&[]).fails_with(&[kind, "/bin/false"]);
        assert!(!bundle.file("states/c").exists());
    }
    // Those after the end may undo what others have begun.
    let notes = tempfile::tempdir().unwrap();
    let bundle = Bundle::new("true", |config| {
        config["hooks"] =
            json!({"createRuntime": [{"path": "/bin/false"}], "poststop": hook(notes.path(), "poststop")});
    });
    bundle.create(&[]).fails_with(&["createRuntime"]);
    let state = fs::read(notes.path().join("poststop.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&state).unwrap()["status"], "stopped");
    let bundle = Bundle::new("true", |config| config["hooks"] = json!({"poststart": [{"path": "true"}]}));
    bundle.create(&[]).fails_with(&["hook `true` must be absolute"]);
    // One that comes too late for that is told of.
    let bundle = Bundle::new("exec sleep 1000", |config| {
        config["hooks"] =
            json!({"poststart": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
    });
    bundle.create(&[]).ok();
    let started = bundle.run(&["start", "c"]).ok();
    assert!(started.error.contains("poststart hook"), "{started}");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn exec_runs_beside_the_program_and_brings_its_code_home() {
    if !needs_root("exec_runs_beside_the_program_and_brings_its_code_home") {
        return;
    }
    let bundle = Bundle::new("echo up; exec sleep 1000", |_| {});
    bundle.create(&[]).ok();
    bundle.ok(&["start", "c"]);
    bundle.until_output("up");
    let said =
        bundle.run(&["exec", "--env", "X=y", "--cwd", "/etc", "c", "sh", "-c", "echo $X $PWD $$; exit 7"]);
    assert_eq!(said.code, 7, "{said}");
    assert!(said.out.starts_with("y /etc "), "{said}");
    assert_eq!(bundle.ok(&["exec", "--user", "5:6", "c", "sh", "-c", "id -u; id -g"]), "5\n6\n");
    let missing = bundle.run(&["exec", "c", "nope"]);
    assert_eq!(missing.code, 255);
    assert!(missing.error.contains("executable file not found in $PATH"), "{missing}");
    // As other engines do it: a file, in the background, with the pid in a file.
    let process = json!({
        "args": ["sh", "-c", "exec sleep 1000"], "cwd": "/", "env": ["PATH=/usr/bin:/bin"], "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
    });
    fs::write(bundle.file("process.json"), process.to_string()).unwrap();
    let mut command =
        bundle.command(&["exec", "--detach", "--process", "process.json", "--pid-file", "exec.pid"]);
    assert!(command.arg("c").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let pid: i64 = fs::read_to_string(bundle.file("exec.pid")).unwrap().parse().unwrap();
    assert!(is_alive(pid));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("CapEff:\t0000000000000020"), "{status}");
    let pids: Vec<i64> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", "c"])).unwrap();
    assert!(pids.contains(&pid), "{pids:?}");
    bundle.ok(&["pause", "c"]);
    assert_eq!(bundle.status(), "paused");
    assert!(bundle.run(&["exec", "c", "true"]).error.contains("paused"));
    bundle.ok(&["resume", "c"]);
    assert_eq!(bundle.status(), "running");
    bundle.ok(&["delete", "--force", "c"]);
    wait_until("the end of the exec", || !is_alive(pid));
}

/// Takes the terminal that comes to a console socket.
fn terminal(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    rights.unwrap()
}

/// Reads what a terminal shows until `text` is there; `seen` is what it showed before.
fn expect(terminal: &OwnedFd, seen: &mut String, text: &str) {
    let mut bytes = [0; 1024];
    while !seen.contains(text) {
        let length = rustix::io::read(terminal, &mut bytes).unwrap();
        seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
}

#[test]
fn a_terminal_is_sent_to_the_console_socket() {
    if !needs_root("a_terminal_is_sent_to_the_console_socket") {
        return;
    }
    let bundle =
        Bundle::new("tty; ls -l /dev/console; stty size; read x; echo got $x; exec sleep 1000", |config| {
            config["process"]["terminal"] = true.into();
            config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
        });
    bundle.create(&[]).fails_with(&["console socket"]);
    let listener = UnixListener::bind(bundle.file("console")).unwrap();
    bundle.create(&["--console-socket", "console"]).ok();
    let master = terminal(&listener);
    bundle.ok(&["start", "c"]);
    let mut seen = String::new();
    expect(&master, &mut seen, "/dev/pts/0");
    expect(&master, &mut seen, "33 77");
    rustix::io::write(&master, b"hello\n").unwrap();
    expect(&master, &mut seen, "got hello");
    bundle.ok(&[
        "exec",
        "--detach",
        "--tty",
        "--console-socket",
        "console",
        "c",
        "sh",
        "-c",
        "tty; sleep 1000",
    ]);
    expect(&terminal(&listener), &mut String::new(), "/dev/pts/1");
}

#[test]
fn run_waits_and_removes() {
    if !needs_root("run_waits_and_removes") {
        return;
    }
    let bundle = Bundle::new("cat /etc/greeting; hostname; exit 9", |config| {
        config["hostname"] = "box".into();
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/etc/greeting", "type": "bind", "source": "greeting", "options": ["bind", "ro"],
        }));
    });
    fs::write(bundle.file("greeting"), "hello\n").unwrap();
    let ran = bundle.run(&["run", "c"]);
    assert_eq!((ran.code, ran.out.as_str()), (9, "hello\nbox\n"), "{ran}");
    assert!(!bundle.file("states/c").exists());
    // Signals are passed on.
    let bundle = Bundle::new("trap 'echo caught; exit 3' TERM; echo up; while :; do sleep 0.1; done", |_| {});
    let out = fs::File::create(bundle.file("out")).unwrap();
    let mut child = bundle.command(&["run", "c"]).stdout(out).spawn().unwrap();
    bundle.until_output("up");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    bundle.until_output("caught");
}

#[test]
fn a_created_container_outlives_its_creator_and_a_half_made_one_does_not() {
    if !needs_root("a_created_container_outlives_its_creator_and_a_half_made_one_does_not") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let bundle = Bundle::new("exec sleep 1000", |config| {
        // It ends when somebody writes to the fifo.
        let script = format!("echo > {0}/ready; cat {0}/fifo", folder.path().display());
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    let mut creator = start(&mut bundle.command(&["create", "c"]));
    wait_until("the hook", || folder.path().join("ready").exists());
    assert_eq!(bundle.status(), "creating");
    creator.kill().unwrap();
    creator.wait().unwrap();
    bundle.until("stopped");
    bundle.ok(&["delete", "c"]);
    fs::write(&fifo, "end").unwrap();
    let bundle = Bundle::new("exec sleep 1000", |_| {});
    bundle.create(&[]).ok();
    assert_eq!(bundle.status(), "created");
    bundle.ok(&["start", "c"]);
    let pid = bundle.state()["pid"].as_i64().unwrap();
    // An init that is killed from elsewhere is known to have ended.
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    bundle.until("stopped");
}

#[test]
fn the_config_decides_what_the_process_has() {
    if !needs_root("the_config_decides_what_the_process_has") {
        return;
    }
    let script = "id -u; id -g; id -G; umask; pwd; ulimit -n; grep -E 'Cap(Prm|Amb)|NoNew|Seccomp:' /proc/self/status;\
        cat /proc/sys/kernel/shmmax; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/shmmax; touch /x; mkdir /tmp/x;\
        ls /proc/self/fd | wc -l; grep -c '^scratch /tmp tmpfs' /proc/mounts";
    let bundle = Bundle::new(script, |config| {
        let keep = json!(["CAP_KILL"]);
        config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9], "umask": 63});
        config["process"]["cwd"] = "/tmp".into();
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        config["process"]["capabilities"] = json!({"bounding": keep, "permitted": keep, "effective": keep, "inheritable": keep, "ambient": keep});
        config["linux"]["sysctl"] = json!({"kernel.shmmax": "12345678"});
        config["annotations"] = Value::Null;
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
        });
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/tmp", "type": "tmpfs", "source": "scratch", "options": ["mode=1777", "nosuid"],
        }));
    });
    let ran = bundle.run(&["run", "c"]).ok();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[..6], ["7", "8", "8 9", "0077", "/tmp", "100"], "{ran}");
    assert_eq!(
        lines[6..10],
        ["CapPrm:\t0000000000000020", "CapAmb:\t0000000000000020", "NoNewPrivs:\t1", "Seccomp:\t2",]
    );
    // Masked, protected, read-only, filtered; and four descriptors: stdio and the listing's own.
    assert_eq!(lines[10..], ["12345678", "0", "4", "1"], "{ran}");
    for word in ["shmmax", "Read-only file system", "Operation not supported"] {
        assert!(ran.error.contains(word), "{ran}");
    }
}

#[test]
fn namespaces_are_new_given_or_the_machines() {
    if !needs_root("namespaces_are_new_given_or_the_machines") {
        return;
    }
    let script = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; exec sleep 1000";
    let first = Bundle::new(script, |_| {});
    first.create(&[]).ok();
    first.ok(&["start", "c"]);
    first.until_output("cgroup:");
    let pid = first.state()["pid"].as_i64().unwrap();
    let second = Bundle::new(script, |config| {
        let of = |kind: &str, name: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")});
        config["linux"]["namespaces"] =
            json!([{"type": "mount"}, of("pid", "pid"), of("network", "net"), of("ipc", "ipc")]);
        config.as_object_mut().unwrap().remove("hostname");
    });
    second.create(&[]).ok();
    second.ok(&["start", "c"]);
    second.until_output("cgroup:");
    let read = |bundle: &Bundle| -> Vec<String> {
        let out = fs::read_to_string(bundle.file("out")).unwrap();
        out.lines().map(str::to_owned).collect()
    };
    let own: Vec<String> = ["pid", "net", "ipc", "uts", "mnt", "cgroup"]
        .iter()
        .map(|name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_string_lossy().into_owned())
        .collect();
    let (a, b) = (read(&first), read(&second));
    assert!(a.iter().zip(&own).all(|(a, own)| a != own), "{a:?} {own:?}");
    assert_eq!((&a[..3], &own[3], &own[5]), (&b[..3], &b[3], &b[5]));
    assert_ne!(a[4], b[4]);
    // Processes that share the namespace of others end with their container's cgroup.
    let pid = second.state()["pid"].as_i64().unwrap();
    second.ok(&["delete", "--force", "c"]);
    wait_until("the end", || !is_alive(pid));
    assert_eq!(first.status(), "running");
}

#[test]
fn devices_are_those_that_are_listed() {
    if !needs_root("devices_are_those_that_are_listed") {
        return;
    }
    let script = "ls -l /dev/mine | cut -c1-10; head -c 4 /dev/mine | wc -c; head -c 1 /dev/null | wc -c;\
        mknod /tmp/zero c 1 5 && head -c 4 /tmp/zero; mknod /run/zero c 1 5 && head -c 4 /run/zero; echo end";
    let bundle = Bundle::new(script, |config| {
        let keep = json!(["CAP_MKNOD"]);
        config["root"]["readonly"] = false.into();
        config["process"]["capabilities"] = json!({"bounding": keep, "permitted": keep, "effective": keep});
        config["linux"]["devices"] = json!([
            {"type": "c", "path": "/dev/mine", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 0, "gid": 0},
        ]);
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["dev"],
        }));
    });
    let ran = bundle.run(&["run", "c"]).ok();
    assert_eq!(ran.out, "crw-------\n4\n0\nend\n", "{ran}");
    assert_eq!(ran.error.matches("Permission denied").count(), 2, "{ran}");
}

#[test]
fn links_of_the_image_lead_no_mount_out_of_it() {
    if !needs_root("links_of_the_image_lead_no_mount_out_of_it") {
        return;
    }
    let bundle = Bundle::new("cat /there/in; ls -d /there", |config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/there", "type": "bind", "source": "given", "options": ["rbind"],
        }));
    });
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(bundle.file("given")).unwrap();
    fs::write(bundle.file("given/in"), "in\n").unwrap();
    symlink(outside.path(), bundle.file("rootfs/there")).unwrap();
    let ran = bundle.run(&["run", "c"]).ok();
    assert_eq!(ran.out, "in\n/there\n", "{ran}");
    assert!(fs::read_dir(outside.path()).unwrap().next().is_none());
    let bundle = Bundle::new("true", |config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs", "options": [],
        }));
    });
    bundle.create(&[]).fails_with(&["inside /proc"]);
}

#[test]
fn descriptors_from_three_on_are_passed_when_asked_for() {
    if !needs_root("descriptors_from_three_on_are_passed_when_asked_for") {
        return;
    }
    let bundle = Bundle::new("cat <&3; ls /proc/self/fd | wc -l", |_| {});
    fs::write(bundle.file("three"), "three\n").unwrap();
    fs::set_permissions(bundle.file("three"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut shell = Command::new("sh");
    let kiln = env!("CARGO_BIN_EXE_kiln");
    let script = format!("exec {kiln} runtime --root states run --preserve-fds 1 c 3<three 4<three");
    let ran = run(shell.arg("-c").arg(script).current_dir(bundle.path())).ok();
    assert_eq!(ran.out, "three\n5\n", "{ran}");
}

#[test]
fn limits_of_a_running_container_are_changed() {
    if !needs_root("limits_of_a_running_container_are_changed") {
        return;
    }
    let bundle = Bundle::new("exec sleep 1000", |_| {});
    bundle.create(&[]).ok();
    bundle.ok(&["start", "c"]);
    fs::write(bundle.file("new.json"), r#"{"memory": {"limit": 67108864}, "pids": {"limit": 40}}"#).unwrap();
    bundle.ok(&["update", "--resources", "new.json", "c"]);
    let pid = bundle.state()["pid"].as_i64().unwrap();
    let of = |controller: &str, file: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let path = text.lines().find_map(|line| line.split_once(&format!(":{controller}:"))).unwrap().1;
        fs::read_to_string(format!("/sys/fs/cgroup/{controller}{path}/{file}")).unwrap().trim().to_owned()
    };
    // Where the machine has v2 alone the files are others.
    if Path::new("/sys/fs/cgroup/pids").exists() {
        assert_eq!(
            (of("pids", "pids.max"), of("memory", "memory.limit_in_bytes")),
            ("40".into(), "67108864".into())
        );
    }
    let mut from_stdin = bundle.command(&["update", "--resources", "-", "c"]);
    from_stdin.stdin(fs::File::open(bundle.file("new.json")).unwrap());
    run(&mut from_stdin).ok();
    fs::write(bundle.file("bad.json"), r#"{"rdma": {"x": {}}}"#).unwrap();
    let refused = bundle.run(&["update", "--resources", "bad.json", "c"]);
    assert!(refused.code == 1 && refused.error.contains("rdma"), "{}", refused.error);
    bundle.ok(&["delete", "--force", "c"]);
    assert_eq!(bundle.run(&["update", "--resources", "new.json", "c"]).code, 1);
}

#[test]
fn a_caller_who_stays_has_its_terminal() {
    if !needs_root("a_caller_who_stays_has_its_terminal") {
        return;
    }
    let bundle = Bundle::new("busybox stty size; read line; echo got-$line; read rest; exit 6", |config| {
        config["process"]["terminal"] = true.into();
    });
    let mut pty = Pty::spawn(&bundle.command(&["run", "--bundle", bundle.path().to_str().unwrap(), "c"]));
    pty.expect("24 80");
    pty.send("here\r");
    pty.expect("got-here");
    let mut second = Pty::spawn(&bundle.command(&[
        "exec",
        "-t",
        "c",
        "sh",
        "-c",
        "read x; busybox stty size; echo $x; exit 5",
    ]));
    second.resize(30, 90);
    second.send("typed\r");
    second.expect("30 90");
    second.expect("typed");
    assert_eq!(second.wait().0, 5);
    pty.send("end\r");
    assert_eq!(pty.wait().0, 6);
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

#[test]
fn mounts_come_and_go_where_they_are_shared() {
    if !needs_root("mounts_come_and_go_where_they_are_shared") {
        return;
    }
    let script = "busybox mount -t tmpfs x /both/inner && touch /both/inner/made; busybox mount -t tmpfs x /from/inner;
        touch /from/inner/own; echo mounted; while ! [ -e /from/outer/given ]; do sleep 0.05; done; echo seen; exec sleep 1000";
    let bundle = Bundle::new(script, |config| {
        config["root"]["readonly"] = false.into();
        config["linux"]["rootfsPropagation"] = "rshared".into();
        config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
        config["process"]["capabilities"]["effective"] = json!(["CAP_SYS_ADMIN"]);
        config["process"]["capabilities"]["permitted"] = json!(["CAP_SYS_ADMIN"]);
        for (name, how) in [("both", "rshared"), ("from", "rslave")] {
            let mount = json!({"destination": format!("/{name}"), "type": "bind", "source": "host", "options": ["rbind", how]});
            config["mounts"].as_array_mut().unwrap().push(mount);
        }
    });
    let host = bundle.file("host");
    fs::create_dir(&host).unwrap();
    let mount = |words: &[&str]| assert!(Command::new("mount").args(words).status().unwrap().success());
    mount(&["-t", "tmpfs", "x", host.to_str().unwrap()]);
    mount(&["--make-shared", host.to_str().unwrap()]);
    for name in ["inner", "outer"] {
        fs::create_dir(host.join(name)).unwrap();
    }
    let created = bundle.create(&[]);
    bundle.run(&["start", "c"]);
    let outer = host.join("outer");
    let shown = created.code == 0 && {
        bundle.until_output("mounted");
        mount(&["-t", "tmpfs", "x", outer.to_str().unwrap()]);
        fs::write(outer.join("given"), "").unwrap();
        bundle.until_output("seen");
        host.join("inner/made").exists() && !host.join("inner/own").exists()
    };
    bundle.run(&["delete", "--force", "c"]);
    let rest = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(Command::new("umount").args(["-R", host.to_str().unwrap()]).status().unwrap().success());
    assert!(shown, "{}", created.error);
    assert!(
        !rest.contains(bundle.file("rootfs").to_str().unwrap()),
        "the root filesystem was mounted outside too"
    );
}
