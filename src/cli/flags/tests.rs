//! Flags as docker's users type them.

use super::*;
use crate::api::CreateRequest;
use crate::cli::commands::create::{self, Create};
use crate::cli::commands::images::Images;
use crate::cli::commands::ps::Ps;
use crate::cli::session::Session;
use crate::cli::settings::Environment;
use crate::cli::style::Style;
use crate::cli::table_of_commands;

/// Parses `words` as the flags of `name`.
fn parsed<T: clap::FromArgMatches>(name: &str, words: &[&str]) -> Result<T, String> {
    let session = Session::new(Globals::default(), Environment::default(), Style::plain());
    let entry = table_of_commands::entry(name).expect("the test names a command");
    let arguments = words.iter().map(OsString::from).collect();
    let invocation = Invocation { session: &session, entry, name: name.into(), arguments };
    parse(&invocation).map_err(|error| match error {
        Error::Failure(failure) | Error::Coded(failure, _) => {
            format!("{} | {}", failure.message, failure.hints.join(" | "))
        }
        Error::Help(_) => "help".into(),
        Error::Output(error) => error.to_string(),
    })
}

/// What `create` with `words` asks for.
fn created(words: &[&str]) -> CreateRequest {
    let Create { options, rest } = parsed("create", words).unwrap();
    create::request(&options, &rest, &Environment::default(), "create").expect("the words are right")
}

#[test]
fn words_after_the_image_belong_to_the_program() {
    let create = created(&["--name=x", "-it", "busybox", "-l", "--rm", "-e", "--", "a"]);
    assert_eq!((create.image.as_str(), create.command.join(" ")), ("busybox", "-l --rm -e -- a".into()));
    assert_eq!(create.name.as_deref(), Some("x"));
    assert!(create.interactive && create.tty && !create.remove);
}

#[test]
fn joined_and_spelled_out_flags_are_read() {
    let ps: Ps = parsed("ps", &["-aq", "-n=3"]).unwrap();
    assert!(ps.all && ps.quiet);
    assert_eq!(ps.last, Some(3));
    let ps: Ps = parsed("ps", &["--all=false", "-q=true", "-n", "-1"]).unwrap();
    assert!(!ps.all && ps.quiet);
    assert_eq!(ps.last, Some(-1));
    let images: Images = parsed("images", &["-f=dangling=true", "--filter", "label=a", "debian"]).unwrap();
    assert_eq!(images.filter, ["dangling=true", "label=a"]);
    assert_eq!(images.name.as_deref(), Some("debian"));
}

#[test]
fn values_may_begin_with_a_dash_and_the_last_one_wins() {
    let words = ["--entrypoint", "-x", "-e", "A=1", "-e", "-B=2", "--name", "a", "--name", "b", "img"];
    let create = created(&words);
    assert_eq!(create.entrypoint.as_deref(), Some("-x"));
    assert_eq!(create.env, ["A=1", "-B=2"]);
    assert_eq!(create.name.as_deref(), Some("b"));
}

#[test]
fn a_hostname_is_not_a_call_for_help() {
    assert_eq!(created(&["-h", "box", "img"]).hostname.as_deref(), Some("box"));
    assert_eq!(parsed::<Ps>("ps", &["-h"]).unwrap_err(), "help");
    assert_eq!(parsed::<Ps>("ps", &["-help"]).unwrap_err(), "help");
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    for (words, expected) in [
        (
            &["--nmae", "x", "img"][..],
            "unknown flag: `--nmae` | did you mean `--name`? | see `kiln create --help`",
        ),
        (&["--xyzzyx", "img"], "unknown flag: `--xyzzyx` | see `kiln create --help`"),
        (&["-name=x", "img"], "unknown flag: `-n` | did you mean `--name`? | see `kiln create --help`"),
        (&["--storage-opt", "x", "img"], "`--storage-opt` is not supported yet | see `kiln create --help`"),
        (&["--name"], "`--name` needs a value | see `kiln create --help`"),
        (
            &["--rm=maybe", "img"],
            "invalid value `maybe` for `--rm`: must be true or false | see `kiln create --help`",
        ),
    ] {
        assert_eq!(parsed::<Create>("create", words).map(drop), Err(expected.to_owned()), "{words:?}");
    }
}

#[test]
fn global_flags_stand_before_the_command() {
    let read = |words: &[&str]| globals(&mut words.iter().map(OsString::from));
    let Ok(Start::Command(flags, name)) = read(&["--root", "/x", "--config=/y", "ps", "-a"]) else {
        panic!("a command was given");
    };
    assert_eq!((flags.root, flags.config, name.as_str()), (Some("/x".into()), Some("/y".into()), "ps"));
    assert!(matches!(read(&["-v"]), Ok(Start::Version)));
    assert!(matches!(read(&["-help"]), Ok(Start::Help)));
    assert!(matches!(read(&[]), Ok(Start::Help)));
    assert!(read(&["--root"]).is_err());
    assert!(read(&["-H", "tcp://x", "ps"]).is_err());
}
