//! The volumes of a store: folders that outlive the containers which have them.
//!
//! ```text
//! <store>/volumes/
//!     .lock              flock: shared while a container with volumes is made, exclusive while one is removed or renamed
//!     <name>/            flock while it is being filled
//!         volume.json    labels, options of the driver; see [`Record`]
//!         _data/         what containers see
//!         _data.new/     a copy of the image's content that is not complete yet
//!         users          flock: shared by those for whom something is mounted on `_data`
//!     .new/<hex>/        a copy of a volume that is not complete yet; its `lock` is held by who makes it
//!     .removed/<hex>/    a volume that is being deleted
//! ```
//!
//! A named volume is made at its first use. An anonymous one has 64 hex digits as its name and goes with the last
//! container that has it. An empty volume gets the image's content at the place where it is mounted ("copy-up"): first
//! beside, then by one rename, so that a killed kiln leaves it empty or full. The same holds for copies of volumes. What
//! is removed is first renamed, so that no half volume is left.
//!
//! A volume whose driver has options is a filesystem that is mounted on `_data` while containers run that have it (see
//! [`Volumes::hold`]).
//!
//! Not known here: containers, and so who uses a volume.

mod copies;
mod copy;
mod device;
mod error;
mod list;
mod record;

pub use self::copies::Unfinished;
pub use self::device::Held;
pub use self::error::{Error, Result};
pub use self::record::Record;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags, flock};

use self::error::At;

/// How long the lock is left to others.
const PAUSE: Duration = Duration::from_millis(2);

/// Tells whether a volume may be called so.
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.len() > 1
        && text.len() < 256
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(allowed)
}

/// Makes the directory that is to be bound, when nothing is there.
pub fn make_source(source: &Path) -> Result<()> {
    if std::fs::metadata(source).is_err() {
        make_dirs(source)?;
    }
    Ok(())
}

/// The volumes of one store.
#[derive(Debug, Clone)]
pub struct Volumes {
    folder: PathBuf,
}

/// Keeps others from removing volumes, or from using them.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Volumes {
    /// Returns the volumes kept in `folder`; nothing is made before the first use.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Keeps all volumes where they are, until a record says who uses them.
    pub fn lock_shared(&self) -> Result<Lock> {
        self.lock(FlockOperation::LockShared)
    }

    /// Keeps everybody from taking volumes into use.
    pub fn lock_exclusive(&self) -> Result<Lock> {
        self.lock(FlockOperation::LockExclusive)
    }

    /// The same, unless it takes too long.
    pub fn lock_exclusive_within(&self, patience: Duration) -> Result<Option<Lock>> {
        let end = Instant::now() + patience;
        loop {
            match self.lock(FlockOperation::NonBlockingLockExclusive) {
                Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {}
                locked => return locked.map(Some),
            }
            if Instant::now() > end {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn lock(&self, operation: FlockOperation) -> Result<Lock> {
        make_dirs(&self.folder)?;
        let path = self.folder.join(".lock");
        Ok(Lock { _file: locked(&path, operation)? })
    }

    /// Returns the content folder of volume `name`.
    pub fn data(&self, name: &str) -> PathBuf {
        self.home(name).join("_data")
    }

    /// Keeps others from filling volume `name` for the first time.
    pub fn lock_content(&self, name: &str) -> Result<Lock> {
        let home = self.home(name);
        let file = File::open(&home).at("open", &home)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).at("lock", &home)?;
        Ok(Lock { _file: file })
    }

    /// Tells whether volume `name` has nothing in it.
    pub fn is_empty(&self, name: &str) -> Result<bool> {
        let data = self.data(name);
        is_empty(&data).at("read", &data)
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Gives an empty volume the content that the root filesystem `rootfs` has at `target`.
    ///
    /// `rootfs` is an open directory; `target` is resolved inside it, links included. A volume that has
    /// anything, and a target that is missing or no directory, change nothing.
    pub fn copy_up(&self, name: &str, rootfs: BorrowedFd<'_>, target: &str) -> Result<()> {
        let (home, data) = (self.home(name), self.data(name));
        let _lock = self.lock_content(name)?;
        if !is_empty(&data).at("read", &data)? {
            return Ok(());
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let Ok(from) = rustix::fs::openat2(rootfs, target, flags, Mode::empty(), inside) else {
            return Ok(());
        };
        let new = home.join("_data.new");
        remove_tree(&new).at("remove", &new)?;
        std::fs::create_dir(&new).at("create", &new)?;
        copy::tree(from, &new).at("copy the image's content to", &new)?;
        std::fs::rename(&new, &data).at("fill", &data)
    }
}

fn locked(path: &Path, operation: FlockOperation) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.at("open", path)?;
    rustix::io::retry_on_intr(|| flock(&file, operation)).at("lock", path)?;
    Ok(file)
}

fn make_dirs(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).at("create", path)
}

fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(std::fs::read_dir(path)?.next().is_none())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn names_have_no_way_out() {
        for (name, expected) in [
            ("db-data.1", true),
            ("a_", true),
            ("", false),
            ("x", false),
            ("../up", false),
            ("a/b", false),
            ("-x", false),
            (".hidden", false),
            ("ä1", false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
    }

    #[test]
    fn a_missing_host_directory_is_made_and_a_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("a/b");
        make_source(&missing).unwrap();
        assert!(missing.is_dir());
        let file = folder.path().join("f");
        std::fs::write(&file, "x").unwrap();
        make_source(&file).unwrap();
        assert!(file.is_file());
    }

    struct Image {
        folder: tempfile::TempDir,
        volumes: Volumes,
    }

    impl Image {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().join("rootfs/var/lib/db");
            std::fs::create_dir_all(data.join("sub")).unwrap();
            std::fs::write(data.join("file"), "content").unwrap();
            std::fs::hard_link(data.join("file"), data.join("sub/same")).unwrap();
            symlink("/etc/passwd", data.join("link")).unwrap();
            std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o1770)).unwrap();
            let volumes = Volumes::new(&folder.path().join("volumes"));
            Self { folder, volumes }
        }

        fn copy_up(&self, target: &str) -> PathBuf {
            self.volumes.open("data").unwrap();
            let data = self.volumes.data("data");
            let rootfs = File::open(self.folder.path().join("rootfs")).unwrap();
            self.volumes.copy_up("data", rootfs.as_fd(), target).unwrap();
            data
        }
    }

    #[test]
    fn an_empty_volume_gets_the_images_content_with_owner_and_mode() {
        let image = Image::new();
        let data = image.copy_up("/var/lib/db");
        assert_eq!(std::fs::read_to_string(data.join("file")).unwrap(), "content");
        assert_eq!(std::fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(data.metadata().unwrap().mode() & 0o7777, 0o1770);
        let (one, same) = (data.join("file").metadata().unwrap(), data.join("sub/same").metadata().unwrap());
        assert_eq!(one.ino(), same.ino(), "hard links stay hard links");
    }

    #[test]
    fn a_volume_with_content_stays_as_it_is() {
        let image = Image::new();
        image.volumes.open("data").unwrap();
        std::fs::write(image.volumes.data("data").join("own"), "").unwrap();
        let data = image.copy_up("/var/lib/db");
        assert!(data.join("own").exists() && !data.join("file").exists());
    }

    #[test]
    fn a_link_in_the_image_does_not_lead_to_the_host() {
        let image = Image::new();
        let outside = image.folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "").unwrap();
        symlink(&outside, image.folder.path().join("rootfs/evil")).unwrap();
        symlink("../../../../..", image.folder.path().join("rootfs/up")).unwrap();
        assert!(is_empty(&image.copy_up("/evil")).unwrap());
        assert!(is_empty(&image.copy_up("/missing")).unwrap());
        image.copy_up("/up");
        assert!(!image.volumes.data("data").join("outside").exists());
    }

    #[test]
    fn a_removed_volume_is_gone_and_may_be_removed_again() {
        let image = Image::new();
        let data = image.copy_up("/var/lib/db");
        image.volumes.remove("data").unwrap();
        assert!(!data.exists());
        image.volumes.remove("data").unwrap();
        assert!(image.volumes.remove("..").is_err());
    }
}
