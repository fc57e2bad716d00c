//! Carries connections from a published port to its container, where no rule of the packet filter does.
//!
//! The kernel rewrites the destination of what comes to an address of this machine. What comes to loopback can't be
//! rewritten without `route_localnet`, which opens the loopback services of the machine to its network; nor can what
//! comes over IPv6 for a container with IPv4 alone. That lands on the sockets by which the container's monitor keeps
//! its ports, and the first of it starts this process:
//!
//! 1. It inherits the sockets, and ends when the monitor does, or when nobody has needed it for a while.
//! 2. A stream is spliced: its bytes go from socket to socket through a pipe and never come here.
//! 3. Datagrams of one client and port are a session with a socket of its own, so that answers find back.
//!
//! It has one thread and waits for nothing but its sockets. Not known here: containers, networks, names.

mod datagram;
mod stream;

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::datagram::Sessions;
use self::stream::Stream;

/// Without a client for so long it ends; the next one starts it again.
const IDLE: Duration = Duration::from_secs(60);
/// How often it looks for sessions and idleness.
const LOOK: Duration = Duration::from_secs(5);
/// Connections and datagrams that are taken from one socket before the others have their turn.
const AT_ONCE: usize = 64;
/// What is taken from one call of the kernel.
const EVENTS: usize = 256;
/// Two sockets and two pipes.
const FDS_OF_A_STREAM: usize = 6;
/// Beside the clients' own: standard streams, epoll, sockets to begin with.
const SPARE_FDS: usize = 64;

/// A published port.
#[derive(Debug)]
pub struct Route {
    /// Bound; a stream's listens. It never blocks.
    pub socket: OwnedFd,
    /// Whether it has datagrams, not streams.
    pub datagrams: bool,
    /// Its place in the container.
    pub to: SocketAddr,
}

/// What an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Monitor,
    Route(usize),
    /// One of the two sides of a stream.
    Stream(u64, usize),
    Session(u64),
}

impl Token {
    fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Monitor => 0,
            Self::Route(index) => (index as u64) << 2 | 1,
            Self::Stream(id, side) => (id << 1 | side as u64) << 2 | 2,
            Self::Session(id) => id << 2 | 3,
        })
    }

    fn of(data: epoll::EventData) -> Self {
        let number = data.u64();
        match number & 3 {
            0 => Self::Monitor,
            1 => Self::Route((number >> 2) as usize),
            2 => Self::Stream(number >> 3, (number >> 2 & 1) as usize),
            _ => Self::Session(number >> 2),
        }
    }
}

/// Serves `routes` until `monitor` hangs up, or nobody needs it.
pub fn serve(monitor: &OwnedFd, routes: Vec<Route>) -> io::Result<()> {
    Proxy::new(monitor, routes)?.run()
}

struct Proxy {
    poll: OwnedFd,
    routes: Vec<Route>,
    streams: HashMap<u64, Stream>,
    sessions: Sessions,
    /// Of the last stream.
    id: u64,
    /// How many streams there may be.
    most: usize,
    /// So many there are: no more are taken.
    is_full: bool,
}

impl Proxy {
    fn new(monitor: &OwnedFd, routes: Vec<Route>) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, monitor, Token::Monitor.data(), epoll::EventFlags::IN)?;
        let is_v6 = |route: &Route| {
            rustix::net::getsockname(&route.socket)
                .is_ok_and(|address| address.address_family() == rustix::net::AddressFamily::INET6)
        };
        for (index, route) in routes.iter().enumerate() {
            if route.datagrams {
                crate::sys::datagram::note_destinations(route.socket.as_fd(), is_v6(route))?;
            }
            epoll::add(&poll, &route.socket, Token::Route(index).data(), epoll::EventFlags::IN)?;
        }
        let most = file_limit().saturating_sub(routes.len() + datagram::MOST + SPARE_FDS) / FDS_OF_A_STREAM;
        let sessions = Sessions::default();
        Ok(Self { poll, routes, streams: HashMap::new(), sessions, id: 0, most: most.max(8), is_full: false })
    }

    fn run(mut self) -> io::Result<()> {
        let mut used = Instant::now();
        let mut space = [MaybeUninit::uninit(); EVENTS];
        let look = Timespec { tv_sec: LOOK.as_secs().cast_signed(), tv_nsec: 0 };
        loop {
            let tokens: Vec<_> = match epoll::wait(&self.poll, &mut space, Some(&look)) {
                Ok((events, _)) => events.iter().map(|event| (Token::of(event.data), event.flags)).collect(),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            for (token, flags) in tokens {
                match token {
                    Token::Monitor => return Ok(()),
                    Token::Route(index) => self.arrivals(index, now),
                    Token::Stream(id, side) => self.carry(id, side, flags),
                    Token::Session(id) => self.sessions.answer(id, &self.routes, now),
                }
            }
            self.sessions.forget_old(now);
            if !self.streams.is_empty() || !self.sessions.is_empty() {
                used = now;
            } else if now.duration_since(used) > IDLE {
                return Ok(());
            }
        }
    }

    /// Takes what came to a port.
    fn arrivals(&mut self, index: usize, now: Instant) {
        let Some(route) = self.routes.get(index) else { return };
        if route.datagrams {
            self.sessions.ask(index, route, &self.poll, now);
            return;
        }
        for _ in 0..AT_ONCE {
            if self.streams.len() >= self.most {
                return self.take_new_ones(false);
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(&self.routes[index].socket, flags) {
                Ok(client) => {
                    self.id += 1;
                    // Without a way to the container the client is hung up on.
                    if let Ok(stream) = Stream::begin(self.id, client, self.routes[index].to, &self.poll) {
                        self.streams.insert(self.id, stream);
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                // Nothing more, or no memory for it: there is a next time.
                Err(_) => return,
            }
        }
    }

    fn carry(&mut self, id: u64, side: usize, flags: epoll::EventFlags) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.carry(side, flags, &self.poll).is_continue() {
            return;
        }
        self.streams.remove(&id);
        if self.is_full {
            self.take_new_ones(true);
        }
    }

    /// Listens for new streams, or leaves them waiting in the kernel.
    fn take_new_ones(&mut self, takes: bool) {
        self.is_full = !takes;
        let flags = if takes { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        for (index, route) in self.routes.iter().enumerate().filter(|(_, route)| !route.datagrams) {
            // It fails for nothing that it knows already.
            let _ = epoll::modify(&self.poll, &route.socket, Token::Route(index).data(), flags);
        }
    }
}

/// Lets the process open as many files as it may; gives the number.
fn file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = if raised.is_ok() { limit.maximum } else { limit.current };
    now.and_then(|now| usize::try_from(now).ok()).unwrap_or(1 << 20).min(1 << 20)
}

#[cfg(test)]
mod tests;
