//! How the caller's terminal or pipes take part in `run`, `exec` and `start -a`.

use std::io;

use super::error::Error;
use super::exit;
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
            .hint("leave `-t` away where standard input is a file or a pipe")
            .code(exit::FAILURE));
    }
    let size = if tty && attach {
        terminal::size(io::stdout()).or_else(|| terminal::size(io::stdin()))
    } else {
        None
    };
    Ok(Attached { stdio: Stdio { stdin, attach, size, ..Stdio::default() }, raw: tty && stdin })
}

impl Attached {
    /// Takes part in `streams` only, which are of stdin, stdout and stderr; none named is all.
    pub(crate) fn only(mut self, streams: &[String]) -> Self {
        let has = |stream: &str| streams.is_empty() || streams.iter().any(|one| one == stream);
        self.stdio.stdin &= has("stdin");
        self.raw &= has("stdin");
        self.stdio.hides = (!has("stdout"), !has("stderr"));
        self
    }
}

/// How one leaves a program that goes on.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Detaching {
    /// Keys that leave the program running (default ctrl-p,ctrl-q)
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
}

/// Who gets the signals that come to kiln meanwhile.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SignalProxy {
    /// Pass signals on to the program (default true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: Option<bool>,
}

impl Attached {
    /// Takes over the keys to detach.
    pub(crate) fn detaching(mut self, flags: &Detaching) -> Result<Self, Error> {
        self.stdio.detach_keys = flags.detach_keys.as_deref().map(keys).transpose()?;
        Ok(self)
    }

    /// Takes over who gets the signals.
    pub(crate) fn signals(mut self, flags: &SignalProxy) -> Self {
        self.stdio.keeps_signals = flags.sig_proxy == Some(false);
        self
    }

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

/// Reads docker's names of keys: `ctrl-p,ctrl-q`, `a`, `DEL`.
fn keys(text: &str) -> Result<Vec<u8>, Error> {
    text.split(',').map(key).collect::<Option<_>>().ok_or_else(|| {
        Error::usage(format!("invalid value `{text}` for `--detach-keys`"))
            .hint("it is a list of single characters and `ctrl-` with a letter or one of @ [ \\ ] ^ _")
    })
}

fn key(text: &str) -> Option<u8> {
    match (text.as_bytes(), text.to_ascii_lowercase().as_bytes()) {
        ([key], _) => Some(*key),
        (_, [b'c', b't', b'r', b'l', b'-', key]) => match key {
            b'a'..=b'z' => Some(key - b'a' + 1),
            b'@' => Some(0),
            b'['..=b'_' => Some(key - b'@'),
            _ => None,
        },
        (_, b"del") => Some(127),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: moby/term, ToBytes.
    #[test]
    fn keys_have_dockers_names() {
        for (text, bytes) in [
            ("ctrl-p,ctrl-q", Some(vec![16, 17])),
            ("a", Some(vec![b'a'])),
            ("ctrl-a,b", Some(vec![1, b'b'])),
            ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", Some(vec![0, 27, 28, 29, 30, 31])),
            ("DEL", Some(vec![127])),
            ("ctrl-", None),
            ("ctrl-ä", None),
            ("ab", None),
            ("a,", None),
            ("", None),
        ] {
            assert_eq!(keys(text).ok(), bytes, "{text}");
        }
    }
}
