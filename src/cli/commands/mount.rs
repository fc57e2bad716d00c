//! `kiln mount`

use crate::cli::table_of_commands::{Entry, not_yet};

/// Its place in the table.
pub(crate) const ENTRY: Entry = not_yet("mount");
