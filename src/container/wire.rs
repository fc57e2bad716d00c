//! What a monitor and its clients say to each other: packets of a tag and its bytes.
//!
//! The sockets are SEQPACKET, so a packet arrives whole; an empty one is the end of the other side. The tags
//! are the protocol's first version, which a client names when it comes (`Hello`).

use std::io;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags};

use crate::runtime::StartError;

/// The version of these packets.
pub(super) const VERSION: u8 = 1;
/// The most bytes of a stream in one packet.
pub(super) const STREAM_BYTES: usize = 32 * 1024;
/// The longest packet: a stream's bytes, or an error's text.
const PACKET_BYTES: usize = STREAM_BYTES + 1;

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// Client: its version, and whether it wants the program's outputs.
    Hello { version: u8, outputs: bool },
    /// Client: bytes for the program's standard input.
    Stdin(Vec<u8>),
    /// Client: there is no more input.
    StdinEnd,
    /// Client: the terminal has this many rows and columns.
    Resize(u16, u16),
    /// Client: send this signal to the program.
    Signal(i32),
    /// Monitor: the program runs.
    Started,
    /// Monitor: the program could not be started.
    Failed(StartError),
    /// Monitor: bytes of the program's standard output.
    Stdout(Vec<u8>),
    /// Monitor: bytes of the program's standard error.
    Stderr(Vec<u8>),
    /// Monitor: the program ended.
    Exit(i32),
}

impl Packet {
    /// Returns the packet's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
        match self {
            Self::Hello { version, outputs } => tagged(b'h', &[*version, u8::from(*outputs)]),
            Self::Stdin(bytes) => tagged(b'i', bytes),
            Self::StdinEnd => tagged(b'e', &[]),
            Self::Resize(rows, columns) => {
                tagged(b'r', &[rows.to_le_bytes(), columns.to_le_bytes()].concat())
            }
            Self::Signal(signal) => tagged(b's', &signal.to_le_bytes()),
            Self::Started => tagged(b'S', &[]),
            Self::Failed(error) => tagged(b'F', &serde_json::to_vec(error).unwrap_or_default()),
            Self::Stdout(bytes) => tagged(b'1', bytes),
            Self::Stderr(bytes) => tagged(b'2', bytes),
            Self::Exit(code) => tagged(b'X', &code.to_le_bytes()),
        }
    }

    /// Reads a packet; `None` for one that this version doesn't know.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        Some(match tag {
            b'h' => Self::Hello { version: *rest.first()?, outputs: *rest.get(1)? == 1 },
            b'i' => Self::Stdin(rest.to_vec()),
            b'e' => Self::StdinEnd,
            b'r' => Self::Resize(
                u16::from_le_bytes(rest.get(..2)?.try_into().ok()?),
                u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?),
            ),
            b's' => Self::Signal(i32::from_le_bytes(rest.try_into().ok()?)),
            b'S' => Self::Started,
            b'F' => Self::Failed(serde_json::from_slice(rest).ok()?),
            b'1' => Self::Stdout(rest.to_vec()),
            b'2' => Self::Stderr(rest.to_vec()),
            b'X' => Self::Exit(i32::from_le_bytes(rest.try_into().ok()?)),
            _ => return None,
        })
    }

    /// Sends the packet, waiting for room.
    pub(super) fn send(&self, socket: impl AsFd) -> io::Result<()> {
        send_bytes(socket, &self.encode(), SendFlags::NOSIGNAL)
    }
}

/// Sends an encoded packet.
pub(super) fn send_bytes(socket: impl AsFd, bytes: &[u8], flags: SendFlags) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::net::send(&socket, bytes, flags))?;
    Ok(())
}

/// Receives a packet, waiting for it unless `DONTWAIT` is given; `None` when the other side is gone.
pub(super) fn receive(socket: impl AsFd, flags: RecvFlags) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; PACKET_BYTES];
    loop {
        let received = rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut bytes[..], flags));
        let length = match received {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Ok((length, _)) => length,
            Err(error) => return Err(error.into()),
        };
        if let Some(packet) = Packet::decode(&bytes[..length.min(PACKET_BYTES)]) {
            return Ok(Some(packet));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_they_were_sent() {
        let all = [
            Packet::Hello { version: VERSION, outputs: true },
            Packet::Stdin(b"x\0y".to_vec()),
            Packet::StdinEnd,
            Packet::Resize(24, 80),
            Packet::Signal(15),
            Packet::Started,
            Packet::Failed(StartError::new("exec", "no")),
            Packet::Stdout(vec![255; STREAM_BYTES]),
            Packet::Stderr(Vec::new()),
            Packet::Exit(137),
        ];
        for packet in all {
            assert_eq!(Packet::decode(&packet.encode()), Some(packet));
        }
        for damaged in [&b""[..], b"?", b"r1", b"s", b"X12345", b"F{", b"h"] {
            assert_eq!(Packet::decode(damaged), None);
        }
    }
}
