//! The overlay that becomes `/`, and the removal of mount points that were made in it.
//!
//! The overlay is made before the clone, as a detached mount held by a descriptor, so that its teardown is not on
//! the child's way out. Every option is named: a kernel's or a distribution's defaults decide nothing.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kiln_cache::Mounts;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::error::{At, StartError};
use super::inroot::{Kind, Made, Root, mtime};
use super::mounts::{self, new_filesystem};
use super::spec::{Mount, Spec};
use super::userns;
use crate::sys::mount as attributes;

/// An fsconfig string ends here; a longer one is refused by the kernel with EINVAL.
const FSCONFIG_BYTES: usize = 255;

/// What every overlay is mounted with.
pub(super) const OPTIONS: [(&str, &str); 5] = [
    ("source", "overlay"),
    ("redirect_dir", "nofollow"),
    ("metacopy", "off"),
    ("index", "off"),
    ("xino", "off"),
];

/// The lowest layer of the last step that had one. Most steps have the same mount points, and taking a mount away
/// waits for all processors.
#[derive(Debug, Default)]
pub(super) struct Stubs(Option<(Vec<(String, Kind)>, OwnedFd)>);

/// Makes the root filesystem of `spec`, attached to nothing. `sources` are those of [`mount_sources`].
pub(super) fn mount(
    spec: &Spec,
    sources: &[OwnedFd],
    stubs: &mut Stubs,
    userns: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, StartError> {
    let (mounts, devices) = (&spec.rootfs, spec.privileged || spec.opens_devices);
    if mounts.lowers.is_empty() {
        return Err(StartError::new("overlay", "the root filesystem has no folder"));
    }
    let mut attrs = MountAttrFlags::empty();
    if !devices {
        attrs |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    if spec.remove_stubs || !spec.own_files.is_empty() {
        // Without it, on kernels before 6.15, mount points are made in the upper folder and removed at the end.
        if let Ok(stubs) = stubs.layer(spec, sources)
            && let Ok(mount) = overlay(mounts, spec.volatile, Some(stubs), userns, attrs)
        {
            return Ok(mount);
        }
    }
    if mounts.lowers.len() == 1 && mounts.upper.is_none() {
        return bind(&mounts.lowers[0], devices);
    }
    overlay(mounts, spec.volatile, None, userns, attrs)
}

/// Makes what the spec's mounts need of the machine, attached to nothing: one mount for each `Layers`, `Bind` and
/// `Device`, in their order.
pub(super) fn mount_sources(spec: &Spec, userns: Option<BorrowedFd<'_>>) -> Result<Vec<OwnedFd>, StartError> {
    let source = |mount: &Mount| match mount {
        Mount::Layers { layers, .. } => Some(match layers.lowers.as_slice() {
            [one] if layers.upper.is_none() => bind(one, false),
            _ => overlay(layers, true, None, userns, MountAttrFlags::MOUNT_ATTR_NODEV),
        }),
        Mount::Bind { source, readonly, how, .. } => Some(mounts::bind(source, *readonly, how, userns)),
        Mount::Device { source, .. } => Some(mounts::device(source)),
        Mount::Tmpfs { .. } | Mount::File { .. } => None,
    };
    spec.mounts.iter().filter_map(source).collect()
}

fn overlay(
    layers: &Mounts,
    volatile: bool,
    stubs: Option<&OwnedFd>,
    userns: Option<BorrowedFd<'_>>,
    attrs: MountAttrFlags,
) -> Result<OwnedFd, StartError> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .at("overlay", || "this kernel cannot mount overlay filesystems by fsopen (Linux 5.10 is needed)")?;
    let made = configure(fs.as_fd(), layers, volatile, stubs, userns)
        .and_then(|_kept| fsconfig_create(&fs).at("overlay", || "cannot mount the overlay"));
    if let Err(mut error) = made {
        if let Some(reason) = kernel_log(&fs) {
            error.message = format!("{} ({reason})", error.message);
        }
        return Err(error);
    }
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attrs).at("overlay", || "cannot mount the overlay")
}

/// Opens a root filesystem for reading, as a mount that is attached to nothing and ends with its descriptor.
///
/// For any process; symbolic links in it must be resolved by openat2 with `RESOLVE_IN_ROOT`.
pub fn view(lowers: &[PathBuf]) -> Result<OwnedFd, StartError> {
    let rootfs = Mounts { lowers: lowers.to_vec(), upper: None, work: None };
    mount(&Spec { rootfs, ..Spec::default() }, &[], &mut Stubs::default(), None)
}

/// One folder without an upper one: a read-only bind of it.
fn bind(folder: &Path, devices: bool) -> Result<OwnedFd, StartError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree =
        open_tree(CWD, folder, flags).at("overlay", || format!("cannot mount `{}`", folder.display()))?;
    let nodev = if devices { 0 } else { attributes::NODEV };
    attributes::set_attributes(tree.as_fd(), attributes::RDONLY | nodev, false)
        .at("overlay", || format!("cannot make `{}` read-only", folder.display()))?;
    Ok(tree)
}

/// Sets all options; gives the mounts that must stay until the overlay is made.
fn configure(
    fs: BorrowedFd<'_>,
    mounts: &Mounts,
    volatile: bool,
    stubs: Option<&OwnedFd>,
    userns: Option<BorrowedFd<'_>>,
) -> Result<Vec<OwnedFd>, StartError> {
    let kept = match userns {
        Some(userns) => add_mapped(fs, mounts, userns)?,
        None => {
            add_layers(fs, mounts, stubs)?;
            Vec::new()
        }
    };
    for (key, value) in OPTIONS {
        fsconfig_set_string(fs, key, value)
            .at("overlay", || format!("the kernel refuses overlay's {key}={value}"))?;
    }
    if volatile && mounts.upper.is_some() {
        fsconfig_set_flag(fs, "volatile").at("overlay", || "the kernel refuses overlay's volatile")?;
    }
    Ok(kept)
}

/// An image may hold one layer twice; the kernel refuses a folder that it has already.
fn lowers(mounts: &Mounts) -> impl Iterator<Item = &PathBuf> {
    let mut seen = BTreeSet::new();
    mounts.lowers.iter().filter(move |lower| seen.insert(*lower))
}

fn add_layers(fs: BorrowedFd<'_>, mounts: &Mounts, stubs: Option<&OwnedFd>) -> Result<(), StartError> {
    for lower in lowers(mounts) {
        // By path since 6.7; by descriptor, which takes three calls, since 6.13.
        let added = match lower.as_os_str().len() <= FSCONFIG_BYTES {
            true => fsconfig_set_string(fs, "lowerdir+", lower.as_os_str()),
            false => fsconfig_set_fd(fs, "lowerdir+", open_folder(lower)?),
        };
        match added {
            Ok(()) => {}
            Err(Errno::INVAL) => {
                all_lowers_at_once(fs, mounts)?;
                break;
            }
            Err(error) => return Err(error).at("overlay", || layer_text(lower)),
        }
    }
    if let Some(stubs) = stubs {
        fsconfig_set_fd(fs, "lowerdir+", stubs).at("overlay", || "cannot use mount points in memory")?;
    }
    for (key, folder) in [("upperdir", &mounts.upper), ("workdir", &mounts.work)] {
        if let Some(folder) = folder {
            let fd = open_folder(folder)?;
            if fsconfig_set_fd(fs, key, &fd).is_err() {
                fsconfig_set_string(fs, key, folder.as_os_str()).at("overlay", || layer_text(folder))?;
            }
        }
    }
    Ok(())
}

/// The same with the ids of a user namespace.
fn add_mapped(
    fs: BorrowedFd<'_>,
    mounts: &Mounts,
    userns: BorrowedFd<'_>,
) -> Result<Vec<OwnedFd>, StartError> {
    let text = |folder: &Path| {
        format!("cannot use `{}` as a layer with other user ids (Linux 6.15 is needed)", folder.display())
    };
    let mut kept = Vec::new();
    for lower in lowers(mounts) {
        let folder = userns::mapped(lower, userns)?;
        fsconfig_set_fd(fs, "lowerdir+", &folder).at("overlay", || text(lower))?;
        kept.push(folder);
    }
    if let (Some(upper), Some(work)) = (&mounts.upper, &mounts.work) {
        // Both must be on one mount.
        let parent = userns::mapped(upper.parent().unwrap_or(upper), userns)?;
        for (key, folder) in [("upperdir", upper), ("workdir", work)] {
            let fd = userns::folder_of(&parent, folder)?;
            fsconfig_set_fd(fs, key, &fd).at("overlay", || text(folder))?;
        }
        kept.push(parent);
    }
    Ok(kept)
}

impl Stubs {
    /// Gives a lowest layer, in memory, that has every mount point which the image may lack.
    ///
    /// A mount point made in the upper folder is a change to take back, and costs the store's filesystem an inode:
    /// on an ext4 without a journal, with many deleted ones about, most of a step's time. Being the lowest, this
    /// layer decides nothing about a folder that the image has; and nothing ever changes in a lower layer.
    pub(super) fn layer(&mut self, spec: &Spec, sources: &[OwnedFd]) -> io::Result<&OwnedFd> {
        let points = mount_points(spec, sources)?;
        let kept = self.0.take().filter(|(kept, _)| *kept == points);
        let layer = match kept {
            Some((_, layer)) => layer,
            None => stub_layer(&points)?,
        };
        Ok(&self.0.insert((points, layer)).1)
    }
}

fn mount_points(spec: &Spec, sources: &[OwnedFd]) -> io::Result<Vec<(String, Kind)>> {
    let folders = ["/proc", "/sys", "/dev"].map(|folder| (folder.to_owned(), Kind::Folder));
    let own = spec.own_files.iter().map(|target| (target.clone(), Kind::File));
    let mut points: Vec<_> = folders.into_iter().chain(own).collect();
    if !spec.remove_stubs {
        return Ok(points);
    }
    let mut sources = sources.iter();
    for mount in &spec.mounts {
        let source = if mount.has_source() { sources.next() } else { None };
        let kind = match (mount, source) {
            (Mount::Tmpfs { .. }, _) => Kind::Folder,
            (Mount::Layers { is_folder, .. }, _) => Kind::of(*is_folder),
            // What was opened is what will be mounted, whatever has its name by now.
            (Mount::Bind { .. }, Some(source)) => mounts::kind_of(source)?,
            _ => Kind::File,
        };
        points.push((mount.target().to_owned(), kind));
    }
    Ok(points)
}

fn stub_layer(points: &[(String, Kind)]) -> io::Result<OwnedFd> {
    let layer = new_filesystem("tmpfs", &[("mode", "0755")], attributes::NODEV | attributes::NOSUID)?;
    for (target, kind) in points {
        Root(layer.as_fd()).ensure(target, *kind, (0, 0), &mut Vec::new())?;
    }
    Ok(layer)
}

/// Kernels before 6.7 take one string of at most 255 bytes.
fn all_lowers_at_once(fs: BorrowedFd<'_>, mounts: &Mounts) -> Result<(), StartError> {
    let folders: Vec<&OsStr> = mounts.lowers.iter().map(|lower| lower.as_os_str()).collect();
    let joined = folders.join(OsStr::new(":"));
    if joined.len() > FSCONFIG_BYTES {
        let text = format!(
            "this kernel cannot mount {} layers at these paths: Linux 6.7 or a shorter store path is needed",
            folders.len()
        );
        return Err(StartError::new("overlay", text));
    }
    fsconfig_set_string(fs, "lowerdir", joined.as_os_str()).at("overlay", || "cannot stack the layers")
}

fn layer_text(folder: &Path) -> String {
    format!("cannot use `{}` as a layer", folder.display())
}

fn open_folder(folder: &Path) -> Result<OwnedFd, StartError> {
    rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at("overlay", || format!("cannot open the layer `{}`", folder.display()))
}

/// Returns the first error that the kernel wrote about a mount being configured.
fn kernel_log(fs: &OwnedFd) -> Option<String> {
    let mut line = [0; 1024];
    while let Ok(length) = rustix::io::read(fs, &mut line) {
        let text = String::from_utf8_lossy(&line[..length]);
        if let Some(error) = text.strip_prefix("e ") {
            return Some(error.trim().to_owned());
        }
        if length == 0 {
            break;
        }
    }
    None
}

/// Removes from the upper folder what `made` lists, as far as it is still empty, then the folders that the
/// making copied up and that say nothing. Gives times back to the folders above. Best effort: what was changed
/// or can't be removed belongs to the layer.
pub(super) fn remove_stubs(mounts: &Mounts, made: &[Made]) {
    let Some(upper) = &mounts.upper else { return };
    let mut copied = BTreeSet::new();
    for stub in made.iter().rev() {
        let folder = stub.path.parent().unwrap_or(Path::new(""));
        if remove_empty(upper, &stub.path, stub.kind, Some(stub)).is_ok() {
            copied.insert(folder.to_path_buf());
        }
    }
    // Deeper folders come later in the order of paths.
    for folder in copied.iter().rev() {
        let mut folder = folder.as_path();
        while folder != Path::new("") && says_nothing(mounts, upper, folder) {
            if remove_empty(upper, folder, Kind::Folder, None).is_err() {
                break;
            }
            folder = folder.parent().unwrap_or(Path::new(""));
        }
    }
}

/// Opens a folder below `base` without following any link.
fn open_below(base: &Path, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let base = rustix::fs::open(base, flags, Mode::empty())?;
    if path == Path::new("") {
        return Ok(base);
    }
    rustix::fs::openat2(&base, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn remove_empty(upper: &Path, path: &Path, kind: Kind, stub: Option<&Made>) -> Result<(), Errno> {
    let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().ok_or(Errno::INVAL)?);
    let parent = open_below(upper, parent)?;
    let before = rustix::fs::fstat(&parent)?;
    match kind {
        Kind::Folder => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?,
        Kind::File => {
            let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size != 0 {
                return Err(Errno::NOTEMPTY);
            }
            rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
        }
    }
    let time = match stub {
        Some(stub) if mtime(&before) == stub.after => stub.before,
        _ => mtime(&before),
    };
    set_mtime(&parent, &before, time)
}

fn set_mtime(folder: &OwnedFd, stat: &Stat, (seconds, nanoseconds): (i64, i64)) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as i64 },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    rustix::fs::futimens(folder, &times)
}

/// Tells whether the upper folder's `path` is equal to what the lowers already show.
fn says_nothing(mounts: &Mounts, upper: &Path, path: &Path) -> bool {
    let Ok(above) = open_below(upper, path) else { return false };
    for lower in &mounts.lowers {
        match open_below(lower, path) {
            Ok(below) => return same_folder(&above, &below).unwrap_or(false),
            Err(Errno::NOENT) => {}
            Err(_) => return false,
        }
    }
    false
}

fn same_folder(above: &OwnedFd, below: &OwnedFd) -> io::Result<bool> {
    let (a, b) = (rustix::fs::fstat(above)?, rustix::fs::fstat(below)?);
    let same = (a.st_mode, a.st_uid, a.st_gid, mtime(&a)) == (b.st_mode, b.st_uid, b.st_gid, mtime(&b));
    Ok(same && !is_opaque(above) && attributes_of(above)? == attributes_of(below)?)
}

fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(folder, c"trusted.overlay.opaque", &mut value).is_ok()
}

/// Returns the extended attributes, without overlay's own.
fn attributes_of(folder: &OwnedFd) -> io::Result<BTreeSet<(CString, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::flistxattr(folder, &mut names)?;
    let mut all = BTreeSet::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let name = CString::new(name)?;
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(folder, &*name, &mut value)?;
        value.truncate(length);
        all.insert((name, value));
    }
    Ok(all)
}

/// Returns a folder that surely exists on the machine, for the root to be attached at before it becomes `/`.
pub(super) fn attach_point(mounts: &Mounts) -> PathBuf {
    mounts.lowers[0].clone()
}
