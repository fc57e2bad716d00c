//! How the caller's terminal or pipes take part in `run`, `exec` and `start -a`.

use std::io;

use super::error::Error;
use super::terminal::{self, RawMode};
use crate::api::Stdio;

/// What takes part, and whether the terminal has to be raw meanwhile.
#[derive(Debug)]
pub(crate) struct Attached {
    /// For the engine.
    pub(crate) stdio: Stdio,
    raw: bool,
}

/// Decides it for a program with or without a terminal (`-t`) and standard input (`-i`).
pub(crate) fn attach(tty: bool, interactive: bool, attach: bool) -> Result<Attached, Error> {
    let stdin = interactive && attach;
    let terminal = terminal::is_terminal(io::stdin());
    if tty && stdin && !terminal {
        return Err(Error::usage("the input is not a terminal")
            .hint("leave `-t` away where standard input is a file or a pipe"));
    }
    let size = if tty && attach {
        terminal::size(io::stdout()).or_else(|| terminal::size(io::stdin()))
    } else {
        None
    };
    Ok(Attached { stdio: Stdio { stdin, attach, size }, raw: tty && stdin })
}

impl Attached {
    /// Switches the terminal to raw mode when the program has it; the guard switches back.
    pub(crate) fn raw_mode(&self) -> Result<Option<RawMode>, Error> {
        if !self.raw {
            return Ok(None);
        }
        let raw = RawMode::enter();
        raw.map(Some)
            .map_err(|error| Error::usage(format!("cannot switch the terminal to raw mode: {error}")))
    }
}
