//! `kiln create`.

use std::os::fd::OwnedFd;

use crate::api::{CreateRequest, Events, Failure, FailureKind, MountKind};
use crate::container::{Image, MountedImage, Purpose, Record};

use super::Engine;
use super::containers::failure;

impl Engine {
    /// Makes a container, pulling its image when that is missing; gives its id.
    pub fn create(&self, request: &CreateRequest, events: &Events) -> Result<String, Failure> {
        Ok(self.create_record(request, Purpose::Create, events)?.0.id)
    }

    /// Makes a container; gives its lock too, for who starts it.
    pub(super) fn create_record(
        &self,
        request: &CreateRequest,
        purpose: Purpose,
        events: &Events,
    ) -> Result<(Record, OwnedFd), Failure> {
        let with_devices = self.with_devices(request)?;
        let request = with_devices.as_ref().unwrap_or(request);
        let platform =
            request.platform.as_ref().map(|text| text.parse()).transpose().map_err(
                |error: crate::oci::PlatformError| Failure::from_error(FailureKind::Invalid, &error),
            )?;
        let image = self.ensure_image_of(&request.image, platform.as_ref(), request.pull, events)?;
        let store = self.store()?;
        let config = crate::image::config(store, &image)?;
        let mounted = self.mounted_images(request, events)?;
        let id = image.id.to_string();
        let image = Image { id, chain: &image.chain, config: &config.config, mounted: &mounted };
        let placed;
        let request = match self.settings.publish.address {
            Some(address) => {
                placed = CreateRequest { publish_address: Some(address), ..request.clone() };
                &placed
            }
            None => request,
        };
        let made = self.containers().create(store, &image, request, purpose).map_err(failure)?;
        self.containers().tell(&made.0, "create", &[]);
        Ok(made)
    }

    /// Finds the images that are to be mounted, pulling those that are missing.
    fn mounted_images(&self, request: &CreateRequest, events: &Events) -> Result<Vec<MountedImage>, Failure> {
        let wanted = request.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Image { image, .. } => Some(image),
            _ => None,
        });
        wanted
            .map(|name| {
                let image = self.ensure_image_of(name, None, request.pull, events)?;
                let (id, chain) = (image.id.to_string(), image.chain.clone());
                Ok(MountedImage { name: name.clone(), id, chain })
            })
            .collect()
    }
}
