//! Rows of images and their names.

use rusqlite::Row;

use super::{Chain, Tx, signed, unsigned};
use crate::image::NewImage;
use crate::{Digest, Result};

/// An image without its names.
pub(crate) type ImageRow = NewImage;

const COLUMNS: &str = "id, manifest, chain, size, created";

impl Tx<'_> {
    /// Returns the image of this id.
    pub(crate) fn image(&self, id: &Digest) -> Result<Option<ImageRow>> {
        self.one(&format!("SELECT {COLUMNS} FROM images WHERE id = ?1"), (id,), image_row)
    }

    /// Returns all images, newest first.
    pub(crate) fn images(&self) -> Result<Vec<ImageRow>> {
        self.all(&format!("SELECT {COLUMNS} FROM images ORDER BY created DESC, id"), (), image_row)
    }

    /// Returns the images whose id begins with these hex digits.
    pub(crate) fn images_by_prefix(&self, hex: &str) -> Result<Vec<ImageRow>> {
        // `g` follows all hex digits.
        let sql = format!("SELECT {COLUMNS} FROM images WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id");
        self.all(&sql, (hex,), image_row)
    }

    /// Enters an image, in place of the row that it had.
    pub(crate) fn put_image(&self, image: &ImageRow) -> Result<()> {
        self.run(
            "INSERT OR REPLACE INTO images (id, manifest, chain, size, created) VALUES (?1, ?2, ?3, ?4, ?5)",
            (image.id, image.manifest, Chain(image.chain.clone()), signed(image.size), image.created),
        )
        .map(drop)
    }

    /// Removes an image and its names; false when there was none.
    pub(crate) fn drop_image(&self, id: &Digest) -> Result<bool> {
        self.run("DELETE FROM names WHERE image = ?1", (id,))?;
        self.run("DELETE FROM repo_digests WHERE image = ?1", (id,))?;
        Ok(self.run("DELETE FROM images WHERE id = ?1", (id,))? == 1)
    }

    /// Returns the image that `name` points at.
    pub(crate) fn named(&self, name: &str) -> Result<Option<Digest>> {
        self.one("SELECT image FROM names WHERE name = ?1", (name,), |row| row.get(0))
    }

    /// Returns the image that a name with a digest stands for.
    pub(crate) fn named_by_digest(&self, name: &str) -> Result<Option<Digest>> {
        self.one("SELECT image FROM repo_digests WHERE name = ?1", (name,), |row| row.get(0))
    }

    /// Returns the names of an image, sorted.
    pub(crate) fn names(&self, id: &Digest) -> Result<Vec<String>> {
        self.all("SELECT name FROM names WHERE image = ?1 ORDER BY name", (id,), |row| row.get(0))
    }

    /// Returns the names with digests of an image, sorted.
    pub(crate) fn repo_digests(&self, id: &Digest) -> Result<Vec<String>> {
        self.all("SELECT name FROM repo_digests WHERE image = ?1 ORDER BY name", (id,), |row| row.get(0))
    }

    /// Points `name` at an image.
    pub(crate) fn put_name(&self, name: &str, id: &Digest) -> Result<()> {
        self.run("INSERT OR REPLACE INTO names (name, image) VALUES (?1, ?2)", (name, id)).map(drop)
    }

    /// Points a name with a digest at an image.
    pub(crate) fn put_repo_digest(&self, name: &str, id: &Digest) -> Result<()> {
        self.run("INSERT OR REPLACE INTO repo_digests (name, image) VALUES (?1, ?2)", (name, id)).map(drop)
    }

    /// Removes a name; false when there was none.
    pub(crate) fn drop_name(&self, name: &str) -> Result<bool> {
        Ok(self.run("DELETE FROM names WHERE name = ?1", (name,))? == 1)
    }

    /// Removes a name with a digest; false when there was none.
    pub(crate) fn drop_repo_digest(&self, name: &str) -> Result<bool> {
        Ok(self.run("DELETE FROM repo_digests WHERE name = ?1", (name,))? == 1)
    }
}

fn image_row(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: row.get(0)?,
        manifest: row.get(1)?,
        chain: row.get::<_, Chain>(2)?.0,
        size: unsigned(row.get(3)?),
        created: row.get(4)?,
    })
}
