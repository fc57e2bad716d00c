//! The command line: argv → request → engine → print.
//!
//! The only module that reads argv, the environment and the terminal, and the only one that prints. Data goes to
//! standard output, all else to standard error. A command is an entry of the table in [`table_of_commands`] and a
//! file in `commands/`; its flags are parsed only when it is called, so that start-up costs what one command costs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the front door talks to the user")]

mod ahead;
mod commands;
mod config_file;
mod error;
mod exit;
mod failure;
mod findings;
mod flags;
mod format;
mod glob;
mod help;
mod progress;
mod reason;
mod session;
mod settings;
mod stdio;
mod style;
mod suggest;
mod table;
mod table_of_commands;
mod template;
mod terminal;
mod text;
mod time;
mod units;

use std::ffi::OsString;
use std::io::{self, Write};

use self::error::Error;
use self::session::{Invocation, Session};
use self::settings::Environment;
use self::style::Style;
use self::table_of_commands::Entry;
use crate::api::{Failure, FailureKind};

/// Runs the command line `arguments` (without the program's name) and returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let environment = Environment::of_process();
    let style =
        Style::new(terminal::is_terminal(io::stderr()), environment.get("NO_COLOR"), environment.get("TERM"));
    let mut own_code = exit::FAILURE;
    match dispatch(arguments.into_iter().collect(), environment, style, &mut own_code) {
        Ok(code) => code,
        Err(error) => report(&error, style, own_code),
    }
}

/// `kiln runtime` once more, from a file that nobody can write.
pub fn runtime_main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let environment = Environment::of_process();
    let style =
        Style::new(terminal::is_terminal(io::stderr()), environment.get("NO_COLOR"), environment.get("TERM"));
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match commands::runtime::call(&arguments, true) {
        Ok(code) => code,
        Err(error) => report(&error, style, exit::FAILURE),
    }
}

/// Tells the user why the command ended, and returns the exit code for it.
fn report(error: &Error, style: Style, own_code: i32) -> i32 {
    match error {
        Error::Help(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => exit::SUCCESS,
            Err(_) => exit::FAILURE,
        },
        Error::Failure(failure) => {
            tell_failure(failure, style);
            exit::of_failure(failure.kind, own_code)
        }
        Error::Coded(failure, code) => {
            tell_failure(failure, style);
            *code
        }
        // The reader of a pipe went away, as `head` does; it has what it wanted.
        Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::SUCCESS,
        Error::Output(error) => {
            let failure = Failure::new(FailureKind::System, format!("cannot write the output: {error}"));
            tell(&failure::render(&failure, style));
            own_code
        }
    }
}

fn tell_failure(failure: &Failure, style: Style) {
    tell(&failure::render(failure, style));
    let denied = |cause: &String| cause.starts_with("Permission denied");
    if failure.causes.iter().any(denied) && !rustix::process::geteuid().is_root() {
        tell(&format!("{} run it with `sudo`\n", style.cyan("hint:")));
    }
}

/// Writes to standard error; when that is closed there is nobody left to tell.
fn tell(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Reads the global flags and the command's name, and calls it.
fn dispatch(
    arguments: Vec<OsString>,
    environment: Environment,
    style: Style,
    own_code: &mut i32,
) -> Result<i32, Error> {
    let mut arguments = arguments.into_iter();
    let globals = match flags::globals(&mut arguments)? {
        flags::Start::Command(globals, name) => (globals, name),
        flags::Start::Version => return commands::version::short(),
        flags::Start::Help => return Err(Error::Help(help::overview())),
    };
    let (globals, name) = globals;
    let rest: Vec<OsString> = arguments.collect();
    let (entry, name, rest) = find(&name, rest)?;
    *own_code = entry.own_code;
    let session = Session::new(globals, environment, style).with(ahead::begin(entry.name, &rest));
    (entry.run)(&Invocation { session: &session, entry, name, arguments: rest })
}

/// Finds the command `name`, or the one below a group: `image ls`.
fn find(name: &str, rest: Vec<OsString>) -> Result<(&'static Entry, String, Vec<OsString>), Error> {
    if name == "help" {
        return Err(help_of(&rest)?);
    }
    if let Some(group) = table_of_commands::group(name) {
        let mut rest = rest.into_iter();
        let verb = rest.next().map(|verb| verb.to_string_lossy().into_owned());
        return match verb.as_deref() {
            None | Some("--help" | "-h" | "help") => Err(Error::Help(help::group(group))),
            Some(verb) => match group.verbs.iter().find(|(known, _)| *known == verb) {
                Some((_, entry)) => {
                    let entry = table_of_commands::entry(entry).expect("groups name entries of the table");
                    Ok((entry, format!("{name} {verb}"), rest.collect()))
                }
                None => Err(help::unknown_in_group(group, verb)),
            },
        };
    }
    match table_of_commands::entry(name).filter(|entry| !entry.name.contains(' ')) {
        Some(entry) => Ok((entry, name.to_owned(), rest)),
        None => Err(help::unknown(name)),
    }
}

/// `kiln help [COMMAND]`
fn help_of(rest: &[OsString]) -> Result<Error, Error> {
    let Some(first) = rest.first() else { return Ok(Error::Help(help::overview())) };
    let mut arguments: Vec<OsString> = rest[1..].to_vec();
    arguments.push("--help".into());
    let (entry, name, _) = find(&first.to_string_lossy(), arguments)?;
    Ok(Error::Help(flags::help(entry, &name)))
}
