//! All that a step wrote.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// The output of a step, from its beginning: in memory as long as it is small, else in an unnamed file.
#[derive(Debug, Clone, Default)]
pub struct StepLog(Arc<Whole>);

#[derive(Debug, Default)]
struct Whole {
    memory: Vec<u8>,
    file: Option<File>,
    left_out: u64,
}

impl StepLog {
    /// Returns the log of what is in `memory` and then in `file`; after that `left_out` bytes weren't kept.
    pub fn new(memory: Vec<u8>, file: Option<File>, left_out: u64) -> Self {
        Self(Arc::new(Whole { memory, file, left_out }))
    }

    /// Reads it from its beginning.
    pub fn read(&self) -> impl Read + '_ {
        self.0.memory.as_slice().chain(FromStart { file: self.0.file.as_ref(), at: 0 })
    }

    /// How many bytes at its end weren't kept.
    pub fn left_out(&self) -> u64 {
        self.0.left_out
    }
}

impl PartialEq for StepLog {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for StepLog {}

/// Reads a file that others may read at the same time.
struct FromStart<'a> {
    file: Option<&'a File>,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = self.file else { return Ok(0) };
        let count = file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
