//! The clients of a monitor: who started the container, and who came later.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use crate::container::wire::{self, Packet};

/// Output that waits for a client; the program is held back then.
const WAITING_BYTES: usize = 1 << 20;
/// More are turned away: each holds a descriptor.
const MOST: usize = 256;

/// What a client asked for.
pub(super) enum Request {
    Stdin(Vec<u8>),
    StdinEnd,
    Resize(u16, u16),
    Signal(i32),
}

struct Client {
    socket: OwnedFd,
    outputs: bool,
    /// Its end is the end of the program's input.
    holds_stdin: bool,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    gone: bool,
}

/// All clients.
pub(in crate::container) struct Clients {
    all: Vec<Client>,
}

impl Clients {
    /// Begins with the one that started the container.
    pub(in crate::container) fn new(socket: OwnedFd, outputs: bool, holds_stdin: bool) -> Self {
        let mut clients = Self { all: Vec::new() };
        clients.add(socket, outputs, holds_stdin);
        clients
    }

    fn add(&mut self, socket: OwnedFd, outputs: bool, holds_stdin: bool) {
        let waiting = VecDeque::new();
        self.all.push(Client { socket, outputs, holds_stdin, waiting, waiting_bytes: 0, gone: false });
    }

    /// Takes in a new client, which has not said hello yet.
    pub(super) fn accept(&mut self, listener: &OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let (Ok(socket), true) = (rustix::net::accept_with(listener, flags), self.all.len() < MOST) {
            self.add(socket, false, false);
        }
    }

    /// Tells the starter that the program runs.
    pub(in crate::container) fn started(&mut self) {
        self.broadcast(&Packet::Started);
    }

    /// Gives output to those who want it.
    pub(super) fn output(&mut self, packet: &Packet) {
        let bytes = packet.encode();
        for client in self.all.iter_mut().filter(|client| client.outputs) {
            client.send(bytes.clone());
        }
    }

    /// Gives a packet to everybody.
    pub(in crate::container) fn broadcast(&mut self, packet: &Packet) {
        let bytes = packet.encode();
        for client in &mut self.all {
            client.send(bytes.clone());
        }
    }

    /// Tells whether every client can take more output.
    pub(super) fn has_room(&self) -> bool {
        self.all.iter().all(|client| client.waiting_bytes < WAITING_BYTES)
    }

    /// What to wait for; requests only when the program can take more input.
    pub(super) fn poll_fds(&self, program_has_room: bool) -> impl Iterator<Item = PollFd<'_>> {
        self.all.iter().map(move |client| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, program_has_room || !client.holds_stdin);
            flags.set(PollFlags::OUT, !client.waiting.is_empty());
            PollFd::new(&client.socket, flags)
        })
    }

    /// Reads and writes what can be, after a poll of [`Self::poll_fds`]; gives what was asked for.
    pub(super) fn handle(&mut self, events: &[PollFlags]) -> Vec<Request> {
        let mut requests = Vec::new();
        for (client, events) in self.all.iter_mut().zip(events) {
            if events.contains(PollFlags::OUT) {
                client.flush();
            }
            if events.contains(PollFlags::IN) {
                client.read(&mut requests);
            } else if events.intersects(PollFlags::HUP | PollFlags::ERR) {
                client.gone = true;
            }
            if client.gone && client.holds_stdin {
                requests.push(Request::StdinEnd);
            }
        }
        self.all.retain(|client| !client.gone);
        requests
    }

    /// Waits until every client has taken what is for it, or is gone.
    pub(in crate::container) fn flush_all(&mut self) {
        loop {
            for client in &mut self.all {
                client.flush();
            }
            self.all.retain(|client| !client.gone && !client.waiting.is_empty());
            if self.all.is_empty() {
                return;
            }
            let mut fds: Vec<_> = self.all.iter().map(|c| PollFd::new(&c.socket, PollFlags::OUT)).collect();
            let _ = poll(&mut fds, None);
            let gone: Vec<_> =
                fds.iter().map(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)).collect();
            drop(fds);
            for (client, gone) in self.all.iter_mut().zip(gone) {
                client.gone |= gone;
            }
        }
    }
}

impl Client {
    fn send(&mut self, bytes: Vec<u8>) {
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(bytes) = self.waiting.front() {
            match wire::send_bytes(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(()) => {
                    self.waiting_bytes -= bytes.len();
                    self.waiting.pop_front();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    self.waiting.clear();
                    self.waiting_bytes = 0;
                }
            }
        }
    }

    fn read(&mut self, requests: &mut Vec<Request>) {
        match wire::receive(&self.socket, RecvFlags::DONTWAIT) {
            Ok(Some(Packet::Hello { version: wire::VERSION, outputs })) => {
                self.outputs = outputs;
                self.send(Packet::Started.encode());
            }
            // A client of another version can't be served.
            Ok(Some(Packet::Hello { .. })) => self.gone = true,
            Ok(Some(Packet::Stdin(bytes))) => requests.push(Request::Stdin(bytes)),
            Ok(Some(Packet::StdinEnd)) => requests.push(Request::StdinEnd),
            Ok(Some(Packet::Resize(rows, columns))) => requests.push(Request::Resize(rows, columns)),
            Ok(Some(Packet::Signal(signal))) => requests.push(Request::Signal(signal)),
            Ok(Some(_)) => {}
            Ok(None) => self.gone = true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.gone = true,
        }
    }
}
