//! From what a user writes to an image of the store.

use kiln_cache::{Digest, Image, Store};

use super::error::{Error, Result};
use crate::oci::{ImageConfig, Reference};

/// Returns the image that `text` means: `name[:tag]`, `name@digest`, an id, or the beginning of an id.
///
/// # Errors
/// [`Error::NotFound`] with the closest local name, [`Error::Ambiguous`], or the store's.
pub fn find(store: &Store, text: &str) -> Result<Image> {
    match lookup(store, text)? {
        Some(image) => Ok(image),
        None => Err(Error::NotFound { name: text.to_owned(), closest: closest(store, text)? }),
    }
}

/// Returns the image that `text` means, if there is one.
pub fn lookup(store: &Store, text: &str) -> Result<Option<Image>> {
    if let Ok(id) = text.parse::<Digest>() {
        return Ok(store.image(&id)?);
    }
    if let Ok(reference) = Reference::parse(text)
        && let Some(image) = by_reference(store, &reference)?
    {
        return Ok(Some(image));
    }
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let mut found = store.images_by_prefix(hex)?;
    match found.len() {
        0 | 1 => Ok(found.pop()),
        count => Err(Error::Ambiguous { prefix: text.to_owned(), count }),
    }
}

/// Returns the image with this name; with a digest, the digest decides.
pub fn by_reference(store: &Store, reference: &Reference) -> Result<Option<Image>> {
    let name = match reference.digest {
        Some(digest) => reference.with_digest(digest).to_string(),
        None => reference.with_tag(reference.tag.as_deref().unwrap_or("latest")).to_string(),
    };
    Ok(store.image_by_name(&name)?)
}

/// Returns an image's configuration.
pub fn config(store: &Store, image: &Image) -> Result<ImageConfig> {
    let bytes = store.read_blob(&image.id)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Document {
        what: "the config",
        image: image.id.to_string(),
        reason: error.to_string(),
    })
}

/// Returns the local name that `text` is a slip of, as users write it.
fn closest(store: &Store, text: &str) -> Result<Option<String>> {
    let mut best: Option<(usize, String)> = None;
    for image in store.images()? {
        for name in &image.names {
            let Ok(reference) = Reference::parse(name) else { continue };
            let full = reference.familiar();
            let bare = full.strip_suffix(":latest").unwrap_or(&full);
            // A right name with a tag that isn't there is a slip of any length.
            let same_name = Reference::parse(text).is_ok_and(|wanted| wanted.name() == reference.name());
            let distance = if same_name { 1 } else { distance(text, &full).min(distance(text, bare)) };
            if distance <= 2 && best.as_ref().is_none_or(|(least, _)| distance < *least) {
                best = Some((distance, full));
            }
        }
    }
    Ok(best.map(|(_, name)| name))
}

/// The number of letters to insert, delete or change between two words (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn slips_are_counted() {
        assert_eq!(distance("debain", "debian"), 2);
        assert_eq!(distance("hello", "hello"), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("hallo:v1", "hello:v1"), 1);
    }
}
