//! One connection: a client, the container, and a pipe for each direction.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, connect, shutdown, socket_with, sockopt,
};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::Token;

/// What a pipe holds; the kernel gives less to users with many.
const PIPE_BYTES: usize = 256 << 10;
/// How often one event moves bytes before the others have their turn.
const ROUNDS: usize = 8;

/// The container's side; the client's comes before it.
const CONTAINER: usize = 1;

/// A connection that is carried on.
#[derive(Debug)]
pub(super) struct Stream {
    id: u64,
    sides: [Side; 2],
    /// From each side to the other.
    pumps: [Pump; 2],
    connects: bool,
}

#[derive(Debug)]
struct Side {
    socket: OwnedFd,
    /// What is being waited for.
    waits: EventFlags,
}

/// A direction.
#[derive(Debug)]
struct Pump {
    writer: OwnedFd,
    reader: OwnedFd,
    /// Bytes in the pipe.
    held: usize,
    /// The source has said all.
    ended: bool,
    /// The other side knows it.
    told: bool,
}

impl Stream {
    /// Begins to connect to the container for a client.
    pub(super) fn begin(id: u64, client: OwnedFd, to: SocketAddr, poll: &OwnedFd) -> io::Result<Self> {
        let family = if to.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let container = socket_with(family, SocketType::STREAM, flags, None)?;
        for socket in [&client, &container] {
            // Bytes are passed on as they come; the ends have their own opinion about that.
            sockopt::set_tcp_nodelay(socket, true)?;
        }
        match connect(&container, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => {
                reset(&client);
                return Err(error.into());
            }
        }
        let side = |socket| Side { socket, waits: EventFlags::empty() };
        let sides = [side(client), side(container)];
        let mut stream = Self { id, sides, pumps: [Pump::new()?, Pump::new()?], connects: true };
        stream.wait_for([EventFlags::empty(), EventFlags::OUT], poll)?;
        Ok(stream)
    }

    /// Moves what can be moved; tells to break when the connection is over.
    pub(super) fn carry(&mut self, side: usize, flags: EventFlags, poll: &OwnedFd) -> ControlFlow<()> {
        match self.try_carry(side, flags, poll) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(_) => {
                // One end broke off: so the other one hears.
                self.sides.iter().for_each(|side| reset(&side.socket));
                ControlFlow::Break(())
            }
        }
    }

    fn try_carry(&mut self, side: usize, flags: EventFlags, poll: &OwnedFd) -> io::Result<bool> {
        if flags.contains(EventFlags::ERR) {
            sockopt::socket_error(&self.sides[side].socket)??;
        }
        if self.connects {
            if side != CONTAINER {
                return Ok(true);
            }
            sockopt::socket_error(&self.sides[CONTAINER].socket)??;
            self.connects = false;
        }
        let [client, container] = &self.sides;
        let [there, back] = &mut self.pumps;
        there.run(&client.socket, &container.socket)?;
        back.run(&container.socket, &client.socket)?;
        if there.told && back.told {
            return Ok(false);
        }
        let waits = |own: &Pump, other: &Pump| own.wants_input() | other.wants_output();
        let wanted = [waits(there, back), waits(back, there)];
        self.wait_for(wanted, poll)?;
        Ok(true)
    }

    /// A socket that nothing is wanted of isn't watched: the kernel would tell of its end again and again.
    fn wait_for(&mut self, wanted: [EventFlags; 2], poll: &OwnedFd) -> io::Result<()> {
        for (index, (side, wanted)) in self.sides.iter_mut().zip(wanted).enumerate() {
            let token = Token::Stream(self.id, index).data();
            match (side.waits.is_empty(), wanted.is_empty()) {
                (true, false) => epoll::add(poll, &side.socket, token, wanted)?,
                (false, true) => epoll::delete(poll, &side.socket)?,
                (false, false) if side.waits != wanted => {
                    epoll::modify(poll, &side.socket, token, wanted)?;
                }
                _ => {}
            }
            side.waits = wanted;
        }
        Ok(())
    }
}

impl Pump {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller one does as well.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        Ok(Self { writer, reader, held: 0, ended: false, told: false })
    }

    /// An empty pipe takes more; one with bytes may be full, which the kernel doesn't tell apart from a silent source.
    fn wants_input(&self) -> EventFlags {
        if self.ended || self.held > 0 { EventFlags::empty() } else { EventFlags::IN }
    }

    fn wants_output(&self) -> EventFlags {
        if self.held > 0 { EventFlags::OUT } else { EventFlags::empty() }
    }

    fn run(&mut self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        for _ in 0..ROUNDS {
            while !self.ended {
                match pour(from, &self.writer)? {
                    Some(0) => self.ended = true,
                    Some(length) => self.held += length,
                    None => break,
                }
            }
            if self.held == 0 {
                break;
            }
            while self.held > 0 {
                match pour(&self.reader, to)? {
                    Some(length) => self.held -= length.min(self.held),
                    None => return Ok(()),
                }
            }
        }
        if self.ended && self.held == 0 && !self.told {
            self.told = true;
            match shutdown(to, Shutdown::Write) {
                // It has gone already.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Moves bytes without copying them; `None` when it can't be now.
fn pour(from: impl AsFd, to: impl AsFd) -> io::Result<Option<usize>> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    match splice(from, None, to, None, PIPE_BYTES, flags) {
        Ok(length) => Ok(Some(length)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lets the socket's end be a reset.
fn reset(socket: &OwnedFd) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
