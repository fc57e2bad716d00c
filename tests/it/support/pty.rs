//! A command on a real pseudo-terminal: type, expect, resize.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How long anything may take on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command whose three streams are a terminal, and the terminal's other side.
pub(crate) struct Pty {
    master: File,
    child: Child,
    output: Receiver<Vec<u8>>,
    /// What was shown and not yet expected.
    shown: String,
}

impl Pty {
    /// Starts `command` as the leader of a session on a new terminal of 24 rows and 80 columns.
    pub(crate) fn spawn(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap());
        let master = File::from(master);
        resize(&master, 24, 80);
        // A session and its terminal are made between fork and exec, which is unsafe code: a program does it.
        let mut inner = Command::new("setsid");
        inner.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        inner.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        inner.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = inner.spawn().unwrap();
        drop(inner);
        let (sender, output) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The master gives EIO when the last one has closed the terminal.
            while let Ok(length) = reader.read(&mut buffer) {
                if length == 0 || sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { master, child, output, shown: String::new() }
    }

    /// Types `keys`.
    pub(crate) fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown, and gives what was shown before it since the last one.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                let mut before = std::mem::replace(&mut self.shown, rest);
                before.truncate(at);
                return before;
            }
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.shown += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Timeout) => panic!("`{text}` is not shown, but {:?}", self.shown),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("`{text}` was never shown, but {:?}", self.shown)
                }
            }
        }
    }

    /// Gives the terminal another size, as a window manager does.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
    }

    /// Waits for the command's end; gives its exit code, and what was shown last.
    pub(crate) fn wait(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        while let Ok(bytes) = self.output.recv_timeout(PATIENCE) {
            self.shown += &String::from_utf8_lossy(&bytes);
        }
        (status.code().unwrap_or(-1), std::mem::take(&mut self.shown))
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // A test that failed midway leaves nothing that reads from it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn resize(master: &File, rows: u16, columns: u16) {
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[test]
fn a_shell_on_it_has_a_terminal_of_its_own() {
    let mut command = Command::new("sh");
    command.args(["-c", "tty; read line; echo \"<$line>\"; stty size; exit 3"]).env("PATH", "/usr/bin:/bin");
    let mut pty = Pty::spawn(&command);
    pty.expect("/dev/pts/");
    pty.resize(30, 100);
    pty.send("hello\r");
    pty.expect("<hello>");
    pty.expect("30 100");
    assert_eq!(pty.wait().0, 3);
}
