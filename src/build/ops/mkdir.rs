//! WORKDIR: a directory that exists.

use std::path::{Path, PathBuf};

use crate::build::graph::MkdirSpec;
use crate::build::tree::{
    Attributes, Entry, Error, LayerWriter, Merged, Result, clean, lookup_owner, resolve, show,
};

/// Tells whether the directory of `spec` exists in `chain` (folders in overlay form, base first): there is
/// nothing to do then, and no layer to make.
///
/// An error if something that is no directory stands there.
pub fn exists(spec: &MkdirSpec, chain: &[PathBuf]) -> Result<bool> {
    let found = resolve(&Merged::open(chain)?, &clean(spec.path.as_bytes()))?;
    match found.entry {
        Some(entry) if !entry.is_dir() => Err(Error::NotDirectory { path: show(&found.path) }),
        entry => Ok(entry.as_ref().is_some_and(Entry::is_dir)),
    }
}

/// Makes the directory and those missing above it in the empty folder `layer`, on top of `chain`.
///
/// What is made has mode 0755 and belongs to the user of `spec`. Returns false, and writes nothing, if it exists.
pub fn execute(spec: &MkdirSpec, chain: &[PathBuf], layer: &Path) -> Result<bool> {
    if exists(spec, chain)? {
        return Ok(false);
    }
    let rootfs = Merged::open(chain)?;
    let owner = lookup_owner(&rootfs, &spec.user)?;
    let mut writer = LayerWriter::new(layer, &rootfs, owner)?;
    let path = writer.resolve(&clean(spec.path.as_bytes()))?.path;
    let attributes = Attributes { mode: 0o755, owner, ..Attributes::default() };
    writer.directory(&path, &attributes, false)?;
    writer.finish()?;
    Ok(true)
}
