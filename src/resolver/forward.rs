//! Questions that other servers answer.
//!
//! Each try has a socket of its own, which takes packets of the asked server only: a forger has to guess its port and
//! the number of the question.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::message::{Answer, Query};
use super::quota::Queue;
use super::stream::{Framed, frame};

/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often it is tried in all: with one server, it is asked again. Askers wait for five seconds.
const TRIES: usize = 3;
/// The longest message of a datagram.
const DATAGRAM_BYTES: usize = 65_535;

/// A question to be passed on.
#[derive(Debug)]
pub(super) struct Job<O> {
    /// Where the answer goes.
    pub(super) origin: O,
    pub(super) query: Box<Query>,
    pub(super) over_tcp: bool,
    pub(super) servers: Rc<[SocketAddr]>,
}

/// A job that is over.
#[derive(Debug)]
pub(super) struct Outcome<O> {
    pub(super) job: Job<O>,
    /// What the last server said, if any did.
    pub(super) answer: Option<Answer>,
}

/// A job, and how far it has come.
#[derive(Debug)]
struct Attempt<O> {
    asker: u32,
    job: Job<O>,
    tries: usize,
    /// What a server said that doesn't know.
    last: Option<Answer>,
}

/// A question that a server has.
#[derive(Debug)]
struct Running<O> {
    attempt: Attempt<O>,
    id: u16,
    socket: OwnedFd,
    stream: Option<Framed>,
    until: Instant,
}

/// What the event loop does for it.
pub(super) trait Watcher {
    /// Begins to watch a socket; `writes` too.
    fn watch(&self, key: u32, socket: BorrowedFd<'_>, writes: bool) -> io::Result<()>;
}

/// All that is on its way.
#[derive(Debug)]
pub(super) struct Forwards<O> {
    queue: Queue<Job<O>>,
    running: HashMap<u32, Running<O>>,
    next_key: u32,
}

impl<O> Default for Forwards<O> {
    fn default() -> Self {
        Self { queue: Queue::default(), running: HashMap::new(), next_key: 0 }
    }
}

impl<O> Forwards<O> {
    /// Takes a job of `asker` on.
    pub(super) fn push(&mut self, asker: u32, job: Job<O>) {
        self.queue.push(asker, job);
    }

    /// Tells whether `asker` has to wait with more.
    pub(super) fn is_full(&self, asker: u32) -> bool {
        self.queue.is_full(asker)
    }

    /// Forgets an asker that has gone.
    pub(super) fn forget(&mut self, asker: u32) {
        self.queue.forget(asker);
        self.running
            .retain(|_, running| running.attempt.asker != asker || running.is_counted_off(&mut self.queue));
    }

    /// Sends what may go; gives what couldn't be sent at all.
    pub(super) fn start(&mut self, watcher: &impl Watcher, now: Instant) -> Vec<Outcome<O>> {
        let mut failed = Vec::new();
        while let Some((asker, job)) = self.queue.next() {
            failed.extend(self.try_next(watcher, now, Attempt { asker, job, tries: 0, last: None }));
        }
        failed
    }

    /// When something has to be given up at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.running.values().map(|running| running.until).min()
    }

    /// Asks the next server, and the ones after it when it can't be asked.
    fn try_next(&mut self, watcher: &impl Watcher, now: Instant, attempt: Attempt<O>) -> Option<Outcome<O>> {
        let job = &attempt.job;
        for tries in attempt.tries..TRIES.max(job.servers.len()) {
            let Some(server) = job.servers.get(tries % job.servers.len().max(1)) else { break };
            let Ok((id, socket)) = connect(*server, job.over_tcp) else { continue };
            let question = job.query.forwarded(id);
            let stream = job.over_tcp.then(|| Framed::sending(frame(&question)));
            let sent = stream.is_some() || rustix::net::send(&socket, &question, SendFlags::NOSIGNAL).is_ok();
            self.next_key = self.next_key.wrapping_add(1);
            if !sent || watcher.watch(self.next_key, socket.as_fd(), job.over_tcp).is_err() {
                continue;
            }
            let until = now + PATIENCE;
            let attempt = Attempt { tries: tries + 1, ..attempt };
            self.running.insert(self.next_key, Running { attempt, id, socket, stream, until });
            return None;
        }
        Some(self.over(attempt))
    }

    /// Counts it off; what it came to is what was said last.
    fn over(&mut self, attempt: Attempt<O>) -> Outcome<O> {
        self.queue.done(attempt.asker);
        Outcome { job: attempt.job, answer: attempt.last }
    }

    /// Reads the answer on the socket of `key`; gives the job when it is over.
    pub(super) fn handle(&mut self, watcher: &impl Watcher, key: u32, now: Instant) -> Option<Outcome<O>> {
        let running = self.running.get_mut(&key)?;
        let answer = match running.receive() {
            Heard::Nothing => return None,
            Heard::Answer(answer) => Some(answer),
            Heard::Failure => None,
        };
        let Running { attempt, .. } = self.running.remove(&key)?;
        let helps = answer.as_ref().is_some_and(|answer| answer.helps);
        let said = answer.filter(|answer| helps || !answer.bytes.is_empty());
        let attempt = Attempt { last: said.or(attempt.last), ..attempt };
        // A server that says no is not asked again.
        match helps || attempt.tries >= attempt.job.servers.len() {
            true => Some(self.over(attempt)),
            false => self.try_next(watcher, now, attempt),
        }
    }

    /// Gives up what took too long; gives what is over by that.
    pub(super) fn expire(&mut self, watcher: &impl Watcher, now: Instant) -> Vec<Outcome<O>> {
        let late: Vec<u32> =
            self.running.iter().filter(|(_, running)| running.until <= now).map(|(key, _)| *key).collect();
        let mut over = Vec::new();
        for key in late {
            if let Some(running) = self.running.remove(&key) {
                over.extend(self.try_next(watcher, now, running.attempt));
            }
        }
        over
    }
}

enum Heard {
    /// Nothing yet, or something that is no answer.
    Nothing,
    Answer(Answer),
    Failure,
}

impl<O> Running<O> {
    /// Counts it off, and says that it isn't kept.
    fn is_counted_off(&self, queue: &mut Queue<Job<O>>) -> bool {
        queue.done(self.attempt.asker);
        false
    }

    fn receive(&mut self) -> Heard {
        if let Some(stream) = &mut self.stream {
            return match stream.turn(&self.socket) {
                Ok(Some(message)) => match self.attempt.job.query.answered(self.id, &message) {
                    Some(answer) => Heard::Answer(answer),
                    None => Heard::Failure,
                },
                Ok(None) => Heard::Nothing,
                Err(_) => Heard::Failure,
            };
        }
        let mut bytes = vec![0; DATAGRAM_BYTES];
        match rustix::net::recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => match self.attempt.job.query.answered(self.id, &bytes[..length]) {
                Some(answer) => Heard::Answer(answer),
                None => Heard::Nothing,
            },
            Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
            // Nobody listens there.
            Err(_) => Heard::Failure,
        }
    }
}

/// Makes a socket that hears one server only, and a number for the question.
fn connect(server: SocketAddr, over_tcp: bool) -> io::Result<(u16, OwnedFd)> {
    let family = match server.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = if over_tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    Ok((u16::from_ne_bytes(id), socket))
}
