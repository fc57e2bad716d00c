//! Attaching and detaching, through a real terminal.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::binary::Kiln;
use crate::support::needs_root;
use crate::support::pty::Pty;

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

fn pty(kiln: &Kiln, words: &[&str]) -> Pty {
    Pty::spawn(&kiln.command(words))
}

fn piped(kiln: &Kiln, words: &[&str]) -> Child {
    let mut command = kiln.command(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn status(kiln: &Kiln, container: &str) -> String {
    kiln.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", container]).trim().to_owned()
}

#[test]
fn ctrl_p_ctrl_q_leaves_a_shell_running_and_attach_comes_back_to_it() {
    let Some(kiln) = kiln("ctrl_p_ctrl_q_leaves_a_shell_running_and_attach_comes_back_to_it") else { return };
    let mut first = pty(&kiln, &["run", "-it", "--name", "box", "--network", "none", "busybox", "sh"]);
    first.expect("# ");
    first.send("here=yes\r");
    first.expect("# ");
    first.send("\x10\x11");
    assert_eq!(first.wait().0, 0);
    assert_eq!(status(&kiln, "box"), "running 0");
    let mut second = pty(&kiln, &["attach", "box"]);
    // It draws its prompt anew for who comes.
    second.send("echo is-$here; exit 5\r");
    second.expect("is-yes");
    assert_eq!(second.wait().0, 5);
    assert_eq!(status(&kiln, "box"), "exited 5");
}

#[test]
fn a_prompt_is_drawn_for_who_attaches_with_the_same_size() {
    let Some(kiln) = kiln("a_prompt_is_drawn_for_who_attaches_with_the_same_size") else { return };
    let script = "trap 'echo drawn' WINCH; echo up; while :; do sleep 0.05; done";
    let mut first =
        pty(&kiln, &["run", "-it", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    first.expect("up");
    first.send("\x10\x11");
    first.wait();
    let mut second = pty(&kiln, &["attach", "box"]);
    second.expect("drawn");
    second.send("\x10\x11");
    assert_eq!(second.wait().0, 0);
}

#[test]
fn the_programs_terminal_follows_the_window() {
    let Some(kiln) = kiln("the_programs_terminal_follows_the_window") else { return };
    let mut pty = pty(&kiln, &["run", "--rm", "-it", "--network", "none", "busybox", "sh"]);
    pty.expect("# ");
    pty.send("stty size\r");
    pty.expect("24 80");
    pty.resize(31, 97);
    // The size comes by a signal: the program may be asked before it arrives.
    pty.send("while ! stty size | grep '31 97'; do sleep 0.05; done; echo do''ne\r");
    pty.expect("done");
    pty.send("exit\r");
    assert_eq!(pty.wait().0, 0);
}

#[test]
fn the_keys_to_detach_can_be_chosen() {
    let Some(kiln) = kiln("the_keys_to_detach_can_be_chosen") else { return };
    let run =
        ["run", "-it", "--name", "box", "--network", "none", "--detach-keys", "ctrl-a,x", "busybox", "cat"];
    let mut first = pty(&kiln, &run);
    // What begins like the keys and is something else goes to the program.
    first.send("one\x10\x11two\x01y\r");
    first.expect("y");
    first.send("\x01x");
    assert_eq!(first.wait().0, 0);
    for keys in ["q", "ctrl-_"] {
        let mut next = pty(&kiln, &["attach", "--detach-keys", keys, "box"]);
        next.send("still there\r");
        next.expect("still there");
        next.send(if keys == "q" { "q" } else { "\x1f" });
        assert_eq!(next.wait().0, 0, "{keys}");
    }
    assert_eq!(status(&kiln, "box"), "running 0");
    let mut shell = pty(&kiln, &["exec", "-it", "--detach-keys", "ctrl-e", "box", "sh"]);
    shell.expect("# ");
    shell.send("\x05");
    assert_eq!(shell.wait().0, 0);
    let (code, shown) = pty(&kiln, &["attach", "--detach-keys", "ctrl-", "box"]).wait();
    assert!(code == 1 && shown.contains("--detach-keys"), "{shown}");
    let mut started = kiln.ok(&["stop", "-t", "0", "box"]);
    started += &kiln.ok(&["start", "box"]);
    assert_eq!(started, "box\nbox\n");
    let mut again = pty(&kiln, &["start", "-ai", "--detach-keys", "z", "box"]);
    again.send("z");
    assert_eq!(again.wait().0, 0);
    assert_eq!(status(&kiln, "box"), "running 0");
}

#[test]
fn several_who_attach_see_the_same_and_all_may_type() {
    let Some(kiln) = kiln("several_who_attach_see_the_same_and_all_may_type") else { return };
    kiln.ok(&["run", "-dit", "--name", "box", "--network", "none", "busybox", "sh"]);
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut pty = pty(&kiln, &["attach", "box"]);
        pty.expect("# ");
        all.push(pty);
    }
    for typist in 0..all.len() {
        all[typist].send(&format!("echo here $(({typist}+1))\r"));
        for pty in &mut all {
            pty.expect(&format!("here {}\r", typist + 1));
        }
    }
    all[1].send("exit 7\r");
    for pty in all {
        assert_eq!(pty.wait().0, 7);
    }
}

#[test]
fn the_end_of_an_attached_input_is_the_programs_only_where_it_was_run_so() {
    let Some(kiln) = kiln("the_end_of_an_attached_input_is_the_programs_only_where_it_was_run_so") else {
        return;
    };
    kiln.ok(&["run", "-di", "--name", "background", "--network", "none", "busybox", "cat"]);
    let mut one = piped(&kiln, &["attach", "background"]);
    one.stdin.take().unwrap().write_all(b"one\n").unwrap();
    let mut lines = BufReader::new(one.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), status(&kiln, "background").as_str()), ("one\n", "running 0"));
    kiln.ok(&["kill", "background"]);
    assert_eq!(one.wait().unwrap().code(), Some(137));

    let script = "while ! read -t 1 line; do echo up; done; echo $line; cat; echo end";
    kiln.ok(&["create", "-i", "--name", "once", "--network", "none", "busybox", "sh", "-c", script]);
    kiln.ok(&["start", "once"]);
    let mut other = piped(&kiln, &["attach", "--no-stdin", "once"]);
    let mut outputs = BufReader::new(other.stdout.take().unwrap());
    line.clear();
    outputs.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n", "it is there before the input");
    let ran = kiln.run_with(&["attach", "once"], b"two\n");
    assert!(ran.code == 0 && ran.out.ends_with("two\nend\n"), "{}", ran.out);
    let mut shown = String::new();
    outputs.read_to_string(&mut shown).unwrap();
    assert!(shown.ends_with("two\nend\n"), "{shown}");
    assert!(other.wait().unwrap().success());
}

#[test]
fn a_signal_goes_to_the_program_or_ends_the_attachment_alone() {
    let Some(kiln) = kiln("a_signal_goes_to_the_program_or_ends_the_attachment_alone") else { return };
    let script = "trap 'echo int; exit 9' INT; while :; do echo up; sleep 0.05; done";
    kiln.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let attach = |words: &[&str]| {
        let mut child = piped(&kiln, words);
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        child.wait_with_output().unwrap()
    };
    let apart = attach(&["attach", "--sig-proxy=false", "box"]);
    assert!(!apart.status.success());
    assert_eq!(status(&kiln, "box"), "running 0");
    let passed = attach(&["attach", "box"]);
    assert_eq!(passed.status.code(), Some(9));
    assert!(passed.stdout.ends_with(b"int\n"));
    assert_eq!(status(&kiln, "box"), "exited 9");
    let ran = kiln.run(&["attach", "box"]);
    assert!(ran.code == 1 && ran.error.contains("attach to a stopped container"), "{ran}");
}

#[test]
fn a_changed_window_is_a_signal_to_a_program_without_a_terminal() {
    let Some(kiln) = kiln("a_changed_window_is_a_signal_to_a_program_without_a_terminal") else { return };
    let script = "trap 'echo winch; exit 8' WINCH; while :; do echo up; sleep 0.05; done";
    for (proxied, code) in [("true", Some(8)), ("false", None)] {
        let proxy = format!("--sig-proxy={proxied}");
        let run =
            ["run", "--rm", "--network", "none", "--name", "box", &proxy, "busybox", "sh", "-c", script];
        let mut child = piped(&kiln, &run);
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
        if code.is_none() {
            // It was nobody's: the program goes on until it is killed.
            child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
            kiln.ok(&["kill", "box"]);
        }
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), code.or(Some(137)));
        assert_eq!(ended.stdout.ends_with(b"winch\n"), code.is_some());
    }
}

#[test]
fn the_id_file_is_there_while_the_program_runs() {
    let Some(kiln) = kiln("the_id_file_is_there_while_the_program_runs") else { return };
    let file = kiln.scratch().join("id");
    let path = file.to_str().unwrap();
    let run = ["run", "--rm", "-i", "--network", "none", "--cidfile", path, "busybox", "cat"];
    let mut child = piped(&kiln, &run);
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    assert_eq!(kiln.ok(&["ps", "-q", "--no-trunc"]).trim(), std::fs::read_to_string(&file).unwrap());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(kiln.run(&run).code, 125);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(kiln.run(&["create", "--cidfile", path, "nowhere.invalid/none"]).code, 125);
    assert!(!file.exists(), "without a container there is no file");
}
