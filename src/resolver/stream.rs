//! DNS over TCP: each message has its length before it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;
/// What waits for an asker that doesn't read; it isn't read either then.
const MOST_OUTPUT: usize = 128 * 1024;

/// Puts the length before a message.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&message[..length.into()]);
    bytes
}

/// Both directions of a connection.
#[derive(Debug, Default)]
pub(super) struct Framed {
    input: Vec<u8>,
    output: Vec<u8>,
    /// The other side sends no more.
    pub(super) has_ended: bool,
}

impl Framed {
    /// Begins with bytes to send.
    pub(super) fn sending(output: Vec<u8>) -> Self {
        Self { output, ..Self::default() }
    }

    /// Sends a message as soon as it can.
    pub(super) fn push(&mut self, message: &[u8]) {
        self.output.extend(frame(message));
    }

    /// Tells whether there is something to send.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Tells whether more should be read.
    pub(super) fn has_room(&self) -> bool {
        !self.has_ended && self.output.len() < MOST_OUTPUT
    }

    /// Sends and reads until there is a message or nothing more to do.
    pub(super) fn turn(&mut self, socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
        self.send(socket)?;
        loop {
            if let Some(message) = self.message() {
                return Ok(Some(message));
            }
            if !self.read(socket)? {
                return if self.has_ended { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
        }
    }

    /// Sends what the connection takes.
    pub(super) fn send(&mut self, socket: impl AsFd) -> io::Result<()> {
        while self.has_output() {
            match rustix::net::send(&socket, &self.output, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(Errno::INTR) => {}
                // Not connected yet, or no room.
                Err(Errno::AGAIN | Errno::NOTCONN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads once; tells whether there was something.
    pub(super) fn read(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let mut bytes = [0; READ_BYTES];
        match rustix::net::recv(&socket, &mut bytes, rustix::net::RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                self.has_ended = true;
                Ok(false)
            }
            Ok((length, _)) => {
                self.input.extend_from_slice(&bytes[..length]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a complete message out of what was read.
    pub(super) fn message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(*self.input.first_chunk()?));
        let message = self.input.get(2..2 + length)?.to_vec();
        self.input.drain(..2 + length);
        Some(message)
    }
}

/// A container's connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) client: u32,
    pub(super) socket: OwnedFd,
    pub(super) framed: Framed,
    /// Questions without an answer.
    pub(super) open: usize,
    pub(super) used: Instant,
}

impl Stream {
    /// Tells whether nothing more comes or goes.
    pub(super) fn is_over(&self) -> bool {
        self.framed.has_ended && self.open == 0 && !self.framed.has_output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn messages_come_in_pieces_and_together() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        let near = OwnedFd::from(near);
        let mut framed = Framed::default();
        assert_eq!(framed.turn(&near).unwrap(), None);
        let two = [frame(b"one"), frame(b"other")].concat();
        far.write_all(&two[..4]).unwrap();
        assert_eq!(framed.turn(&near).unwrap(), None);
        far.write_all(&two[4..]).unwrap();
        assert_eq!(framed.turn(&near).unwrap().unwrap(), b"one");
        assert_eq!(framed.turn(&near).unwrap().unwrap(), b"other");
        framed.push(b"answer");
        assert_eq!(framed.turn(&near).unwrap(), None);
        let mut bytes = [0; 8];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\x06answer");
        drop(far);
        assert!(framed.turn(&near).is_err());
    }
}
