//! `kiln mount` and `kiln unmount`.

use std::path::PathBuf;

use kiln_cache::Image;

use super::Engine;
use super::containers::failure;
use crate::api::{Failure, FailureKind};
use crate::container::{Error, Record};
use crate::image;
use crate::runtime::Tree;

/// What has files to mount.
enum Mountable {
    Container(Box<Record>),
    Image(Image),
}

impl Engine {
    /// Mounts the files of a container, or read-only those of an image, and gives the path.
    pub fn mount(&self, name: &str, only_images: bool) -> Result<PathBuf, Failure> {
        let (containers, store) = (self.containers(), self.store()?);
        match self.mountable(name, only_images)? {
            Mountable::Container(record) => {
                let path = containers.mount(store, &record).map_err(failure)?;
                containers.tell(&record, "mount", &[]);
                Ok(path)
            }
            Mountable::Image(image) => {
                // What is mounted must not be collected.
                let pinned = store.pin(&owner(&hex(&image)), &image.chain).map_err(image::Error::from)?;
                if !pinned {
                    let message = format!("the layers of image `{name}` are gone from the store");
                    return Err(Failure::new(FailureKind::NotFound, message));
                }
                let tree = Tree::of_layers(&store.overlay(&image.chain, None))
                    .map_err(|error| Failure::new(FailureKind::System, error.to_string()))?;
                containers.mount_as(&tree, &hex(&image)).map_err(failure)
            }
        }
    }

    /// Takes the mount of a container or an image away.
    pub fn unmount(&self, name: &str, only_images: bool, force: bool) -> Result<(), Failure> {
        let containers = self.containers();
        let was_mounted = match self.mountable(name, only_images) {
            Ok(Mountable::Container(record)) => {
                let was_mounted = containers.unmount(&record.id, force).map_err(failure)?;
                containers.tell(&record, "unmount", &[]);
                was_mounted
            }
            Ok(Mountable::Image(image)) => self.unmount_image(&hex(&image), force)?,
            // An image may have been removed meanwhile.
            Err(error) => match self.mounted()?.iter().find(|(id, _)| id == name) {
                Some((id, _)) => self.unmount_image(id, force)?,
                None => return Err(error),
            },
        };
        match was_mounted {
            true => Ok(()),
            false => Err(Failure::new(FailureKind::Conflict, format!("`{name}` is not mounted"))),
        }
    }

    fn unmount_image(&self, id: &str, force: bool) -> Result<bool, Failure> {
        let was_mounted = self.containers().unmount(id, force).map_err(failure)?;
        self.store()?.unpin(&owner(id)).map_err(image::Error::from)?;
        Ok(was_mounted)
    }

    /// Lists the ids of the containers and images that are mounted, with the paths.
    pub fn mounted(&self) -> Result<Vec<(String, PathBuf)>, Failure> {
        self.containers().mounted().map_err(failure)
    }

    fn mountable(&self, name: &str, only_images: bool) -> Result<Mountable, Failure> {
        if !only_images {
            match self.containers().find(name) {
                Err(Error::NotFound { .. }) => {}
                found => return found.map(|record| Mountable::Container(Box::new(record))).map_err(failure),
            }
        }
        Ok(Mountable::Image(image::find(self.store()?, name)?))
    }
}

/// The owner of the pins of a mounted image.
fn owner(id: &str) -> String {
    format!("mount:{id}")
}

fn hex(image: &Image) -> String {
    image.id.to_string().trim_start_matches("sha256:").to_owned()
}
