//! `kiln volume inspect`

use serde_json::{Value, json};

use crate::api::VolumeInfo;
use crate::cli::commands::inspect::{InspectOne, volumes};
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{flags, time};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Grouped,
    "volume inspect",
    "Display detailed information on one or more volumes",
    "[OPTIONS] VOLUME [VOLUME...]",
    InspectOne,
    run
);

/// Prints what is known of volumes.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: InspectOne = flags::parse(invocation)?;
    volumes(invocation.session, &flags)
}

/// A volume in docker's shape.
pub(crate) fn shown(volume: &VolumeInfo) -> Value {
    let some = |pairs: &std::collections::BTreeMap<String, String>| match pairs.is_empty() {
        true => Value::Null,
        false => json!(pairs),
    };
    json!({
        "CreatedAt": time::rfc3339(volume.created / 1_000_000_000),
        "Driver": "local",
        "Labels": some(&volume.labels),
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": some(&volume.options),
        "Scope": "local",
    })
}
