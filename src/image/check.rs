//! The check of what only images know: that a snapshot's files are its layer, that an image's documents fit its
//! layers.
//!
//! A layer that was made here is its canonical tar. One from outside may have any form: its files are compared
//! with what its kept blob unpacks to, without the times of folders that the archive doesn't name.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use kiln_cache::{
    Diff, Digest, Fault, FileKind, Hasher, Image, LayerBlob, Severity, SnapshotId, Store, Subject,
};

use super::error::{Error, Result};
use super::layer::{self, LayerError, Times};
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
    let mut expected: Vec<(Times, Option<Diff>)> =
        store.diffs(id)?.into_iter().map(|(rule, diff)| (Times::of_rule(rule), Some(diff))).collect();
    if expected.is_empty() {
        // Nobody knows what it should be; that all of it can be read is something.
        expected.push((Times::Kept, None));
    }
    for (times, diff) in expected {
        let mut meter = Meter { hasher: Hasher::new(), passed };
        if let Err(error) = layer::tar(&folder, &mut meter, times) {
            return Ok(Verdict::Wrong(sentence(&error)));
        }
        let Some(diff) = diff.filter(|diff| meter.hasher.finish() != diff.id) else { continue };
        match compare_with_blob(store, id, &diff, passed)? {
            Verdict::Sound => {}
            other => return Ok(other),
        }
    }
    Ok(list_problem(store, id, passed)?.map_or(Verdict::Sound, Verdict::Wrong))
}

/// Compares the files with the list of what was copied.
fn list_problem(store: &Store, id: &SnapshotId, passed: &dyn Fn(u64)) -> Result<Option<String>> {
    let Some(list) = store.file_list(id)? else { return Ok(None) };
    for entry in list {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Ok(Some(format!("the list of its files can't be read: {error}"))),
        };
        let problem = |what: &str| Ok(Some(format!("`{}` {what}", String::from_utf8_lossy(&entry.place))));
        let path = store.snapshot_dir(id).join(OsStr::from_bytes(&entry.place));
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return problem("is gone"),
            // A path that is too long for one call was read by the walk before.
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => continue,
            Err(error) => return problem(&format!("can't be read: {error}")),
        };
        let kind = found.file_type();
        let is_kind = match entry.kind {
            FileKind::File => kind.is_file() && found.len() == entry.size,
            FileKind::Directory => kind.is_dir(),
            FileKind::Symlink => {
                std::fs::read_link(&path).is_ok_and(|target| target.as_os_str().as_bytes() == entry.target)
            }
            FileKind::Special => !kind.is_file() && !kind.is_dir() && !kind.is_symlink(),
            // What was unpacked is in no list.
            FileKind::Archive => continue,
        };
        let attributes = (found.mode() & 0o7777, found.uid(), found.gid());
        if !is_kind {
            return problem("isn't what was copied");
        }
        if !kind.is_symlink() && attributes != (entry.mode, entry.uid, entry.gid) {
            return problem("has another mode or owner than it was copied with");
        }
        if let (FileKind::File, Some(digest), false) = (entry.kind, entry.digest, entry.attributed) {
            let mut meter = Meter { hasher: Hasher::new(), passed };
            let read = std::fs::File::open(&path).and_then(|mut file| io::copy(&mut file, &mut meter));
            if read.is_err() || meter.hasher.finish() != digest {
                return problem("has other content than was copied");
            }
        }
    }
    Ok(None)
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
                    layer::tar(folder, &mut meter, Times::Set(0)).map(|()| meter.hasher.finish())
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
        if !store.diffs(id)?.iter().any(|(_, diff)| diff.id == *expected) {
            return Ok(Some(format!("its layer `{id}` isn't `{expected}`, as its config says")));
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
