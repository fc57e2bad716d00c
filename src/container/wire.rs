//! What a monitor and its clients say to each other: packets of a tag and its bytes.
//!
//! The sockets are SEQPACKET, so a packet arrives whole; an empty one is the end of the other side. Numbers are
//! little-endian. A client names the protocol's version when it comes (`Hello`); a monitor answers a tag that it
//! doesn't know with `Refused`.
//!
//! | client → monitor | | monitor → client | |
//! |---|---|---|---|
//! | `h` | version, what it wants, rows, columns | `S` | the program runs (its pid) |
//! | `i` `e` | input, its end | `F` | the program could not be started |
//! | `r` | rows, columns | `1` `2` | output |
//! | `s` | pass this signal on | `X` | it ended: code, killed for memory |
//! | `T` | stop: signal, seconds | `V` | its record is gone |
//! | `K` | kill: signal | `A` | done |
//! | `R` | restart: signal, seconds | `E` | refused: why |
//! | `P` `p` | pause, unpause | | |
//! | `H` | freeze while I am connected | | |
//! | `U` | `config.json` has changed | | |
//! | `n` | its networks in `config.json` have changed | | |
//! | `c` `F` | who starts it: its networks are connected, thus; they can't be | | |
//! | `w` | tell me of: not running, the next exit, the removal | | |

use std::io;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags};

use super::record::Endpoint;
use crate::runtime::StartError;

/// The version of these packets.
pub(super) const VERSION: u8 = 2;
/// The most bytes of a stream in one packet.
pub(super) const STREAM_BYTES: usize = 32 * 1024;
/// The longest packet: a stream's bytes, or an error's text.
const PACKET_BYTES: usize = STREAM_BYTES + 1;

/// What a client wants of the program's streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Wants {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// It may write to standard input.
    pub(super) stdin: bool,
    /// The end of its input, or its own, is the end of the program's.
    pub(super) ends_stdin: bool,
}

impl Wants {
    fn to_byte(self) -> u8 {
        let bits = [self.stdout, self.stderr, self.stdin, self.ends_stdin];
        bits.iter().enumerate().map(|(bit, is_set)| u8::from(*is_set) << bit).sum()
    }

    fn from_byte(byte: u8) -> Self {
        let bit = |bit: u8| byte >> bit & 1 == 1;
        Self { stdout: bit(0), stderr: bit(1), stdin: bit(2), ends_stdin: bit(3) }
    }
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// That it doesn't run; true at once when it doesn't.
    NotRunning,
    /// The next end of its program.
    NextExit,
    /// That its record is gone.
    Removed,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    /// Client: its version, what it wants, and its terminal's rows and columns (0: it has none).
    Hello { version: u8, wants: Wants, size: (u16, u16) },
    /// Client: bytes for the program's standard input.
    Stdin(Vec<u8>),
    /// Client: there is no more input.
    StdinEnd,
    /// Client: the terminal has this many rows and columns.
    Resize(u16, u16),
    /// Client: send this signal to the program, as if it had come by itself.
    Signal(i32),
    /// Client: stop; the signal, and seconds until SIGKILL (-1: never).
    Stop(i32, i64),
    /// Client: the user kills it with this signal.
    Kill(i32),
    /// Client: stop as above, and start again.
    Restart(i32, i64),
    /// Client: freeze its processes.
    Pause,
    /// Client: let them go on.
    Unpause,
    /// Client: freeze its processes for as long as I am here.
    Hold,
    /// Client: `config.json` has changed.
    Update,
    /// Client: the networks in `config.json` have changed.
    Networks,
    /// Client, who starts it: its networks are connected, with these endpoints.
    Connected(Vec<Endpoint>),
    /// Client: tell me of this.
    Wait(Condition),
    /// Monitor: the program runs; its pid.
    Started(u32),
    /// Monitor: the program could not be started. Client, who starts it: its networks can't be connected.
    Failed(StartError),
    /// Monitor: bytes of the program's standard output.
    Stdout(Vec<u8>),
    /// Monitor: bytes of the program's standard error.
    Stderr(Vec<u8>),
    /// Monitor: the program ended; its code, and whether the kernel killed it for memory.
    Exit(i32, bool),
    /// Monitor: its record is gone.
    Removed,
    /// Monitor: what was asked for is done.
    Done,
    /// Monitor: what was asked for can't be done, and why.
    Refused(String),
}

impl Packet {
    /// Returns the packet's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
        let pair = |one: u16, other: u16| [one.to_le_bytes(), other.to_le_bytes()].concat();
        let ends = |tag, signal: i32, seconds: i64| {
            tagged(tag, &[&signal.to_le_bytes()[..], &seconds.to_le_bytes()].concat())
        };
        match self {
            Self::Hello { version, wants, size } => {
                tagged(b'h', &[&[*version, wants.to_byte()], &pair(size.0, size.1)[..]].concat())
            }
            Self::Stdin(bytes) => tagged(b'i', bytes),
            Self::StdinEnd => tagged(b'e', &[]),
            Self::Resize(rows, columns) => tagged(b'r', &pair(*rows, *columns)),
            Self::Signal(signal) => tagged(b's', &signal.to_le_bytes()),
            Self::Stop(signal, seconds) => ends(b'T', *signal, *seconds),
            Self::Kill(signal) => tagged(b'K', &signal.to_le_bytes()),
            Self::Restart(signal, seconds) => ends(b'R', *signal, *seconds),
            Self::Pause => tagged(b'P', &[]),
            Self::Unpause => tagged(b'p', &[]),
            Self::Hold => tagged(b'H', &[]),
            Self::Update => tagged(b'U', &[]),
            Self::Networks => tagged(b'n', &[]),
            Self::Connected(endpoints) => tagged(b'c', &serde_json::to_vec(endpoints).unwrap_or_default()),
            Self::Wait(condition) => tagged(b'w', &[*condition as u8]),
            Self::Started(pid) => tagged(b'S', &pid.to_le_bytes()),
            Self::Failed(error) => tagged(b'F', &serde_json::to_vec(error).unwrap_or_default()),
            Self::Stdout(bytes) => tagged(b'1', bytes),
            Self::Stderr(bytes) => tagged(b'2', bytes),
            Self::Exit(code, oom) => tagged(b'X', &[&code.to_le_bytes()[..], &[u8::from(*oom)]].concat()),
            Self::Removed => tagged(b'V', &[]),
            Self::Done => tagged(b'A', &[]),
            Self::Refused(why) => tagged(b'E', why.as_bytes()),
        }
    }

    /// Reads a packet; `None` for one that this version doesn't know.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        Some(match tag {
            b'h' => Self::Hello {
                version: *rest.first()?,
                wants: Wants::from_byte(*rest.get(1)?),
                // Other versions may have something else here, and are refused by their number.
                size: pair(rest.get(2..).unwrap_or_default()).unwrap_or_default(),
            },
            b'i' => Self::Stdin(rest.to_vec()),
            b'e' => Self::StdinEnd,
            b'r' => pair(rest).map(|(rows, columns)| Self::Resize(rows, columns))?,
            b's' => Self::Signal(i32::from_le_bytes(rest.try_into().ok()?)),
            b'T' => end(rest).map(|(signal, seconds)| Self::Stop(signal, seconds))?,
            b'K' => Self::Kill(i32::from_le_bytes(rest.try_into().ok()?)),
            b'R' => end(rest).map(|(signal, seconds)| Self::Restart(signal, seconds))?,
            b'P' => Self::Pause,
            b'p' => Self::Unpause,
            b'H' => Self::Hold,
            b'U' => Self::Update,
            b'n' => Self::Networks,
            b'c' => Self::Connected(serde_json::from_slice(rest).ok()?),
            b'w' => Self::Wait(match rest.first()? {
                0 => Condition::NotRunning,
                1 => Condition::NextExit,
                2 => Condition::Removed,
                _ => return None,
            }),
            b'S' => Self::Started(u32::from_le_bytes(rest.try_into().ok()?)),
            b'F' => Self::Failed(serde_json::from_slice(rest).ok()?),
            b'1' => Self::Stdout(rest.to_vec()),
            b'2' => Self::Stderr(rest.to_vec()),
            b'X' => Self::Exit(i32::from_le_bytes(rest.get(..4)?.try_into().ok()?), *rest.get(4)? == 1),
            b'V' => Self::Removed,
            b'A' => Self::Done,
            b'E' => Self::Refused(String::from_utf8_lossy(rest).into_owned()),
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
    loop {
        match receive_any(&socket, flags)? {
            Received::Packet(packet) => return Ok(Some(packet)),
            Received::Gone => return Ok(None),
            Received::Unknown => {}
        }
    }
}

/// What came.
pub(super) enum Received {
    Packet(Packet),
    /// A packet of another version.
    Unknown,
    /// Nothing more will come.
    Gone,
}

/// As [`receive`], for who has to answer what it doesn't know.
pub(super) fn receive_any(socket: impl AsFd, flags: RecvFlags) -> io::Result<Received> {
    // Most packets are short: what isn't filled isn't touched.
    let mut bytes = Vec::with_capacity(PACKET_BYTES);
    let mut receive =
        || rustix::io::retry_on_intr(|| rustix::net::recv(&socket, spare_capacity(&mut bytes), flags));
    // Who closes its end without having read all tells that first, and once; what it sent before is still there.
    let received = match receive() {
        Err(rustix::io::Errno::CONNRESET) => receive(),
        received => received,
    };
    match received {
        Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => Ok(Received::Gone),
        Ok(_) => Ok(Packet::decode(&bytes).map_or(Received::Unknown, Received::Packet)),
        Err(error) => Err(error.into()),
    }
}

fn pair(bytes: &[u8]) -> Option<(u16, u16)> {
    let (one, other) = bytes.split_at_checked(2)?;
    Some((u16::from_le_bytes(one.try_into().ok()?), u16::from_le_bytes(other.try_into().ok()?)))
}

fn end(bytes: &[u8]) -> Option<(i32, i64)> {
    let (signal, seconds) = bytes.split_at_checked(4)?;
    Some((i32::from_le_bytes(signal.try_into().ok()?), i64::from_le_bytes(seconds.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn the_last_packet_of_one_who_left_without_reading_all_is_read() {
        let flags = SocketFlags::CLOEXEC;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        Packet::Exit(3, false).send(&far).unwrap();
        Packet::StdinEnd.send(&near).unwrap();
        drop(far);
        assert_eq!(receive(&near, RecvFlags::empty()).unwrap(), Some(Packet::Exit(3, false)));
        assert_eq!(receive(&near, RecvFlags::empty()).unwrap(), None);
    }

    #[test]
    fn packets_are_read_as_they_were_sent() {
        let wants = Wants { stdout: true, stdin: true, ..Wants::default() };
        let all = [
            Packet::Hello { version: VERSION, wants, size: (24, 80) },
            Packet::Stdin(b"x\0y".to_vec()),
            Packet::StdinEnd,
            Packet::Resize(24, 80),
            Packet::Signal(15),
            Packet::Stop(15, -1),
            Packet::Kill(9),
            Packet::Restart(2, 10),
            Packet::Pause,
            Packet::Unpause,
            Packet::Hold,
            Packet::Update,
            Packet::Networks,
            Packet::Connected(vec![Endpoint { interface: "eth0".into(), ..Endpoint::default() }]),
            Packet::Wait(Condition::NotRunning),
            Packet::Wait(Condition::NextExit),
            Packet::Wait(Condition::Removed),
            Packet::Started(77),
            Packet::Failed(StartError::new("exec", "no")),
            Packet::Stdout(vec![255; STREAM_BYTES]),
            Packet::Stderr(Vec::new()),
            Packet::Exit(137, true),
            Packet::Removed,
            Packet::Done,
            Packet::Refused("no".into()),
        ];
        for packet in all {
            assert_eq!(Packet::decode(&packet.encode()), Some(packet));
        }
        for damaged in [&b""[..], b"?", b"r1", b"s", b"X1234", b"F{", b"h", b"T1234", b"w", b"w9", b"c{"] {
            assert_eq!(Packet::decode(damaged), None);
        }
    }
}
