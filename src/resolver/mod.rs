//! The resolver of a network: it answers what the network's containers ask `127.0.0.11`.
//!
//! ```text
//! container                    its monitor              resolver, one process for each network
//!   127.0.0.11:53  ◀─ sockets ─  Serve + sockets  ──▶   answers names of containers from the networks' folders,
//!                                                       asks other servers for the rest
//! ```
//!
//! 1. The sockets are made with the container's network and belong to its monitor, which hands copies of them over.
//!    Nobody waits for the resolver: what is asked before it runs waits in the sockets.
//! 2. The first monitor that finds no resolver starts one; `resolver.lock` lets only one be. When it dies, the
//!    monitors see their connections end, and the next one is started. With its last connection it ends.
//! 3. Names are known from the folders (`table`): nothing is told, nothing can be out of date.
//! 4. A name without a dot, and the name of an address of any network of the store, are never asked elsewhere; and no
//!    answer from elsewhere may tell of a container's name or address. So nobody outside can pose as a container, and
//!    a name outside can't be made to lead inside.
//! 5. It has one thread. Each container has its turns (`quota`); one that asks too much waits for itself.
//!
//! Not known here: who made the networks, and how sockets come into namespaces.

mod forward;
mod link;
mod message;
mod quota;
mod servers;
mod stream;
mod table;
/// Which of `count` addresses comes first in this turn.
///
/// Who looks up a name asks for both families, and others ask in between: turns in the order of the addresses would give
/// each asker the same one for ever. Multiples of the golden ratio are spread evenly, whichever step is taken.
fn place(turn: u32, count: usize) -> usize {
    const GOLDEN: u32 = 0x9e37_79b9;
    let share = u64::from(turn.wrapping_mul(GOLDEN));
    usize::try_from((share * count as u64) >> u32::BITS).unwrap_or_default()
}

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::SocketFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::forward::{Forwards, Job, Outcome, Watcher};
pub use self::link::{Serve, claim, connect, tell};
use self::message::{Query, Received, Reply, Wanted};
use self::servers::Servers;
use self::stream::{Framed, Stream};
use self::table::Table;

/// How long the first container is waited for, whose monitor looks once a second.
const FIRST_CLIENT: Duration = Duration::from_secs(3);
/// Datagrams of one container that are taken in a round.
const DATAGRAMS: usize = 16;
/// Connections of one container.
const MOST_STREAMS: usize = 64;
/// How long a connection may lie idle.
const IDLE: Duration = Duration::from_secs(15);
const DATAGRAM_BYTES: usize = 4096;
/// What is attended to in a round.
const EVENTS: usize = 256;

/// A container that is answered.
#[derive(Debug)]
struct Client {
    link: OwnedFd,
    serve: Serve,
    udp: UdpSocket,
    tcp: TcpListener,
    streams: usize,
    /// Whether its sockets are watched: not while it has to wait.
    is_read: bool,
}

/// Where a question came from.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Datagram { client: u32, from: SocketAddr },
    Stream { client: u32, stream: u32 },
}

impl Origin {
    fn client(&self) -> u32 {
        let (Origin::Datagram { client, .. } | Origin::Stream { client, .. }) = self;
        *client
    }
}

/// What is watched, in the upper half of an event's number; the lower half says which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Listener,
    News,
    /// A connection that hasn't said yet whom it is for.
    Stranger,
    Link,
    Datagrams,
    Connections,
    Stream,
    Upstream,
}

const KINDS: [Kind; 8] = [
    Kind::Listener,
    Kind::News,
    Kind::Stranger,
    Kind::Link,
    Kind::Datagrams,
    Kind::Connections,
    Kind::Stream,
    Kind::Upstream,
];

#[derive(Debug)]
struct Poller(OwnedFd);

impl Poller {
    fn add(&self, kind: Kind, key: u32, source: impl AsFd, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, source, data(kind, key), flags)?)
    }

    fn change(&self, kind: Kind, key: u32, source: impl AsFd, flags: EventFlags) {
        // It fails only for what isn't watched.
        let _ = epoll::modify(&self.0, source, data(kind, key), flags);
    }

    fn wait(&self, until: Option<Instant>) -> io::Result<Vec<(Kind, u32)>> {
        let timeout = until.map(|until| {
            // Rounded up: a deadline has passed when the wait is over.
            let time = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            rustix::event::Timespec {
                tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: time.subsec_nanos().into(),
            }
        });
        let mut events = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let kind = |number: u64| Some((*KINDS.get((number >> 32) as usize)?, number as u32));
        Ok(events.iter().filter_map(|event| kind(event.data.u64())).collect())
    }
}

impl Watcher for Poller {
    fn watch(&self, key: u32, socket: BorrowedFd<'_>, writes: bool) -> io::Result<()> {
        let flags = match writes {
            true => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
            false => EventFlags::IN,
        };
        self.add(Kind::Upstream, key, socket, flags)
    }
}

fn data(kind: Kind, key: u32) -> EventData {
    EventData::new_u64((kind as u64) << 32 | u64::from(key))
}

/// Answers for the network in `folder` as long as somebody wants it. `right` is what [`claim`] gave.
pub fn run(folder: &Path, right: OwnedFd) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let done = Resolver::new(folder)?.serve();
    let removed = link::remove(folder);
    drop(right);
    done.and(removed)
}

#[derive(Debug)]
struct Resolver {
    folder: PathBuf,
    poller: Poller,
    listener: OwnedFd,
    table: Table,
    servers: Servers,
    strangers: HashMap<u32, OwnedFd>,
    clients: HashMap<u32, Client>,
    streams: HashMap<u32, Stream>,
    forwards: Forwards<Origin>,
    /// Numbers are not used twice: an event may be of something that has gone in the same round.
    last_key: u32,
    /// Goes round, so that the addresses of one name take turns.
    turn: u32,
}

impl Resolver {
    fn new(folder: &Path) -> io::Result<Self> {
        let poller = Poller(epoll::create(CreateFlags::CLOEXEC)?);
        let table = Table::new()?;
        let listener = link::listen(folder)?;
        poller.add(Kind::Listener, 0, &listener, EventFlags::IN)?;
        poller.add(Kind::News, 0, table.fd(), EventFlags::IN)?;
        Ok(Self {
            folder: folder.to_owned(),
            poller,
            listener,
            table,
            servers: Servers::default(),
            strangers: HashMap::new(),
            clients: HashMap::new(),
            streams: HashMap::new(),
            forwards: Forwards::default(),
            last_key: 0,
            turn: 0,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut alone_until = Some(Instant::now() + FIRST_CLIENT);
        loop {
            let idle = self.streams.values().map(|stream| stream.used + IDLE).min();
            let until = [self.forwards.deadline(), idle, alone_until].into_iter().flatten().min();
            let events = self.poller.wait(until)?;
            let now = Instant::now();
            let mut questions = Vec::new();
            let mut over = Vec::new();
            for (kind, key) in events {
                match kind {
                    Kind::Listener => self.accept(),
                    Kind::News => {}
                    Kind::Stranger => self.greet(key),
                    Kind::Link => self.hear(key),
                    Kind::Datagrams => self.take_datagrams(key, &mut questions),
                    Kind::Connections => self.take_connections(key, now),
                    Kind::Stream => self.take_stream(key, now, &mut questions),
                    Kind::Upstream => over.extend(self.forwards.handle(&self.poller, key, now)),
                }
            }
            // After the questions were taken, so that all that was so before them is known.
            self.table.refresh();
            for (origin, bytes) in questions {
                self.answer(origin, &bytes);
            }
            over.extend(self.forwards.start(&self.poller, now));
            over.extend(self.forwards.expire(&self.poller, now));
            over.into_iter().for_each(|outcome| self.pass_on(outcome));
            self.tidy(now);
            match (self.clients.is_empty() && self.strangers.is_empty(), alone_until) {
                (true, None) => return Ok(()),
                (true, Some(until)) if until <= now => return Ok(()),
                (true, Some(_)) => {}
                (false, _) => alone_until = None,
            }
        }
    }

    fn next_key(&mut self) -> u32 {
        self.last_key = self.last_key.wrapping_add(1);
        self.last_key
    }

    fn accept(&mut self) {
        while let Ok(link) =
            rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            let key = self.next_key();
            if self.poller.add(Kind::Stranger, key, &link, EventFlags::IN).is_ok() {
                self.strangers.insert(key, link);
            }
        }
    }

    /// Takes a container on.
    fn greet(&mut self, key: u32) {
        let Some(link) = self.strangers.remove(&key) else { return };
        let Ok(Some((serve, fds))) = link::receive(&link) else { return };
        let Ok([udp, tcp]) = <[OwnedFd; 2]>::try_from(fds) else { return };
        self.table.follow(&serve.networks);
        let (udp, tcp) = (UdpSocket::from(udp), TcpListener::from(tcp));
        let key = self.next_key();
        let _ = epoll::delete(&self.poller.0, &link);
        let watched = udp
            .set_nonblocking(true)
            .and_then(|()| tcp.set_nonblocking(true))
            .and_then(|()| self.poller.add(Kind::Link, key, &link, EventFlags::IN))
            .and_then(|()| self.poller.add(Kind::Datagrams, key, &udp, EventFlags::IN))
            .and_then(|()| self.poller.add(Kind::Connections, key, &tcp, EventFlags::IN));
        // Its monitor sees the connection end, and tries again.
        if watched.is_ok() {
            self.clients.insert(key, Client { link, serve, udp, tcp, streams: 0, is_read: true });
        }
    }

    /// Takes what is new of a container; its monitor's end is its own.
    fn hear(&mut self, key: u32) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        match link::receive(&client.link) {
            Ok(Some((serve, _))) => {
                self.table.follow(&serve.networks);
                client.serve = serve;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => {
                // The kernel forgets the sockets only with their last copy, which may be the monitor's.
                let _ = epoll::delete(&self.poller.0, &client.udp);
                let _ = epoll::delete(&self.poller.0, &client.tcp);
                self.clients.remove(&key);
                self.streams.retain(|_, stream| stream.client != key);
                self.forwards.forget(key);
            }
        }
    }

    fn take_datagrams(&mut self, key: u32, questions: &mut Vec<(Origin, Vec<u8>)>) {
        let Some(client) = self.clients.get(&key) else { return };
        let mut bytes = [0; DATAGRAM_BYTES];
        for _ in 0..DATAGRAMS {
            let Ok((length, from)) = client.udp.recv_from(&mut bytes) else { break };
            questions.push((Origin::Datagram { client: key, from }, bytes[..length].to_vec()));
        }
    }

    fn take_connections(&mut self, key: u32, now: Instant) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let Ok((socket, _)) = client.tcp.accept() else { return };
        if client.streams >= MOST_STREAMS || socket.set_nonblocking(true).is_err() {
            return;
        }
        client.streams += 1;
        let (socket, stream) = (OwnedFd::from(socket), self.next_key());
        if self.poller.add(Kind::Stream, stream, &socket, EventFlags::IN).is_ok() {
            let new = Stream { client: key, socket, framed: Framed::default(), open: 0, used: now };
            self.streams.insert(stream, new);
        }
    }

    fn take_stream(&mut self, key: u32, now: Instant, questions: &mut Vec<(Origin, Vec<u8>)>) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.used = now;
        let moved = stream.framed.send(&stream.socket).and_then(|()| match stream.framed.has_room() {
            true => stream.framed.read(&stream.socket).map(drop),
            false => Ok(()),
        });
        while let Some(message) = stream.framed.message() {
            stream.open += 1;
            questions.push((Origin::Stream { client: stream.client, stream: key }, message));
        }
        if moved.is_err() {
            self.close(key);
        } else {
            self.rewatch(key);
        }
    }

    /// Watches a connection for what it can do now.
    fn rewatch(&mut self, key: u32) {
        let Some(stream) = self.streams.get(&key) else { return };
        if stream.is_over() {
            return self.close(key);
        }
        let is_read = self.clients.get(&stream.client).is_some_and(|client| client.is_read);
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, is_read && stream.framed.has_room());
        flags.set(EventFlags::OUT, stream.framed.has_output());
        self.poller.change(Kind::Stream, key, &stream.socket, flags);
    }

    fn close(&mut self, key: u32) {
        let Some(stream) = self.streams.remove(&key) else { return };
        if let Some(client) = self.clients.get_mut(&stream.client) {
            client.streams = client.streams.saturating_sub(1);
        }
    }

    /// Answers a question, or asks somebody else.
    fn answer(&mut self, origin: Origin, bytes: &[u8]) {
        let query = match message::receive(bytes) {
            Received::Query(query) => query,
            Received::Refused(bytes) => return self.send(origin, &bytes),
            Received::Nothing => return self.send(origin, &[]),
        };
        match self.own_answer(origin, &query) {
            Some(reply) => self.reply(origin, &reply),
            None => self.forward(origin, query),
        }
    }

    /// Gives the answer to what must not, or need not, be asked elsewhere.
    fn own_answer(&mut self, origin: Origin, query: &Query) -> Option<Reply> {
        let serve = &self.clients.get(&origin.client())?.serve;
        let wanted = query.wanted();
        if let Wanted::NameOf(address) = wanted {
            if let Some(name) = self.table.name_of(&serve.networks, address) {
                return Some(query.name_is(&name));
            }
            let is_inside = address.is_loopback() || self.table.is_inside(&self.folder, address);
            return is_inside.then(|| query.unknown());
        }
        let name = query.name();
        if let Some(found) = name.and_then(|name| self.table.addresses(&serve.networks, &serve.links, &name))
        {
            let is_wanted = |address: &IpAddr| match wanted {
                Wanted::Ipv4 => address.is_ipv4(),
                Wanted::Ipv6 => address.is_ipv6(),
                _ => false,
            };
            let mut addresses: Vec<_> = found.into_iter().filter(is_wanted).collect();
            self.turn = self.turn.wrapping_add(1);
            if !addresses.is_empty() {
                let first = place(self.turn, addresses.len());
                addresses.rotate_left(first);
            }
            return Some(query.addresses(&addresses));
        }
        // A container that has just gone must not be looked for outside.
        (query.labels() == 1 && wanted != Wanted::Zone).then(|| query.unknown())
    }

    fn forward(&mut self, origin: Origin, query: Box<Query>) {
        let key = origin.client();
        let Some(client) = self.clients.get_mut(&key) else { return };
        let servers = match &client.serve.servers[..] {
            [] => self.servers.get(),
            own => own,
        };
        let leads_out = client.serve.has_other_way || self.table.leads_out(&client.serve.networks);
        if !leads_out || servers.is_empty() {
            return self.reply(origin, &query.fails());
        }
        let over_tcp = matches!(origin, Origin::Stream { .. });
        self.forwards.push(key, Job { origin, query, over_tcp, servers: servers.into() });
        if self.forwards.is_full(key) && client.is_read {
            client.is_read = false;
            self.watch_client(key);
        }
    }

    /// Reads the container's sockets, or leaves what comes to the kernel.
    fn watch_client(&mut self, key: u32) {
        let Some(client) = self.clients.get(&key) else { return };
        let flags = if client.is_read { EventFlags::IN } else { EventFlags::empty() };
        self.poller.change(Kind::Datagrams, key, &client.udp, flags);
        self.poller.change(Kind::Connections, key, &client.tcp, flags);
        let own = |(_, stream): &(&u32, &Stream)| stream.client == key;
        let streams: Vec<u32> = self.streams.iter().filter(own).map(|(stream, _)| *stream).collect();
        streams.into_iter().for_each(|stream| self.rewatch(stream));
    }

    /// Gives a container what another server said, if that may be.
    fn pass_on(&mut self, outcome: Outcome<Origin>) {
        let Outcome { job, answer } = outcome;
        let key = job.origin.client();
        let answer = answer.filter(|answer| !answer.bytes.is_empty());
        let Some(client) = self.clients.get_mut(&key) else { return };
        let serve = &client.serve;
        let (table, folder) = (&mut self.table, &self.folder);
        let is_honest = |answer: &message::Answer| {
            !answer.addresses.iter().any(|address| table.is_inside(folder, *address))
                && !answer
                    .names
                    .iter()
                    .any(|name| table.addresses(&serve.networks, &serve.links, name).is_some())
        };
        let answer = answer.filter(is_honest);
        if !client.is_read && !self.forwards.is_full(key) {
            client.is_read = true;
            self.watch_client(key);
        }
        match answer {
            Some(answer) => self.send(job.origin, &answer.bytes),
            None => self.reply(job.origin, &job.query.fails()),
        }
    }

    fn reply(&mut self, origin: Origin, reply: &Reply) {
        let bytes = match origin {
            Origin::Datagram { .. } => reply.datagram(),
            Origin::Stream { .. } => reply.stream(),
        };
        self.send(origin, &bytes);
    }

    /// Sends an answer; an empty one is none.
    fn send(&mut self, origin: Origin, bytes: &[u8]) {
        match origin {
            Origin::Datagram { client, from } => {
                if let (Some(client), false) = (self.clients.get(&client), bytes.is_empty()) {
                    // An asker without room for it asks again.
                    let _ = client.udp.send_to(bytes, from);
                }
            }
            Origin::Stream { stream: key, .. } => {
                let Some(stream) = self.streams.get_mut(&key) else { return };
                stream.open = stream.open.saturating_sub(1);
                if !bytes.is_empty() {
                    stream.framed.push(bytes);
                }
                match stream.framed.send(&stream.socket) {
                    Ok(()) => self.rewatch(key),
                    Err(_) => self.close(key),
                }
            }
        }
    }

    /// Closes connections that lie idle.
    fn tidy(&mut self, now: Instant) {
        let idle = |(_, stream): &(&u32, &Stream)| stream.open == 0 && stream.used + IDLE <= now;
        let idle: Vec<u32> = self.streams.iter().filter(idle).map(|(key, _)| *key).collect();
        idle.into_iter().for_each(|key| self.close(key));
    }
}
