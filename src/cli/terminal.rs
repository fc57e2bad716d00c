//! The caller's terminal: its size, and its raw mode with the promise to restore it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::error::Error;

/// The settings to put back, while raw mode is on. Here and not in the guard, so that the panic hook finds them:
/// a release build aborts on panic and runs no destructor.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Tells whether `fd` is a terminal.
pub(crate) fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// Refuses to write an archive to standard output when that is a terminal; `instead` is what to do.
pub(crate) fn refuse_archive(instead: &str) -> Result<(), Error> {
    if is_terminal(io::stdout()) {
        return Err(Error::usage("an archive is not written to a terminal").hint(instead));
    }
    Ok(())
}

/// Returns the terminal's `(rows, columns)`, when it says.
pub(crate) fn size(fd: impl AsFd) -> Option<(u16, u16)> {
    let size = tcgetwinsize(fd).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Standard input's terminal in raw mode; dropped or after a panic, it is what it was.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Switches standard input's terminal to raw mode.
    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        set(stdin.as_fd(), &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was before raw mode; nothing to do when it isn't raw.
pub(crate) fn restore() {
    if let Some(before) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Nothing is left to tell it to when it fails: the terminal is gone.
        drop(set(io::stdin().as_fd(), &before));
    }
}

fn set(fd: BorrowedFd<'_>, settings: &Termios) -> io::Result<()> {
    // Flush would eat what the user has already typed.
    Ok(tcsetattr(fd, OptionalActions::Drain, settings)?)
}
