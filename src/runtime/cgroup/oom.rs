//! Processes that the kernel killed for memory.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::Cgroup;

/// Wakes up who waits when memory has run out.
#[derive(Debug)]
pub struct OomWatch {
    /// An eventfd in v1; `memory.events` in v2, whose changes are urgent data.
    fd: OwnedFd,
    flags: PollFlags,
}

impl Cgroup {
    /// Returns how many processes the kernel has killed for memory; to be asked before the removal.
    pub fn oom_kills(&self) -> u64 {
        let Some(file) = self.file("memory.events").or_else(|| self.file("memory.oom_control")) else {
            return 0;
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or(0)
    }

    /// Returns what wakes up when memory runs out; `None` where memory isn't counted.
    pub fn oom_watch(&self) -> Option<OomWatch> {
        let watch = if let Some(file) = self.file("memory.events") {
            OomWatch { fd: File::open(file).ok()?.into(), flags: PollFlags::PRI }
        } else {
            let control = File::open(self.file("memory.oom_control")?).ok()?;
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
            let line = {
                use std::os::fd::AsRawFd;
                format!("{} {}", fd.as_raw_fd(), control.as_raw_fd())
            };
            fs::write(self.file("cgroup.event_control")?, line).ok()?;
            OomWatch { fd, flags: PollFlags::IN }
        };
        // What was there before is no news.
        let _ = watch.clear();
        Some(watch)
    }
}

impl OomWatch {
    /// What to poll, and for what.
    pub fn poll_fd(&self) -> (BorrowedFd<'_>, PollFlags) {
        (self.fd.as_fd(), self.flags)
    }

    /// Takes the news in, so that the next poll waits for the next one.
    pub fn clear(&self) -> io::Result<()> {
        let mut buffer = [0; 512];
        match self.flags {
            PollFlags::PRI => rustix::io::pread(&self.fd, &mut buffer, 0)?,
            _ => rustix::io::read(&self.fd, &mut buffer)?,
        };
        Ok(())
    }
}
