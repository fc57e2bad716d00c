//! The clients of a monitor: who started the container, and who came later.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use crate::container::wire::{self, Condition, Packet, Received, Wants};

/// Output that waits for a client; the program is held back then.
const WAITING_BYTES: usize = 1 << 20;
/// More are turned away: each holds a descriptor.
const MOST: usize = 256;

/// Names a client for as long as it is there.
pub(super) type ClientId = u64;

struct Client {
    id: ClientId,
    socket: OwnedFd,
    wants: Wants,
    said_hello: bool,
    /// It has asked for something that takes its time, and gets its answer when that is done.
    is_owed: bool,
    /// It stays until the record is gone, or this monitor.
    awaits_removal: bool,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// It has been told the end, and goes once it has taken that.
    is_told: bool,
    gone: bool,
}

/// All clients.
pub(in crate::container) struct Clients {
    all: Vec<Client>,
    last_id: ClientId,
    /// The first process, for those who come.
    pid: u32,
}

impl Clients {
    /// Begins with the one that started the container.
    pub(in crate::container) fn new(socket: OwnedFd, wants: Wants) -> Self {
        let mut clients = Self { all: Vec::new(), last_id: 0, pid: 0 };
        clients.add(socket, wants, true);
        clients
    }

    /// The socket of the one that started it, before others come.
    pub(super) fn starter(&self) -> Option<&OwnedFd> {
        self.all.first().map(|client| &client.socket)
    }

    fn add(&mut self, socket: OwnedFd, wants: Wants, said_hello: bool) {
        self.last_id += 1;
        self.all.push(Client {
            id: self.last_id,
            socket,
            wants,
            said_hello,
            is_owed: false,
            awaits_removal: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            is_told: false,
            gone: false,
        });
    }

    /// Takes in a new client, which has not said hello yet.
    pub(super) fn accept(&mut self, listener: &OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let (Ok(socket), true) = (rustix::net::accept_with(listener, flags), self.all.len() < MOST) {
            self.add(socket, Wants::default(), false);
        }
    }

    /// Tells everybody that the program runs.
    pub(in crate::container) fn started(&mut self, pid: u32) {
        self.pid = pid;
        self.broadcast(&Packet::Started(pid));
    }

    /// Gives output to those who want it.
    pub(super) fn output(&mut self, packet: &Packet) {
        let bytes = packet.encode();
        let wants = |client: &&mut Client| match packet {
            Packet::Stderr(_) => client.wants.stderr,
            _ => client.wants.stdout,
        };
        for client in self.all.iter_mut().filter(wants) {
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

    /// Tells the end of the program to those who have followed it.
    pub(in crate::container) fn ended(&mut self, code: i32, oom_killed: bool) {
        let bytes = Packet::Exit(code, oom_killed).encode();
        for client in self.all.iter_mut().filter(|client| client.said_hello && !client.is_owed) {
            client.send(bytes.clone());
            client.is_told = !client.awaits_removal;
        }
        self.all.retain(|client| !client.is_done());
    }

    /// Tells whether a client is still there.
    pub(super) fn has(&self, id: ClientId) -> bool {
        self.all.iter().any(|client| client.id == id && !client.gone)
    }

    /// Answers a client at once.
    pub(super) fn answer(&mut self, id: ClientId, packet: &Packet) {
        if let Some(client) = self.all.iter_mut().find(|client| client.id == id) {
            client.send(packet.encode());
        }
    }

    /// Notes that a client gets its answer later.
    pub(super) fn owe(&mut self, id: ClientId) {
        if let Some(client) = self.all.iter_mut().find(|client| client.id == id) {
            client.is_owed = true;
        }
    }

    /// Answers all who wait for an answer.
    pub(super) fn pay(&mut self, packet: &Packet) {
        let bytes = packet.encode();
        for client in self.all.iter_mut().filter(|client| client.is_owed) {
            client.is_owed = false;
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
            flags.set(PollFlags::IN, program_has_room || !client.wants.stdin);
            flags.set(PollFlags::OUT, !client.waiting.is_empty());
            PollFd::new(&client.socket, flags)
        })
    }

    /// Reads and writes what can be, after a poll of [`Self::poll_fds`]; gives what was asked for, and by whom.
    pub(super) fn handle(&mut self, events: &[PollFlags]) -> Vec<(ClientId, Packet)> {
        let mut requests = Vec::new();
        for (client, events) in self.all.iter_mut().zip(events) {
            if events.contains(PollFlags::OUT) {
                client.flush();
            }
            if events.contains(PollFlags::IN) {
                requests.extend(client.read(self.pid).map(|packet| (client.id, packet)));
            } else if events.intersects(PollFlags::HUP | PollFlags::ERR) {
                client.gone = true;
            }
            // One that was told the end holds the input of a program that is gone.
            if client.gone && client.wants.ends_stdin && !client.is_told {
                requests.push((client.id, Packet::StdinEnd));
            }
        }
        self.all.retain(|client| !client.is_done());
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
    fn is_done(&self) -> bool {
        self.gone || (self.is_told && self.waiting.is_empty())
    }

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

    /// Takes one packet in; gives it when it is not for the clients themselves to answer.
    fn read(&mut self, pid: u32) -> Option<Packet> {
        let packet = match wire::receive_any(&self.socket, RecvFlags::DONTWAIT) {
            Ok(Received::Packet(packet)) => packet,
            Ok(Received::Unknown) => {
                self.send(Packet::Refused("this container's monitor doesn't know that".into()).encode());
                return None;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Ok(Received::Gone) | Err(_) => {
                self.gone = true;
                return None;
            }
        };
        match packet {
            Packet::Hello { version: wire::VERSION, wants, size: (rows, columns) } => {
                (self.wants, self.said_hello) = (wants, true);
                self.send(Packet::Started(pid).encode());
                (rows > 0 && columns > 0).then_some(Packet::Resize(rows, columns))
            }
            // A client of another version can't be served.
            Packet::Hello { .. } => {
                self.gone = true;
                None
            }
            Packet::Stdin(_) if !self.wants.stdin => None,
            Packet::StdinEnd if !self.wants.ends_stdin => None,
            Packet::Wait(condition) => {
                self.awaits_removal = condition == Condition::Removed;
                None
            }
            packet => Some(packet),
        }
    }
}
