//! The digest of a long stream, computed beside the thread that makes the stream.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use crate::{Digest, Hasher};

/// Up to here the stream's own thread hashes: another one isn't worth its start.
const ALONE_BYTES: u64 = 1 << 20;
/// What is handed over at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks on their way.
const CHUNKS: usize = 4;

/// Digests a stream as it is written; on a thread of its own when it gets long.
#[derive(Default)]
pub struct StreamHasher {
    hasher: Hasher,
    bytes: u64,
    /// Those of [`StreamHasher::mark`], up to the start of the other thread.
    states: Vec<Vec<u8>>,
    side: Option<Side>,
}

/// What goes to the other thread.
enum Piece {
    Bytes(Vec<u8>),
    Mark,
}

/// The other thread, and the buffers that go round.
struct Side {
    chunk: Vec<u8>,
    full: SyncSender<Piece>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<(Hasher, Vec<Vec<u8>>)>,
}

impl StreamHasher {
    /// Returns a hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a hasher that has seen a stream of `bytes` bytes, and is in the [`Hasher::state`] that they lead to.
    pub fn resume(hasher: Hasher, bytes: u64) -> Self {
        Self { hasher, bytes, ..Self::default() }
    }

    /// Remembers the state at this place, for [`StreamHasher::finish_marked`].
    pub fn mark(&mut self) {
        match &mut self.side {
            Some(side) => side.mark(),
            None => self.states.push(self.hasher.state()),
        }
    }

    /// Returns how many bytes were seen.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match &mut self.side {
            Some(side) => side.update(bytes),
            None => self.hasher.update(bytes),
        }
        if self.side.is_none() && self.bytes >= ALONE_BYTES {
            self.side = Side::start(&self.hasher);
        }
    }

    /// Returns the digest and the length of all that was seen.
    pub fn finish(self) -> (Digest, u64) {
        let (digest, bytes, _) = self.finish_marked();
        (digest, bytes)
    }

    /// [`StreamHasher::finish`], with the [`Hasher::state`] at each mark.
    pub fn finish_marked(self) -> (Digest, u64, Vec<Vec<u8>>) {
        let Self { hasher, bytes, mut states, side } = self;
        let hasher = match side {
            Some(side) => {
                let (hasher, later) = side.finish();
                states.extend(later);
                hasher
            }
            None => hasher,
        };
        (hasher.finish(), bytes, states)
    }
}

impl io::Write for StreamHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Side {
    /// `None` where no other thread can be had, or would help.
    fn start(hasher: &Hasher) -> Option<Self> {
        if thread::available_parallelism().map_or(1, usize::from) < 2 {
            return None;
        }
        let (full, pieces) = sync_channel(CHUNKS);
        let (used, empty) = channel();
        let mut hasher = hasher.clone();
        let work = {
            let used = used.clone();
            move || {
                let mut states = Vec::new();
                for piece in pieces {
                    match piece {
                        Piece::Bytes(chunk) => {
                            hasher.update(&chunk);
                            // Nobody takes it back when the stream has ended.
                            let _ = used.send(chunk);
                        }
                        Piece::Mark => states.push(hasher.state()),
                    }
                }
                (hasher, states)
            }
        };
        let thread = thread::Builder::new().name("hash".into()).spawn(work).ok()?;
        for _ in 0..CHUNKS {
            let _ = used.send(Vec::new());
        }
        Some(Self { chunk: Vec::with_capacity(CHUNK_BYTES), full, empty, thread })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK_BYTES {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        let mut next = self.empty.recv().unwrap_or_default();
        next.clear();
        next.reserve(CHUNK_BYTES);
        // A thread that is gone has panicked: `finish` says so.
        let _ = self.full.send(Piece::Bytes(std::mem::replace(&mut self.chunk, next)));
    }

    fn mark(&mut self) {
        self.hand_over();
        let _ = self.full.send(Piece::Mark);
    }

    fn finish(self) -> (Hasher, Vec<Vec<u8>>) {
        let _ = self.full.send(Piece::Bytes(self.chunk));
        drop(self.full);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_bytes_however_they_come() {
        let bytes: Vec<u8> = (0..5_000_000u32).map(|number| (number / 7) as u8).collect();
        for (length, step) in [(0, 1), (1000, 7), (1 << 20, 4096), (bytes.len(), 300_001), (bytes.len(), 512)]
        {
            let mut hasher = StreamHasher::new();
            bytes[..length].chunks(step).for_each(|chunk| hasher.update(chunk));
            assert_eq!(hasher.finish(), (Digest::of(&bytes[..length]), length as u64));
        }
        for marked in [0, 1000, 3_000_000] {
            let mut hasher = StreamHasher::new();
            hasher.update(&bytes[..marked]);
            hasher.mark();
            hasher.update(&bytes[marked..]);
            let (digest, length, states) = hasher.finish_marked();
            assert_eq!((digest, length, states.len()), (Digest::of(&bytes), bytes.len() as u64, 1));
            let mut resumed = StreamHasher::resume(Hasher::resume(&states[0]).unwrap(), marked as u64);
            resumed.update(&bytes[marked..]);
            assert_eq!(resumed.finish(), (Digest::of(&bytes), bytes.len() as u64));
        }
        let mut dropped = StreamHasher::new();
        dropped.update(&bytes);
    }
}
