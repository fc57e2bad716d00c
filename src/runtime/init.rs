//! The first process of a container that wants one: it starts the program, passes signals on to it, reaps what the
//! program's children leave, and ends as the program does.
//!
//! It is kiln itself, run from the read-only clone of its file, with the program's rights and no descriptor but the
//! three standard ones.

use std::os::fd::BorrowedFd;

use rustix::process::{WaitOptions, getpid, setpgid, wait};

use super::child;
use super::credentials::{self, Seal};
use super::error::{At, StartError};
use crate::sys;
use crate::sys::clone::{Cloned, clone_process};

/// What a shell adds to a signal's number.
const SIGNALLED: i32 = 128;

/// Stays behind as the first process; goes on in a new one, which becomes the program.
pub(super) fn stay(seal: &Seal) -> Result<(), StartError> {
    sys::process::block_signals().at("init", || "cannot block signals")?;
    match clone_process(0, None).at("init", || "cannot make a process")? {
        Cloned::Parent { pid, .. } => serve(pid, seal),
        Cloned::Child => {
            child::die_with_parent()?;
            // A group of its own, so that a key at the terminal reaches it once.
            setpgid(None, None).at("init", || "cannot make a process group")?;
            let stdin = rustix::stdio::stdin();
            if rustix::termios::isatty(stdin) {
                take_terminal(stdin)?;
            }
            sys::process::reset_signals().at("init", || "cannot reset signals")
        }
    }
}

/// Allowed from the background while SIGTTOU is blocked.
fn take_terminal(terminal: BorrowedFd<'_>) -> Result<(), StartError> {
    rustix::termios::tcsetpgrp(terminal, getpid()).at("init", || "cannot take the terminal")
}

fn serve(program: i32, seal: &Seal) -> ! {
    // That of the clone is a descriptor's number.
    let _ = rustix::thread::set_name(c"kiln-init");
    // The channel too: its end tells the parent that the program runs.
    let closed = sys::fds::close_all_except(3, &[]);
    if closed.is_err() || credentials::seal(seal).is_err() {
        sys::process::exit_now(125);
    }
    loop {
        let Ok(signal) = sys::process::next_signal() else { continue };
        if signal == libc::SIGCHLD {
            if let Some(code) = reap(program) {
                sys::process::exit_now(code);
            }
            continue;
        }
        // It may have ended just now; the next signal tells.
        let _ = sys::process::signal_child(program, signal);
    }
}

/// Reaps all that have ended; gives the program's exit code when it is among them.
fn reap(program: i32) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == program {
            let signalled = status.terminating_signal().map(|signal| SIGNALLED + signal);
            code = status.exit_status().or(signalled);
        }
    }
    code
}
