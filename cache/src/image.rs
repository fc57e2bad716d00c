//! Images and their names. An image's id is the digest of its config.
//!
//! Names are kept as the caller spells them, normalised: `docker.io/library/hello:latest`.

use crate::meta::{ImageRow, Tx};
use crate::{Digest, Error, Result, SnapshotId, Store};

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// The digest of its config, which is a blob of the store.
    pub id: Digest,
    /// The digest of its manifest, when that is a blob of the store.
    pub manifest: Option<Digest>,
    /// Its layers' snapshots, base first.
    pub chain: Vec<SnapshotId>,
    /// Its size in bytes, as shown to users.
    pub size: u64,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The names with tags that point at it, sorted.
    pub names: Vec<String>,
    /// The names with digests under which it was pulled or pushed, sorted.
    pub repo_digests: Vec<String>,
}

/// What [`Store::put_image`] keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// The digest of its config, which is a blob of the store.
    pub id: Digest,
    /// The digest of its manifest, when that is a blob of the store.
    pub manifest: Option<Digest>,
    /// Its layers' snapshots, base first.
    pub chain: Vec<SnapshotId>,
    /// Its size in bytes, as shown to users.
    pub size: u64,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

impl From<NewImage> for Image {
    /// The image, without names.
    fn from(new: NewImage) -> Self {
        let NewImage { id, manifest, chain, size, created } = new;
        Self { id, manifest, chain, size, created, names: Vec::new(), repo_digests: Vec::new() }
    }
}

impl Store {
    /// Keeps an image, its blobs and its snapshots until [`Store::remove_image`].
    ///
    /// The caller holds them by a lease; an error names what is gone. An equal row is no write.
    pub fn put_image(&self, image: &NewImage) -> Result<()> {
        if self.meta().read(|tx| tx.image(&image.id))?.as_ref() == Some(image) {
            return Ok(());
        }
        self.meta().write(|tx| {
            if let Some(id) = tx.missing_snapshot(&image.chain)? {
                return Err(Error::NoSnapshot { id });
            }
            for digest in [Some(image.id), image.manifest].into_iter().flatten() {
                if tx.blob_size(&digest)?.is_none() {
                    return Err(Error::NoBlob { digest });
                }
            }
            tx.put_image(image)
        })
    }

    /// Points `name` at an image; the image that it pointed at before. No change is no write.
    pub fn tag(&self, name: &str, id: &Digest) -> Result<Option<Digest>> {
        let before = self.meta().read(|tx| tx.named(name))?;
        if before == Some(*id) {
            return Ok(before);
        }
        self.meta().write(|tx| {
            require_image(tx, id)?;
            let before = tx.named(name)?;
            tx.put_name(name, id)?;
            Ok(before)
        })
    }

    /// Removes a name; false when there was none.
    pub fn untag(&self, name: &str) -> Result<bool> {
        self.meta().write(|tx| tx.drop_name(name))
    }

    /// Notes that an image was pulled or pushed under `name@digest`.
    pub fn add_repo_digest(&self, name_at_digest: &str, id: &Digest) -> Result<()> {
        if self.meta().read(|tx| tx.named_by_digest(name_at_digest))? == Some(*id) {
            return Ok(());
        }
        self.meta().write(|tx| {
            require_image(tx, id)?;
            tx.put_repo_digest(name_at_digest, id)
        })
    }

    /// Removes a `name@digest`; false when there was none.
    pub fn drop_repo_digest(&self, name_at_digest: &str) -> Result<bool> {
        self.meta().write(|tx| tx.drop_repo_digest(name_at_digest))
    }

    /// Returns the image under a name, or under a name with a digest.
    pub fn image_by_name(&self, name: &str) -> Result<Option<Image>> {
        self.meta().read(|tx| {
            let id = if name.contains('@') { tx.named_by_digest(name)? } else { tx.named(name)? };
            match id {
                Some(id) => with_names(tx, tx.image(&id)?),
                None => Ok(None),
            }
        })
    }

    /// Returns the images whose id begins with these hex digits.
    pub fn images_by_prefix(&self, hex: &str) -> Result<Vec<Image>> {
        if hex.is_empty() || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Vec::new());
        }
        self.meta().read(|tx| all_with_names(tx, tx.images_by_prefix(hex)?))
    }

    /// Returns the image with this id.
    pub fn image(&self, id: &Digest) -> Result<Option<Image>> {
        self.meta().read(|tx| with_names(tx, tx.image(id)?))
    }

    /// Returns all images, newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.meta().read(|tx| all_with_names(tx, tx.images()?))
    }

    /// Removes an image and its names; false when there was none. [`Store::gc`] frees the space.
    pub fn remove_image(&self, id: &Digest) -> Result<bool> {
        self.meta().write(|tx| tx.drop_image(id))
    }
}

fn require_image(tx: &Tx<'_>, id: &Digest) -> Result<()> {
    tx.image(id)?.map(drop).ok_or(Error::NoImage { id: *id })
}

fn with_names(tx: &Tx<'_>, row: Option<ImageRow>) -> Result<Option<Image>> {
    Ok(all_with_names(tx, row.into_iter().collect())?.pop())
}

fn all_with_names(tx: &Tx<'_>, rows: Vec<ImageRow>) -> Result<Vec<Image>> {
    let complete = |row: ImageRow| {
        let NewImage { id, manifest, chain, size, created } = row;
        let (names, repo_digests) = (tx.names(&id)?, tx.repo_digests(&id)?);
        Ok(Image { id, manifest, chain, size, created, names, repo_digests })
    };
    rows.into_iter().map(complete).collect()
}
