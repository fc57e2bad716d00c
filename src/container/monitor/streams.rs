//! The program's side of a monitor: pipes or a terminal, and the log.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::tcgetwinsize;

use super::clients::Clients;
use crate::container::log::{Sink, Stream};
use crate::container::wire::{Packet, STREAM_BYTES};
use crate::runtime::{Stdio, resize};

/// Input that waits for the program; no more is taken from clients then.
const WAITING_BYTES: usize = 1 << 20;
/// Reads of one output in a row before the others have their turn.
const READS: usize = 8;

/// The program's streams.
pub(in crate::container) struct Streams {
    /// Readable ends, each with its name in the log.
    outputs: Vec<(Option<OwnedFd>, Stream)>,
    /// The writable end of a pipe.
    input: Option<OwnedFd>,
    /// A terminal's master: both ends in one, and read like an output.
    is_terminal: bool,
    waiting: VecDeque<u8>,
    input_ends: bool,
    log: Option<Box<dyn Sink>>,
}

/// Which end a poll's answer belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Output(usize),
    Input,
}

impl Streams {
    /// Makes what the program gets, and the other side of it; without a `log`, output is for clients only.
    pub(in crate::container) fn make(
        tty: bool,
        interactive: bool,
        log: Option<Box<dyn Sink>>,
    ) -> io::Result<(Stdio, Self)> {
        let mut streams = Self {
            outputs: Vec::new(),
            input: None,
            is_terminal: tty,
            waiting: VecDeque::new(),
            input_ends: false,
            log,
        };
        if tty {
            return Ok((Stdio::Pty, streams));
        }
        let stdin = match interactive {
            true => {
                let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(&ours, true)?;
                streams.input = Some(ours);
                theirs
            }
            false => std::fs::File::open("/dev/null")?.into(),
        };
        let mut output = |stream| -> io::Result<OwnedFd> {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            streams.outputs.push((Some(ours), stream));
            Ok(theirs)
        };
        let (stdout, stderr) = (output(Stream::Stdout)?, output(Stream::Stderr)?);
        Ok((Stdio::Fds([stdin, stdout, stderr]), streams))
    }

    /// Gives the log back, for the next run.
    pub(super) fn into_log(self) -> Option<Box<dyn Sink>> {
        self.log
    }

    /// Takes the master of the program's terminal.
    pub(in crate::container) fn set_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        self.input = Some(master.try_clone()?);
        self.outputs.push((Some(master), Stream::Stdout));
        Ok(())
    }

    /// Tells whether more input may be taken from clients.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_BYTES
    }

    /// What to wait for; outputs only when the clients can take them.
    pub(super) fn poll_fds(&self, clients_have_room: bool) -> Vec<PollFd<'_>> {
        let fds = self.ends(clients_have_room).into_iter().filter_map(|end| match end {
            End::Output(index) => Some(PollFd::new(self.outputs.get(index)?.0.as_ref()?, PollFlags::IN)),
            End::Input => Some(PollFd::new(self.input.as_ref()?, PollFlags::OUT)),
        });
        fds.collect()
    }

    fn ends(&self, clients_have_room: bool) -> Vec<End> {
        let mut ends = Vec::new();
        if clients_have_room {
            let open = self.outputs.iter().enumerate().filter(|(_, (fd, _))| fd.is_some());
            ends.extend(open.map(|(index, _)| End::Output(index)));
        }
        if self.input.is_some() && !self.waiting.is_empty() {
            ends.push(End::Input);
        }
        ends
    }

    /// Moves what can be moved, after a poll of [`Self::poll_fds`].
    pub(super) fn handle(&mut self, events: &[PollFlags], clients: &mut Clients) {
        // The clients have not changed since the poll, so neither has the list.
        let ends = self.ends(clients.has_room());
        for (end, events) in ends.into_iter().zip(events) {
            match end {
                _ if events.is_empty() => {}
                End::Output(index) => self.read(index, READS, clients),
                End::Input => self.write_input(),
            }
        }
    }

    /// Reads what is left when the program is dead: no more can come.
    pub(in crate::container) fn drain(&mut self, clients: &mut Clients) {
        for index in 0..self.outputs.len() {
            self.read(index, usize::MAX, clients);
        }
        // The disk may be full; the exit code still has to be told.
        let _ = self.log.as_mut().map(|log| log.finish());
    }

    fn read(&mut self, index: usize, reads: usize, clients: &mut Clients) {
        let mut buffer = vec![0; STREAM_BYTES];
        for _ in 0..reads {
            let (fd, stream) = &mut self.outputs[index];
            let Some(open) = fd.as_ref() else { return };
            match rustix::io::read(open, &mut buffer) {
                Ok(0) => *fd = None,
                Ok(length) => {
                    let _ = self.log.as_mut().map(|log| log.write(*stream, &buffer[..length]));
                    clients.output(&match stream {
                        Stream::Stdout => Packet::Stdout(buffer[..length].to_vec()),
                        Stream::Stderr => Packet::Stderr(buffer[..length].to_vec()),
                    });
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                // EIO: nobody has the terminal open any more.
                Err(_) => *fd = None,
            }
        }
    }

    /// Takes bytes for the program's input.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.input.is_some() && !self.input_ends {
            self.waiting.extend(bytes);
            self.write_input();
        }
    }

    /// Ends the program's input once all of it was written. A terminal's input has no end of its own.
    pub(super) fn end_input(&mut self) {
        if !self.is_terminal {
            self.input_ends = true;
            self.write_input();
        }
    }

    fn write_input(&mut self) {
        while let (Some(input), false) = (&self.input, self.waiting.is_empty()) {
            match rustix::io::write(input, self.waiting.as_slices().0) {
                Ok(length) => drop(self.waiting.drain(..length)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                // The program doesn't want any more.
                Err(_) => {
                    self.waiting.clear();
                    self.input = None;
                }
            }
        }
        if self.input_ends {
            self.input = None;
        }
    }

    /// Tells the terminal its size, and the program that there is something to draw.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        let (true, Some(master)) = (self.is_terminal, &self.input) else { return };
        // The kernel tells a program of changes only; who comes anew with the same size wants to see it too.
        if tcgetwinsize(master).is_ok_and(|size| (size.ws_row, size.ws_col) == (rows, columns)) {
            let _ = resize(master, rows.saturating_add(1), columns);
        }
        let _ = resize(master, rows, columns);
    }
}
