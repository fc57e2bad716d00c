//! `kiln tag`.

use super::Engine;
use crate::api::{Failure, FailureKind};
use crate::image;
use crate::oci::Reference;

impl Engine {
    /// Gives the image that `source` means another name.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<(), Failure> {
        if target.digest.is_some() {
            return Err(Failure::new(
                FailureKind::Invalid,
                "refusing to create a tag with a digest reference",
            ));
        }
        let store = self.store()?;
        let found = image::find(store, source)?;
        let name = target.with_tag(target.tag.as_deref().unwrap_or("latest")).to_string();
        store.tag(&name, &found.id).map_err(image::Error::from)?;
        self.tell_of_image("tag", &found.id.to_string(), &target.familiar());
        self.flush_later(false);
        Ok(())
    }
}
