//! From the bytes of a program to entries: a line each, long ones in parts.

use std::io;

use super::writer::Output;
use super::{Sink, Stream};

/// Longer lines are cut.
const LINE_BYTES: usize = 16 * 1024;

/// Gathers lines for an output.
#[derive(Debug)]
pub(super) struct Lines {
    output: Box<dyn Output>,
    open: [Vec<u8>; 2],
}

impl Lines {
    pub(super) fn new(output: Box<dyn Output>) -> Self {
        Self { output, open: [Vec::new(), Vec::new()] }
    }

    /// Writes what is open of a stream, all of it or as much as a part may have.
    fn flush(&mut self, stream: Stream, whole: bool) -> io::Result<()> {
        let open = &mut self.open[index(stream)];
        let length = if whole { open.len() } else { part(open) };
        let rest = open.split_off(length);
        let line = std::mem::replace(open, rest);
        if line.is_empty() { Ok(()) } else { self.output.put(stream, &line) }
    }
}

/// The length of a part of a long line: no character is cut in two.
fn part(line: &[u8]) -> usize {
    let mut end = line.len();
    // A character has four bytes at most; bytes that are no text may be cut anywhere.
    for back in 1..=3.min(line.len().saturating_sub(1)) {
        let byte = line[line.len() - back];
        let whole = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => break,
        };
        if whole > back {
            end = line.len() - back;
        }
        break;
    }
    end
}

impl Sink for Lines {
    /// Whole lines are written, the rest waits for its end.
    fn write(&mut self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = LINE_BYTES.saturating_sub(self.open[index(stream)].len()).min(bytes.len());
            let end =
                bytes[..room].iter().position(|byte| *byte == b'\n').map_or(room, |newline| newline + 1);
            let (line, rest) = bytes.split_at(end);
            self.open[index(stream)].extend_from_slice(line);
            bytes = rest;
            if line.ends_with(b"\n") {
                self.flush(stream, true)?;
            } else if self.open[index(stream)].len() >= LINE_BYTES {
                self.flush(stream, false)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let stdout = self.flush(Stream::Stdout, true);
        stdout.and(self.flush(Stream::Stderr, true)).and(self.output.finish())
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Entries = Arc<Mutex<Vec<(Stream, Vec<u8>)>>>;

    #[derive(Debug, Default)]
    struct Kept(Entries);

    impl Output for Kept {
        fn put(&mut self, stream: Stream, text: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().push((stream, text.to_vec()));
            Ok(())
        }
    }

    fn entries(write: impl FnOnce(&mut Lines)) -> Vec<(Stream, Vec<u8>)> {
        let kept = Kept::default();
        let entries = Arc::clone(&kept.0);
        let mut lines = Lines::new(Box::new(kept));
        write(&mut lines);
        lines.finish().unwrap();
        entries.lock().unwrap().clone()
    }

    #[test]
    fn streams_keep_their_own_lines_and_the_last_may_be_open() {
        let found = entries(|lines| {
            lines.write(Stream::Stdout, b"one\ntw").unwrap();
            lines.write(Stream::Stderr, b"warning\n").unwrap();
            lines.write(Stream::Stdout, b"o\nthree").unwrap();
        });
        let expected = [
            (Stream::Stdout, &b"one\n"[..]),
            (Stream::Stderr, b"warning\n"),
            (Stream::Stdout, b"two\n"),
            (Stream::Stdout, b"three"),
        ];
        assert_eq!(found, expected.map(|(stream, text)| (stream, text.to_vec())));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let found = entries(|lines| {
            lines.write(Stream::Stdout, &[b'x'; LINE_BYTES + 5]).unwrap();
            lines.write(Stream::Stdout, b"\n").unwrap();
        });
        assert_eq!(found.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [LINE_BYTES, 6]);
        let text = "x".to_owned() + &"ü".repeat(LINE_BYTES);
        let found = entries(|lines| lines.write(Stream::Stdout, text.as_bytes()).unwrap());
        assert!(found.iter().all(|(_, part)| std::str::from_utf8(part).is_ok()));
        assert_eq!(found.concat_text(), text.as_bytes());
        let bytes = vec![0xff; 3 * LINE_BYTES];
        let found = entries(|lines| lines.write(Stream::Stdout, &bytes).unwrap());
        assert_eq!(found.concat_text(), bytes);
    }

    trait ConcatText {
        fn concat_text(&self) -> Vec<u8>;
    }

    impl ConcatText for Vec<(Stream, Vec<u8>)> {
        fn concat_text(&self) -> Vec<u8> {
            self.iter().flat_map(|(_, text)| text.clone()).collect()
        }
    }
}
