//! Flags, as docker's users type them: `-f=x`, `-aq`, `--rm=false`, values that begin with a dash, the last of
//! a repeated flag wins. What docker has and kiln hasn't yet is refused by name.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::error::Error;
use super::session::Invocation;
use super::settings::Globals;
use super::suggest;
use super::table_of_commands::Entry;

/// What the words before a command's own ones ask for.
#[derive(Debug)]
pub(crate) enum Start {
    /// Call the command of this name.
    Command(Globals, String),
    /// `--version`
    Version,
    /// `--help`, or nothing at all.
    Help,
}

/// Global flags that docker has and kiln hasn't.
const GLOBAL_NOT_YET: [&str; 13] = [
    "-c",
    "--context",
    "-D",
    "--debug",
    "-H",
    "--host",
    "-l",
    "--log-level",
    "--tls",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
    "--tlsverify",
];

/// Reads the global flags and the command's name off the front of `arguments`.
pub(crate) fn globals(arguments: &mut impl Iterator<Item = OsString>) -> Result<Start, Error> {
    let mut globals = Globals::default();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        let (flag, value) = match text.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => (flag.to_owned(), Some(OsString::from(value))),
            _ => (text.clone(), None),
        };
        let slot = match flag.as_str() {
            // `-help` is what people type who come from other tools.
            "--help" | "-h" | "-help" => return Ok(Start::Help),
            "--version" | "-v" => return Ok(Start::Version),
            "--root" => &mut globals.root,
            "--config" => &mut globals.config,
            flag if GLOBAL_NOT_YET.contains(&flag) => {
                return Err(Error::usage(format!("`{flag}` is not supported yet")).hint("see `kiln --help`"));
            }
            flag if flag.starts_with('-') => {
                return Err(Error::usage(format!("unknown flag: `{flag}`")).hint("see `kiln --help`"));
            }
            _ => return Ok(Start::Command(globals, text)),
        };
        let value = value.or_else(|| arguments.next()).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| Error::usage(format!("`{flag}` needs a value")))?;
        *slot = Some(PathBuf::from(value));
    }
    Ok(Start::Help)
}

/// Reads a command's own flags and arguments.
pub(crate) fn parse<T: clap::FromArgMatches>(invocation: &Invocation<'_>) -> Result<T, Error> {
    let entry = invocation.entry;
    let command = command(entry, &invocation.name).mut_args(lenient);
    let arguments = invocation.arguments.iter().map(|argument| match argument.to_str() {
        Some("-help") => OsString::from("--help"),
        _ => argument.clone(),
    });
    let matches = command.try_get_matches_from(arguments).map_err(|error| explain(&error, invocation))?;
    T::from_arg_matches(&matches).map_err(|error| explain(&error, invocation))
}

/// `kiln COMMAND --help`
pub(crate) fn help(entry: &Entry, name: &str) -> String {
    command(entry, name).render_help().to_string()
}

/// The clap command of `entry`.
fn command(entry: &Entry, name: &str) -> Command {
    let command = Command::new(entry.name)
        .no_binary_name(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .override_usage(format!("kiln {name} {}", entry.arguments))
        .about(entry.about)
        .help_template("Usage:  {usage}\n\n{about}\n\nOptions:\n{options}\n");
    // The derived flags bring their struct's own words; the table's are the ones to show.
    let command = (entry.flags)(command.next_display_order(None)).about(entry.about).long_about(None);
    // `-h` is a flag of its own for some: `run -h HOSTNAME`.
    let taken = command.get_arguments().any(|argument| argument.get_short() == Some('h'));
    let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print this help");
    command.arg(if taken { help } else { help.short('h') })
}

/// Makes flags take `=true` and `=false`, and values begin with a dash.
fn lenient(argument: Arg) -> Arg {
    match argument.get_action() {
        ArgAction::SetTrue => argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_parser(ValueParser::from(boolean))
            .default_missing_value("true")
            .default_value("false"),
        ArgAction::Set | ArgAction::Append if !argument.is_positional() => argument.allow_hyphen_values(true),
        _ => argument,
    }
}

/// Go's spellings.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

/// Says a mistake in kiln's words.
fn explain(error: &clap::Error, invocation: &Invocation<'_>) -> Error {
    let (entry, name) = (invocation.entry, invocation.name.as_str());
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let see = format!("see `kiln {name} --help`");
    let argument = context(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::DisplayHelp => Error::Help(help(entry, name)),
        ErrorKind::UnknownArgument if argument.starts_with('-') => unknown(&argument, invocation),
        ErrorKind::UnknownArgument => {
            Error::usage(format!("unexpected argument: `{argument}`")).hint(usage_hint(entry, name))
        }
        ErrorKind::MissingRequiredArgument => {
            Error::usage(format!("missing {argument}")).hint(usage_hint(entry, name)).hint(see)
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals if context(ContextKind::InvalidValue).is_empty() => {
            Error::usage(format!("`{}` needs a value", flag_name(&argument))).hint(see)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let mut message = format!(
                "invalid value `{}` for `{}`",
                context(ContextKind::InvalidValue),
                flag_name(&argument)
            );
            if let Some(source) = std::error::Error::source(error) {
                match source.is::<std::num::ParseIntError>() {
                    true => message += ": it must be a whole number",
                    false => message += &format!(": {source}"),
                }
            }
            let valid = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(valid)) => valid.join(", "),
                _ => String::new(),
            };
            let error = Error::usage(message);
            if valid.is_empty() { error.hint(see) } else { error.hint(format!("it may be {valid}")) }
        }
        ErrorKind::ArgumentConflict => {
            let other = context(ContextKind::PriorArg);
            Error::usage(format!(
                "`{}` and `{}` can't be used together",
                flag_name(&argument),
                flag_name(&other)
            ))
            .hint(see)
        }
        _ => {
            let text = error.render().to_string();
            let text = text.lines().next().unwrap_or_default();
            Error::usage(text.trim_start_matches("error: ").to_owned()).hint(see)
        }
    }
}

/// `--name <NAME>` → `--name`.
fn flag_name(argument: &str) -> &str {
    argument.split([' ', '=', '[']).next().unwrap_or(argument)
}

fn usage_hint(entry: &Entry, name: &str) -> String {
    format!("usage: kiln {name} {}", entry.arguments)
}

/// A flag that the command hasn't.
fn unknown(argument: &str, invocation: &Invocation<'_>) -> Error {
    let (entry, name) = (invocation.entry, invocation.name.as_str());
    let flag = flag_name(argument);
    let see = format!("see `kiln {name} --help`");
    if entry.not_yet.iter().any(|flags| flags.contains(&flag)) {
        return Error::usage(format!("`{flag}` is not supported yet")).hint(see);
    }
    let known: Vec<String> = command(entry, name)
        .get_arguments()
        .filter_map(|known| known.get_long().map(|long| format!("--{long}")))
        .collect();
    let error = Error::usage(format!("unknown flag: `{flag}`"));
    // A word after a single dash is read as letters: `-name=x`.
    let words = invocation.arguments.iter().filter_map(|word| word.to_str());
    let meant = words.filter(|word| !word.starts_with("--") && word.len() > 3 && word.starts_with(flag));
    let meant = meant.map(|word| format!("-{}", flag_name(word))).next().unwrap_or_else(|| flag.to_owned());
    match suggest::closest(&meant, known.iter().map(String::as_str)) {
        Some(close) => error.hint(format!("did you mean `{close}`?")),
        None => error,
    }
    .hint(see)
}

#[cfg(test)]
mod tests;
