//! A client of a container's monitor: streams, signals, and the exit code.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::error::{At, Error, Result};
use super::launch::Streams;
use super::record::Record;
use super::wire::{self, Condition, Packet, STREAM_BYTES, Wants};
use super::{Containers, UNKNOWN_CODE};
use crate::sys::awake::Awake;
use crate::sys::signals::Signals;

/// What is passed on to the program; the rest keeps its meaning for this process.
const FORWARDED: [i32; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGWINCH,
];
/// What ends this process, and not a further one in a container: taken in only while that has the terminal, which
/// has to be given back first.
const OWN: [i32; 5] = [libc::SIGWINCH, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
/// Ctrl-P Ctrl-Q, which leaves a terminal's container running.
const DETACH: [u8; 2] = [16, 17];

/// Processors are kept awake so long for the end of a program.
const SHORT: Duration = Duration::from_millis(10);

/// How an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The program ended with this code.
    Exit(i32),
    /// The user left it running.
    Detached,
    /// This process is to end as this signal ends one; the program goes on.
    Signal(i32),
}

/// A connection to the monitor of a running container.
#[derive(Debug)]
pub struct Attachment {
    socket: OwnedFd,
    name: String,
    tty: bool,
    /// Whether the program's signals are this process's too.
    forwards: bool,
    /// For the end of a program that ends by then.
    awake: Option<(Awake, Instant)>,
}

impl Attachment {
    /// A client of a container.
    pub(super) fn new(socket: OwnedFd, record: &Record) -> Self {
        Self { socket, name: record.name.clone(), tty: record.config.tty, forwards: true, awake: None }
    }

    /// A client of a further process, whose signals stay with the caller.
    pub(super) fn of_exec(socket: OwnedFd, name: String, tty: bool) -> Self {
        Self { socket, name, tty, forwards: false, awake: None }
    }

    /// Keeps the processors awake for a moment more.
    pub(super) fn while_awake(self, awake: Option<Awake>) -> Self {
        Self { awake: awake.map(|awake| (awake, Instant::now() + SHORT)), ..self }
    }

    /// Waits for the end of the program, showing nothing. `None`: the monitor was already leaving, or is lost.
    fn wait(self) -> Option<i32> {
        loop {
            match wire::receive(&self.socket, RecvFlags::empty()) {
                Ok(Some(Packet::Exit(code, _))) => return Some(code),
                Ok(Some(_)) => {}
                _ => return None,
            }
        }
    }

    /// Passes the caller's standard streams and signals on until the program ends or the user detaches.
    pub fn stream(self, streams: Streams) -> Result<Ended> {
        let name = self.name;
        let forwards = self.forwards && !streams.keeps_signals;
        let taken = match (forwards, self.tty) {
            (true, _) => &FORWARDED[..],
            (false, true) => &OWN,
            // The window's size alone.
            (false, false) => &OWN[..1],
        };
        let signals = Signals::take(taken).at("watch signals for", &name)?;
        let mut session = Session {
            socket: self.socket,
            signals,
            tty: self.tty,
            forwards,
            reads_stdin: streams.stdin,
            unsent: None,
            awake: self.awake,
            keys: Keys::new(streams.detach_keys.unwrap_or_else(|| DETACH.to_vec())),
        };
        match session.run() {
            // Nobody reads what the program writes: `kiln run x | head -1`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Ended::Signal(libc::SIGPIPE)),
            ended => ended.at("attach to", &name),
        }
    }
}

impl Containers {
    /// Connects to the monitor of a running container.
    pub fn attach(&self, record: &Record, streams: &Streams) -> Result<Attachment> {
        let size = streams.size.filter(|_| record.config.tty).unwrap_or_default();
        let socket = self.reach(record, streams.wants(record), size)?;
        Ok(Attachment::new(socket, record))
    }

    /// Connects to the monitor of a container, and says hello.
    pub(super) fn reach(&self, record: &Record, wants: Wants, size: (u16, u16)) -> Result<OwnedFd> {
        let not_running = |_| Error::NotRunning { name: record.name.clone() };
        let socket = connect(&self.folder(&record.id)).map_err(not_running)?;
        let hello = Packet::Hello { version: wire::VERSION, wants, size };
        hello.send(&socket).map_err(not_running)?;
        Ok(socket)
    }

    /// Waits for the end of a container; one that doesn't run gives its last code at once.
    pub fn wait(&self, record: &Record) -> Result<i32> {
        if let Ok(attachment) = self.attach(record, &Streams::default()) {
            let _ = Packet::Wait(Condition::NotRunning).send(&attachment.socket);
            if let Some(code) = attachment.wait() {
                return Ok(code);
            }
        }
        // A monitor that was leaving has written the code, or is about to.
        self.recorded(record)?;
        match self.load(&record.id) {
            Ok(now) => Ok(now.state.exit_code.unwrap_or(0)),
            // It was removed meanwhile, and its code with it.
            Err(error) if error.is_absence() => Ok(UNKNOWN_CODE),
            Err(error) => Err(error),
        }
    }
}

fn connect(folder: &Path) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let folder = std::fs::File::open(folder)?;
    rustix::net::connect(&socket, &socket_address(&folder)?)?;
    Ok(socket)
}

/// The address of the socket in an open folder: short, however long the folder's path is.
pub(super) fn socket_address(folder: &impl std::os::fd::AsRawFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/socket", folder.as_raw_fd()))?)
}

struct Session {
    socket: OwnedFd,
    signals: Signals,
    tty: bool,
    forwards: bool,
    reads_stdin: bool,
    /// A packet that the monitor had no room for. While there is one, no input is read, but outputs go on:
    /// the monitor may be waiting for us to take them.
    unsent: Option<Vec<u8>>,
    /// As in [`Attachment`].
    awake: Option<(Awake, Instant)>,
    keys: Keys,
}

impl Session {
    fn run(&mut self) -> io::Result<Ended> {
        loop {
            let (socket, signals, stdin) = self.wait()?;
            if signals && let Some(signal) = self.take_signals()? {
                return Ok(Ended::Signal(signal));
            }
            if socket.contains(PollFlags::OUT) {
                self.send_unsent()?;
            }
            if socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && let Some(code) = self.receive()?
            {
                return Ok(Ended::Exit(code));
            }
            if stdin && self.read_stdin()? {
                return Ok(Ended::Detached);
            }
        }
    }

    fn wait(&mut self) -> io::Result<(PollFlags, bool, bool)> {
        let stdin = rustix::stdio::stdin();
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, self.unsent.is_some());
        let mut fds = vec![PollFd::new(&self.socket, wanted), PollFd::new(&self.signals, PollFlags::IN)];
        if self.reads_stdin && self.unsent.is_none() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        let left = self.awake.as_ref().map(|(_, end)| end.saturating_duration_since(Instant::now()));
        match poll(&mut fds, left.and_then(|left| Timespec::try_from(left).ok()).as_ref()) {
            Ok(0) => {
                self.awake = None;
                return Ok((PollFlags::empty(), false, false));
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((PollFlags::empty(), true, false)),
            Err(error) => return Err(error.into()),
        }
        let stdin = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        Ok((fds[0].revents(), !fds[1].revents().is_empty(), stdin))
    }

    /// Passes signals on, or gives the one that ends this process alone.
    fn take_signals(&mut self) -> io::Result<Option<i32>> {
        for signal in self.signals.pending() {
            let packet = match signal {
                // Without a terminal it is a signal as others are.
                libc::SIGWINCH if !self.tty && !self.forwards => continue,
                libc::SIGWINCH if self.tty => match rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
                    Ok(size) => Packet::Resize(size.ws_row, size.ws_col),
                    Err(_) => continue,
                },
                signal if !self.forwards => return Ok(Some(signal)),
                signal => Packet::Signal(signal),
            };
            self.send(&packet)?;
        }
        Ok(None)
    }

    fn send(&mut self, packet: &Packet) -> io::Result<()> {
        // Signals and sizes are small: with an input packet in the way, they wait for room themselves.
        self.send_unsent_or_wait()?;
        self.unsent = Some(packet.encode());
        self.send_unsent()
    }

    fn send_unsent_or_wait(&mut self) -> io::Result<()> {
        match self.unsent.take() {
            Some(bytes) => gone_is_fine(wire::send_bytes(&self.socket, &bytes, SendFlags::NOSIGNAL)),
            None => Ok(()),
        }
    }

    fn send_unsent(&mut self) -> io::Result<()> {
        let Some(bytes) = self.unsent.take() else { return Ok(()) };
        match wire::send_bytes(&self.socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unsent = Some(bytes);
                Ok(())
            }
            result => gone_is_fine(result),
        }
    }

    /// Takes all packets that have come; gives the exit code when it was among them.
    fn receive(&mut self) -> io::Result<Option<i32>> {
        loop {
            match wire::receive(&self.socket, RecvFlags::DONTWAIT) {
                Ok(Some(Packet::Stdout(bytes))) => write_all(rustix::stdio::stdout(), &bytes)?,
                Ok(Some(Packet::Stderr(bytes))) => write_all(rustix::stdio::stderr(), &bytes)?,
                Ok(Some(Packet::Exit(code, _))) => return Ok(Some(code)),
                Ok(Some(_)) => {}
                // The monitor is gone and can't say how it went.
                Ok(None) => return Ok(Some(UNKNOWN_CODE)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once; `true` when the user typed the keys to detach, or closed the terminal.
    fn read_stdin(&mut self) -> io::Result<bool> {
        let mut bytes = vec![0; STREAM_BYTES];
        let length = match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(length) => length,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            // A terminal that was hung up, or input that can't be read, has ended.
            Err(_) => 0,
        };
        if length == 0 {
            // A raw terminal has no end of input but its own: nobody is left to attend to the program.
            if self.tty {
                return Ok(true);
            }
            self.reads_stdin = false;
            self.send(&Packet::StdinEnd)?;
            return Ok(false);
        }
        bytes.truncate(length);
        let detaches = self.tty && self.keys.detach(&mut bytes);
        if !bytes.is_empty() {
            self.send(&Packet::Stdin(bytes))?;
        }
        Ok(detaches)
    }
}

/// Finds the keys to detach in what is typed.
struct Keys {
    wanted: Vec<u8>,
    /// What was held back as their beginning.
    held: Vec<u8>,
}

impl Keys {
    fn new(wanted: Vec<u8>) -> Self {
        Self { wanted, held: Vec::new() }
    }

    /// Leaves what is for the program. What may be the beginning of the keys is held back: they come one at a
    /// time, as they are typed. `true` when they are complete.
    fn detach(&mut self, bytes: &mut Vec<u8>) -> bool {
        let mut all = std::mem::take(&mut self.held);
        all.append(bytes);
        if !self.wanted.is_empty() && all.ends_with(&self.wanted) {
            all.truncate(all.len() - self.wanted.len());
            *bytes = all;
            return true;
        }
        let beginnings = (1..self.wanted.len()).rev().map(|length| &self.wanted[..length]);
        let held = beginnings.into_iter().find(|beginning| all.ends_with(beginning)).map_or(0, <[u8]>::len);
        self.held = all.split_off(all.len() - held);
        *bytes = all;
        false
    }
}

/// A monitor that has gone is noticed, with its exit code, by reading.
fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Writes to one of the caller's own streams, which may be non-blocking for reasons of its own.
pub(super) fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types one piece after the other; gives what the program gets, and whether it was left.
    fn typed(keys: &[u8], pieces: &[&str]) -> (String, bool) {
        let mut keys = Keys::new(keys.to_vec());
        let mut got = String::new();
        for piece in pieces {
            let mut bytes = piece.as_bytes().to_vec();
            let detaches = keys.detach(&mut bytes);
            got += std::str::from_utf8(&bytes).unwrap();
            if detaches {
                return (got, true);
            }
        }
        (got, false)
    }

    #[test]
    fn the_keys_to_detach_are_held_back_until_they_are_something_else() {
        let cases: [(&[u8], &[&str], &str, bool); 8] = [
            (&DETACH, &["ls\r", "\x10", "\x11"], "ls\r", true),
            (&DETACH, &["ls\x10\x11"], "ls", true),
            (&DETACH, &["\x10", "x"], "\x10x", false),
            (&DETACH, &["\x10", "\x10", "\x11"], "\x10", true),
            (b"aab", &["a", "a", "a", "b"], "a", true),
            (b"q", &["a", "q"], "a", true),
            (b"ab", &["a"], "", false),
            (b"", &["\x10\x11"], "\x10\x11", false),
        ];
        for (keys, pieces, got, left) in cases {
            assert_eq!(typed(keys, pieces), (got.to_owned(), left), "{pieces:?}");
        }
    }
}
