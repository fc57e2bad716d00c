//! A step's output, for its failure: the last lines, and all of it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;

use kiln_cache::Store;

use crate::api::StepLog;

/// How many lines are kept.
const LINES: usize = 20;
/// A line longer than this is cut.
const LINE_BYTES: usize = 1000;

/// What is kept in memory; the rest goes to a file.
const MEMORY_BYTES: usize = 64 << 10;
/// What is kept in all: an output without end mustn't fill the disk.
const KEPT_BYTES: u64 = 64 << 20;

/// An output from its beginning.
#[derive(Debug)]
pub(super) struct Log {
    store: Store,
    memory: Vec<u8>,
    file: Option<File>,
    in_file: u64,
    left_out: u64,
    /// Its last lines.
    pub(super) tail: LogTail,
}

impl Log {
    /// Returns one that is empty; a long one goes to the disk of `store`.
    pub(super) fn new(store: &Store) -> Self {
        let (memory, tail) = (Vec::new(), LogTail::default());
        Self { store: store.clone(), memory, file: None, in_file: 0, left_out: 0, tail }
    }

    /// Takes in what was written.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.tail.push(bytes);
        if self.file.is_none() && self.memory.len() + bytes.len() <= MEMORY_BYTES {
            self.memory.extend_from_slice(bytes);
        } else if self.left_out > 0 || !self.write(bytes) {
            // Once something is missing, what comes after it is no continuation.
            self.left_out += bytes.len() as u64;
        }
    }

    /// Appends to the file; false when that is full, or the disk.
    fn write(&mut self, bytes: &[u8]) -> bool {
        if self.in_file + bytes.len() as u64 > KEPT_BYTES {
            return false;
        }
        if self.file.is_none() {
            self.file = self.store.scratch().ok();
        }
        let Some(file) = &mut self.file else { return false };
        let is_written = file.write_all(bytes).is_ok();
        self.in_file += bytes.len() as u64;
        is_written
    }

    /// Returns the last lines, and all of it.
    pub(super) fn end(self) -> (Vec<String>, StepLog) {
        (self.tail.lines(), StepLog::new(self.memory, self.file, self.left_out))
    }
}

/// The last lines of an output.
#[derive(Debug, Default)]
pub(super) struct LogTail {
    lines: VecDeque<String>,
    open: Vec<u8>,
}

impl LogTail {
    /// Takes in what was written.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for (index, part) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.close();
            }
            let room = LINE_BYTES.saturating_sub(self.open.len());
            self.open.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    /// Returns the lines, oldest first.
    pub(super) fn lines(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.close();
        }
        self.lines.into()
    }

    fn close(&mut self) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(String::from_utf8_lossy(&self.open).trim_end_matches('\r').to_owned());
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_read_again_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(&Store::open(folder.path()).unwrap());
        let line = [b"0123456789abcde\n".repeat(1 << 10), b"end\n".to_vec()].concat();
        (0..20).for_each(|_| log.push(&line));
        let (tail, whole) = log.end();
        assert_eq!(tail.last().unwrap(), "end");
        for _ in 0..2 {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut whole.read(), &mut bytes).unwrap();
            assert_eq!(bytes, line.repeat(20));
        }
        assert_eq!(whole.left_out(), 0);
    }

    #[test]
    fn an_output_without_end_is_cut_and_keeps_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(&Store::open(folder.path()).unwrap());
        let line = [vec![b'x'; (1 << 20) - 1], b"\n".to_vec()].concat();
        (0..66).for_each(|_| log.push(&line));
        log.push(b"end\n");
        let (tail, whole) = log.end();
        assert_eq!((tail.last().unwrap().as_str(), whole.left_out()), ("end", (2 << 20) + 4));
        let bytes = std::io::copy(&mut whole.read(), &mut std::io::sink()).unwrap();
        assert_eq!(bytes, KEPT_BYTES);
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        let mut tail = LogTail::default();
        for number in 0..30 {
            tail.push(format!("line {number}\r\n").as_bytes());
        }
        tail.push(&[b'x'; 5000]);
        let lines = tail.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0], "line 11");
        assert_eq!(lines[LINES - 1].len(), LINE_BYTES);
    }
}
