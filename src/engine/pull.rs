//! `kiln pull`, and pulling what another verb lacks.

use kiln_cache::Image;

use super::Engine;
use crate::api::{Event, Events, Failure, FailureKind, PullPolicy, Pulled};
use crate::image::{self, PullStatus, Sink};
use crate::oci::{Platform, Reference};

impl Engine {
    /// Pulls an image; `events` get docker's lines and each layer's progress.
    pub fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        events: &Events,
    ) -> Result<Pulled, Failure> {
        let pulled = self.fetch(reference, platform, events)?;
        let updated = pulled.status == PullStatus::Newer;
        Ok(Pulled { digest: pulled.digest.to_string(), updated })
    }

    /// Returns the image that `name` means, pulled when `policy` asks for it.
    ///
    /// Nothing but its name keeps it: a caller that needs its layers holds or pins them.
    pub fn ensure_image(&self, name: &str, policy: PullPolicy, events: &Events) -> Result<Image, Failure> {
        self.ensure_image_of(name, None, policy, events)
    }

    /// The same for a platform: one that is here for another platform is as good as missing.
    pub fn ensure_image_of(
        &self,
        name: &str,
        platform: Option<&Platform>,
        policy: PullPolicy,
        events: &Events,
    ) -> Result<Image, Failure> {
        let store = self.store()?;
        let fits = |found: &Image| -> Result<bool, Failure> {
            let Some(platform) = platform else { return Ok(true) };
            Ok(platform.matches(&Platform::of_config(&image::config(store, found)?)))
        };
        if policy != PullPolicy::Always {
            match image::lookup(store, name)? {
                Some(found) if fits(&found)? => return Ok(found),
                Some(_) if policy == PullPolicy::Never => {
                    let wanted = platform.map(ToString::to_string).unwrap_or_default();
                    let message = format!("the image `{name}` is here for another platform than {wanted}");
                    return Err(Failure::new(FailureKind::NotFound, message));
                }
                Some(_) => {}
                None if policy == PullPolicy::Never => return Ok(image::find(store, name)?),
                None => {}
            }
        }
        let reference = Reference::parse(name).map_err(image::Error::from)?;
        if policy == PullPolicy::Missing {
            let line = format!("Unable to find image '{}' locally", reference.familiar());
            events.send(Event::Status(line));
        }
        Ok(self.fetch(&reference, platform.unwrap_or(&Platform::host()), events)?.image)
    }

    fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        events: &Events,
    ) -> Result<image::Pulled, Failure> {
        let store = self.store()?;
        let lease = store.lease();
        let sink = Sink { step: None, events: events.clone() };
        let line = format!("{}: Pulling from {}", reference.identifier(), reference.repository);
        events.send(Event::Status(line));
        let client = self.client().clone();
        let pulled = self.block_on(image::pull(store, &client, reference, platform, &lease, &sink))??;
        self.flush_later(true);
        self.tell_of_image("pull", &pulled.image.id.to_string(), &reference.familiar());
        events.send(Event::Status(format!("Digest: {}", pulled.digest)));
        events.send(Event::Status(match pulled.status {
            PullStatus::Newer => format!("Status: Downloaded newer image for {}", reference.familiar()),
            PullStatus::UpToDate => format!("Status: Image is up to date for {}", reference.familiar()),
        }));
        Ok(pulled)
    }
}

/// Refuses a name with a digest where a tag is written.
pub(super) fn without_digest(reference: &Reference, verb: &str) -> Result<(), Failure> {
    if reference.digest.is_none() {
        return Ok(());
    }
    let message = format!("cannot {verb} `{}`: it is named by a digest", reference.familiar());
    Err(Failure::new(FailureKind::Invalid, message).hint("give it a tag first: `kiln tag`"))
}
