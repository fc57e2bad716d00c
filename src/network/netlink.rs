//! Netlink requests: messages are built as bytes, sent at once, and answered before `send` returns.
//!
//! One builder serves rtnetlink and nfnetlink, because both are a header and nested attributes of four-byte
//! alignment. The kernel answers these requests inside `sendto`, so reading never waits: an empty queue means
//! that the answer is complete or lost.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Ask for an acknowledgement.
pub(super) const ACK: u16 = 0x4;
/// Ask for all objects.
pub(super) const DUMP: u16 = 0x300;
/// Put it in the place of the one that is there.
pub(super) const REPLACE: u16 = 0x100;
/// Create it when it is missing.
pub(super) const CREATE: u16 = 0x400;
/// Fail when it is there.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// Add at the end.
pub(super) const APPEND: u16 = 0x800;

const REQUEST: u16 = 0x1;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
/// Length, kind, flags, sequence, port.
const HEADER_BYTES: usize = 16;
/// What the kernel fills at most per read of a dump.
const READ_BYTES: usize = 32 * 1024;

/// A request under construction.
#[derive(Debug, Clone)]
pub(super) struct Message {
    bytes: Vec<u8>,
    is_optional: bool,
}

impl Message {
    /// Returns a request of `kind` with its family's fixed `header` and no attributes.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(header);
        Self { bytes, is_optional: false }
    }

    /// Lets it fail: a kernel that can't do it goes without. It must want an acknowledgement.
    pub(super) fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// Adds an attribute.
    pub(super) fn put(mut self, kind: u16, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.open(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a text attribute with its closing zero.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, bytes)
    }

    /// Adds an attribute that holds what `fill` adds.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.open(kind | NESTED, 0);
        let mut filled = fill(self);
        let length = u16::try_from(filled.bytes.len() - start).unwrap_or(u16::MAX);
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// Adds raw bytes, such as the fixed header inside a nested attribute.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    fn open(&mut self, kind: u16, length: usize) {
        let length = u16::try_from(length + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn wants_ack(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & ACK != 0
    }
}

/// One object of an answer: its bytes after the netlink header.
pub(super) type Reply = Vec<u8>;

/// A netlink socket; it stays in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    /// All answers were taken.
    is_clean: bool,
}

impl Socket {
    /// Opens a socket for links, addresses and routes.
    pub(super) fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// Opens a socket for nftables.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        Ok(fd.into())
    }

    /// Sends one request and gives the objects of its answer.
    pub(super) fn request(&mut self, message: Message) -> io::Result<Vec<Reply>> {
        self.batch(vec![message])
    }

    /// Sends `messages` together; gives all objects answered, or the first error.
    ///
    /// After an error the socket may still hold later answers; they are skipped by their sequence numbers.
    pub(super) fn batch(&mut self, messages: Vec<Message>) -> io::Result<Vec<Reply>> {
        let first = self.sequence + 1;
        let mut wanted = 0;
        let mut optional = Vec::new();
        let mut bytes = Vec::new();
        for mut message in messages {
            self.sequence += 1;
            wanted += usize::from(message.wants_ack());
            if message.is_optional {
                optional.push(self.sequence);
            }
            let length = u32::try_from(message.bytes.len()).unwrap_or(u32::MAX);
            message.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
            message.bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
            bytes.append(&mut message.bytes);
        }
        self.is_clean = false;
        rustix::net::sendto(&self.fd, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let replies = self.answers(first, wanted, &optional)?;
        self.is_clean = true;
        Ok(replies)
    }

    /// Tells whether all answers were taken.
    pub(super) fn is_clean(&self) -> bool {
        self.is_clean
    }

    fn answers(&mut self, first: u32, mut wanted: usize, optional: &[u32]) -> io::Result<Vec<Reply>> {
        let mut replies = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::AGAIN) if wanted == 0 => return Ok(replies),
                Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for (kind, sequence, payload) in messages(&buffer[..length]) {
                if sequence < first {
                    continue;
                }
                match kind {
                    KIND_ERROR => {
                        acknowledged(payload).or_else(|error| match optional.contains(&sequence) {
                            true => Ok(()),
                            false => Err(error),
                        })?;
                        wanted = wanted.saturating_sub(1);
                    }
                    KIND_DONE => {}
                    _ => replies.push(payload.to_vec()),
                }
            }
        }
    }
}

impl From<OwnedFd> for Socket {
    /// Takes a socket that no answers are left in.
    fn from(fd: OwnedFd) -> Self {
        Self { fd, sequence: 0, is_clean: true }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.fd
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Splits what was read into `(kind, sequence, payload)`.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        if length < HEADER_BYTES || length > bytes.len() {
            return None;
        }
        let kind = u16_at(bytes, 4)?;
        let sequence = u32_at(bytes, 8)?;
        let payload = &bytes[HEADER_BYTES..length];
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, payload))
    })
}

fn acknowledged(payload: &[u8]) -> io::Result<()> {
    match u32_at(payload, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Gives the attributes in `bytes` as `(kind, value)`.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        if length < 4 || length > bytes.len() {
            return None;
        }
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = &bytes[4..length];
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Gives the value of attribute `wanted` among the attributes in `bytes`.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Reads a native-endian number at `offset`.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// Reads a native-endian number at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_put() {
        let message = Message::new(16, ACK, &[]).text(3, "eth0").nest(18, |inner| inner.put(4, [1, 2, 3, 4]));
        let found: Vec<_> = attributes(&message.bytes[HEADER_BYTES..]).collect();
        assert_eq!(found[0], (3, &b"eth0\0"[..]));
        assert_eq!(found[1].0, 18);
        assert_eq!(attribute(found[1].1, 4), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(found[1].1, 5), None);
    }

    #[test]
    fn a_damaged_answer_ends_the_reading() {
        assert_eq!(messages(&[255, 0, 0, 0, 1]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0]).count(), 0);
    }
}
