//! Resolves volume and bind requests to host paths.
//!
//! ```text
//! <store>/volumes/
//!     <name>/            flock while it is being filled
//!         _data/         what containers see
//!         _data.new/     a copy of the image's content that is not complete yet
//! ```
//!
//! A named volume is made at its first use. An anonymous one has 64 hex digits as its name and belongs to one
//! container. An empty volume gets the image's content at the place where it is mounted ("copy-up"): first
//! beside, then by one rename, so that a killed kiln leaves it empty or full. A bind's host directory is made
//! when it is missing, as docker's `-v` does.

mod copy;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags, flock};

/// Why a volume could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has characters that no volume has.
    #[error(
        "`{name}` is not a volume name: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed; \
         a host directory is given by its absolute path"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, Error>;

/// What stands before the first colon of `-v`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A host path; absolute.
    Bind(PathBuf),
    /// A volume's name.
    Named(String),
    /// Nothing.
    Anonymous,
}

impl Source {
    /// Tells a host path from a volume's name.
    pub fn parse(text: Option<&str>) -> Result<Self> {
        match text {
            None => Ok(Self::Anonymous),
            Some(path) if path.starts_with('/') => Ok(Self::Bind(PathBuf::from(path))),
            Some(name) if is_name(name) => Ok(Self::Named(name.to_owned())),
            Some(name) => Err(Error::Name { name: name.to_owned() }),
        }
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.len() > 1
        && text.len() < 256
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(allowed)
}

/// Returns the host path of a bind; a missing one is made as a directory.
pub fn bind(source: &Path) -> Result<PathBuf> {
    if std::fs::metadata(source).is_err() {
        make_dirs(source)?;
    }
    Ok(source.to_owned())
}

/// The volumes of one store.
#[derive(Debug, Clone)]
pub struct Volumes {
    folder: PathBuf,
}

impl Volumes {
    /// Returns the volumes kept in `folder`; nothing is made before the first use.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Returns the content folder of volume `name`, made when it is missing.
    pub fn open(&self, name: &str) -> Result<PathBuf> {
        if !is_name(name) {
            return Err(Error::Name { name: name.to_owned() });
        }
        let data = self.data(name);
        make_dirs(&data)?;
        Ok(data)
    }

    /// Gives an empty volume the content that the root filesystem `rootfs` has at `target`.
    ///
    /// `rootfs` is an open directory; `target` is resolved inside it, links included. A volume that has
    /// anything, and a target that is missing or no directory, change nothing.
    pub fn copy_up(&self, name: &str, rootfs: BorrowedFd<'_>, target: &str) -> Result<()> {
        let (home, data) = (self.folder.join(name), self.data(name));
        let wrap = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { action, path, source }
        };
        let lock = File::open(&home).map_err(wrap("open", &home))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| wrap("lock", &home)(e.into()))?;
        if !is_empty(&data).map_err(wrap("read", &data))? {
            return Ok(());
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let Ok(from) = rustix::fs::openat2(rootfs, target, flags, Mode::empty(), inside) else {
            return Ok(());
        };
        let new = home.join("_data.new");
        remove_tree(&new).map_err(wrap("remove", &new))?;
        std::fs::create_dir(&new).map_err(wrap("create", &new))?;
        copy::tree(from, &new).map_err(wrap("copy the image's content to", &new))?;
        std::fs::rename(&new, &data).map_err(wrap("fill", &data))
    }

    /// Removes volume `name` and its content; a missing one is no error.
    pub fn remove(&self, name: &str) -> Result<()> {
        if !is_name(name) {
            return Err(Error::Name { name: name.to_owned() });
        }
        let home = self.folder.join(name);
        remove_tree(&home).map_err(|source| Error::File { action: "remove", path: home, source })
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("_data")
    }
}

fn make_dirs(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|source| Error::File { action: "create", path: path.to_owned(), source })
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
    fn host_paths_and_names_are_told_apart() {
        assert_eq!(Source::parse(None).unwrap(), Source::Anonymous);
        assert_eq!(Source::parse(Some("/srv")).unwrap(), Source::Bind("/srv".into()));
        assert_eq!(Source::parse(Some("db-data.1")).unwrap(), Source::Named("db-data.1".into()));
        for bad in ["", "x", "../up", "./here", "a/b", "-x", ".hidden", "ä1"] {
            assert!(Source::parse(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_host_directory_is_made_and_a_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("a/b");
        assert_eq!(bind(&missing).unwrap(), missing);
        assert!(missing.is_dir());
        let file = folder.path().join("f");
        std::fs::write(&file, "x").unwrap();
        bind(&file).unwrap();
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
            let data = self.volumes.open("data").unwrap();
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
        std::fs::write(image.volumes.open("data").unwrap().join("own"), "").unwrap();
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
        assert!(!image.volumes.open("data").unwrap().join("outside").exists());
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
