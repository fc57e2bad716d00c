//! `kiln volume create`

use crate::api::VolumeCreateRequest;
use crate::cli::commands::pairs;
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print_line};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Flags of docker's clusters.
#[rustfmt::skip]
const NOT_YET: &[&str] = &[
    "--availability", "--group", "--limit-bytes", "--required-bytes", "--scope", "--secret", "--sharing",
    "--topology-preferred", "--topology-required", "--type",
];

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Grouped, "volume create", "Create a volume", "[OPTIONS] [VOLUME]", Create, run, not_yet: NOT_YET
);

/// `kiln volume create`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Create {
    /// Its driver: local
    #[arg(long, short, value_name = "DRIVER")]
    driver: Option<String>,
    /// Set a label (KEY=VALUE)
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// Set an option of the driver (type=, o=, device=)
    #[arg(long, short, value_name = "OPTION")]
    opt: Vec<String>,
    /// Its name, instead of the volume's
    #[arg(long, value_name = "NAME", hide = true)]
    name: Option<String>,
    /// The volume's name; a made-up one without it
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
}

/// Makes a volume and prints its name.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Create = flags::parse(invocation)?;
    if flags.name.is_some() && flags.volume.is_some() {
        return Err(Error::usage("the volume's name is given twice"));
    }
    let request = VolumeCreateRequest {
        name: flags.volume.or(flags.name),
        driver: flags.driver,
        labels: flags.label.iter().map(|text| pairs::label(text)).collect::<Result<_, _>>()?,
        options: flags.opt.iter().map(|text| option(text)).collect::<Result<_, _>>()?,
    };
    print_line(&invocation.session.root_engine()?.create_volume(&request)?)?;
    Ok(exit::SUCCESS)
}

fn option(text: &str) -> Result<(String, String), Error> {
    let bad = || Error::usage(format!("invalid option `{text}` of a volume")).hint("write it as `KEY=VALUE`");
    let (key, value) = text.split_once('=').ok_or_else(bad)?;
    Ok((key.to_owned(), value.to_owned()))
}
