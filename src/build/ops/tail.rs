//! The last lines of a step's output, for its failure.

use std::collections::VecDeque;

/// How many lines are kept.
const LINES: usize = 20;
/// A line longer than this is cut.
const LINE_BYTES: usize = 1000;

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
