//! What `COPY --link` needs beside the copy itself: an owner without a rootfs, the way to a place without the rest,
//! and layers put on each other.
//!
//! The copy's layer is made on nothing. Its key has no rootfs in it, so that it survives a change of what
//! stands below; [`MergeOp`] puts it there. Users of the stage's own passwd come in as numbers only, by
//! [`OwnerOp`], and with `--chmod` the directories above the destination, by [`WayOp`]: another base with the same
//! numbers and directories changes nothing.

use std::path::{Path, PathBuf};

use kiln_cache::key::KeyBuilder;
use kiln_cache::{Digest, Snapshot, Staged};

use super::system;
use super::transfer::{failure, folders, layer};
use crate::blocking;
use crate::build::ops::copy;
use crate::build::solve::{Context, Executed, Key, Op, OpFuture, Outcome};
use crate::build::tree::{self, Attributes, LayerWriter, Merged, Owner, Tree, clean, lookup_owner};

/// Finds whom `user[:group]` means in a rootfs.
///
/// The result is named by the numbers alone. Its layers are the rootfs's, so that whoever needs the numbers
/// finds them there again.
pub(super) struct OwnerOp {
    pub(super) text: String,
}

impl Op for OwnerOp {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let key =
            KeyBuilder::new("owner", 1).field("rootfs", inputs[0].id.to_string()).field("owner", &self.text);
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        let (chain, text) = (folders(&inputs[0].chain, &context.store), self.text.clone());
        Box::pin(async move {
            let found = blocking::run("find owner", move || {
                Merged::open(&chain).and_then(|rootfs| lookup_owner(&rootfs, &text))
            });
            let owner = found.await.map_err(|error| failure(&copy::Error::from(error)))?;
            let id = KeyBuilder::new("owner-result", 1)
                .field("user", owner.uid.to_string())
                .field("group", owner.gid.to_string())
                .digest();
            let outcome = Outcome { id, ..inputs[0].clone() };
            Ok(Executed { outcome, key: self.cheap_key(inputs) })
        })
    }
}

/// Makes a rootfs of the directories and links that lead to a place.
///
/// The result is named by what they are, but for their times.
pub(super) struct WayOp {
    pub(super) path: String,
}

impl Op for WayOp {
    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let key =
            KeyBuilder::new("way", 1).field("rootfs", inputs[0].id.to_string()).field("path", &self.path);
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], context: &'a Context) -> OpFuture<'a> {
        let (chain, path) = (folders(&inputs[0].chain, &context.store), clean(self.path.as_bytes()));
        let work = move |staged: &Staged| {
            let below = chain.last().map(PathBuf::as_path);
            super::inherit_root(below, &staged.fs()).map_err(|error| system(&error))?;
            let id =
                write_way(&chain, &path, &staged.fs()).map_err(|error| failure(&copy::Error::from(error)))?;
            Ok((id, Snapshot::default()))
        };
        Box::pin(async move {
            let (id, snapshot, created) = layer(context, work).await?;
            Ok(Executed {
                outcome: Outcome { id, chain: vec![snapshot], created },
                key: self.cheap_key(inputs),
            })
        })
    }
}

/// Makes what leads to `path` in `chain` anew in `folder`; gives a digest of it.
fn write_way(chain: &[PathBuf], path: &[u8], folder: &Path) -> tree::Result<Digest> {
    let rootfs = Merged::open(chain)?;
    let nothing = Merged::open(&[] as &[&Path])?;
    let mut writer = LayerWriter::new(folder, &nothing, Owner::default())?;
    let mut key = KeyBuilder::new("way-result", 1);
    for (entry, target) in tree::way(&rootfs, path)? {
        let xattrs = rootfs.xattrs(&entry)?;
        let seen = format!("{:o} {}:{} {target:?} {xattrs:?}", entry.mode, entry.uid, entry.gid);
        key = key.field(&entry.path.escape_ascii().to_string(), seen);
        let attributes = Attributes::of(&entry, xattrs);
        match target {
            Some(target) => writer.symlink(&entry.path, &target, &attributes)?,
            None if entry.path.is_empty() => {}
            None => writer.directory(&entry.path, &attributes, true)?,
        }
    }
    writer.finish()?;
    Ok(key.digest())
}

/// Puts the last layer of its second input on those of its first.
pub(super) struct MergeOp;

impl Op for MergeOp {
    fn known(&self, inputs: &[Outcome]) -> Option<Outcome> {
        let [below, above] = inputs else { return None };
        let chain = below.chain.iter().chain(above.chain.last()).copied().collect();
        Some(Outcome { id: self.cheap_key(inputs).digest, chain, created: above.created })
    }

    fn cheap_key(&self, inputs: &[Outcome]) -> Key {
        let results = inputs.iter().map(|input| input.id.to_string());
        let key = KeyBuilder::new("merge", 1).list("layers", results);
        Key { parts: key.parts(), digest: key.digest() }
    }

    fn execute<'a>(&'a self, inputs: &'a [Outcome], _context: &'a Context) -> OpFuture<'a> {
        let outcome = self.known(inputs).expect("a merge has two inputs");
        let key = self.cheap_key(inputs);
        Box::pin(async move { Ok(Executed { outcome, key }) })
    }
}
