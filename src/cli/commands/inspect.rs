//! `kiln inspect`, `kiln image inspect`, `kiln container inspect`

use serde_json::Value;

use super::pairs::is_not_found;
use crate::api::{Failure, FailureKind};
use crate::cli::error::Error;
use crate::cli::format;
use crate::cli::session::{Invocation, Session};
use crate::cli::{exit, flags};

/// `kiln inspect`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    one: InspectOne,
    /// Look only for this kind: image or container
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<String>,
    /// Show also how much disk space a container takes
    #[arg(long, short)]
    size: bool,
}

/// `kiln container inspect`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct InspectContainer {
    #[command(flatten)]
    one: InspectOne,
    /// Show also how much disk space it takes
    #[arg(long, short)]
    size: bool,
}

/// `kiln image inspect`, and what the others share with it
#[derive(Debug, Default, clap::Args)]
pub(crate) struct InspectOne {
    /// `json`, or a Go template
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
    /// What to look at
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// What may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Container,
    Any,
}

/// Prints what is known of containers and images.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Inspect = flags::parse(invocation)?;
    let kind = match flags.kind.as_deref() {
        None | Some("") => Kind::Any,
        Some("image") => Kind::Image,
        Some("container") => Kind::Container,
        Some(other) => {
            return Err(Error::usage(format!("`--type {other}` is not supported yet"))
                .hint("it may be image or container"));
        }
    };
    show(invocation.session, &flags.one, kind, flags.size)
}

/// Prints what is known of images.
pub(crate) fn image(invocation: &Invocation<'_>) -> Result<i32, Error> {
    show(invocation.session, &flags::parse(invocation)?, Kind::Image, false)
}

/// Prints what is known of containers.
pub(crate) fn container(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: InspectContainer = flags::parse(invocation)?;
    show(invocation.session, &flags.one, Kind::Container, flags.size)
}

/// Prints what was found, tells what wasn't.
fn show(session: &Session, flags: &InspectOne, kind: Kind, sized: bool) -> Result<i32, Error> {
    // A bad template is told before anything is looked up.
    if let Some(text) = flags.format.as_deref().filter(|text| !matches!(*text, "" | "json")) {
        crate::cli::template::Template::parse(text)?;
    }
    let mut found = Vec::new();
    let code = session.each(&flags.names, |name| {
        found.push(look_up(session, name, kind, sized)?);
        Ok(())
    })?;
    format::print_objects(&found, flags.format.as_deref())?;
    Ok(if code == exit::SUCCESS { exit::SUCCESS } else { exit::FAILURE })
}

fn look_up(session: &Session, name: &str, kind: Kind, sized: bool) -> Result<Value, Error> {
    let engine = session.engine()?;
    if kind != Kind::Image {
        match engine.inspect_container(name, sized).map_err(Error::from) {
            Err(error) if kind == Kind::Any && is_not_found(&error) => {}
            other => return other,
        }
    }
    match engine.inspect_image(name).map_err(Error::from) {
        Err(error) if kind == Kind::Any && is_not_found(&error) => {
            let failure =
                Failure::new(FailureKind::NotFound, format!("no such container or image: `{name}`"));
            Err(failure.hint("`kiln ps -a` and `kiln images` list what there is").into())
        }
        other => other,
    }
}
