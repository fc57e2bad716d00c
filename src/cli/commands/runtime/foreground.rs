//! The caller of `run` and `exec` who stays: signals are passed on, and a terminal is shown on the caller's.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::bundle::{self, resize};
use crate::cli::terminal::{self, RawMode};
use crate::sys::process::pidfd_signal;
use crate::sys::signals::Signals;

/// Signals that are passed on.
const PASSED_ON: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGWINCH,
];
/// Bytes that are moved at once.
const BYTES: usize = 16 << 10;

fn fail(source: io::Error) -> bundle::Error {
    bundle::Error::System { what: "cannot wait for the process".into(), source }
}

/// Keeps the signals that are passed on, from now on.
pub(super) fn take_signals() -> bundle::Result<Signals> {
    Signals::take(&PASSED_ON).map_err(fail)
}

/// Attends to a process until it ends; `master` is its terminal.
pub(super) fn attend(pidfd: &OwnedFd, master: Option<&OwnedFd>, signals: Signals) -> bundle::Result<()> {
    let raw = match master {
        Some(master) if terminal::is_terminal(io::stdin()) => {
            // It may have changed before its changes were heard of.
            fit(master);
            Some(RawMode::enter().map_err(fail)?)
        }
        _ => None,
    };
    let ended = Foreground { pidfd, master, signals, reads: master.is_some() }.run();
    drop(raw);
    ended.map_err(fail)
}

/// Gives a terminal the size of the caller's, if that has one: before a program looks.
pub(super) fn fit(master: &OwnedFd) {
    if let Some((rows, columns)) = terminal::size(io::stdin()) {
        // It may be gone by now.
        let _ = resize(master, rows, columns);
    }
}

struct Foreground<'a> {
    pidfd: &'a OwnedFd,
    master: Option<&'a OwnedFd>,
    signals: Signals,
    /// The caller's input hasn't ended.
    reads: bool,
}

impl Foreground<'_> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let stdin = io::stdin();
            let input = if self.reads { PollFlags::IN } else { PollFlags::empty() };
            let mut fds = vec![
                PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            ];
            if let Some(master) = self.master {
                fds.push(PollFd::from_borrowed_fd(master.as_fd(), PollFlags::IN));
                // One that has ended would wake us for ever.
                fds.extend(self.reads.then(|| PollFd::from_borrowed_fd(stdin.as_fd(), input)));
            }
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            self.pass_signals();
            if ready.get(3) == Some(&true) {
                self.take_input()?;
            }
            // What it wrote last is still to be read.
            while ready[0] || ready.get(2) == Some(&true) {
                if !self.show_output()? || !ready[0] {
                    break;
                }
            }
            if ready[0] {
                return Ok(());
            }
        }
    }

    fn pass_signals(&self) {
        for signal in self.signals.pending() {
            match self.master {
                Some(master) if signal == libc::SIGWINCH => fit(master),
                // It may have ended by itself.
                _ => drop(pidfd_signal(self.pidfd.as_fd(), signal)),
            }
        }
    }

    fn take_input(&mut self) -> io::Result<()> {
        let Some(master) = self.master else { return Ok(()) };
        let mut bytes = [0; BYTES];
        let length = rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut bytes))?;
        self.reads = length > 0;
        let mut rest = &bytes[..length];
        while !rest.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::write(master, rest)) {
                Ok(length) => rest = &rest[length..],
                // Nobody has it open any more.
                Err(Errno::IO) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Shows what there is; `false` when there is nothing more.
    fn show_output(&self) -> io::Result<bool> {
        let Some(master) = self.master else { return Ok(false) };
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&now))? == 0 {
            return Ok(false);
        }
        let mut bytes = [0; BYTES];
        match rustix::io::retry_on_intr(|| rustix::io::read(master, &mut bytes)) {
            Ok(0) | Err(Errno::IO) => {
                // Closed on the other side, though it may be opened again by a process that lives on.
                std::thread::sleep(std::time::Duration::from_millis(1));
                Ok(false)
            }
            Ok(length) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&bytes[..length])?;
                stdout.flush()?;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}
