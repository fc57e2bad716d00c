//! The root filesystem of a chain of snapshots, as a tar or as a folder. Nothing is mounted.

use std::io::{self, Write};
use std::path::Path;

use kiln_cache::{SnapshotId, Store};

use super::error::{Error, Result};
use super::layer::{self, LayerError, Times, Whiteouts};

/// Writes the merged files of `layers` (base first, each with its rule of times) as a tar.
pub fn export_tar(store: &Store, layers: &[(SnapshotId, Times)], out: &mut dyn Write) -> Result<()> {
    let dirs: Vec<_> = layers.iter().map(|(id, times)| (store.snapshot_dir(id), *times)).collect();
    layer::tar_merged(&dirs, out).map_err(failure)
}

/// Writes the merged files of `layers` into `folder`, made when missing; what has the same name there is replaced.
pub fn export_dir(store: &Store, layers: &[(SnapshotId, Times)], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("make the folder of the result"))?;
    let (reader, mut writer) = io::pipe().map_err(Error::io("make a pipe"))?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || export_tar(store, layers, &mut writer));
        let unpacked = layer::unpack_with(reader, folder, Whiteouts::Refuse);
        let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (packed, unpacked) {
            // The reader's own failure closes the pipe, which fails the writer.
            (_, Err(error)) if !matches!(error, LayerError::Truncated { .. }) => Err(failure(error)),
            (Err(error), _) => Err(error),
            (Ok(()), unpacked) => unpacked.map(drop).map_err(failure),
        }
    })
}

fn failure(source: LayerError) -> Error {
    Error::Layer { action: "export", layer: "the result".to_owned(), source }
}
