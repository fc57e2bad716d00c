//! `mode=non-blocking`: a process of its own writes the log, and what it can't take in time is dropped.
//!
//! A write to a disk that hangs can't be interrupted, and the monitor has one thread: so it hands the output to
//! a pump, by a pipe that it never waits for. The pump reads all the time into a buffer of `max-buffer-size`, and
//! writes from that. What the buffer can't hold is lost, as with docker; the program is never held back.
//!
//! In the pipe: a byte for the stream (1, 2), four with the size (big-endian), the bytes. A `0` as the stream is the
//! end of a run, which the pump answers with one byte once all is written.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{PUMP_DOOR, Sink, Stream};

/// How long the end of a run waits for what is still on its way to the disk.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// The end of a run.
const END: u8 = 0;

/// The monitor's side.
#[derive(Debug)]
pub(super) struct Pump {
    pipe: OwnedFd,
    answers: OwnedFd,
    process: Child,
    /// The rest of a packet of which the pipe took only a part.
    rest: Vec<u8>,
    /// It didn't answer in time: nobody waits for it any more.
    hangs: bool,
}

impl Pump {
    /// Starts the pump of the container in `folder`.
    pub(super) fn start(folder: &Path) -> io::Result<Self> {
        let (theirs, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        let (answers, their_answers) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(PUMP_DOOR).arg(folder).env_clear();
        command.stdin(theirs).stdout(their_answers).stderr(Stdio::null());
        let process = command.spawn()?;
        Ok(Self { pipe, answers, process, rest: Vec::new(), hangs: false })
    }

    fn send(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        self.flush()?;
        if !self.rest.is_empty() {
            // The pump has no time: this is lost.
            return Ok(());
        }
        self.rest.push(kind);
        self.rest.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.rest.extend(bytes);
        self.flush()
    }

    /// Writes what the pipe takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match rustix::io::write(&self.pipe, &self.rest) {
                Ok(length) => drop(self.rest.drain(..length)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Sink for Pump {
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        self.send(if stream == Stream::Stderr { 2 } else { 1 }, bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() && ready(&self.pipe, PollFlags::OUT) {
            self.flush()?;
        }
        self.send(END, b"")?;
        self.hangs = !ready(&self.answers, PollFlags::IN);
        if !self.hangs {
            rustix::io::read(&self.answers, &mut [0; 16])?;
        }
        Ok(())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // The end of its input is its end.
        if let (Ok((_, closed)), false) = (pipe_with(PipeFlags::CLOEXEC), self.hangs) {
            self.pipe = closed;
            let _ = self.process.wait();
        }
    }
}

fn ready(fd: &OwnedFd, flags: PollFlags) -> bool {
    matches!(poll(&mut [PollFd::new(fd, flags)], Some(&PATIENCE)), Ok(1..))
}

/// What was read and not yet written.
#[derive(Default)]
struct Buffer {
    packets: VecDeque<(u8, Vec<u8>)>,
    bytes: usize,
    ended: bool,
}

/// The pump: reads `input` into a buffer of `limit` bytes, and writes that to `sink`; `answer` gets a byte for
/// each end of a run.
pub(super) fn pump(
    input: &mut (dyn Read + Send),
    limit: usize,
    mut sink: Box<dyn Sink>,
    answer: &mut dyn Write,
) -> io::Result<()> {
    let (buffer, changed) = (Mutex::new(Buffer::default()), Condvar::new());
    let lock = || buffer.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((kind, bytes)) = packet(input) {
                let mut buffer = lock();
                if kind == END || buffer.bytes + bytes.len() <= limit {
                    buffer.bytes += bytes.len();
                    buffer.packets.push_back((kind, bytes));
                    changed.notify_one();
                }
            }
            lock().ended = true;
            changed.notify_one();
        });
        loop {
            let mut buffer = lock();
            while buffer.packets.is_empty() && !buffer.ended {
                buffer = changed.wait(buffer).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((kind, bytes)) = buffer.packets.pop_front() else { break };
            buffer.bytes -= bytes.len();
            drop(buffer);
            // An entry that can't be written is lost, as it is for a monitor that writes itself.
            let _ = match kind {
                END => sink.finish().and(answer.write_all(b".")).and(answer.flush()),
                2 => sink.write(Stream::Stderr, &bytes),
                _ => sink.write(Stream::Stdout, &bytes),
            };
        }
    });
    sink.finish()
}

fn packet(input: &mut dyn Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    input.read_exact(&mut head)?;
    let [kind, size @ ..] = head;
    let mut bytes = vec![0; u32::from_be_bytes(size) as usize];
    input.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// A disk that hangs until it is told to go on.
    #[derive(Debug)]
    struct Slow {
        go: Mutex<Receiver<()>>,
        kept: Arc<Mutex<Vec<u8>>>,
    }

    impl Sink for Slow {
        fn write(&mut self, _: Stream, bytes: &[u8]) -> io::Result<()> {
            let _ = self.go.lock().unwrap().recv();
            self.kept.lock().unwrap().extend(bytes);
            Ok(())
        }

        fn finish(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_the_buffer_cannot_hold_is_lost_and_nobody_waits() {
        let (go, wait) = channel();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let slow = Slow { go: Mutex::new(wait), kept: Arc::clone(&kept) };
        let (reader, mut writer) = io::pipe().unwrap();
        let pump = std::thread::spawn(move || {
            let mut answers = Vec::new();
            pump(&mut { reader }, 10, Box::new(slow), &mut answers).unwrap();
            answers
        });
        for number in 0..1000_u32 {
            writer.write_all(&[1, 0, 0, 0, 4]).unwrap();
            writer.write_all(&number.to_be_bytes()).unwrap();
        }
        writer.write_all(&[END, 0, 0, 0, 0]).unwrap();
        drop(writer);
        drop(go);
        assert_eq!(pump.join().unwrap(), b".");
        let kept = kept.lock().unwrap();
        assert!(kept.len() < 4000 && kept.starts_with(&[0, 0, 0, 0]), "{} bytes", kept.len());
    }
}
