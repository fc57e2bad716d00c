//! The monitor's side of a log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Entry, FILES, Sink, Stream, file};

/// When a file is full.
const FILE_BYTES: u64 = 10 * 1000 * 1000;
/// Longer lines are cut.
const LINE_BYTES: usize = 16 * 1024;

/// Writes a container's output line by line.
#[derive(Debug)]
pub(super) struct Writer {
    base: PathBuf,
    file: Option<File>,
    written: u64,
    limit: u64,
    open_lines: [Vec<u8>; 2],
}

impl Sink for Writer {
    /// Whole lines are written, the rest waits for its end.
    fn write(&mut self, stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let waiting = self.open_lines[index(stream)].len();
            let room = LINE_BYTES.saturating_sub(waiting).min(bytes.len());
            let end =
                bytes[..room].iter().position(|byte| *byte == b'\n').map_or(room, |newline| newline + 1);
            let (line, rest) = bytes.split_at(end);
            self.open_lines[index(stream)].extend_from_slice(line);
            if line.ends_with(b"\n") || self.open_lines[index(stream)].len() >= LINE_BYTES {
                self.flush(stream)?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.flush(Stream::Stdout)?;
        self.flush(Stream::Stderr)
    }
}

impl Writer {
    /// Returns a writer that goes on in the file at `base`, which is made with the first line.
    pub(super) fn new(base: &Path) -> Self {
        Self::with_limit(base, FILE_BYTES)
    }

    fn with_limit(base: &Path, limit: u64) -> Self {
        Self { base: base.to_owned(), file: None, written: 0, limit, open_lines: [Vec::new(), Vec::new()] }
    }

    fn flush(&mut self, stream: Stream) -> io::Result<()> {
        let line = std::mem::take(&mut self.open_lines[index(stream)]);
        if line.is_empty() {
            return Ok(());
        }
        let log = String::from_utf8_lossy(&line);
        let time = format!("{:.9}", jiff::Timestamp::now()).into();
        let mut text = serde_json::to_vec(&Entry { log, stream, time })?;
        text.push(b'\n');
        let length = text.len() as u64;
        if self.written > 0 && self.written + length > self.limit {
            self.rotate()?;
        }
        self.open()?.write_all(&text)?;
        self.written += length;
        Ok(())
    }

    fn open(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).create(true).open(&self.base)?;
                self.written = file.metadata()?.len();
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn rotate(&mut self) -> io::Result<()> {
        for age in (1..FILES).rev() {
            match std::fs::rename(file(&self.base, age - 1), file(&self.base, age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = None;
        self.written = 0;
        Ok(())
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
    use super::*;

    fn lines(path: &Path) -> Vec<(String, Stream)> {
        let text = std::fs::read_to_string(path).unwrap();
        let entry = |line: &str| {
            let entry: Entry<'_> = serde_json::from_str(line).unwrap();
            (entry.log.into_owned(), entry.stream)
        };
        text.lines().map(entry).collect()
    }

    #[test]
    fn streams_keep_their_own_lines_and_the_last_may_be_open() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("x-json.log");
        let mut writer = Writer::new(&base);
        writer.write(Stream::Stdout, b"one\ntw").unwrap();
        writer.write(Stream::Stderr, b"warning\n").unwrap();
        writer.write(Stream::Stdout, b"o\nthree").unwrap();
        writer.finish().unwrap();
        let expected = [
            ("one\n", Stream::Stdout),
            ("warning\n", Stream::Stderr),
            ("two\n", Stream::Stdout),
            ("three", Stream::Stdout),
        ];
        assert_eq!(lines(&base), expected.map(|(text, stream)| (text.to_owned(), stream)));
    }

    #[test]
    fn a_long_line_is_cut_and_bytes_that_are_no_text_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("x-json.log");
        let mut writer = Writer::new(&base);
        writer.write(Stream::Stdout, &[b'x'; LINE_BYTES + 5]).unwrap();
        writer.write(Stream::Stdout, b"\n\xff\n").unwrap();
        let lengths: Vec<_> = lines(&base).iter().map(|(text, _)| text.len()).collect();
        assert_eq!(lengths, [LINE_BYTES, 6, 4]);
    }

    #[test]
    fn full_files_are_rotated_and_the_oldest_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("x-json.log");
        let mut writer = Writer::with_limit(&base, 300);
        for number in 0..20 {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), FILES);
        assert_eq!(lines(&base).last().unwrap().0, "19\n");
    }
}
