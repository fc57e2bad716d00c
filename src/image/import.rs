//! A root filesystem becomes an image of one layer.

use std::io::Read;

use kiln_cache::{Image, Lease, Store};

use super::assemble::{Assembly, assemble};
use super::error::{Error, Result};
use super::ingest::{Expected, ingest};
use super::layer::{self, Times};
use crate::oci::{HistoryEntry, ImageConfig, Platform, RunConfig};

/// What an imported image is besides its files.
#[derive(Debug, Clone)]
pub struct Import {
    /// How containers of it run.
    pub config: RunConfig,
    /// The history line's comment.
    pub message: String,
    /// What it is for.
    pub platform: Platform,
    /// When it was made.
    pub created: jiff::Timestamp,
}

/// Makes an image of the tar in `reader`: plain, gzip, zstd, bzip2 or xz.
pub fn import(store: &Store, lease: &Lease, reader: &mut (dyn Read + Send), import: Import) -> Result<Image> {
    let expected = Expected {
        name: "the archive".to_owned(),
        blob: None,
        diff_id: None,
        media_type: None,
        created: import.created.as_second(),
    };
    // A layer is kept as it came, and no registry has bzip2 or xz.
    let mut reader = layer::without_rare(reader).map_err(Error::io("read the archive"))?;
    let layer = ingest(store, lease, &mut reader, &expected)?;
    let created = import.created.to_string();
    let line = HistoryEntry {
        created: Some(created.clone()),
        comment: Some(import.message),
        ..HistoryEntry::default()
    };
    let config = ImageConfig {
        created: Some(created),
        architecture: import.platform.architecture,
        os: import.platform.os,
        variant: import.platform.variant,
        config: import.config,
        history: vec![line],
        ..ImageConfig::default()
    };
    assemble(store, lease, Assembly { config, layers: vec![(layer, Times::Kept)] })
}
