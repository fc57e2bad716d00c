//! The check of what only images know: that a snapshot's files are its layer, that an image's documents fit its
//! layers.
//!
//! A layer that was made here is its canonical tar. One from outside may have any form: its files are compared
//! with what its kept blob unpacks to, without the times of folders that the archive doesn't name.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;

use kiln_cache::{Diff, Digest, Fault, Hasher, Image, LayerBlob, Severity, SnapshotId, Store, Subject};

use super::error::{Error, Result};
use super::layer::{self, LayerError};
use crate::oci::{ImageConfig, ImageManifest};

/// What the files of a snapshot turned out to be.
enum Verdict {
    Sound,
    /// Why not.
    Wrong(String),
    /// Why nobody can tell.
    Unknown(String),
}

/// Reads the files of a snapshot and compares them with its layer; `quick` only walks over them.
///
/// `passed` is told the number of bytes as they are read.
pub fn check_snapshot(
    store: &Store,
    id: &SnapshotId,
    quick: bool,
    passed: &dyn Fn(u64),
) -> Result<Option<Fault>> {
    if matches!(examine(store, id, quick, passed), Ok(Verdict::Sound)) {
        return Ok(None);
    }
    // It may be gone by now, and rightly so: what is looked at again stays.
    let lease = store.lease();
    if !lease.hold(&[*id])? {
        return Ok(None);
    }
    let fault = |severity, problem| Some(Fault { subject: Subject::Snapshot(*id), severity, problem });
    Ok(match examine(store, id, quick, &|_| {})? {
        Verdict::Sound => None,
        Verdict::Wrong(problem) => fault(Severity::Damage, problem),
        Verdict::Unknown(problem) => fault(Severity::Garbage, problem),
    })
}

fn examine(store: &Store, id: &SnapshotId, quick: bool, passed: &dyn Fn(u64)) -> Result<Verdict> {
    let folder = store.snapshot_dir(id);
    if !folder.is_dir() {
        return Ok(Verdict::Wrong("its folder is gone".to_owned()));
    }
    if quick {
        let walked = layer::visit(&folder, &mut |_| Ok(()));
        return Ok(walked.map_or_else(|error| Verdict::Wrong(sentence(&error)), |()| Verdict::Sound));
    }
    let mut meter = Meter { hasher: Hasher::new(), passed };
    let written = layer::tar(&folder, &mut meter, None);
    let Some(diff) = store.diff(id)? else {
        return Ok(written.map_or_else(|error| Verdict::Wrong(sentence(&error)), |()| Verdict::Sound));
    };
    if written.is_ok() && meter.hasher.finish() == diff.id {
        return Ok(Verdict::Sound);
    }
    compare_with_blob(store, id, &diff, passed).map(|verdict| match (verdict, written) {
        (Verdict::Wrong(_), Err(error)) => Verdict::Wrong(sentence(&error)),
        (verdict, _) => verdict,
    })
}

/// Compares the files with what a kept blob of the layer unpacks to.
fn compare_with_blob(store: &Store, id: &SnapshotId, diff: &Diff, passed: &dyn Fn(u64)) -> Result<Verdict> {
    let kept: Vec<LayerBlob> = store.layer_blobs(&diff.id)?;
    let mut wrong = format!("its files aren't those of the layer `{}`", diff.id);
    for blob in kept {
        if store.blob_size(&blob.digest)?.is_none() {
            continue;
        }
        let scratch = store.scratch_folder()?;
        // The mode of a layer's root is in its tar.
        let folder = scratch.path().join("fs");
        let made = std::fs::create_dir(&folder)
            .and_then(|()| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)));
        made.map_err(Error::io("unpack a layer to compare it"))?;
        let plain =
            layer::decompress(store.open_blob(&blob.digest)?).map_err(Error::io("read a layer's blob"));
        let unpacked = plain.map(|plain| layer::unpack(plain, &folder));
        let text = match unpacked {
            Ok(Ok(_)) => {
                let digest = |folder: &std::path::Path| {
                    let mut meter = Meter { hasher: Hasher::new(), passed };
                    layer::tar(folder, &mut meter, Some(0)).map(|()| meter.hasher.finish())
                };
                match (digest(&folder), digest(&store.snapshot_dir(id))) {
                    (Ok(expected), Ok(actual)) if expected == actual => return Ok(Verdict::Sound),
                    (_, Err(error)) => sentence(&error),
                    _ => wrong.clone(),
                }
            }
            Ok(Err(LayerError::Write { source, .. })) => {
                return Ok(Verdict::Unknown(format!("no room to unpack its blob and compare: {source}")));
            }
            _ => format!("{wrong}, or its blob `{}` is damaged", blob.digest),
        };
        wrong = text;
    }
    Ok(Verdict::Wrong(wrong))
}

/// Compares an image's config and manifest with its layers.
pub fn check_image(store: &Store, image: &Image) -> Result<Option<Fault>> {
    let Some(problem) = image_problem(store, image)? else { return Ok(None) };
    // Removed meanwhile, its parts may go.
    if store.image(&image.id)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Fault { subject: Subject::Image(image.id.hex()), severity: Severity::Damage, problem }))
}

fn image_problem(store: &Store, image: &Image) -> Result<Option<String>> {
    let config = match store.read_blob(&image.id) {
        Ok(bytes) => serde_json::from_slice::<ImageConfig>(&bytes),
        Err(error) => return Ok(Some(format!("its config can't be read: {error}"))),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => return Ok(Some(format!("its config makes no sense: {error}"))),
    };
    if let Some(problem) = layers_problem(store, image, &config.rootfs.diff_ids)? {
        return Ok(Some(problem));
    }
    let Some(digest) = image.manifest else { return Ok(None) };
    let manifest = match store.read_blob(&digest) {
        Ok(bytes) => serde_json::from_slice::<ImageManifest>(&bytes),
        Err(error) => return Ok(Some(format!("its manifest can't be read: {error}"))),
    };
    Ok(match manifest {
        Err(error) => Some(format!("its manifest makes no sense: {error}")),
        Ok(manifest) if manifest.config().digest().to_string() != image.id.to_string() => {
            Some("its manifest names another config".to_owned())
        }
        Ok(manifest) if manifest.layers().len() != image.chain.len() => Some(format!(
            "its manifest has {} layers, and it has {}",
            manifest.layers().len(),
            image.chain.len()
        )),
        Ok(_) => None,
    })
}

fn layers_problem(store: &Store, image: &Image, expected: &[Digest]) -> Result<Option<String>> {
    if expected.len() != image.chain.len() {
        return Ok(Some(format!(
            "its config has {} layers, and it has {}",
            expected.len(),
            image.chain.len()
        )));
    }
    for (id, expected) in image.chain.iter().zip(expected) {
        match store.diff(id) {
            Ok(Some(diff)) if diff.id == *expected => {}
            Ok(_) | Err(kiln_cache::Error::NoSnapshot { .. }) => {
                return Ok(Some(format!("its layer `{id}` isn't `{expected}`, as its config says")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// An error with its reason.
fn sentence(error: &LayerError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Hashes what passes and tells how much it was.
struct Meter<'a> {
    hasher: Hasher,
    passed: &'a dyn Fn(u64),
}

impl Write for Meter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        (self.passed)(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
