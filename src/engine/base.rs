//! The images that a build starts from.

use kiln_cache::{Image, Lease};

use super::Engine;
use crate::api::{Events, Failure, FailureKind, PullPolicy};
use crate::image::{self, Sink};
use crate::oci::{ImageConfig, Platform, Reference};

impl Engine {
    /// Gives the image that `reference` names for `platform`, with its configuration: from the store, or pulled as
    /// `policy` says.
    pub(super) fn ensure_base(
        &self,
        reference: &Reference,
        platform: &Platform,
        policy: PullPolicy,
        lease: &Lease,
        events: &Events,
    ) -> Result<(Image, ImageConfig), Failure> {
        let store = self.store()?;
        if let Some(found) = self.local_base(reference, platform, policy)? {
            return Ok(found);
        }
        if policy == PullPolicy::Never {
            let message = format!("image `{}` is not in the store", reference.familiar());
            let hint = format!("run `kiln pull {}`", reference.familiar());
            return Err(Failure::new(FailureKind::NotFound, message).hint(hint));
        }
        let sink = Sink { step: None, events: events.clone() };
        let pulled = self.block_on(image::pull(store, self.client(), reference, platform, lease, &sink))?;
        let image = pulled?.image;
        let config = image::config(store, &image)?;
        Ok((image, config))
    }

    /// The image in the store, unless `policy` wants the registry asked.
    pub(super) fn local_base(
        &self,
        reference: &Reference,
        platform: &Platform,
        policy: PullPolicy,
    ) -> Result<Option<(Image, ImageConfig)>, Failure> {
        let store = self.store()?;
        if policy == PullPolicy::Always {
            return Ok(None);
        }
        let Some(image) = image::by_reference(store, reference)? else { return Ok(None) };
        let config = image::config(store, &image)?;
        Ok(platform.matches(&Platform::of_config(&config)).then_some((image, config)))
    }
}
