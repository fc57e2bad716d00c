//! Containers by the command line: real processes on a real busybox.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::kiln::Kiln;
use crate::support::needs_root;

const CONFIG: &str = r#"{"Cmd":["sh"],"Env":["PATH=/bin","FROM_IMAGE=yes"]}"#;

/// A store with busybox in it; none where the test can't run.
fn kiln(name: &str) -> Option<Kiln> {
    with_config(name, CONFIG)
}

fn with_config(name: &str, config: &str) -> Option<Kiln> {
    if !needs_root(name) {
        return None;
    }
    let kiln = Kiln::new();
    kiln.add_busybox(config).then_some(kiln)
}

fn spawn(kiln: &Kiln, args: &[&str]) -> Child {
    let mut command = kiln.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn code(kiln: &Kiln, args: &[&str]) -> i32 {
    kiln.run(args).status.code().unwrap()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Waits for something that another process is about to do.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("never: {what}");
}

#[test]
fn a_run_gives_the_programs_outputs_apart_and_its_exit_code() {
    let Some(kiln) = kiln("a_run_gives_the_programs_outputs_apart_and_its_exit_code") else { return };
    let output = kiln.run(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert_eq!(output.status.code(), Some(3));
    let id = kiln.ok(&["run", "-d", "busybox", "sleep", "1000"]);
    kiln.ok(&["kill", "-s", "USR1", &id]);
    kiln.ok(&["kill", &id]);
    assert_eq!(kiln.ok(&["wait", &id]), "137");
    kiln.ok(&["rm", &id]);
    assert_eq!(kiln.ok(&["ps", "-aq"]), "", "nothing stays with --rm");
}

#[test]
fn a_program_that_cannot_run_has_dockers_codes() {
    let Some(kiln) = kiln("a_program_that_cannot_run_has_dockers_codes") else { return };
    let missing = kiln.run(&["run", "--rm", "busybox", "nope"]);
    assert_eq!(missing.status.code(), Some(127));
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(text.contains("nope") && text.contains("executable file not found"), "{text}");
    assert_eq!(code(&kiln, &["run", "--rm", "busybox", "/bin/not-executable"]), 126);
    assert_eq!(code(&kiln, &["run", "--rm", "-w", "relative", "busybox", "true"]), 125);
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
}

#[test]
fn standard_input_is_forwarded_with_its_end() {
    let Some(kiln) = kiln("standard_input_is_forwarded_with_its_end") else { return };
    let mut child = spawn(&kiln, &["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end"]);
    let mut stdin = child.stdin.take().unwrap();
    // More than all pipes and queues on the way can hold together, in both directions.
    let text = vec![b'x'; 8 << 20];
    let writer = std::thread::spawn(move || stdin.write_all(&text).unwrap());
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(out.len(), (8 << 20) + "end\n".len());
    assert!(out.ends_with(b"xend\n"));
    assert_eq!(kiln.ok(&["run", "--rm", "busybox", "cat"]), "", "without -i there is no input");
}

#[test]
fn a_terminal_is_one_stream_with_a_size() {
    let Some(kiln) = kiln("a_terminal_is_one_stream_with_a_size") else { return };
    assert_eq!(
        kiln.ok(&["run", "--rm", "-t", "busybox", "sh", "-c", "test -t 0 && tty; echo $TERM >&2"]),
        "/dev/pts/0\r\nxterm"
    );
}

#[test]
fn environment_user_and_working_directory_are_as_asked() {
    let Some(kiln) = kiln("environment_user_and_working_directory_are_as_asked") else { return };
    let script = "echo $FROM_IMAGE $MINE; id -u; pwd; hostname; cat /etc/hostname";
    let shown = kiln.ok(&[
        "run", "--rm", "-e", "MINE=1", "-u", "user", "-w", "/data", "-h", "box", "busybox", "sh", "-c",
        script,
    ]);
    assert_eq!(shown, "yes 1\n1000\n/data\nbox\nbox");
    // A folder that has to be made for it is root's, as docker's.
    let run = ["run", "--rm", "--network", "none", "-u", "user", "-w", "/new/deep", "busybox"];
    let made = kiln.ok(&[&run[..], &["stat", "-c", "%u:%g %a", "/new", "/new/deep"]].concat());
    assert_eq!(made, "0:0 755\n0:0 755");
    assert_eq!(kiln.ok(&["run", "--rm", "--entrypoint", "echo", "busybox", "a"]), "a");
}

#[test]
fn the_network_has_an_address_and_reaches_the_gateway() {
    let Some(kiln) = kiln("the_network_has_an_address_and_reaches_the_gateway") else { return };
    let script =
        "ip -4 addr show eth0 | grep -c inet; ip route | grep -c default; cat /etc/hosts | grep -c box";
    assert_eq!(kiln.ok(&["run", "--rm", "-h", "box", "busybox", "sh", "-c", script]), "1\n1\n1");
    let gateway =
        "ping -c 1 -W 2 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >/dev/null && echo yes";
    assert_eq!(kiln.ok(&["run", "--rm", "busybox", "sh", "-c", gateway]), "yes");
    let links = kiln.ok(&["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"]);
    assert_eq!(links, "lo");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(
        kiln.ok(&["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"]),
        own
    );
    let networks = kiln::network::Networks::new(&kiln.root.path().join("networks"));
    eventually("addresses are given back", || {
        networks.reap().unwrap();
        is_empty(&kiln.root.path().join("networks/bridge/addresses"))
    });
}

#[test]
fn a_background_container_lives_until_it_is_stopped() {
    let Some(kiln) = kiln("a_background_container_lives_until_it_is_stopped") else { return };
    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let id = kiln.ok(&["run", "-d", "--name", "web", "busybox", "sh", "-c", script]);
    assert_eq!(id.len(), 64);
    assert_eq!(kiln.ok(&["ps", "-q", "--no-trunc"]), id);
    eventually("it wrote", || kiln.ok(&["logs", "web"]) == "up");
    assert_eq!(kiln.ok(&["stop", "web"]), "web");
    assert_eq!(kiln.ok(&["ps", "-q"]), "");
    assert_eq!(kiln.ok(&["wait", &id[..12]]), "7");
    assert_eq!(kiln.ok(&["logs", "web"]), "up\nbye");
}

#[test]
fn a_stopped_container_keeps_its_files_and_starts_again() {
    let Some(kiln) = kiln("a_stopped_container_keeps_its_files_and_starts_again") else { return };
    let script = "echo run >> /count; cat /count";
    assert_eq!(kiln.ok(&["run", "--name", "again", "busybox", "sh", "-c", script]), "run");
    assert_eq!(kiln.ok(&["start", "-a", "again"]), "run\nrun");
    assert_eq!(kiln.ok(&["logs", "--tail", "2", "again"]), "run\nrun");
    assert_eq!(kiln.ok(&["rm", "again"]), "again");
    assert_eq!(code(&kiln, &["logs", "again"]), 1);
}

#[test]
fn exec_joins_a_running_container() {
    let Some(kiln) = kiln("exec_joins_a_running_container") else { return };
    kiln.ok(&["run", "-d", "--name", "host", "-e", "A=1", "busybox", "sleep", "1000"]);
    let shown = kiln.ok(&[
        "exec",
        "-e",
        "B=2",
        "-w",
        "/data",
        "host",
        "sh",
        "-c",
        "echo $A$B; pwd; ps | grep -c sleep",
    ]);
    assert_eq!(shown.lines().take(2).collect::<Vec<_>>(), ["12", "/data"]);
    assert_eq!(kiln.ok(&["exec", "-u", "user", "host", "id", "-u"]), "1000");
    assert_eq!(code(&kiln, &["exec", "host", "sh", "-c", "exit 5"]), 5);
    assert_eq!(code(&kiln, &["exec", "host", "nope"]), 127);
    kiln.ok(&["exec", "-d", "host", "sh", "-c", "echo done > /done"]);
    eventually("the background program ran", || {
        kiln.run(&["exec", "host", "cat", "/done"]).stdout == b"done\n"
    });
    let mut child = spawn(&kiln, &["exec", "-i", "host", "cat"]);
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through\n");
    kiln.ok(&["kill", "host"]);
    eventually("it ended", || kiln.ok(&["ps", "-q"]).is_empty());
    let ended = kiln.run(&["exec", "host", "true"]);
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("is not running"));
}

#[test]
fn names_are_unique_and_a_running_container_is_not_removed() {
    let Some(kiln) = kiln("names_are_unique_and_a_running_container_is_not_removed") else { return };
    let id = kiln.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "1000"]);
    let taken = kiln.run(&["run", "--name", "one", "busybox", "true"]);
    assert_eq!(taken.status.code(), Some(125));
    let text = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(text.contains("already in use") && text.contains(&id), "{text}");
    let running = kiln.run(&["rm", "one"]);
    assert!(String::from_utf8_lossy(&running.stderr).contains("container is running"));
    assert_eq!(kiln.ok(&["rm", "-f", "one"]), "one");
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
    assert!(is_empty(&kiln.root.path().join("containers/names")));
    assert!(is_empty(&kiln.root.path().join("containers/removed")));
}

#[test]
fn several_are_removed_at_once_and_told_in_the_order_of_the_command() {
    let Some(kiln) = kiln("several_are_removed_at_once_and_told_in_the_order_of_the_command") else { return };
    for name in ["box-a", "box-b", "box-c"] {
        kiln.ok(&["create", "--name", name, "busybox"]);
    }
    let removed = kiln.run(&["rm", "box-c", "lost", "box-a"]);
    assert_eq!(removed.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&removed.stdout), "box-c\nbox-a\n");
    let text = String::from_utf8_lossy(&removed.stderr).into_owned();
    assert!(text.contains("no such container: lost"), "{text}");
    // With `-f` the wanted state is there already.
    let forced = kiln.run(&["rm", "-f", "lost", "box-b"]);
    assert_eq!(forced.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&forced.stdout), "box-b\n");
    assert!(String::from_utf8_lossy(&forced.stderr).contains("`lost`"));
}

#[test]
fn a_killed_command_leaves_its_container_running() {
    let Some(kiln) = kiln("a_killed_command_leaves_its_container_running") else { return };
    let mut child =
        spawn(&kiln, &["run", "--rm", "--name", "left", "busybox", "sh", "-c", "echo up; sleep 1000"]);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(kiln.ok(&["ps", "--format", "{{.Names}}"]), "left");
    kiln.ok(&["kill", "left"]);
    eventually("its monitor removes it", || kiln.ok(&["ps", "-aq"]).is_empty());
}

#[test]
fn signals_of_the_command_reach_the_program() {
    let Some(kiln) = kiln("signals_of_the_command_reach_the_program") else { return };
    let script = "trap 'echo int; exit 9' INT; echo up; while :; do sleep 0.05; done";
    let mut child = spawn(&kiln, &["run", "--rm", "busybox", "sh", "-c", script]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "up\nint\n");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn a_lost_monitor_kills_its_program_and_leaves_the_reason() {
    let Some(kiln) = kiln("a_lost_monitor_kills_its_program_and_leaves_the_reason") else { return };
    let id = kiln.ok(&["run", "-d", "busybox", "sleep", "1000"]);
    let pid: i32 = kiln.ok(&["inspect", "--format", "{{.State.Pid}}", &id]).parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    kill_process(Pid::from_raw(parent).unwrap(), Signal::KILL).unwrap();
    eventually("it is recorded", || kiln.ok(&["ps", "-q"]).is_empty());
    let shown = kiln.ok(&["inspect", "--format", "{{.State.ExitCode}} {{.State.Error}}", &id]);
    assert!(shown.starts_with("255 its monitor was lost"), "{shown}");
    eventually("the program is dead", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn logs_follow_and_keep_the_streams_apart() {
    let Some(kiln) = kiln("logs_follow_and_keep_the_streams_apart") else { return };
    let script = "echo one; echo two >&2; sleep 0.2; echo three";
    let id = kiln.ok(&["run", "-d", "busybox", "sh", "-c", script]);
    let followed = kiln.run(&["logs", "-f", &id]);
    assert_eq!(String::from_utf8_lossy(&followed.stdout), "one\nthree\n");
    assert_eq!(String::from_utf8_lossy(&followed.stderr), "two\n");
    let stamped = kiln.ok(&["logs", "-t", "--tail", "1", &id]);
    let (time, text) = stamped.split_once(' ').unwrap();
    assert_eq!((time.len(), text), ("2006-01-02T15:04:05.999999999Z".len(), "three"));
}

#[test]
fn a_kill_for_memory_is_known_as_soon_as_the_code_is() {
    let Some(kiln) = kiln("a_kill_for_memory_is_known_as_soon_as_the_code_is") else { return };
    for name in ["one", "two", "three"] {
        let words = ["run", "--name", name, "-m", "8m", "--network", "none", "busybox"];
        let greedy = ["dd", "if=/dev/zero", "of=/dev/null", "bs=50M", "count=1"];
        assert_eq!(code(&kiln, &[&words[..], &greedy[..]].concat()), 137);
        assert_eq!(kiln.ok(&["inspect", "-f", "{{.State.OOMKilled}}", name]), "true");
    }
}

#[test]
fn a_reader_of_logs_may_stop() {
    let Some(kiln) = kiln("a_reader_of_logs_may_stop") else { return };
    let id = kiln.ok(&["run", "-d", "busybox", "seq", "100000"]);
    kiln.ok(&["wait", &id]);
    let mut child = spawn(&kiln, &["logs", &id]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((line.as_str(), String::from_utf8_lossy(&ended.stderr).as_ref()), ("1\n", ""));
    assert!(ended.status.success());
    assert_eq!(kiln.ok(&["logs", &id]).lines().count(), 100_000);
}

#[test]
fn volumes_keep_what_containers_leave_in_them() {
    let config = r#"{"Cmd":["sh"],"Env":["PATH=/bin"],"Volumes":{"/data":{}}}"#;
    let Some(kiln) = with_config("volumes_keep_what_containers_leave_in_them", config) else { return };
    kiln.ok(&[
        "run",
        "--rm",
        "-v",
        "named:/data",
        "busybox",
        "sh",
        "-c",
        "cat /data/sub/file; echo x > /data/new",
    ]);
    assert_eq!(kiln.ok(&["run", "--rm", "-v", "named:/mnt:ro", "busybox", "cat", "/mnt/new"]), "x");
    assert_ne!(code(&kiln, &["run", "--rm", "-v", "named:/mnt:ro", "busybox", "touch", "/mnt/y"]), 0);
    let host = kiln.root.path().join("host/made");
    let bind = format!("{}:/host", host.display());
    kiln.ok(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "echo y > /host/file"]);
    assert_eq!(std::fs::read_to_string(host.join("file")).unwrap(), "y\n");
    assert_eq!(
        kiln.ok(&["run", "--name", "anonymous", "busybox", "cat", "/data/sub/file"]),
        "from the image"
    );
    let volumes = || kiln.ok(&["volume", "ls", "-q"]).lines().count();
    assert_eq!(volumes(), 2, "the named one, and the anonymous one of the kept container");
    kiln.ok(&["rm", "-v", "anonymous"]);
    assert_eq!(volumes(), 1);
}

#[test]
fn a_reader_that_goes_ends_the_command_quietly() {
    let Some(kiln) = kiln("a_reader_that_goes_ends_the_command_quietly") else { return };
    let mut child = spawn(&kiln, &["run", "--rm", "--name", "endless", "busybox", "yes"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(141), ""));
    kiln.ok(&["rm", "-f", "endless"]);
}

#[test]
fn prune_takes_what_killed_processes_left_of_containers() {
    let Some(kiln) = kiln("prune_takes_what_killed_processes_left_of_containers") else { return };
    let containers = kiln.root.path().join("containers");
    let half = kiln.ok(&["create", "--name", "half", "busybox", "true"]);
    std::fs::create_dir_all(containers.join("removed")).unwrap();
    std::fs::rename(containers.join(&half), containers.join("removed").join(&half)).unwrap();
    let unmade = containers.join("ab".repeat(32));
    std::fs::create_dir_all(unmade.join("upper")).unwrap();
    let kept = kiln.ok(&["run", "-d", "busybox", "sleep", "1000"]);
    kiln.ok(&["container", "prune", "-f"]);
    assert!(is_empty(&containers.join("removed")) && !unmade.exists());
    assert_eq!(kiln.ok(&["ps", "-aq", "--no-trunc"]), kept);
    kiln.ok(&["rm", "-f", &kept]);
    kiln.ok(&["create", "--name", "half", "busybox", "true"]);
    kiln.ok(&["rm", "half"]);
    let gone = kiln.run(&["rmi", "-f", "busybox"]);
    assert!(gone.status.success() && String::from_utf8_lossy(&gone.stdout).contains("Deleted: "));
}

#[test]
fn a_killed_container_can_be_removed_at_once_and_its_code_is_known() {
    let Some(kiln) = kiln("a_killed_container_can_be_removed_at_once_and_its_code_is_known") else { return };
    for _ in 0..10 {
        let id = kiln.ok(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]);
        kiln.ok(&["kill", &id]);
        assert_eq!(kiln.ok(&["wait", &id]), "137");
        kiln.ok(&["rm", &id]);
    }
    for _ in 0..10 {
        let id = kiln.ok(&["run", "-d", "--network", "none", "busybox", "sh", "-c", "exit 4"]);
        assert_eq!(kiln.ok(&["wait", &id]), "4");
        kiln.ok(&["rm", &id]);
    }
}

#[test]
fn a_file_is_not_mounted_on_a_directory() {
    let Some(kiln) = kiln("a_file_is_not_mounted_on_a_directory") else { return };
    let file = kiln.root.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let bind = |target: &str| format!("{}:{target}", file.display());
    let refused = kiln.run(&["run", "--rm", "-v", &bind("/data"), "busybox", "true"]);
    assert_eq!(refused.status.code(), Some(125));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("cannot mount a file on `/data`, which is a directory"), "{text}");
    assert_eq!(kiln.ok(&["run", "--rm", "-v", &bind("/data/new"), "busybox", "cat", "/data/new"]), "x");
    let groups = ["run", "--rm", "-u", "7:8", "busybox", "sh", "-c", "grep ^Groups: /proc/self/status"];
    assert_eq!(kiln.ok(&groups).split_whitespace().collect::<Vec<_>>(), ["Groups:", "8"]);
}

#[test]
fn scripts_find_their_fields() {
    let Some(kiln) = kiln("scripts_find_their_fields") else { return };
    kiln.ok(&["run", "-d", "--name", "web", "-v", "data:/d", "busybox", "sh", "-c", "sleep 1000"]);
    let format = "{{.Name}} {{.State.Running}} {{.Config.StopSignal}} {{(index .Mounts 0).Name}}";
    assert_eq!(kiln.ok(&["inspect", "-f", format, "web"]), "/web true SIGTERM data");
    let format = "{{.HostConfig.PortBindings}} {{.HostConfig.CapAdd}} {{json .Config.ExposedPorts}}";
    assert_eq!(kiln.ok(&["inspect", "-f", format, "web"]), "map[] [] null");
    // What docker leaves out of its JSON is nothing to a template, not a mistake.
    let format = "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.Config.Healthcheck}} \
        {{.Config.StopTimeout}} {{.HostConfig.Tmpfs}} {{.SizeRw}}";
    assert_eq!(kiln.ok(&["inspect", "-f", format, "web"]), "none <nil> <nil> map[] <nil>");
    kiln.ok(&["create", "--name", "able", "--cap-add", "net_admin", "--cap-drop", "all", "busybox", "true"]);
    let format = "{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}";
    assert_eq!(kiln.ok(&["inspect", "-f", format, "able"]), "[CAP_NET_ADMIN] [ALL]");
    let row = kiln.ok(&["ps", "--format", "{{.Command}} {{.Networks}} {{.Mounts}} {{.LocalVolumes}}"]);
    assert_eq!(row, "\"sh -c 'sleep 1000'\" bridge data 1");
    let file = kiln.root.path().join("env");
    std::fs::write(&file, "A=1\nB=2\n").unwrap();
    let file = file.to_str().unwrap();
    let shown = kiln.ok(&["exec", "--env-file", file, "-e", "B=3", "web", "sh", "-c", "echo $A$B"]);
    assert_eq!(shown, "13");
    let image = "{{.Config.ExposedPorts}}|{{.Parent}}|{{.Config.User}}";
    assert_eq!(kiln.ok(&["image", "inspect", "-f", image, "busybox"]), "map[]||");
    kiln.ok(&["rm", "-f", "web"]);
}
