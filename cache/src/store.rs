//! Opening and making a store, and the places inside it.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::lock::Claim;
use crate::meta::Meta;
use crate::{Digest, Error, Result, pin, trash};

/// The only format that this program works with.
const VERSION: &str = "kiln store 3";

/// The formats that it makes that of.
const OLDER_VERSIONS: [&str; 2] = ["kiln store 1", "kiln store 2"];

/// The folders that `create` makes.
const FOLDERS: [&str; 12] = [
    "blobs",
    "blobs/sha256",
    "snapshots",
    "empty",
    pin::FOLDER,
    "leases",
    "inflight",
    "stat",
    "builds",
    "cache-mounts",
    "tmp",
    "trash",
];

/// What else may lie in a root whose store isn't finished yet: our own files (and all that begin with
/// `meta.db`), and the folders of other modules and of filesystems.
const NEIGHBOURS: [&str; 9] = [
    "version",
    "version.new",
    "lock",
    "gc.lock",
    "reserve",
    "containers",
    "volumes",
    "networks",
    "lost+found",
];

/// Bytes of the file that is given up when the disk is full, so that the collector can write.
pub(crate) const RESERVE_BYTES: u64 = 1 << 20;

/// A store on the disk; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    meta: Meta,
    boot: String,
    /// Shared while the store is open; a change of the format would take it exclusively.
    _in_use: File,
    /// Results of records that this process has found, and whose last use was noted some time ago.
    long_unused: Mutex<HashSet<Digest>>,
}

impl Store {
    /// Opens the store at `root`, and makes it first when there is none.
    ///
    /// An existing store is only read, unless an older kiln made it: then this waits for the older one's processes,
    /// and brings the store to the present format. Several processes may call this for the same root at once.
    pub fn open(root: &Path) -> Result<Self> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::open_in_boot(root, boot.trim().to_owned())
    }

    /// Opens the store as if the kernel called this boot `boot`.
    pub(crate) fn open_in_boot(root: &Path, boot: String) -> Result<Self> {
        loop {
            match state(root)? {
                State::Made => break,
                State::Older => migrate(root)?,
                State::Unmade => create(root)?,
            }
        }
        let lock = open_lock(root)?;
        lock.lock_shared().map_err(Error::io("lock", &root.join("lock")))?;
        let meta = match Meta::open(&root.join("meta.db")) {
            // Even a reader needs a few pages of shared memory beside the database.
            Err(error) if error.is_disk_full() && give_up_reserve(root)? => Meta::open(&root.join("meta.db")),
            other => other,
        }?;
        let inner = Inner { root: root.to_owned(), meta, boot, _in_use: lock, long_unused: Mutex::default() };
        let store = Self { inner: Arc::new(inner) };
        store.drop_lost_snapshots()?;
        Ok(store)
    }

    /// Returns the folder of the store.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Returns a new unnamed file on the store's disk, for a stream that must be read twice.
    pub fn scratch(&self) -> Result<File> {
        let claim = Claim::new_file(&self.path("tmp"))?;
        claim.file().try_clone().map_err(Error::io("open", claim.path()))
    }

    /// Returns a new empty folder on the store's disk, removed with the guard.
    pub fn scratch_folder(&self) -> Result<Scratch> {
        let path = self.path("tmp").join(crate::id::SnapshotId::fresh().to_string());
        Ok(Scratch { claim: Claim::new_folder(&path)?, store: self.clone() })
    }

    /// Answers this thread's questions from one state of the store, that of the first question, as long as the
    /// guard lives.
    ///
    /// Many questions then cost one transaction. What is written meanwhile, also by this thread, isn't seen; so it
    /// is for a pass that only looks. At most one thread has such a view; another one just asks as ever.
    pub fn view(&self) -> Result<View<'_>> {
        Ok(View { store: self.meta().begin_view()?.then_some(self), _of_one_thread: PhantomData })
    }

    /// Closes the database until it is needed again: the last one to close it may have to wait for the disk.
    pub fn rest(&self) {
        self.meta().rest();
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.inner.meta
    }

    /// Returns what the kernel calls this boot.
    pub(crate) fn boot(&self) -> &str {
        &self.inner.boot
    }

    pub(crate) fn long_unused(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.inner.long_unused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a path inside the store.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.inner.root.join(name)
    }
}

/// See [`Store::view`].
#[derive(Debug)]
pub struct View<'a> {
    /// `None` when another thread has the view.
    store: Option<&'a Store>,
    /// It counts for the thread that made it, and must end there.
    _of_one_thread: PhantomData<*const ()>,
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.store {
            store.meta().end_view();
        }
    }
}

/// A folder of the caller's own under `tmp/`, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    claim: Claim,
    store: Store,
}

impl Scratch {
    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.claim.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed now stays for the collector.
        let _ = trash::remove_tree(self.claim.path(), &self.store.path("trash"));
    }
}

/// What lies in a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A store.
    Made,
    /// A store of an older kiln.
    Older,
    /// None, or one that isn't finished.
    Unmade,
}

/// Returns what lies in `root`, and refuses a store of an unknown format.
fn state(root: &Path) -> Result<State> {
    let path = root.join("version");
    match fs::read_to_string(&path) {
        Ok(found) if found.trim_end() == VERSION => Ok(State::Made),
        Ok(found) if OLDER_VERSIONS.contains(&found.trim_end()) => Ok(State::Older),
        Ok(found) => Err(Error::UnknownVersion {
            root: root.to_owned(),
            found: found.chars().take(60).collect::<String>().trim_end().to_owned(),
            known: VERSION,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Unmade),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

/// Makes the store; its file `version` comes last and means that all else is there.
fn create(root: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(Error::io("create", root))?;
    refuse_other_files(root)?;
    refuse_shared_filesystem(root)?;
    // A folder that was there may be open to everybody; the store holds secrets and programs that are setuid.
    fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(Error::io("close", root))?;
    let lock = open_lock(root)?;
    lock.lock().map_err(Error::io("lock", &root.join("lock")))?;
    if state(root)? != State::Unmade {
        return Ok(());
    }
    make_folders(root)?;
    for name in ["snapshots", "tmp"] {
        spread(&root.join(name));
    }
    Meta::create(&root.join("meta.db"), |pins| pin::take_over(root, pins))?;
    make_reserve(root)?;
    write_version(root)
}

fn make_folders(root: &Path) -> Result<()> {
    for name in FOLDERS {
        let path = root.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(Error::io("create", &path))?,
        }
    }
    Ok(())
}

/// Brings a store of an older kiln to the present format. Killed in between, it is done again.
fn migrate(root: &Path) -> Result<()> {
    let lock = open_lock(root)?;
    lock.lock().map_err(Error::io("lock", &root.join("lock")))?;
    if state(root)? != State::Older {
        return Ok(());
    }
    make_folders(root)?;
    let migrate = || Meta::migrate(&root.join("meta.db"), |pins| pin::take_over(root, pins));
    match migrate() {
        Err(error) if error.is_disk_full() && give_up_reserve(root)? => migrate(),
        other => other,
    }?;
    write_version(root)
}

/// Names the format; an older kiln refuses the store from then on.
fn write_version(root: &Path) -> Result<()> {
    let (new, version) = (root.join("version.new"), root.join("version"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{VERSION}")?;
        file.sync_all()?;
        fs::rename(&new, &version)?;
        File::open(root)?.sync_all()
    };
    write().map_err(Error::io("write", &version))
}

/// A mistyped `--root` must not strew a store over somebody's folder.
fn refuse_other_files(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).map_err(Error::io("read", root))? {
        let name = entry.map_err(Error::io("read", root))?.file_name().to_string_lossy().into_owned();
        let ours = FOLDERS.contains(&&*name) || NEIGHBOURS.contains(&&*name) || name.starts_with("meta.db");
        if !ours {
            return Err(Error::NotAStore { root: root.to_owned(), other: name });
        }
    }
    Ok(())
}

/// SQLite's WAL and flock need one machine's memory and locks, which network filesystems lack.
fn refuse_shared_filesystem(root: &Path) -> Result<()> {
    let stat = rustix::fs::statfs(root).map_err(|errno| Error::io("examine", root)(errno.into()))?;
    // Magic numbers of linux/magic.h.
    let filesystem = match stat.f_type as u64 & 0xffff_ffff {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "SMB",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE",
        0x5346_414f => "AFS",
        0x00c3_6400 => "Ceph",
        0xf15f => "eCryptfs",
        _ => return Ok(()),
    };
    Err(Error::UnsafeFilesystem { root: root.to_owned(), filesystem })
}

fn open_lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.map_err(Error::io("open", &path))
}

/// Asks ext4 to place each folder inside apart from the others (`TOPDIR`): new layers then fill fresh
/// block groups instead of crowding one. Elsewhere this does nothing.
fn spread(folder: &Path) {
    if let Ok(file) = File::open(folder)
        && let Ok(flags) = ioctl_getflags(&file)
    {
        let _ = ioctl_setflags(&file, flags | IFlags::TOPDIR);
    }
}

/// Sets aside room for the day when the disk is full; without room there is no reserve.
pub(crate) fn make_reserve(root: &Path) -> Result<()> {
    let path = root.join("reserve");
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == RESERVE_BYTES) {
        return Ok(());
    }
    let make = || -> io::Result<()> {
        let file = File::create(&path)?;
        let none = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&file, none, 0, RESERVE_BYTES) {
            Err(rustix::io::Errno::OPNOTSUPP) => (&file).write_all(&vec![1; 1 << 20]),
            other => Ok(other?),
        }
    };
    make().or_else(|error| {
        let _ = fs::remove_file(&path);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(()),
            _ => Err(Error::io("reserve room in", &path)(error)),
        }
    })
}

/// Frees the reserve; false when there was none.
pub(crate) fn give_up_reserve(root: &Path) -> Result<bool> {
    let path = root.join("reserve");
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("remove", &path)(error)),
    }
}

/// Returns whether the disk that holds `path` has next to no room left.
pub(crate) fn is_full(path: &Path) -> bool {
    has_less_than(path, 64 * 1024)
}

/// Returns whether the disk that holds `path` has so little room that what isn't needed should go at once.
pub(crate) fn is_tight(path: &Path) -> bool {
    has_less_than(path, 256 << 20)
}

fn has_less_than(path: &Path, bytes: u64) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) < bytes)
}
