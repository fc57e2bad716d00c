//! Signals that a process takes in as bytes of a pipe.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

/// The writing end for the handler; −1 while nobody listens.
static WRITER: AtomicI32 = AtomicI32::new(-1);

/// Signals as readable bytes; their former actions come back when it is dropped.
///
/// One at a time in a process. A pipe and not a signalfd, because signals of a process with several threads
/// reach whichever thread doesn't block them.
#[derive(Debug)]
pub struct Signals {
    reader: OwnedFd,
    former: Vec<(i32, libc::sighandler_t)>,
}

impl Signals {
    /// Starts to take in `signals`.
    pub fn take(signals: &[i32]) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let old = WRITER.swap(writer.into_raw_fd(), Ordering::SeqCst);
        debug_assert_eq!(old, -1, "two listeners for signals");
        let mut taken = Self { reader, former: Vec::new() };
        for signal in signals {
            let handler = note as extern "C" fn(i32) as *const () as libc::sighandler_t;
            // SAFETY: the handler only loads an atomic and calls write, both allowed in a handler.
            let former = unsafe { libc::signal(*signal, handler) };
            if former == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
            taken.former.push((*signal, former));
        }
        Ok(taken)
    }

    /// Gives the signals that came since the last call.
    pub fn pending(&self) -> Vec<i32> {
        let mut bytes = [0; 64];
        let length = rustix::io::read(&self.reader, &mut bytes).unwrap_or(0);
        bytes[..length].iter().map(|byte| i32::from(*byte)).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, former) in &self.former {
            // SAFETY: the action is one that the kernel gave for this signal before.
            unsafe { libc::signal(*signal, *former) };
        }
        // The writing end stays open on purpose: a handler that runs on another thread may still hold its number.
        WRITER.store(-1, Ordering::SeqCst);
    }
}

extern "C" fn note(signal: i32) {
    let writer = WRITER.load(Ordering::SeqCst);
    let byte = u8::try_from(signal).unwrap_or_default();
    if writer >= 0 {
        // SAFETY: errno is the thread's own.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: the pointer is valid for this thread.
        let before = unsafe { *errno };
        // SAFETY: one byte on this stack is written to a pipe that is never closed.
        unsafe { libc::write(writer, (&raw const byte).cast(), 1) };
        // SAFETY: as above; the interrupted code finds its errno again.
        unsafe { *errno = before };
    }
}

/// Tells whether this process ignores `signal`, as a shell makes its background jobs do.
pub fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null action only asks; the answer goes to a place of the right size.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all bytes of it were zeroed, and zeros are a valid action.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Returns a signal's number from `KILL`, `SIGKILL` or `9`.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The names of signals, without `SIG`.
const NAMES: [(&str, i32); 33] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_in_every_way() {
        for text in ["9", "KILL", "SIGKILL", "sigkill", "kill"] {
            assert_eq!(parse(text), Some(9), "{text}");
        }
        assert_eq!(parse("RTMIN+1"), Some(35));
        for text in ["0", "65", "-1", "NOPE", "", "RTMIN+99", "SIG"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_signal_becomes_a_byte() {
        let signals = Signals::take(&[libc::SIGUSR2]).unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR2).unwrap();
        while signals.pending() != [libc::SIGUSR2] {
            std::thread::yield_now();
        }
    }
}
