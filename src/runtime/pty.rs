//! A terminal for a process: the slave inside, the master with whoever shows it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::error::{At, StartError};

/// Opens a pair in the given devpts instance: master, slave. Neither becomes a controlling terminal.
pub fn open(devpts: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), StartError> {
    let fail = || "cannot make a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(devpts, "ptmx", flags, Mode::empty()).at("pty", fail)?;
    unlockpt(&master).at("pty", fail)?;
    let slave = slave(master.as_fd())?;
    Ok((master, slave))
}

/// Opens the slave by its master, so that nothing can take the place of its path.
pub(super) fn slave(master: BorrowedFd<'_>) -> Result<OwnedFd, StartError> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(master, flags).at("pty", || "cannot open the terminal")
}

/// Sets the size that programs on the terminal see, and tells them.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> std::io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}
