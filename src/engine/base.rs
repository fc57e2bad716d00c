//! The images that a build starts from.

use kiln_cache::{Image, Lease};

use super::Engine;
use crate::api::{Failure, FailureKind, PullPolicy};
use crate::image::{self, Remote, Sought};
use crate::oci::{ImageConfig, Platform, Reference};

/// Where the image of a FROM is.
pub(super) enum Found {
    /// In the store, with its configuration.
    Here(Image, Box<ImageConfig>),
    /// At its registry: its layers are brought when a step needs them.
    There(Box<Remote>),
}

impl Engine {
    /// Finds the image that `reference` names for `platform`: in the store, or at its registry as `policy` says.
    pub(super) fn find_base(
        &self,
        reference: &Reference,
        platform: &Platform,
        policy: PullPolicy,
        lease: &Lease,
    ) -> Result<Found, Failure> {
        let store = self.store()?;
        if let Some((image, config)) = self.local_base(reference, platform, policy)? {
            return Ok(Found::Here(image, Box::new(config)));
        }
        if policy == PullPolicy::Never {
            let message = format!("image `{}` is not in the store", reference.familiar());
            let hint = format!("run `kiln pull {}`", reference.familiar());
            return Err(Failure::new(FailureKind::NotFound, message).hint(hint));
        }
        let seek = image::seek(store, self.client(), reference, platform, lease);
        Ok(match self.wait_unless_interrupted(seek)?? {
            Sought::Here(pulled) => {
                let config = image::config(store, &pulled.image)?;
                Found::Here(pulled.image, Box::new(config))
            }
            Sought::There(remote) => Found::There(remote),
        })
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
