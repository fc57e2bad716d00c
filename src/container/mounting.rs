//! From what a request wants mounted to what is mounted.
//!
//! What was asked for comes first, then what other containers have (`--volumes-from`), then the image's volumes: a
//! place that is taken by then stays so.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;

use kiln_cache::{SnapshotId, Store};

use super::create::Image;
use super::error::{At, Error, Result};
use super::record::{Config, ImageMount, MountPoint, Record};
use super::{Containers, names, now};
use crate::api::{
    CreateRequest, EngineEvent, MountKind, MountRequest, Propagation, Recursion, VolumeCreateRequest,
};
use crate::runtime::{self, Root};
use crate::volume::{self, Held, Lock};

/// An image whose files are mounted in a container.
#[derive(Debug)]
pub struct MountedImage {
    /// As the user wrote it.
    pub name: String,
    /// `sha256:…`.
    pub id: String,
    /// Its snapshots, base first.
    pub chain: Vec<SnapshotId>,
}

/// What is mounted in a container that is being made.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    pub(super) points: Vec<MountPoint>,
    pub(super) tmpfs: Vec<(String, String)>,
    /// Empty volumes that get the image's content, by name and place.
    fill: Vec<(String, String)>,
    taken: BTreeSet<String>,
    /// Keeps the volumes until there is a record that has them.
    pub(super) lock: Option<Lock>,
}

impl Mounted {
    /// Takes a place; `false` when another mount has it.
    fn take(&mut self, target: &str) -> bool {
        self.taken.insert(target.to_owned())
    }
}

impl Containers {
    /// Resolves volumes and binds, makes those that are missing, and fills empty volumes with the image's content.
    pub(super) fn mounts(
        &self,
        store: &Store,
        image: &Image<'_>,
        request: &CreateRequest,
    ) -> Result<Mounted> {
        let mut mounted = Mounted { tmpfs: request.isolation.tmpfs.clone(), ..Mounted::default() };
        // Whoever is found may have to be cleaned up after, which takes the lock for itself.
        let others: Vec<_> =
            request.volumes_from.iter().map(|(name, _)| self.find(name)).collect::<Result<_>>()?;
        let is_volume = |mount: &MountRequest| matches!(mount.kind, MountKind::Volume { .. });
        if !others.is_empty() || !image.config.volumes.is_empty() || request.mounts.iter().any(is_volume) {
            mounted.lock = Some(self.volumes.lock_shared()?);
        }
        check(request, &mut mounted)?;
        let made = self.points(image, request, &others, &mut mounted);
        let filled = made.and_then(|()| self.fill(store, image, &mounted.fill));
        if let Err(error) = filled {
            for point in mounted.points.iter().filter(|point| point.is_own()) {
                let _ = self.volumes.remove(point.volume.as_deref().unwrap_or_default());
            }
            return Err(error);
        }
        Ok(mounted)
    }

    fn points(
        &self,
        image: &Image<'_>,
        request: &CreateRequest,
        others: &[Record],
        mounted: &mut Mounted,
    ) -> Result<()> {
        for mount in &request.mounts {
            self.point(mount, image, mounted)?;
        }
        for (other, (_, readonly)) in others.iter().zip(&request.volumes_from) {
            self.take_over(other, *readonly, mounted)?;
        }
        for volume in image.config.volumes.keys() {
            let target = target(&format!("/{}", volume.trim_start_matches('/')))?;
            if mounted.take(&target) {
                let request = VolumeCreateRequest::default();
                self.volume_point(request, (target, false), (None, false), mounted)?;
            }
        }
        Ok(())
    }

    fn point(&self, mount: &MountRequest, image: &Image<'_>, mounted: &mut Mounted) -> Result<()> {
        let target = target(&mount.target)?;
        match &mount.kind {
            MountKind::Tmpfs { options } => mounted.tmpfs.push((target, options.clone())),
            MountKind::Bind { source, create, recursion, propagation } => {
                let path = Path::new(source);
                if *create {
                    volume::make_source(path)?;
                } else if let Err(reason) = std::fs::metadata(path) {
                    return Err(Error::BindSource { path: source.clone(), reason });
                }
                mounted.points.push(MountPoint {
                    recursion: *recursion,
                    propagation: *propagation,
                    ..MountPoint::new(path.to_owned(), target, mount.readonly)
                });
            }
            MountKind::Volume { name, nocopy, subpath, driver, labels, options } => {
                let request = VolumeCreateRequest {
                    name: name.clone(),
                    driver: driver.clone(),
                    labels: labels.clone(),
                    options: options.clone(),
                };
                self.volume_point(request, (target, mount.readonly), (subpath.clone(), *nocopy), mounted)?;
            }
            MountKind::Image { image: name, subpath } => {
                let found = image.mounted.iter().find(|image| image.name == *name);
                let found =
                    found.ok_or_else(|| Error::Invalid { message: format!("no such image: {name}") })?;
                let shown =
                    ImageMount { name: name.clone(), id: found.id.clone(), chain: found.chain.clone() };
                let point = MountPoint::new(Path::new("/").to_owned(), target, true);
                mounted.points.push(MountPoint { image: Some(shown), subpath: subpath.clone(), ..point });
            }
        }
        Ok(())
    }

    fn volume_point(
        &self,
        mut request: VolumeCreateRequest,
        (target, readonly): (String, bool),
        (subpath, nocopy): (Option<String>, bool),
        mounted: &mut Mounted,
    ) -> Result<()> {
        let anonymous = request.name.is_none();
        if anonymous {
            request.name = Some(names::random_id().at("read", "/dev/urandom")?);
        }
        let (record, is_new) = self.volumes.create(&request, anonymous)?;
        if is_new {
            self.tell_volume(&record.name, "create", &[("driver", "local".to_owned())]);
        }
        let is_plain = record.options.is_empty() && !record.readonly;
        if is_plain && !nocopy && subpath.is_none() {
            mounted.fill.push((record.name.clone(), target.clone()));
        }
        let source = self.volumes.data(&record.name);
        mounted.points.push(MountPoint {
            subpath,
            anonymous,
            volume: Some(record.name),
            held: !record.options.is_empty(),
            ..MountPoint::new(source, target, readonly || record.readonly)
        });
        Ok(())
    }

    /// Takes over what another container has mounted, as it is in its record by now.
    fn take_over(&self, other: &Record, readonly: Option<bool>, mounted: &mut Mounted) -> Result<()> {
        let gone = |error: Error| {
            if error.is_absence() { Error::NotFound { text: other.name.clone() } } else { error }
        };
        let other = Record::read(&self.folder(&other.id)).map_err(gone)?;
        for mount in other.config.mounts {
            // Of two containers the later one's is seen.
            mounted.points.retain(|point| point.target != mount.target || !point.taken_over);
            let is_free = mounted.points.iter().all(|point| point.target != mount.target);
            let is_memory = mounted.tmpfs.iter().any(|(target, _)| *target == mount.target);
            if is_free && !is_memory {
                mounted.take(&mount.target);
                let readonly = mount.readonly || readonly == Some(true);
                mounted.points.push(MountPoint { readonly, taken_over: true, ..mount });
            }
        }
        Ok(())
    }

    fn fill(&self, store: &Store, image: &Image<'_>, volumes: &[(String, String)]) -> Result<()> {
        if volumes.is_empty() {
            return Ok(());
        }
        let rootfs = runtime::view(&store.overlay(image.chain, None).lowers)
            .map_err(|error| Error::Invalid { message: error.to_string() })?;
        for (name, target) in volumes {
            self.volumes.copy_up(name, rootfs.as_fd(), target)?;
        }
        Ok(())
    }

    /// Mounts what the drivers of the container's volumes have to mount, until what is given is dropped.
    pub(super) fn hold_volumes(&self, config: &Config) -> Result<Vec<Held>> {
        let held = config.mounts.iter().filter(|mount| mount.held);
        let names: BTreeSet<_> = held.filter_map(|mount| mount.volume.as_deref()).collect();
        let held: Vec<_> =
            names.into_iter().map(|name| self.volumes.hold(name)).collect::<volume::Result<_>>()?;
        Ok(held.into_iter().flatten().collect())
    }

    /// Tells that a container begins or ends to use its volumes.
    pub(super) fn tell_volumes(&self, record: &Record, action: &str) {
        for mount in &record.config.mounts {
            let Some(name) = &mount.volume else { continue };
            let details = [
                ("container", record.id.clone()),
                ("destination", mount.target.clone()),
                ("driver", "local".to_owned()),
                ("propagation", String::new()),
                ("read/write", (!mount.readonly).to_string()),
            ];
            self.tell_volume(name, action, if action == "mount" { &details } else { &details[..1] });
        }
    }

    /// Tells that something happened to a volume.
    pub fn tell_volume(&self, name: &str, action: &str, details: &[(&str, String)]) {
        let attributes = details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let (kind, action, id) = ("volume".to_owned(), action.to_owned(), name.to_owned());
        self.events.tell(&[EngineEvent { time: now(), kind, action, id, attributes }]);
    }
}

impl MountPoint {
    /// A mount that nothing special was asked of.
    fn new(source: std::path::PathBuf, target: String, readonly: bool) -> Self {
        Self {
            volume: None,
            anonymous: false,
            source,
            target,
            readonly,
            subpath: None,
            image: None,
            recursion: Recursion::default(),
            propagation: Propagation::default(),
            held: false,
            taken_over: false,
        }
    }

    /// Whether it is a volume that was made for this container alone.
    pub(super) fn is_own(&self) -> bool {
        self.anonymous && !self.taken_over
    }
}

/// Checks all places, before anything is made.
fn check(request: &CreateRequest, mounted: &mut Mounted) -> Result<()> {
    let mounts = request.mounts.iter().map(|mount| mount.target.as_str());
    for text in mounts.chain(request.isolation.tmpfs.iter().map(|(target, _)| target.as_str())) {
        let target = target(text)?;
        if !mounted.take(&target) {
            return Err(Error::Advised {
                message: format!("duplicate mount point: {target}"),
                hint: "leave one of the two mounts out, or give it another place".to_owned(),
            });
        }
    }
    Ok(())
}

/// The mounts of images, which the store knows the folders of.
pub(super) fn image_mounts(store: &Store, config: &Config) -> Result<Vec<runtime::Mount>> {
    let mut mounts = Vec::new();
    for point in &config.mounts {
        let Some(image) = &point.image else { continue };
        let layers = store.overlay(&image.chain, None);
        let subpath = point.subpath.as_deref().unwrap_or("/");
        let invalid = |error: String| Error::Advised {
            message: format!("cannot mount `{subpath}` of image `{}`: {error}", image.name),
            hint: format!("see what it has with `kiln run --rm {} ls`", image.name),
        };
        let view = runtime::view(&layers.lowers).map_err(|error| invalid(error.to_string()))?;
        let found = Root(view.as_fd()).open(subpath, rustix::fs::OFlags::PATH);
        let stat = found.and_then(rustix::fs::fstat);
        let stat = stat.map_err(|error| invalid(std::io::Error::from(error).to_string()))?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        mounts.push(runtime::Mount::Layers {
            layers,
            source: subpath.to_owned(),
            is_folder: kind == rustix::fs::FileType::Directory,
            target: point.target.clone(),
            readonly: true,
        });
    }
    Ok(mounts)
}

/// Checks a mount point's path inside, and gives it without superfluous parts.
fn target(text: &str) -> Result<String> {
    let path = Path::new(text);
    let plain: std::path::PathBuf =
        path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect();
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || climbs || plain == Path::new("/") {
        let message = format!("invalid mount point `{text}`: it must be an absolute path below /");
        return Err(Error::Advised { message, hint: "write it as `/data`".to_owned() });
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
