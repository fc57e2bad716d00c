//! Folders that steps keep between builds: `RUN --mount=type=cache`.
//!
//! ```text
//! cache-mounts/<hex>.<n>/lock   held while a step has the folder: shared, or by one alone; it has a byte for each
//!                               use, and the time of the last one
//! cache-mounts/<hex>.<n>/name   what people call it
//! cache-mounts/<hex>.<n>/size   its bytes on the disk, if it is newer than the last use
//! cache-mounts/<hex>.<n>/fs     the folder itself; missing until the first step has filled it
//! ```
//!
//! `<hex>` is the digest of what makes two caches different (their name, what they begin with), `<n>` counts the
//! copies that private users at the same time make. A cache is in no key, no record and no layer: nothing in the
//! database knows of it.
//!
//! - **Birth**: the folder is filled under `tmp/` and renamed, so that nobody sees half of it.
//! - **Locks** are flocks: they work across processes and die with them. Who runs a step hands the lock's
//!   descriptor on to the step's keeper, so that it isn't free before the step's last process is gone.
//! - **Death**: [`Store::remove_cache_mounts`] takes the lock alone and renames the whole instance into the trash;
//!   who waited for the lock finds that its file has no name any more and begins anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::gc::{measure, short};
use crate::lock::{is_named, try_lock, try_lock_shared};
use crate::{Digest, Error, Result, Store};

/// Private copies of one cache at the same time; a step that would need a further one waits.
const MOST_COPIES: u32 = 256;

/// The longest name that is kept for people.
const NAME_BYTES: usize = 4096;

/// What happens when two steps want one cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// Both have it.
    Shared,
    /// The second one gets another one.
    Private,
    /// The second one waits.
    Locked,
}

/// Which cache, and how it is shared. Sorted by these, locks are taken in one order everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheMountRequest {
    /// Names the cache: equal ones are one cache.
    pub id: Digest,
    /// What people call it.
    pub name: String,
    /// How it is shared.
    pub sharing: Sharing,
}

/// How a cache was used.
#[derive(Debug)]
pub(crate) struct MountUse {
    pub(crate) folder: PathBuf,
    pub(crate) id: String,
    pub(crate) name: String,
    /// When it was made, in seconds since 1970.
    pub(crate) created: i64,
    /// When a step got it last.
    pub(crate) used: i64,
    pub(crate) uses: u64,
    pub(crate) bytes: u64,
    pub(crate) in_use: bool,
}

/// A cache that this process holds; free again when this and all copies of its lock are dropped.
#[derive(Debug)]
pub struct CacheMount {
    id: Digest,
    folder: PathBuf,
    lock: File,
    store: Store,
}

impl Store {
    /// Tries to hold a cache; `None` while somebody else has it.
    pub fn try_cache_mount(&self, request: &CacheMountRequest) -> Result<Option<CacheMount>> {
        let copies = if request.sharing == Sharing::Private { MOST_COPIES } else { 1 };
        for number in 0..copies {
            let name = format!("{}.{number}", request.id.hex());
            if let Some(held) = self.try_instance(request, &self.path("cache-mounts").join(name))? {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// Tries to hold one instance, and makes its folder first.
    fn try_instance(&self, request: &CacheMountRequest, folder: &Path) -> Result<Option<CacheMount>> {
        loop {
            let lock = match open_lock(folder) {
                // A collector was quicker than us between both calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_folder(folder)?;
                    continue;
                }
                other => other.map_err(Error::io("open", &folder.join("lock")))?,
            };
            let locked = match request.sharing {
                Sharing::Shared => try_lock_shared(&lock),
                Sharing::Private | Sharing::Locked => try_lock(&lock),
            };
            if !locked.map_err(Error::io("lock", &folder.join("lock")))? {
                return Ok(None);
            }
            if is_named(&lock, &folder.join("lock")) {
                note_name(folder, &request.name);
                // One byte more, and with it the time. A use that can't be noted is a use nevertheless.
                let _ = (&lock).write_all(b"+");
                let (id, folder, store) = (request.id, folder.to_owned(), self.clone());
                return Ok(Some(CacheMount { id, folder, lock, store }));
            }
        }
    }

    /// Removes the caches that no step has; their names, and their bytes.
    pub fn remove_cache_mounts(&self) -> Result<(Vec<String>, u64)> {
        let (mut names, mut bytes) = (Vec::new(), 0);
        for folder in self.cache_mount_folders()? {
            let (name, size) = (name_of(&folder), size_of(&folder));
            if self.remove_cache_mount(&folder)? {
                bytes += size;
                names.push(name);
            }
        }
        names.sort();
        Ok((names, bytes))
    }

    /// Removes one cache unless a step has it.
    pub(crate) fn remove_cache_mount(&self, folder: &Path) -> Result<bool> {
        let lock = match open_lock(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(Error::io("open", &folder.join("lock")))?,
        };
        let free = try_lock(&lock).map_err(Error::io("lock", &folder.join("lock")))?;
        if !free || !is_named(&lock, &folder.join("lock")) {
            return Ok(false);
        }
        self.discard(folder)?;
        Ok(true)
    }

    /// Returns every cache, and how it was used.
    pub(crate) fn cache_mount_uses(&self) -> Result<Vec<MountUse>> {
        let folders = self.cache_mount_folders()?.into_iter();
        Ok(folders.filter_map(|folder| mount_use(folder).ok()).collect())
    }

    fn cache_mount_folders(&self) -> Result<Vec<PathBuf>> {
        let all = self.path("cache-mounts");
        match fs::read_dir(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => {
                let entries = entries.map_err(Error::io("read", &all))?;
                Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            }
        }
    }
}

impl CacheMount {
    /// Returns which cache it is.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// Returns another descriptor of the lock: the cache stays held until it is closed too.
    pub fn keeper(&self) -> Result<OwnedFd> {
        let path = self.folder.join("lock");
        self.lock.as_fd().try_clone_to_owned().map_err(Error::io("open", &path))
    }

    /// Returns the folder. A new one is filled by `fill` first, which gets it empty, with mode 0755.
    ///
    /// Two users that share a new cache may both fill one: the first stays.
    pub fn folder<E: From<Error>>(
        &self,
        fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<PathBuf, E> {
        let target = self.folder.join("fs");
        if target.exists() {
            return Ok(target);
        }
        let scratch = self.store.scratch_folder()?;
        let new = scratch.path().join("fs");
        make_open_folder(&new)?;
        fill(&new)?;
        match renameat_with(CWD, &new, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(target),
            Err(error) => Err(Error::io("create", &target)(error.into()).into()),
        }
    }
}

fn open_lock(folder: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(folder.join("lock"))
}

fn make_folder(folder: &Path) -> Result<()> {
    let make = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    make.map_err(Error::io("create", folder))
}

/// Makes a folder with mode 0755, whatever the umask is.
fn make_open_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let make = || {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
    };
    make().map_err(Error::io("create", folder))
}

/// How a cache was used; an error when it went meanwhile.
fn mount_use(folder: PathBuf) -> io::Result<MountUse> {
    let lock = open_lock(&folder)?;
    let metadata = lock.metadata()?;
    let used = metadata.mtime();
    let created = fs::metadata(folder.join("name")).map_or(used, |name| name.mtime());
    let file_name = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(MountUse {
        id: short(&Digest::of(file_name.as_bytes())),
        name: name_of(&folder),
        created: created.min(used),
        used,
        uses: metadata.len(),
        bytes: size_of(&folder),
        in_use: !try_lock(&lock)?,
        folder,
    })
}

fn name_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("name")).unwrap_or_default()
}

/// Bytes on the disk of a cache. They are measured after each use, once, and noted beside it.
fn size_of(folder: &Path) -> u64 {
    let (lock, size) = (folder.join("lock"), folder.join("size"));
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let is_new = matches!((changed(&lock), changed(&size)), (Some(used), Some(noted)) if noted > used);
    let noted = fs::read_to_string(&size).ok().filter(|_| is_new).and_then(|text| text.parse().ok());
    noted.unwrap_or_else(|| {
        let bytes = measure(folder);
        // While a step has it, it may still grow.
        if open_lock(folder).is_ok_and(|lock| try_lock(&lock).unwrap_or(false)) {
            let _ = fs::write(size, bytes.to_string());
        }
        bytes
    })
}

/// Keeps the name for people; without it the cache works as well.
fn note_name(folder: &Path, name: &str) {
    let path = folder.join("name");
    if !path.exists() {
        let end = name.floor_char_boundary(NAME_BYTES);
        let _ = fs::write(path, &name[..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sweep;

    fn new_store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    fn request(name: &str, sharing: Sharing) -> CacheMountRequest {
        CacheMountRequest { id: Digest::of(name), name: name.to_owned(), sharing }
    }

    fn empty(_: &Path) -> Result<()> {
        Ok(())
    }

    fn write(folder: &Path, bytes: &[u8]) -> Result<()> {
        fs::write(folder.join("a"), bytes).unwrap();
        Ok(())
    }

    #[test]
    fn a_cache_is_filled_once_and_found_again() {
        let (_folder, store) = new_store();
        let open = || store.try_cache_mount(&request("go", Sharing::Shared)).unwrap().unwrap();
        let fill = |text: &'static str| move |new: &Path| write(new, text.as_bytes());
        let (one, other) = (open(), open());
        let path = one.folder(fill("first")).unwrap();
        assert_eq!(other.folder(fill("second")).unwrap(), path);
        drop((one, other));
        assert_eq!(fs::read_to_string(open().folder(fill("third")).unwrap().join("a")).unwrap(), "first");
        assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn sharing_decides_who_waits_and_who_gets_another_one() {
        use Sharing::{Locked, Private, Shared};
        let (_folder, store) = new_store();
        let open = |sharing| store.try_cache_mount(&request("apt", sharing)).unwrap();
        let path = |held: &CacheMount| held.folder(empty).unwrap();
        let shared = open(Shared).unwrap();
        assert!(open(Shared).is_some() && open(Locked).is_none());
        let private = open(Private).unwrap();
        assert_ne!(path(&shared), path(&private));
        drop(shared);
        let locked = open(Locked).unwrap();
        assert!(open(Locked).is_none() && open(Shared).is_none());
        assert_ne!(path(&open(Private).unwrap()), path(&private));
        let keeper = locked.keeper().unwrap();
        drop(locked);
        assert!(open(Locked).is_none(), "a kept lock holds");
        drop(keeper);
        assert!(open(Locked).is_some());
    }

    #[test]
    fn a_prune_takes_what_no_step_has() {
        let (_folder, store) = new_store();
        let open = |name| store.try_cache_mount(&request(name, Sharing::Shared)).unwrap().unwrap();
        let used = open("used");
        let path = used.folder(empty).unwrap();
        drop(open("free").folder(|new| write(new, &[1; 8192])).unwrap());
        assert_eq!(store.gc(&Sweep::default()).unwrap().cache_mounts, Vec::<String>::new());
        let swept = store.gc(&Sweep { cache_mounts: true, ..Sweep::default() }).unwrap();
        assert_eq!(swept.cache_mounts, ["free"]);
        assert!(swept.bytes >= 8192 && path.exists());
        assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
        assert!(open("free").folder(empty).unwrap().read_dir().unwrap().next().is_none());
    }

    #[test]
    fn who_waited_for_a_removed_cache_gets_a_new_one() {
        let (_folder, store) = new_store();
        let asked = request("a", Sharing::Locked);
        for _ in 0..50 {
            std::thread::scope(|scope| {
                let user = scope.spawn(|| {
                    loop {
                        if let Some(held) = store.try_cache_mount(&asked).unwrap() {
                            let path = held.folder(empty).unwrap();
                            assert!(path.exists(), "held and gone");
                            return;
                        }
                    }
                });
                let remover = scope.spawn(|| store.remove_cache_mounts().unwrap());
                user.join().unwrap();
                remover.join().unwrap();
            });
        }
    }
}
