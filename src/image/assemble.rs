//! From a chain of snapshots and a configuration to an image. The same input gives the same bytes.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_cache::{Diff, Image, Lease, NewImage, SnapshotId, Store};

use super::error::{Error, Result};
use super::layer::{self, Marks, Times};
use crate::oci::{ImageConfig, RootFs};
use crate::sys;

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// Its configuration with its history; `rootfs` is filled in here.
    pub config: ImageConfig,
    /// Its layers, base first: their snapshots, and which times their files get.
    pub layers: Vec<(SnapshotId, Times)>,
}

/// Makes the image and puts it into the store; what is written meanwhile is kept by `lease`.
///
/// An image that is there already, such as one that was pulled, stays as it is.
pub fn assemble(store: &Store, lease: &Lease, assembly: Assembly) -> Result<Image> {
    let diffs = diffs(store, &assembly.layers)?;
    let chain: Vec<SnapshotId> = assembly.layers.iter().map(|(id, _)| *id).collect();
    let mut config = assembly.config;
    config.rootfs = RootFs { diff_ids: diffs.iter().map(|diff| diff.id).collect(), ..RootFs::default() };
    check_history(&config)?;
    let bytes = serde_json::to_vec(&config).map_err(|error| Error::Document {
        what: "the config",
        image: "the new image".to_owned(),
        reason: error.to_string(),
    })?;
    let id = kiln_cache::Digest::of(&bytes);
    // Being there, it keeps its layers by itself: a lease would be a write in a build that changes nothing.
    if let Some(image) = store.image(&id)? {
        return Ok(image);
    }
    store.put_blob(&bytes, lease)?;
    let size = size(store, &chain)?;
    let created = config.created.as_deref().and_then(unix_seconds).unwrap_or(0);
    let new = NewImage { id, manifest: None, chain, size, created };
    store.put_image(&new)?;
    // A prune beside this build may take an image that has no name yet.
    Ok(store.image(&id)?.unwrap_or_else(|| new.into()))
}

/// Returns the diffs of layers; those that nobody computed yet are computed now, on all processors.
fn diffs(store: &Store, layers: &[(SnapshotId, Times)]) -> Result<Vec<Diff>> {
    let known = |(id, times): &(SnapshotId, Times)| store.diff_by_rule(id, times.rule());
    let view = store.view()?;
    let before: Vec<Option<Diff>> = layers.iter().map(known).collect::<Result<_, _>>()?;
    drop(view);
    let missing: Vec<(SnapshotId, Times)> =
        layers.iter().zip(&before).filter(|(_, diff)| diff.is_none()).map(|(layer, _)| *layer).collect();
    if !missing.is_empty() {
        compute(store, &missing)?;
    }
    let mut diffs = Vec::with_capacity(layers.len());
    for (layer, before) in layers.iter().zip(before) {
        let diff = if before.is_some() { before } else { known(layer)? };
        diffs.push(diff.ok_or(kiln_cache::Error::NoSnapshot { id: layer.0 })?);
    }
    Ok(diffs)
}

/// Computes and keeps the diff that a snapshot has by a rule of times.
pub fn compute_diff(store: &Store, id: &SnapshotId, times: Times) -> Result<Diff> {
    let failed = |source| Error::Layer { action: "pack", layer: format!("snapshot `{id}`"), source };
    let dir = store.snapshot_dir(id);
    // Only a copy takes files over from a layer that it made before.
    let (digest, tar_bytes) = match store.file_list(id) {
        Ok(Some(_)) => {
            let previous = previous(store, id);
            let previous = previous.as_ref().map(|(dir, marks)| (dir.as_path(), marks));
            let (digest, tar_bytes, marks) = layer::diff_id_after(&dir, times, previous).map_err(failed)?;
            keep_marks(store, id, &marks);
            (digest, tar_bytes)
        }
        _ => layer::diff_id(&dir, times).map_err(failed)?,
    };
    let diff = Diff { id: digest, tar_bytes };
    store.set_diff_by_rule(id, times.rule(), &diff)?;
    Ok(diff)
}

/// The layer that the snapshot has taken files over from, and the marks in its tar.
fn previous(store: &Store, id: &SnapshotId) -> Option<(PathBuf, Marks)> {
    let previous = store.shared_with(id).ok()??;
    let marks = serde_json::from_slice(&store.tar_marks(&previous).ok()??).ok()?;
    Some((store.snapshot_dir(&previous), marks))
}

/// Without its marks, a layer is only hashed from its beginning.
fn keep_marks(store: &Store, id: &SnapshotId, marks: &Marks) {
    if let Ok(bytes) = serde_json::to_vec(marks)
        && !marks.is_empty()
    {
        let _ = store.set_tar_marks(id, &bytes);
    }
}

/// Returns an image's layers with their diffs, as its config names them, and the rules of times that make those.
pub(super) fn layers(store: &Store, image: &Image) -> Result<Vec<(SnapshotId, Times, Diff)>> {
    let named = super::find::config(store, image)?.rootfs.diff_ids;
    let mut layers = Vec::with_capacity(image.chain.len());
    for (index, id) in image.chain.iter().enumerate() {
        let is_named = |(_, diff): &(i64, Diff)| named.get(index).is_some_and(|named| *named == diff.id);
        let (times, diff) = match store.diffs(id)?.into_iter().find(is_named) {
            Some((rule, diff)) => (Times::of_rule(rule), diff),
            None => (Times::Kept, diffs(store, &[(*id, Times::Kept)])?[0]),
        };
        layers.push((*id, times, diff));
    }
    Ok(layers)
}

fn compute(store: &Store, missing: &[(SnapshotId, Times)]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let threads = sys::processors().min(missing.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((id, times)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = compute_diff(store, id, *times) {
                        *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                        return;
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Each layer needs its line: readers pair them by counting.
fn check_history(config: &ImageConfig) -> Result<()> {
    let lines = config.history.iter().filter(|entry| !entry.empty_layer).count();
    let layers = config.rootfs.diff_ids.len();
    if !config.history.is_empty() && lines != layers {
        return Err(Error::Document {
            what: "the history",
            image: "the new image".to_owned(),
            reason: format!("{lines} lines made a layer, and there are {layers} layers"),
        });
    }
    Ok(())
}

pub(crate) fn size(store: &Store, chain: &[SnapshotId]) -> Result<u64> {
    chain.iter().try_fold(0, |sum, id| Ok(sum + store.snapshot_bytes(id)?))
}

/// Reads RFC 3339.
pub(crate) fn unix_seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
