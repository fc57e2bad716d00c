//! `kiln inspect`, `kiln image inspect`, `kiln container inspect`

use serde_json::Value;

use super::pairs::is_not_found;
use super::volume;
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
    /// Look only for this kind: image, container, network or volume
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
    Network,
    Volume,
    Any,
}

/// Prints what is known of containers and images.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Inspect = flags::parse(invocation)?;
    let kind = match flags.kind.as_deref() {
        None | Some("") => Kind::Any,
        Some("image") => Kind::Image,
        Some("container") => Kind::Container,
        Some("network") => Kind::Network,
        Some("volume") => Kind::Volume,
        Some(other) => {
            return Err(Error::usage(format!("`--type {other}` is not supported yet"))
                .hint("it may be image, container, network or volume"));
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

/// Prints what is known of volumes.
pub(super) fn volumes(session: &Session, flags: &InspectOne) -> Result<i32, Error> {
    show(session, flags, Kind::Volume, false)
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

/// Finds something by its name.
type Look<'a> = &'a dyn Fn(&str) -> Result<Value, Error>;

fn look_up(session: &Session, name: &str, kind: Kind, sized: bool) -> Result<Value, Error> {
    let engine = session.engine()?;
    let container = |name: &str| engine.inspect_container(name, sized).map_err(Error::from);
    let image = |name: &str| engine.inspect_image(name).map_err(Error::from);
    let volume = |name: &str| Ok(volume::inspect::shown(&engine.volume(name)?));
    let network = |name: &str| engine.inspect_network(name).map_err(Error::from);
    let all: [(Kind, Look<'_>); 4] = [
        (Kind::Container, &container),
        (Kind::Image, &image),
        (Kind::Network, &network),
        (Kind::Volume, &volume),
    ];
    for (known, look) in all.into_iter().filter(|(known, _)| kind == Kind::Any || kind == *known) {
        match look(name) {
            // Not every name can be a volume's.
            Err(error) if kind == Kind::Any && (known == Kind::Volume || is_not_found(&error)) => {}
            found => return found,
        }
    }
    let failure =
        Failure::new(FailureKind::NotFound, format!("no such container, image, network or volume: `{name}`"));
    let lists = "`kiln ps -a`, `kiln images`, `kiln network ls` and `kiln volume ls` list what there is";
    Err(failure.hint(lists).into())
}
