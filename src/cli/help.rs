//! The overview of commands, and what is said about one that doesn't exist.

use std::fmt::Write as _;

use super::error::Error;
use super::suggest;
use super::table_of_commands::{COMMANDS, Entry, GROUPS, Group, NOT_YET, Section, entry};

/// `kiln --help`
pub(crate) fn overview() -> String {
    let mut out = String::from(
        "Usage:  kiln [OPTIONS] COMMAND\n\nBuilds images from Dockerfiles and runs them: one binary, no daemon\n",
    );
    section(
        &mut out,
        "Common Commands",
        COMMANDS.iter().filter(|entry| entry.section == Section::Common).map(row),
    );
    section(&mut out, "Management Commands", GROUPS.iter().map(|group| (group.name, group.about)));
    section(&mut out, "Commands", COMMANDS.iter().filter(|entry| entry.section == Section::Other).map(row));
    out + "
Global Options:
      --root DIR     Store of images, containers and build cache (default
                     \"/var/lib/kiln\"; environment: KILN_ROOT)
      --config DIR   Configuration: config.toml, and certs.d/HOST/hosts.toml
                     for registry mirrors (environment: KILN_CONFIG)
      --help         Print this help
  -v, --version      Print the version

Run 'kiln COMMAND --help' for more information on a command.
"
}

/// `kiln image --help`
pub(crate) fn group(group: &Group) -> String {
    let mut out = format!("Usage:  kiln {} COMMAND\n\n{}\n", group.name, group.about);
    let rows = group.verbs.iter().filter_map(|(verb, name)| Some((*verb, entry(name)?)));
    let rows = rows.map(|(verb, entry)| (verb, entry.about));
    section(&mut out, "Commands", rows);
    let _ = write!(out, "\nRun 'kiln {} COMMAND --help' for more information on a command.\n", group.name);
    out
}

fn row(entry: &Entry) -> (&'static str, &'static str) {
    (entry.name, entry.about)
}

fn section<'a>(out: &mut String, title: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    let _ = write!(out, "\n{title}:\n");
    for (name, about) in rows {
        let _ = writeln!(out, "  {name:<11} {about}");
    }
}

/// A command that doesn't exist.
pub(crate) fn unknown(name: &str) -> Error {
    if NOT_YET.contains(&name) {
        return Error::usage(format!("`kiln {name}` is not supported yet")).hint("see `kiln --help`");
    }
    let typed = COMMANDS.iter().filter(|entry| matches!(entry.section, Section::Common | Section::Other));
    let known = typed.map(|entry| entry.name);
    let error = Error::usage(format!("unknown command: `kiln {name}`"));
    let error = match suggest::closest(name, known.chain(GROUPS.iter().map(|group| group.name))) {
        Some(close) => error.hint(format!("did you mean `kiln {close}`?")),
        None => error,
    };
    error.hint("see `kiln --help`")
}

/// A command that a group hasn't.
pub(crate) fn unknown_in_group(group: &Group, verb: &str) -> Error {
    let error = Error::usage(format!("unknown command: `kiln {} {verb}`", group.name));
    let error = match suggest::closest(verb, group.verbs.iter().map(|(known, _)| *known)) {
        Some(close) => error.hint(format!("did you mean `kiln {} {close}`?", group.name)),
        None => error,
    };
    error.hint(format!("see `kiln {} --help`", group.name))
}
