//! The writable layer of a container becomes the uppermost layer of a new image.

use std::io::{self, Read, Write};

use kiln_cache::{Diff, Image, Lease, Snapshot, SnapshotId, Store, StreamHasher};

use super::assemble::{Assembly, assemble};
use super::error::{Error, Result};
use super::layer::{self, LayerError, Times};
use crate::oci::{HistoryEntry, ImageConfig};

/// Bytes of a tar without entries: two blocks.
const EMPTY_TAR_BYTES: u64 = 1024;

/// What the new image is besides its files.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The layers that the container stands on, base first.
    pub chain: &'a [SnapshotId],
    /// The configuration; its history is the base's.
    pub config: ImageConfig,
    /// The line that is added to the history.
    pub line: HistoryEntry,
    /// Unix seconds.
    pub created: i64,
}

/// Makes an image of what `pack` writes, as the tar of a layer, on top of the base's layers.
///
/// A tar without entries makes no layer, as with docker.
pub fn commit(
    store: &Store,
    lease: &Lease,
    commit: Commit<'_>,
    pack: impl FnOnce(&mut dyn Write) -> std::result::Result<(), LayerError> + Send,
) -> Result<Image> {
    let Commit { chain, mut config, mut line, created } = commit;
    pad_history(&mut config.history, chain.len());
    let mut layers: Vec<(SnapshotId, Times)> = chain.iter().map(|id| (*id, Times::Kept)).collect();
    match snapshot(store, lease, created, pack)? {
        Some(top) => layers.push((top, Times::Kept)),
        None => line.empty_layer = true,
    }
    config.history.push(line);
    assemble(store, lease, Assembly { config, layers })
}

/// Unpacks the tar as it comes. Its digest is the snapshot's: it is in the canonical form already.
fn snapshot(
    store: &Store,
    lease: &Lease,
    created: i64,
    pack: impl FnOnce(&mut dyn Write) -> std::result::Result<(), LayerError> + Send,
) -> Result<Option<SnapshotId>> {
    let failed =
        |source| Error::Layer { action: "commit", layer: "the container's layer".to_owned(), source };
    let staged = store.stage(lease)?;
    let (reader, mut writer) = io::pipe().map_err(Error::io("make a pipe"))?;
    let mut hashed = Hashed { reader, hasher: StreamHasher::new() };
    let unpacked = std::thread::scope(|scope| {
        let packing = scope.spawn(move || pack(&mut writer));
        let unpacked = layer::unpack(&mut hashed, &staged.fs());
        let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (packed, unpacked) {
            // The reader's own failure closes the pipe, which fails the writer.
            (_, Err(error)) if !matches!(error, LayerError::Truncated { .. }) => Err(error),
            (Err(error), _) => Err(error),
            (Ok(()), unpacked) => unpacked,
        }
    });
    let unpacked = unpacked.map_err(failed)?;
    let (id, tar_bytes) = hashed.hasher.finish();
    if tar_bytes <= EMPTY_TAR_BYTES {
        return Ok(None);
    }
    let diff = Some(Diff { id, tar_bytes });
    Ok(Some(staged.commit(Snapshot { diff, bytes: unpacked.bytes, created, ..Snapshot::default() })?))
}

/// A history pairs its lines with the layers by counting; one that can't gets lines that say nothing.
fn pad_history(history: &mut Vec<HistoryEntry>, layers: usize) {
    let count = |history: &[HistoryEntry]| history.iter().filter(|line| !line.empty_layer).count();
    if count(history) > layers {
        history.clear();
    }
    let missing = layers - count(history);
    history.splice(0..0, std::iter::repeat_n(HistoryEntry::default(), missing));
}

/// A reader that hashes what passes.
struct Hashed<R> {
    reader: R,
    hasher: StreamHasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_a_line_for_each_layer() {
        let empty = HistoryEntry { empty_layer: true, ..HistoryEntry::default() };
        let line = HistoryEntry { created_by: Some("x".into()), ..HistoryEntry::default() };
        for (mut history, layers, lines) in [
            (vec![], 2, 2),
            (vec![line.clone(), empty.clone()], 1, 2),
            (vec![empty, line.clone()], 3, 4),
            (vec![line.clone(), line], 1, 1),
        ] {
            pad_history(&mut history, layers);
            assert_eq!(history.len(), lines);
            assert_eq!(history.iter().filter(|line| !line.empty_layer).count(), layers);
        }
    }
}
