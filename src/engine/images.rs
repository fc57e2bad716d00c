//! `kiln images`.

use super::Engine;
use crate::api::{Failure, ImageInfo};
use crate::image;

impl Engine {
    /// Returns all local images, newest first.
    pub fn images(&self) -> Result<Vec<ImageInfo>, Failure> {
        let store = self.store()?;
        let images = store.images().map_err(image::Error::from)?;
        // An image that another process removes meanwhile is none.
        let described = images.iter().filter_map(|image| match image::config(store, image) {
            Ok(config) => Some(Ok(ImageInfo {
                id: image.id.to_string(),
                tags: image::familiar(&image.names),
                digests: image::familiar(&image.repo_digests),
                created: image.created,
                size: image.size,
                labels: config.config.labels,
            })),
            Err(image::Error::Store(kiln_cache::Error::NoBlob { .. })) => None,
            Err(error) => Some(Err(error.into())),
        });
        described.collect()
    }
}
