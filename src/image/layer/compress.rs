//! gzip and zstd on the way in, for archives of users bzip2 and xz too; block-parallel gzip on the way out.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use flate2::bufread::GzDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Base-2 logarithm of the largest zstd window that is accepted: 128 MiB, as the zstd tool's default.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Most memory for one xz stream, in KiB: a dictionary of 128 MiB (`xz -9` has 64) and what goes with it.
const XZ_MEMORY_KIB: u32 = (128 << 10) + 1024;
/// Bytes by which [`decompress_any`] tells a compression.
const MAGIC: usize = 6;
/// Bytes of one gzip block. Another number gives blobs with other digests.
const BLOCK: usize = 512 << 10;
/// How far deflate looks back.
const WINDOW: usize = 32 << 10;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressed {
    /// Not at all.
    No,
    /// One or several gzip members.
    Gzip,
    /// One or several zstd frames.
    Zstd,
}

impl Compressed {
    /// Tells a compression by a stream's first bytes.
    pub fn by_magic(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, as zstd:chunked writes it.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::No,
        }
    }
}

/// Returns the decompressed bytes of `reader`, whatever compression it has by its first bytes.
///
/// Media types lie often enough (docker itself labels plain layers as gzip in archives), magic numbers don't.
/// Windows of zstd frames over 128 MiB are refused.
pub fn decompress<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let (start, whole) = peek(reader)?;
    decompress_as(Compressed::by_magic(&start), whole)
}

/// The same for what a user packed: bzip2 and xz as well, which no layer of a registry has.
///
/// xz streams that want more than 128 MiB of memory are an error of the kind `OutOfMemory`.
pub fn decompress_any<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let (start, whole) = peek(reader)?;
    match Rare::by_magic(&start) {
        Some(rare) => Ok(rare.decompress(whole)),
        None => decompress_as(Compressed::by_magic(&start), whole),
    }
}

/// Takes bzip2 and xz away, and leaves all other streams as they are.
pub fn without_rare<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let (start, whole) = peek(reader)?;
    Ok(match Rare::by_magic(&start) {
        Some(rare) => rare.decompress(whole),
        None => Box::new(whole),
    })
}

/// Reads the first bytes of `reader`; gives them, and all of it.
fn peek<'a>(reader: impl Read + Send + 'a) -> io::Result<(Vec<u8>, impl BufRead + Send + 'a)> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let mut start = Vec::with_capacity(MAGIC);
    (&mut reader).take(MAGIC as u64).read_to_end(&mut start)?;
    let whole = io::Cursor::new(start.clone()).chain(reader);
    Ok((start, BufReader::with_capacity(64 << 10, whole)))
}

/// Compressions of archives that layers don't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rare {
    Bzip2,
    Xz,
}

impl Rare {
    fn by_magic(start: &[u8]) -> Option<Self> {
        match start {
            // A block, or the end of an empty stream.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }

    fn decompress<'a>(self, whole: impl BufRead + Send + 'a) -> Box<dyn Read + Send + 'a> {
        match self {
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
            Self::Xz => Box::new(Unxz(lzma_rust2::XzReader::new_mem_limit(whole, true, XZ_MEMORY_KIB))),
        }
    }
}

/// Says in kiln's words that a dictionary is too large.
struct Unxz<R: Read>(lzma_rust2::XzReader<R>);

impl<R: Read> Read for Unxz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => {
                io::Error::new(io::ErrorKind::OutOfMemory, "its xz dictionary is over 128 MiB")
            }
            _ => error,
        })
    }
}

fn decompress_as<'a>(
    kind: Compressed,
    whole: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match kind {
        Compressed::No => Box::new(whole),
        Compressed::Gzip => Box::new(Gunzip { member: Some(GzDecoder::new(whole)) }),
        Compressed::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// Member after member; zeros after the last one are padding, anything else is an error.
struct Gunzip<R: BufRead> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let got = member.read(buffer)?;
            if got > 0 {
                return Ok(got);
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { break };
            match rest.fill_buf()?.first() {
                Some(0x1f) => self.member = Some(GzDecoder::new(rest)),
                _ => only_zeros(&mut rest)?,
            }
        }
        Ok(0)
    }
}

fn only_zeros(rest: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = rest.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there is something else after the gzip data",
            ));
        }
        let length = bytes.len();
        rest.consume(length);
    }
}

/// A gzip stream that is compressed by several threads, block by block.
///
/// Each block is deflated with the 32 KiB before it as its dictionary and ends on a byte boundary, so the
/// output is one ordinary gzip member and the same bytes for any number of threads.
pub struct GzipWriter<W: Write> {
    out: W,
    block: Vec<u8>,
    window: Vec<u8>,
    crc: Crc,
    jobs: Option<mpsc::Sender<Job>>,
    /// Results in the order of their blocks.
    results: VecDeque<mpsc::Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    block: Vec<u8>,
    window: Vec<u8>,
    last: bool,
    result: mpsc::Sender<io::Result<Vec<u8>>>,
}

impl<W: Write> GzipWriter<W> {
    /// Starts a stream into `out` with as many threads as the machine has processors.
    pub fn new(out: W) -> io::Result<Self> {
        Self::with_threads(out, thread::available_parallelism().map_or(1, usize::from))
    }

    fn with_threads(mut out: W, threads: usize) -> io::Result<Self> {
        // No name, no time, system "unknown": nothing that would differ between two machines.
        out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads.max(1))
            .map(|_| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || work(&queue))
            })
            .collect();
        Ok(Self {
            out,
            block: Vec::with_capacity(BLOCK),
            window: Vec::new(),
            crc: Crc::new(),
            jobs: Some(jobs),
            results: VecDeque::new(),
            threads,
        })
    }

    /// Ends the stream and gives the writer below back.
    pub fn finish(mut self) -> io::Result<W> {
        self.submit(true)?;
        self.jobs = None;
        while !self.results.is_empty() {
            self.collect()?;
        }
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a compressing thread panicked"))?;
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn submit(&mut self, last: bool) -> io::Result<()> {
        // Blocks in flight bound the memory.
        while self.results.len() >= 2 * self.threads.len() {
            self.collect()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let tail = block.len().saturating_sub(WINDOW);
        let window = std::mem::replace(&mut self.window, block[tail..].to_vec());
        let (result, receiver) = mpsc::channel();
        self.results.push_back(receiver);
        let jobs = self.jobs.as_ref().ok_or_else(|| io::Error::other("the gzip stream has ended"))?;
        jobs.send(Job { block, window, last, result })
            .map_err(|_| io::Error::other("no compressing thread is left"))
    }

    fn collect(&mut self) -> io::Result<()> {
        let Some(result) = self.results.pop_front() else { return Ok(()) };
        let bytes = result.recv().map_err(|_| io::Error::other("a compressing thread ended"))??;
        self.out.write_all(&bytes)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.submit(false)?;
        }
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.crc.update(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A receiver that is gone has failed already.
        let _ = job.result.send(deflate(&job));
    }
}

fn deflate(job: &Job) -> io::Result<Vec<u8>> {
    let mut state = Compress::new(Compression::new(6), false);
    if !job.window.is_empty() {
        state.set_dictionary(&job.window).map_err(io::Error::other)?;
    }
    let flush = if job.last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut out = Vec::with_capacity(job.block.len() / 2 + 1024);
    loop {
        let done = usize::try_from(state.total_in()).map_err(io::Error::other)?;
        let status = state.compress_vec(&job.block[done..], &mut out, flush).map_err(io::Error::other)?;
        let all_in = state.total_in() == job.block.len() as u64;
        // A flush is complete when it left room in the output (zlib.h, deflate).
        if status == Status::StreamEnd || (!job.last && all_in && out.len() < out.capacity()) {
            return Ok(out);
        }
        out.reserve(job.block.len() / 2 + 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..length)
            .map(|index| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if index % 7 < 4 { b'a' + (index % 13) as u8 } else { (state >> 24) as u8 }
            })
            .collect()
    }

    fn gzip(bytes: &[u8], threads: usize) -> Vec<u8> {
        let mut writer = GzipWriter::with_threads(Vec::new(), threads).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn the_number_of_threads_does_not_change_the_bytes() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77] {
            let bytes = sample(length);
            let one = gzip(&bytes, 1);
            assert!(one == gzip(&bytes, 3), "{length}");
            assert!(read(&one).unwrap() == bytes, "{length}");
        }
    }

    #[test]
    fn several_members_and_padding_are_read() {
        let mut bytes = [gzip(b"one ", 1), gzip(b"two", 1)].concat();
        bytes.extend([0; 700]);
        assert_eq!(read(&bytes).unwrap(), b"one two");
        bytes.push(7);
        assert_eq!(read(&bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        let bytes = gzip(&sample(10_000), 1);
        assert!(read(&bytes[..bytes.len() / 2]).is_err());
        assert!(read(&bytes[..bytes.len() - 3]).is_err());
        let bytes = zstd::encode_all(sample(10_000).as_slice(), 3).unwrap();
        assert!(read(&bytes[..bytes.len() / 2]).is_err());
    }

    #[test]
    fn zstd_with_a_giant_window_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(&sample(1 << 20)).unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(read(&bytes).is_err());
        let bytes =
            [zstd::encode_all(b"a".as_slice(), 3).unwrap(), zstd::encode_all(b"b".as_slice(), 3).unwrap()]
                .concat();
        assert_eq!(read(&bytes).unwrap(), b"ab");
    }

    #[test]
    fn plain_and_short_streams_pass_through() {
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"ab").unwrap(), b"ab");
        assert_eq!(read(b"plain text").unwrap(), b"plain text");
    }
}
