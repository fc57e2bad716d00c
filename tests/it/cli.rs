//! The command line as its user meets it: help, mistakes, exit codes, and progress on a real terminal.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::needs_root;

/// A kiln with a store of its own and nothing of the caller's environment.
fn kiln(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("KILN_ROOT", root).args(words);
    command
}

/// Runs kiln in an empty store without standard input.
fn run(words: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } =
        kiln(&folder.path().join("root"), words).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn the_overview_groups_the_commands() {
    let (code, out, error) = run(&["--help"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("`{text}` is missing in:\n{out}"));
    assert!(at("Usage:  kiln [OPTIONS] COMMAND") < at("Common Commands:"));
    assert!(at("Common Commands:") < at("  run         Create and run a new container from an image"));
    assert!(at("  run  ") < at("  build       Build an image from a Dockerfile"));
    assert!(at("Management Commands:") < at("  image       Manage images"));
    assert!(at("\nCommands:") < at("  rmi         Remove one or more images"));
    for words in [&["help"][..], &["-h"], &["-help"], &[]] {
        assert_eq!(run(words).1, out, "{words:?}");
    }
}

#[test]
fn every_command_explains_itself() {
    let overview = run(&["--help"]).1;
    for name in [
        "run", "exec", "ps", "build", "pull", "push", "images", "history", "version", "create", "import",
        "inspect", "kill", "load", "logs", "prune", "rm", "rmi", "save", "start", "stop", "tag", "wait",
        "why",
    ] {
        let (code, out, error) = run(&[name, "--help"]);
        assert_eq!((code, error.as_str()), (0, ""), "{name}");
        assert!(out.starts_with(&format!("Usage:  kiln {name}")) && out.contains("Options:"), "{out}");
        let about = out.lines().nth(2).unwrap();
        assert!(overview.contains(&format!("  {name:<11} {about}\n")), "{about}");
        assert_eq!(run(&["help", name]).1, out);
    }
    let (code, out, _) = run(&["image", "ls", "--help"]);
    assert!(code == 0 && out.starts_with("Usage:  kiln image ls"), "{out}");
    let (code, out, _) = run(&["container"]);
    assert!(code == 0 && out.contains("  ls          List containers"), "{out}");
}

#[test]
fn mistakes_name_the_word_and_what_to_do() {
    for (words, code, expected) in [
        (&["biuld"][..], 1, "error: unknown command: `kiln biuld`\nhint: did you mean `kiln build`?\n"),
        (&["frobnicate"], 1, "error: unknown command: `kiln frobnicate`\nhint: see `kiln --help`\n"),
        (&["login"], 1, "error: `kiln login` is not supported yet\n"),
        (&["image", "lss"], 1, "hint: did you mean `kiln image ls`?\n"),
        (&["--rot", "x", "ps"], 1, "error: unknown flag: `--rot`\n"),
        (
            &["images", "--fitler", "x"],
            1,
            "error: unknown flag: `--fitler`\nhint: did you mean `--filter`?\n",
        ),
        (&["run", "--nmae=x", "busybox"], 125, "hint: did you mean `--name`?\n"),
        (
            &["run", "--link-local-ip", "169.254.1.1", "busybox"],
            125,
            "error: `--link-local-ip` is not supported yet\n",
        ),
        (&["run"], 1, "error: missing <IMAGE>\n"),
        (&["create"], 1, "error: missing <IMAGE>\n"),
        (&["exec", "--foo", "c", "ls"], 125, "error: unknown flag: `--foo`\n"),
        (&["exec", "c"], 1, "error: missing <COMMAND>\n"),
        (&["exec", "c", "ls"], 1, "error: no such container: c\n"),
        (&["run", "--network", "name=x,colour=red", "busybox"], 125, "error: unknown key `colour` in"),
        (&["run", "UPPER"], 125, "hint: did you mean `upper`?\n"),
        (&["build"], 1, "hint: did you forget the `.` at the end?\n"),
        (&["build", "/nonexistent"], 1, "error: the context `/nonexistent` doesn't exist\n"),
        (&["build", "--cache-to", "x", "."], 1, "error: `--cache-to` is not supported yet\n"),
        (&["build", "-o", "type=zip", "."], 1, "error: unknown output type `zip`\n"),
        (&["build", "-t", "Up", "."], 1, "hint: did you mean `up`?\n"),
        (&["build", "--progress", "fancy", "."], 1, "error: unknown progress `fancy`\n"),
        (&["tag", "a"], 1, "error: missing <TARGET_IMAGE>\n"),
        (&["tag", "a", "sha256:abc"], 1, "hint: choose another name than `sha256`\n"),
        (&["ps", "-n", "x"], 1, "error: invalid value `x` for `--last`: it must be a whole number\n"),
        (&["rmi"], 1, "error: missing <IMAGE>"),
        (&["save", "x", "-o"], 1, "error: `--output` needs a value\n"),
        (&["logs", "--since", "yesterday", "c"], 1, "error: invalid time `yesterday` for `--since`\n"),
        (&["version", "--format", "{{.Nope}}"], 1, "error: bad --format template: no field `Nope`"),
    ] {
        let (found, out, error) = run(words);
        assert_eq!((found, out.as_str()), (code, ""), "{words:?}: {error}");
        assert!(error.contains(expected), "{words:?} says:\n{error}");
    }
}

#[test]
fn what_is_gone_already_is_no_failure_with_force() {
    let (code, out, error) = run(&["rmi", "-f", "nosuch"]);
    assert_eq!((code, out.as_str(), error.as_str()), (0, "", "no such image: `nosuch`\n"));
}

#[test]
fn versions_are_data() {
    let number = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&["--version"]), (0, format!("kiln version {number}\n"), String::new()));
    assert_eq!(run(&["version", "-f", "{{.Server.Version}}"]).1, format!("{number}\n"));
    assert!(run(&["version"]).1.contains(number));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut child =
        kiln(folder.path(), &["--help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    child.wait().unwrap();
    assert_eq!(error, "");
}

/// Runs kiln in an empty store with a terminal as its standard streams; what it wrote there.
fn on_terminal(words: &[&str], rows: u16, columns: u16) -> String {
    let folder = tempfile::tempdir().unwrap();
    with_terminal(kiln(&folder.path().join("root"), words), rows, columns)
}

/// Runs `command` with a terminal as its standard streams; what it wrote there.
fn with_terminal(mut command: Command, rows: u16, columns: u16) -> String {
    let (master, slave) = pseudo_terminal(rows, columns);
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    command.env("TERM", "xterm");
    let mut child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
    drop(command);
    drop(slave);
    let mut out = Vec::new();
    let mut master = std::fs::File::from(master);
    let mut piece = [0; 4096];
    // The read fails with EIO when the last holder of the other end is gone.
    while let Ok(count) = master.read(&mut piece) {
        if count == 0 {
            break;
        }
        out.extend_from_slice(&piece[..count]);
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

fn pseudo_terminal(rows: u16, columns: u16) -> (OwnedFd, OwnedFd) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave =
        rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    (master, slave)
}

#[test]
fn failures_are_coloured_on_a_terminal_only() {
    assert!(on_terminal(&["biuld"], 24, 80).contains("\x1b[31merror:\x1b[0m unknown command"));
    assert!(!run(&["biuld"]).2.contains('\x1b'));
}

#[test]
fn archives_are_not_written_to_a_terminal() {
    assert!(on_terminal(&["save", "x"], 24, 80).contains("an archive is not written to a terminal"));
    assert!(on_terminal(&["build", "-"], 24, 80).contains("that is a terminal"));
}

/// A store that has the image `base` (busybox), and a folder for contexts.
struct Store {
    folder: tempfile::TempDir,
}

impl Store {
    fn with_busybox() -> Self {
        let store = Self { folder: tempfile::tempdir().unwrap() };
        let archive = store.folder.path().join("busybox.tar");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bases/busybox.sh");
        assert!(Command::new(script).arg(&archive).status().unwrap().success());
        let out = store.kiln(&["import", archive.to_str().unwrap(), "base"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        store
    }

    fn kiln(&self, words: &[&str]) -> Command {
        kiln(&self.folder.path().join("root"), words)
    }

    /// A context with this Dockerfile.
    fn context(&self, name: &str, dockerfile: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
        folder
    }

    fn build(&self, words: &[&str], context: &Path) -> (i32, String, String) {
        let mut command = self.kiln(&["build", "--network", "none"]);
        let Output { status, stdout, stderr } = command.args(words).arg(context).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

/// What a reader of the screen sees in the end: lines that the cursor went back to are overwritten.
fn screen(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    let mut at = 0;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' => {
                at += 1;
                if at == lines.len() {
                    lines.push(String::new());
                }
                lines[at].clear();
            }
            '\r' => {}
            '\u{1b}' => {
                let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                let (number, kind) = (rest[1..end].parse::<usize>().unwrap_or(0), &rest[end..=end]);
                match kind {
                    "A" => {
                        at -= number;
                        lines[at].clear();
                    }
                    "J" => lines.truncate(at + 1),
                    _ => {}
                }
                rest = &rest[end + 1..];
            }
            c => lines[at].push(c),
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[test]
fn a_build_repaints_its_steps_on_a_terminal() {
    if !needs_root("cli::a_build_repaints_its_steps_on_a_terminal") {
        return;
    }
    let store = Store::with_busybox();
    let dockerfile = "FROM base\nRUN printf 'one\\ntwo\\n\\033[2Jthree\\n'; sleep 0.4\nRUN echo 日本語日本語日本語日本語日本語日本語\n";
    let context = store.context("tty", dockerfile);
    let command = || store.kiln(&["build", "--network", "none", context.to_str().unwrap()]);
    let raw = with_terminal(command(), 24, 50);
    assert!(raw.contains(" => => # three"), "the step's last lines are shown while it runs:\n{raw}");
    assert!(!raw.contains("\x1b[2J"), "a step's output can't clear the screen");
    let lines = screen(&raw);
    assert!(lines[0].starts_with("[+] Building ") && lines[0].ends_with("(3/3) FINISHED"), "{lines:#?}");
    assert!(
        lines[1].starts_with(" => CACHED [1/3] FROM") || lines[1].starts_with(" => [1/3] FROM"),
        "{lines:#?}"
    );
    assert!(lines[2].starts_with(" => [2/3] RUN printf") && lines[2].ends_with('s'), "{lines:#?}");
    assert!(lines[2].contains("  ran: never"), "{lines:#?}");
    assert!(lines[3].contains("[3/3] RUN echo 日本語") && lines[3].contains('…'), "{lines:#?}");
    assert!(lines[4].starts_with("sha256:"), "{lines:#?}");

    let again = screen(&with_terminal(command(), 24, 50));
    assert!(again[2].starts_with(" => CACHED [2/3] RUN printf"), "{again:#?}");
    let narrow = with_terminal(command(), 4, 20);
    assert!(screen(&narrow).iter().take(3).all(|line| line.chars().count() < 20), "{narrow}");
}

#[test]
fn a_build_writes_buildkits_lines_elsewhere() {
    if !needs_root("cli::a_build_writes_buildkits_lines_elsewhere") {
        return;
    }
    let store = Store::with_busybox();
    let context = store.context("plain", "FROM base\nRUN echo out; echo err >&2\n");
    let idfile = store.folder.path().join("id");
    let (code, out, error) =
        store.build(&["-t", "a", "-t", "b:1", "--iidfile", idfile.to_str().unwrap()], &context);
    assert_eq!(code, 0, "{error}");
    assert_eq!(out.trim_end(), std::fs::read_to_string(&idfile).unwrap());
    assert!(error.contains("[2/2] RUN echo out; echo err >&2\n"), "{error}");
    assert!(error.contains(" out\n") && error.contains(" err\n") && error.contains(" DONE "), "{error}");
    assert!(error.contains("named docker.io/library/a:latest\nnamed docker.io/library/b:1\n"), "{error}");
    let (code, again, error) = store.build(&["-q"], &context);
    assert_eq!((code, again, error.as_str()), (0, out, ""));
    let folder = store.folder.path().join("not/yet");
    let (code, _, error) = store.build(&["-q", "-o", folder.to_str().unwrap()], &context);
    assert!(code == 0 && folder.join("bin/busybox").is_file(), "a folder is made for the result: {error}");
}

#[test]
fn a_failed_step_ends_with_one_and_tells_where() {
    if !needs_root("cli::a_failed_step_ends_with_one_and_tells_where") {
        return;
    }
    let store = Store::with_busybox();
    let context = store.context("failing", "FROM base\nRUN echo some words; exit 42\n");
    for progress in ["plain", "quiet"] {
        let (code, out, error) = store.build(&["--progress", progress], &context);
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        for expected in [
            "------\n > [2/2] RUN",
            "some words",
            "   2 | >>> RUN echo some words; exit 42\n",
            "error: ",
            "exit code: 42",
        ] {
            assert!(error.contains(expected), "`{expected}` is missing in:\n{error}");
        }
    }
}

#[test]
fn a_terminal_is_raw_while_the_program_has_it_and_then_what_it_was() {
    if !needs_root("cli::a_terminal_is_raw_while_the_program_has_it_and_then_what_it_was") {
        return;
    }
    use rustix::termios::{LocalModes, tcgetattr, tcgetwinsize};
    use std::io::Write;
    let store = Store::with_busybox();
    let (master, slave) = pseudo_terminal(33, 77);
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    let before = tcgetattr(&slave).unwrap().local_modes;
    let mut command = store.kiln(&["run", "--rm", "-it", "--network", "none", "base", "sh"]);
    let mut child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
    drop(command);
    let mut master = std::fs::File::from(master);
    let mut seen = String::new();
    let mut piece = [0; 4096];
    let mut wait_for = |text: &str, master: &mut std::fs::File| {
        while !seen.contains(text) {
            let count = master.read(&mut piece).unwrap();
            seen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    };
    wait_for("# ", &mut master);
    assert!(
        before.contains(LocalModes::ECHO)
            && !tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ECHO)
    );
    assert_eq!(tcgetwinsize(&slave).unwrap().ws_col, 77);
    // The quotes keep the echo of the command apart from its answer.
    master.write_all(b"stty size; echo en''d; exit 9\r").unwrap();
    wait_for("end", &mut master);
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert!(seen.contains("33 77"), "the program's terminal has the caller's size: {seen:?}");
    assert_eq!(tcgetattr(&slave).unwrap().local_modes, before);
}

/// Starts kiln on a terminal of its own and waits until it shows `text`.
fn start_on_terminal(mut command: Command, text: &str) -> (std::process::Child, std::fs::File, OwnedFd) {
    let (master, slave) = pseudo_terminal(24, 80);
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
    let mut master = std::fs::File::from(master);
    let (mut seen, mut piece) = (String::new(), [0; 4096]);
    while !seen.contains(text) {
        let count = master.read(&mut piece).unwrap();
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    (child, master, slave)
}

#[test]
fn a_killed_exec_gives_the_terminal_back_and_a_closed_one_ends_the_command() {
    if !needs_root("cli::a_killed_exec_gives_the_terminal_back_and_a_closed_one_ends_the_command") {
        return;
    }
    use rustix::process::{Pid, Signal, kill_process};
    use rustix::termios::{LocalModes, tcgetattr};
    let store = Store::with_busybox();
    let run = store.kiln(&["run", "-it", "--rm", "--name", "tty", "--network", "none", "base", "sh"]);
    let (mut closed, master, slave) = start_on_terminal(run, "# ");

    let exec = store.kiln(&["exec", "-it", "tty", "sh"]);
    let (mut killed, _exec_master, exec_slave) = start_on_terminal(exec, "# ");
    assert!(!tcgetattr(&exec_slave).unwrap().local_modes.contains(LocalModes::ECHO));
    kill_process(Pid::from_child(&killed), Signal::TERM).unwrap();
    assert_eq!(killed.wait().unwrap().code(), Some(143));
    assert!(tcgetattr(&exec_slave).unwrap().local_modes.contains(LocalModes::ECHO));

    drop((master, slave));
    assert!(closed.wait().unwrap().code().is_some(), "a command without its terminal doesn't stay");
    let left = store.kiln(&["ps", "-q", "--filter", "name=tty"]).output().unwrap().stdout;
    assert!(!left.is_empty(), "its container does");
    assert!(store.kiln(&["rm", "-f", "tty"]).status().unwrap().success());
}
