//! `kiln version`

use serde_json::json;

use crate::cli::error::Error;
use crate::cli::format;
use crate::cli::session::{Invocation, print};
use crate::cli::{exit, flags};

/// `kiln version`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Version {
    /// `json`, or a Go template
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
}

const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// `kiln --version`
pub(crate) fn short() -> Result<i32, Error> {
    print(&format!("kiln version {NUMBER}\n"))?;
    Ok(exit::SUCCESS)
}

/// Prints the version, and the platform that this kiln is made for.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Version = flags::parse(invocation)?;
    let platform = crate::oci::Platform::host();
    if let Some(text) = &flags.format {
        let part = json!({ "Version": NUMBER, "Os": platform.os, "Arch": platform.architecture });
        // One process is both, so that scripts for docker find what they ask for.
        let value = json!({ "Client": part, "Server": part });
        format::print_objects(&[value], Some(text))?;
    } else {
        print(&format!("kiln:\n Version:    {NUMBER}\n OS/Arch:    {platform}\n"))?;
    }
    Ok(exit::SUCCESS)
}
