//! From what a request wants mounted to what is mounted.

use std::collections::BTreeSet;
use std::path::Path;

use kiln_cache::Store;

use super::create::Image;
use super::error::{At, Error, Result};
use super::record::MountPoint;
use super::{Containers, names};
use crate::api::{CreateRequest, MountKind};
use crate::volume::Source;

impl Containers {
    /// Resolves volumes and binds, and fills empty volumes with the image's content.
    pub(super) fn mounts(
        &self,
        store: &Store,
        image: &Image<'_>,
        request: &CreateRequest,
    ) -> Result<Vec<MountPoint>> {
        let mut targets = BTreeSet::new();
        let mut mounts = Vec::new();
        for mount in &request.mounts {
            let target = target(&mount.target)?;
            if !targets.insert(target.clone()) {
                return Err(Error::Invalid { message: format!("duplicate mount point: {target}") });
            }
            let source = match &mount.kind {
                MountKind::Bind { source } => Source::Bind(source.into()),
                MountKind::Volume { name } => Source::parse(name.as_deref())?,
            };
            mounts.push(self.mount_point(source, target, mount.readonly)?);
        }
        for volume in image.config.volumes.keys() {
            let target = target(&format!("/{}", volume.trim_start_matches('/')))?;
            if targets.insert(target.clone()) {
                mounts.push(self.mount_point(Source::Anonymous, target, false)?);
            }
        }
        let volumes: Vec<_> =
            mounts.iter().filter_map(|mount| Some((mount.volume.as_ref()?, mount))).collect();
        if !volumes.is_empty() {
            let rootfs = crate::runtime::view(&store.overlay(image.chain, None).lowers)
                .map_err(|error| Error::Invalid { message: error.to_string() })?;
            for (name, mount) in volumes {
                self.volumes.copy_up(name, std::os::fd::AsFd::as_fd(&rootfs), &mount.target)?;
            }
        }
        Ok(mounts)
    }

    fn mount_point(&self, source: Source, target: String, readonly: bool) -> Result<MountPoint> {
        let (volume, anonymous, source) = match source {
            Source::Bind(path) => (None, false, crate::volume::bind(&path)?),
            Source::Named(name) => {
                let path = self.volumes.open(&name)?;
                (Some(name), false, path)
            }
            Source::Anonymous => {
                let name = names::random_id().at("read", "/dev/urandom")?;
                let path = self.volumes.open(&name)?;
                (Some(name), true, path)
            }
        };
        Ok(MountPoint { volume, anonymous, source, target, readonly })
    }
}

/// Checks a mount point's path inside, and gives it without superfluous parts.
fn target(text: &str) -> Result<String> {
    let path = Path::new(text);
    let plain: std::path::PathBuf =
        path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect();
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || climbs || plain == Path::new("/") {
        let message = format!("invalid mount point `{text}`: it must be an absolute path below /");
        return Err(Error::Invalid { message });
    }
    Ok(plain.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_absolute_and_below_the_root() {
        assert_eq!(target("/data/./x/").unwrap(), "/data/x");
        for bad in ["", "data", "/", "/.", "/a/../b", ".."] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
