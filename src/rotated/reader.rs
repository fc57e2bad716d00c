//! Reading records over rotations.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::{begin, compressed, file};

/// Bytes of a read.
const READ_BYTES: usize = 64 * 1024;
/// A longer record is none: the file is damaged there.
const RECORD_BYTES: usize = 16 << 20;

/// Where a record ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// At a newline.
    Lines,
    /// After as many bytes as its first four say, big-endian; they don't count.
    Sized,
}

impl Framing {
    /// The length of the whole record at the start of `bytes`, with its frame; `None` until it is there.
    fn complete(self, bytes: &[u8], searched: usize) -> io::Result<Option<usize>> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a record has no end");
        let length = match self {
            Self::Lines => {
                let newline =
                    bytes.get(searched..).and_then(|new| new.iter().position(|byte| *byte == b'\n'));
                newline.map(|at| searched + at + 1)
            }
            Self::Sized => match bytes.first_chunk() {
                Some(length) => {
                    let length = u32::from_be_bytes(*length) as usize;
                    if length > RECORD_BYTES {
                        return Err(damaged());
                    }
                    Some(length + 4).filter(|whole| bytes.len() >= *whole)
                }
                None => None,
            },
        };
        if length.is_none() && bytes.len() > RECORD_BYTES {
            return Err(damaged());
        }
        Ok(length)
    }

    /// A record without its frame; a line keeps its newline.
    fn content(self, record: &[u8]) -> &[u8] {
        match self {
            Self::Lines => record,
            Self::Sized => record.get(4..).unwrap_or_default(),
        }
    }
}

/// Reads records, the oldest first, over rotations.
#[derive(Debug)]
pub struct Reader {
    base: PathBuf,
    files: usize,
    framing: Framing,
    source: Option<Source>,
    buffer: Vec<u8>,
    /// Where the next record begins in the buffer.
    start: usize,
    /// How far after it no end was found.
    searched: usize,
    /// Where the source begins in all that was written.
    begin: u64,
    /// How many bytes of the source were read.
    taken: u64,
    /// Bytes that were dropped before they could be read.
    lost: u64,
    /// The end of the newest file when it was made.
    end: Option<End>,
    /// It doesn't go on with what is written later.
    is_bounded: bool,
}

/// A place in a file.
#[derive(Debug)]
struct End {
    source: Source,
    length: u64,
}

impl End {
    /// The end of the newest file that there is.
    fn of(base: &Path, files: usize) -> io::Result<Option<Self>> {
        for age in 0..files {
            if let Some(source) = Source::open(base, age)? {
                // What is compressed grows no more.
                let length = if source.inflated.is_some() { u64::MAX } else { source.file.metadata()?.len() };
                return Ok(Some(Self { source, length }));
            }
        }
        Ok(None)
    }

    /// Tells whether the place is in `source`, which may be the same file after its compression.
    fn is_in(&self, source: &Source) -> io::Result<bool> {
        let (own, other) = (self.source.file.metadata()?, source.file.metadata()?);
        let time = |of: &std::fs::Metadata| (of.mtime(), of.mtime_nsec());
        Ok(own.ino() == other.ino() || (source.inflated.is_some() && time(&own) == time(&other)))
    }
}

#[derive(Debug)]
struct Source {
    /// Its inode and its time of modification tell which file it is.
    file: File,
    /// The same file, when it is compressed.
    inflated: Option<Box<MultiGzDecoder<File>>>,
}

impl Source {
    /// Opens the file that is `age` rotations old, if there is one.
    fn open(base: &Path, age: usize) -> io::Result<Option<Self>> {
        for (path, is_compressed) in [(file(base, age), false), (compressed(base, age), true)] {
            match File::open(path) {
                Ok(file) if is_compressed => {
                    let inflated = Some(Box::new(MultiGzDecoder::new(file.try_clone()?)));
                    return Ok(Some(Self { file, inflated }));
                }
                Ok(file) => return Ok(Some(Self { file, inflated: None })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn begin(&self) -> Option<u64> {
        begin::of(&self.file)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.inflated {
            Some(inflated) => inflated.read(buffer),
            None => self.file.read(buffer),
        }
    }

    /// Tells whether it is the file that is `age` rotations old.
    fn is(&self, base: &Path, age: usize) -> io::Result<bool> {
        let own = self.file.metadata()?;
        if std::fs::metadata(file(base, age)).is_ok_and(|other| other.ino() == own.ino()) {
            return Ok(true);
        }
        let time = |of: &std::fs::Metadata| (of.mtime(), of.mtime_nsec());
        Ok(std::fs::metadata(compressed(base, age))
            .is_ok_and(|other| other.ino() == own.ino() || time(&other) == time(&own)))
    }
}

impl Reader {
    /// Returns a reader of the `files` files of `base` that begins with the oldest record.
    pub fn oldest(base: &Path, files: usize, framing: Framing) -> io::Result<Self> {
        let mut reader = Self::new(base, files, framing);
        reader.end = End::of(base, files)?;
        reader.source = reader.oldest_source()?;
        reader.begin = reader.source.as_ref().and_then(Source::begin).unwrap_or(0);
        Ok(reader)
    }

    /// The same, of which only the last `count` records are still to be read.
    pub fn last(base: &Path, files: usize, framing: Framing, count: usize) -> io::Result<Self> {
        let mut reader = Self::new(base, files, framing);
        let end = End::of(base, files)?;
        let (mut missing, mut is_old) = (count, false);
        for age in 0..files {
            let Some(mut source) = Source::open(base, age)? else { continue };
            let length = match &end {
                Some(end) if !is_old && end.is_in(&source)? => end.length,
                // It came meanwhile.
                Some(_) if !is_old => continue,
                _ => u64::MAX,
            };
            is_old = true;
            let (found, at) = last_records(&mut source, framing, missing, length)?;
            missing -= found;
            // Before the first search: with no record wanted, the newest file is read on from its end.
            if reader.source.is_none() || found > 0 {
                reader.restart(source, at)?;
            }
            if missing == 0 {
                break;
            }
        }
        reader.end = end;
        Ok(reader)
    }

    /// Ends it with what was the last record when it was made: a writer who never rests would let nobody finish.
    pub fn end_here(mut self) -> Self {
        self.is_bounded = true;
        self
    }

    fn new(base: &Path, files: usize, framing: Framing) -> Self {
        let (source, buffer) = (None, Vec::new());
        let (start, searched, end, is_bounded) = (0, 0, None, false);
        Self {
            base: base.to_owned(),
            files,
            framing,
            source,
            buffer,
            start,
            searched,
            begin: 0,
            taken: 0,
            lost: 0,
            end,
            is_bounded,
        }
    }

    fn restart(&mut self, mut source: Source, at: u64) -> io::Result<()> {
        match &mut source.inflated {
            None => drop(source.file.seek(SeekFrom::Start(at))?),
            Some(_) => {
                source.file.seek(SeekFrom::Start(0))?;
                let mut inflated = MultiGzDecoder::new(source.file.try_clone()?);
                io::copy(&mut inflated.by_ref().take(at), &mut io::sink())?;
                source.inflated = Some(Box::new(inflated));
            }
        }
        self.begin = source.begin().unwrap_or(0);
        self.source = Some(source);
        self.taken = at;
        Ok(())
    }

    /// Gives how many bytes were dropped before they could be read, since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Gives the next record, a line with its newline; `None` when no further one is there yet, or when records before
    /// it were lost, which [`Self::take_lost`] tells.
    pub fn next_record(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let open = self.buffer.get(self.start..).unwrap_or_default();
            match self.framing.complete(open, self.searched)? {
                Some(length) => {
                    let record = self.start..self.start + length;
                    (self.start, self.searched) = (record.end, 0);
                    return Ok(self.buffer.get(record).map(|record| self.framing.content(record)));
                }
                None => self.searched = open.len(),
            }
            if !self.fill()? && !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// Reads more; tells whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(source) = &mut self.source else { return Ok(false) };
        let left = match &self.end {
            Some(end) if self.is_bounded && end.is_in(source)? => end.length.saturating_sub(self.taken),
            _ => u64::MAX,
        };
        let wanted = READ_BYTES.min(usize::try_from(left).unwrap_or(READ_BYTES));
        self.buffer.drain(..self.start);
        self.start = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + wanted, 0);
        let read = source.read(self.buffer.get_mut(held..).unwrap_or_default());
        self.buffer.truncate(held + read.as_ref().copied().unwrap_or(0));
        let read = read?;
        self.taken += read as u64;
        Ok(read > 0)
    }

    /// Tells whether the end is reached, or gone with its file.
    fn is_over(&self) -> io::Result<bool> {
        if !self.is_bounded {
            return Ok(false);
        }
        let (Some(end), Some(source)) = (&self.end, &self.source) else { return Ok(true) };
        if end.is_in(source)? {
            return Ok(true);
        }
        for age in 0..self.files {
            if end.source.is(&self.base, age)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes on with the next file when this one is at its end for ever; tells whether there is more to try.
    fn go_on(&mut self) -> io::Result<bool> {
        if self.is_over()? {
            // What was to come was dropped with its file.
            if let Some(end) = self.end.take() {
                let end = end.source.begin().unwrap_or(0).saturating_add(end.length);
                self.lost += if end == u64::MAX { 0 } else { end.saturating_sub(self.begin + self.taken) };
            }
            return Ok(false);
        }
        let Some(next) = self.next_source()? else { return Ok(false) };
        // What was written between the last read and the renaming.
        if self.fill()? {
            return Ok(true);
        }
        // A record that a killed writer has begun has no end.
        self.buffer.clear();
        (self.start, self.searched) = (0, 0);
        let begin = next.begin();
        let lost = begin.map_or(0, |begin| begin.saturating_sub(self.begin + self.taken));
        self.source = Some(next);
        (self.begin, self.taken) = (begin.unwrap_or(0), 0);
        self.lost += lost;
        Ok(lost == 0)
    }

    /// Opens the file after this one, once this one isn't the newest.
    fn next_source(&self) -> io::Result<Option<Source>> {
        let Some(source) = &self.source else { return self.oldest_source() };
        if source.is(&self.base, 0)? {
            return Ok(None);
        }
        // The first of all has no mark, nor has one of an older kiln.
        if self.begin > 0
            && let Some(next) = self.next_begun()?
        {
            return Ok(Some(next));
        }
        let mut age = 1;
        while age < self.files {
            if !source.is(&self.base, age)? {
                age += 1;
                continue;
            }
            let next = Source::open(&self.base, age - 1)?;
            // Unless both were renamed in between.
            if source.is(&self.base, age)? {
                return Ok(next);
            }
        }
        // It was dropped meanwhile.
        self.oldest_source()
    }

    /// The file that begins next, where that is noted. Files only become older: looked for from the newest on, none is
    /// missed that is renamed meanwhile.
    fn next_begun(&self) -> io::Result<Option<Source>> {
        let mut next: Option<(u64, Source)> = None;
        for age in 0..self.files {
            let Some(source) = Source::open(&self.base, age)? else { continue };
            let Some(begin) = source.begin().filter(|begin| *begin > self.begin) else { continue };
            if next.as_ref().is_none_or(|(earlier, _)| begin < *earlier) {
                next = Some((begin, source));
            }
        }
        Ok(next.map(|(_, source)| source))
    }

    fn oldest_source(&self) -> io::Result<Option<Source>> {
        for age in (0..self.files).rev() {
            if let Some(source) = Source::open(&self.base, age)? {
                return Ok(Some(source));
            }
        }
        Ok(None)
    }
}

/// Looks for the last `count` whole records in the first `length` bytes of `source`; gives how many there are, and where
/// the first one begins.
fn last_records(
    source: &mut Source,
    framing: Framing,
    count: usize,
    length: u64,
) -> io::Result<(usize, u64)> {
    if framing == Framing::Lines && source.inflated.is_none() {
        return last_lines(&source.file, count, length);
    }
    let mut bytes = Vec::new();
    match &mut source.inflated {
        Some(inflated) => inflated.read_to_end(&mut bytes)?,
        None => source.file.by_ref().take(length).read_to_end(&mut bytes)?,
    };
    let (mut starts, mut at) = (VecDeque::new(), 0);
    while let Some(length) = framing.complete(bytes.get(at..).unwrap_or_default(), 0)? {
        starts.push_back(at);
        at += length;
        if starts.len() > count {
            starts.pop_front();
        }
    }
    let first = if count == 0 { at } else { starts.front().copied().unwrap_or(at) };
    Ok((starts.len().min(count), first as u64))
}

/// Looks for the last `count` whole lines in the first `length` bytes of `file`, from their end.
fn last_lines(file: &File, count: usize, length: u64) -> io::Result<(usize, u64)> {
    use std::os::unix::fs::FileExt;
    let mut end = file.metadata()?.len().min(length);
    let mut newlines = 0;
    let mut buffer = vec![0; READ_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(READ_BYTES as u64);
        let length = usize::try_from(end - begin).unwrap_or(READ_BYTES);
        let block = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact_at(block, begin)?;
        for at in (0..block.len()).rev().filter(|at| block.get(*at) == Some(&b'\n')) {
            // The newline before the first wanted line.
            if newlines == count {
                return Ok((count, begin + at as u64 + 1));
            }
            newlines += 1;
        }
        end = begin;
    }
    Ok((newlines, 0))
}
