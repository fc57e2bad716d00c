//! Datagrams: who asked, and where the answers go.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::{AT_ONCE, Route, Token};
use crate::sys::datagram;

/// Sessions at a time; the one unused longest makes place for a new one.
pub(super) const MOST: usize = 512;
/// A session without a word for so long is over.
const SILENCE: Duration = Duration::from_secs(90);
/// No datagram is longer.
const LONGEST: usize = 64 << 10;

/// Who asks for what: the route, the client, and the address of this machine that it asked.
type Asker = (usize, SocketAddr, Option<IpAddr>);

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    ids: HashMap<Asker, u64>,
    sessions: HashMap<u64, Session>,
    id: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Session {
    asker: Asker,
    /// Connected to the container.
    socket: OwnedFd,
    used: Instant,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { ids: HashMap::new(), sessions: HashMap::new(), id: 0, buffer: vec![0; LONGEST] }
    }
}

impl Sessions {
    /// Tells whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Passes what came to a port on to its container.
    pub(super) fn ask(&mut self, index: usize, route: &Route, poll: &OwnedFd, now: Instant) {
        for _ in 0..AT_ONCE {
            // An error is that of an answer that couldn't be delivered, or the end of what there is.
            let Ok(arrived) = datagram::receive(route.socket.as_fd(), &mut self.buffer) else { return };
            let asker = (index, arrived.from, arrived.to);
            let Ok(id) = self.session(asker, route.to, poll, now) else { continue };
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.used = now;
            let bytes = &self.buffer[..arrived.length];
            // The first word after a refusal tells of that, and isn't sent.
            if let Err(Errno::CONNREFUSED) = send(&session.socket, bytes, SendFlags::DONTWAIT) {
                let _ = send(&session.socket, bytes, SendFlags::DONTWAIT);
            }
        }
    }

    /// Passes what the container answers back.
    pub(super) fn answer(&mut self, id: u64, routes: &[Route], now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (index, client, asked) = session.asker;
        for _ in 0..AT_ONCE {
            match recv(&session.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    session.used = now;
                    if let Some(route) = routes.get(index) {
                        // What doesn't go out is lost, as datagrams are.
                        let _ = datagram::send(route.socket.as_fd(), &self.buffer[..length], client, asked);
                    }
                }
                Err(Errno::INTR) => {}
                // Nothing more, or nobody listens there: the client may ask again.
                Err(_) => return,
            }
        }
    }

    /// Ends sessions in which nothing was said for long.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.sessions.retain(|_, session| now.duration_since(session.used) < SILENCE);
        self.ids.retain(|_, id| self.sessions.contains_key(id));
    }

    fn session(&mut self, asker: Asker, to: SocketAddr, poll: &OwnedFd, now: Instant) -> io::Result<u64> {
        if let Some(id) = self.ids.get(&asker) {
            return Ok(*id);
        }
        if self.sessions.len() >= MOST {
            self.forget_oldest();
        }
        let family = if to.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
        connect(&socket, &to)?;
        self.id += 1;
        epoll::add(poll, &socket, Token::Session(self.id).data(), EventFlags::IN)?;
        self.ids.insert(asker, self.id);
        self.sessions.insert(self.id, Session { asker, socket, used: now });
        Ok(self.id)
    }

    fn forget_oldest(&mut self) {
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| *id);
        if let Some(session) = oldest.and_then(|id| self.sessions.remove(&id)) {
            self.ids.remove(&session.asker);
        }
    }
}
