//! Pins: what a container or a mount stands on stays until it is unpinned, also across processes.
//!
//! A pin is a file `pins/<owner>` with the names of snapshots, one on each line. It is no row, so that a container
//! comes and goes without a change of the database, and whoever ends one needn't open that at all. A file is
//! written as `.new` and renamed; changes are made, and looked through, under the folder's lock, so that nobody
//! sees what is only tried, or misses one that another file takes the place of.
//!
//! **The race with the collector.** [`Store::pin`] makes the file visible, and *then* asks the database whether the
//! snapshots are ready. The collector looks at the files in the transaction that condemns, and again, after that was
//! committed, in the one that buries.
//!
//! - Who asks before the condemning is committed reads `ready`. The file was there before the question and so before
//!   the burying, which finds it and spares the snapshot. (Until then it is `dying` for others who ask.)
//! - Who asks later reads `dying`, takes the file back and says that the snapshot is gone.
//!
//! **Order of locks**: who writes to the database may wait for the folder's lock inside of the transaction. Who holds
//! that lock only reads the database, and a reader waits for no writer.
//!
//! **Crash**: a maker that was killed leaves a pin of an owner that isn't there, which the check of the whole system
//! finds. Pins aren't flushed, nor is what they belong to: after a power loss a file may be empty or cut. It then says
//! nothing about what it kept, and the collector refuses to work until it is mended or unpinned.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::meta::Kind;
use crate::{Error, Result, SnapshotId, Store};

/// The folder of the pins, in the store.
pub(crate) const FOLDER: &str = "pins";

/// A pin that is being written; it pins nothing.
const NEW: &str = ".new";

impl Store {
    /// Keeps the snapshots of `chain` for `owner` until [`Store::unpin`], beside those that are kept for it already.
    ///
    /// False when one of them is gone; nothing is changed then. The owner names a file: it isn't empty, has no `/`
    /// and doesn't begin with `.`.
    pub fn pin(&self, owner: &str, chain: &[SnapshotId]) -> Result<bool> {
        let pins = Pins::lock(self.root())?;
        let old = pins.read(owner)?.unwrap_or_default();
        let mut all = old.clone();
        all.extend(chain.iter().filter(|id| !old.contains(id)));
        let is_more = all.len() > old.len();
        if is_more {
            pins.write(owner, &all)?;
        }
        let missing = self.meta().read_anew(|tx| tx.missing_snapshot(chain));
        if is_more && !matches!(missing, Ok(None)) {
            pins.write(owner, &old)?;
        }
        Ok(missing?.is_none())
    }

    /// Ends what [`Store::pin`] began.
    pub fn unpin(&self, owner: &str) -> Result<()> {
        Self::unpin_at(self.root(), owner)
    }

    /// Like [`Store::unpin`], for the store at `root`, which needn't be opened for it.
    pub fn unpin_at(root: &Path, owner: &str) -> Result<()> {
        match Pins::lock(root) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            pins => pins?.write(owner, &[]),
        }
    }

    /// Returns whose pins a power loss has cut.
    pub fn damaged_pins(&self) -> Result<Vec<String>> {
        let pins = Pins::look(self.root())?;
        let mut owners = pins.owners()?;
        owners.retain(|owner| matches!(pins.read(owner), Err(Error::DamagedPin { .. })));
        Ok(owners)
    }

    /// Makes `chain` what `owner` pins, whatever its file says; for one that is damaged, whose owner knows what it
    /// stands on.
    pub fn mend_pin(&self, owner: &str, chain: &[SnapshotId]) -> Result<()> {
        Pins::lock(self.root())?.write(owner, chain)
    }

    /// Returns all that is pinned. A pin that can't be read is an error: nobody knows what it keeps.
    pub(crate) fn pinned_snapshots(&self) -> Result<HashSet<SnapshotId>> {
        let pins = Pins::look(self.root())?;
        let mut pinned = HashSet::new();
        for owner in pins.owners()? {
            pinned.extend(pins.read_listed(&owner)?);
        }
        Ok(pinned)
    }

    /// Returns who has a pin, sorted, each with what is wrong with it.
    pub(crate) fn check_pins(&self) -> Result<Vec<(String, Option<String>)>> {
        let pins = Pins::look(self.root())?;
        let mut found = Vec::new();
        for owner in pins.owners()? {
            let problem = match pins.read_listed(&owner) {
                Err(Error::Io { path, source, .. }) => {
                    Some(format!("`{}` can't be read: {source}", path.display()))
                }
                Err(error) => Some(error.to_string()),
                Ok(chain) => {
                    self.unknown_of(&chain)?.map(|id| format!("its layer `{id}` isn't in the store"))
                }
            };
            found.push((owner, problem));
        }
        Ok(found)
    }

    /// Returns the first of `chain` that the store doesn't know. One that is dying is spared yet.
    fn unknown_of(&self, chain: &[SnapshotId]) -> Result<Option<SnapshotId>> {
        self.meta().read_anew(|tx| {
            for id in chain {
                if !tx.knows(Kind::Snapshot, &id.to_string())? {
                    return Ok(Some(*id));
                }
            }
            Ok(None)
        })
    }

    /// Takes the snapshots that were lost out of the pins. One that can't be read stays as it is.
    pub(crate) fn drop_pins_on(&self, lost: &HashSet<SnapshotId>) -> Result<()> {
        let pins = Pins::lock(self.root())?;
        for owner in pins.owners()? {
            let Ok(all) = pins.read_listed(&owner) else { continue };
            let kept: Vec<SnapshotId> = all.iter().filter(|id| !lost.contains(id)).copied().collect();
            if kept.len() < all.len() {
                pins.write(&owner, &kept)?;
            }
        }
        Ok(())
    }

    /// Removes the file of a process that was killed while it wrote a pin.
    pub(crate) fn sweep_pins(&self) -> Result<()> {
        Pins::lock(self.root())?.remove(NEW)
    }

    /// Tells whether there is one.
    pub(crate) fn has_unfinished_pin(&self) -> Result<bool> {
        Ok(Pins::look(self.root())?.folder.join(NEW).exists())
    }
}

/// Makes pins of the rows of an older kiln, in place of those of an attempt that was cut short, and brings them to
/// the disk: the rows go after this.
pub(crate) fn take_over(root: &Path, rows: &[(String, SnapshotId)]) -> Result<()> {
    let pins = Pins::lock(root)?;
    pins.owners()?.iter().try_for_each(|owner| pins.remove(owner))?;
    for of_one in rows.chunk_by(|(one, _), (other, _)| one == other) {
        let chain: Vec<SnapshotId> = of_one.iter().map(|(_, id)| *id).collect();
        pins.write(&of_one[0].0, &chain)?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    rustix::fs::syncfs(&pins.lock).map_err(|errno| Error::io("flush", &pins.folder)(errno.into()))
}

/// The folder of the pins, locked until this is dropped.
struct Pins {
    folder: PathBuf,
    lock: File,
}

impl Pins {
    /// Locks it for a change.
    fn lock(root: &Path) -> Result<Self> {
        let pins = Self::open(root)?;
        pins.lock.lock().map_err(Error::io("lock", &pins.folder))?;
        Ok(pins)
    }

    /// Keeps it from being changed.
    fn look(root: &Path) -> Result<Self> {
        let pins = Self::open(root)?;
        pins.lock.lock_shared().map_err(Error::io("lock", &pins.folder))?;
        Ok(pins)
    }

    fn open(root: &Path) -> Result<Self> {
        let folder = root.join(FOLDER);
        let lock = File::open(&folder).map_err(Error::io("open", &folder))?;
        Ok(Self { folder, lock })
    }

    /// Returns who has a pin, sorted.
    fn owners(&self) -> Result<Vec<String>> {
        let names = || -> io::Result<Vec<String>> {
            fs::read_dir(&self.folder)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        let mut owners = names().map_err(Error::io("read", &self.folder))?;
        owners.retain(|name| name != NEW);
        owners.sort();
        Ok(owners)
    }

    /// Returns what `owner` pins; `None` without a pin.
    fn read(&self, owner: &str) -> Result<Option<Vec<SnapshotId>>> {
        let path = self.path(owner)?;
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("read", &path))?,
        };
        match parse(&text) {
            Some(chain) => Ok(Some(chain)),
            None => Err(Error::DamagedPin { owner: owner.to_owned(), path }),
        }
    }

    /// The same for an owner who has a pin.
    fn read_listed(&self, owner: &str) -> Result<Vec<SnapshotId>> {
        let gone = || Error::io("read", &self.folder.join(owner))(io::ErrorKind::NotFound.into());
        self.read(owner)?.ok_or_else(gone)
    }

    /// Makes `chain` all that `owner` pins.
    fn write(&self, owner: &str, chain: &[SnapshotId]) -> Result<()> {
        let (new, path) = (self.folder.join(NEW), self.path(owner)?);
        if chain.is_empty() {
            return self.remove(owner);
        }
        let text: String = chain.iter().map(|id| format!("{id}\n")).collect();
        let write = || fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        write().map_err(Error::io("write", &path))
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::io("remove", &path)),
        }
    }

    fn path(&self, owner: &str) -> Result<PathBuf> {
        let path = self.folder.join(owner);
        if owner.is_empty() || owner.starts_with('.') || owner.contains('/') {
            return Err(Error::io("name a pin", &path)(io::ErrorKind::InvalidInput.into()));
        }
        Ok(path)
    }
}

/// Returns what a pin says. One without a snapshot isn't written, so that a file that was cut is none.
fn parse(text: &[u8]) -> Option<Vec<SnapshotId>> {
    let lines = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
    lines.split('\n').map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Snapshot, Subject, Sweep};

    fn new_store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    fn snapshot(store: &Store) -> SnapshotId {
        store.stage(&store.lease()).unwrap().commit(Snapshot::default()).unwrap()
    }

    fn text(store: &Store, owner: &str) -> Option<String> {
        fs::read_to_string(store.path(FOLDER).join(owner)).ok()
    }

    #[test]
    fn several_pins_of_one_owner_add_up_and_end_together() {
        let (_folder, store) = new_store();
        let [base, top, other] = [(); 3].map(|()| snapshot(&store));
        for chain in [&[base, top][..], &[base, other], &[]] {
            assert!(store.pin("container:a", chain).unwrap());
        }
        assert_eq!(text(&store, "container:a"), Some(format!("{base}\n{top}\n{other}\n")));
        store.gc(&Sweep::default()).unwrap();
        assert!([base, top, other].iter().all(|id| store.snapshot_dir(id).exists()));
        store.unpin("container:a").unwrap();
        store.unpin("container:a").unwrap();
        assert_eq!(store.gc(&Sweep::default()).unwrap().snapshots, 3);
    }

    #[test]
    fn what_is_gone_is_not_pinned_and_an_older_pin_stays() {
        let (_folder, store) = new_store();
        let (there, gone) = (snapshot(&store), "00000000000000aa".parse().unwrap());
        assert!(!store.pin("container:a", &[there, gone]).unwrap());
        assert_eq!(text(&store, "container:a"), None);
        assert!(store.pin("container:a", &[there]).unwrap() && !store.pin("container:a", &[gone]).unwrap());
        assert_eq!(text(&store, "container:a"), Some(format!("{there}\n")));
    }

    #[test]
    fn what_is_pinned_is_asked_anew_also_within_a_view() {
        let (_folder, store) = new_store();
        let view = store.view().unwrap();
        assert!(store.images().unwrap().is_empty());
        let late = snapshot(&store);
        assert!(store.pin("container:a", &[late]).unwrap());
        drop(view);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let (_folder, store) = new_store();
        let id = snapshot(&store);
        for owner in ["", ".", "..", ".new", "../version", "a/b"] {
            assert!(store.pin(owner, &[id]).is_err() && store.unpin(owner).is_err(), "{owner}");
        }
        assert!(store.check_pins().unwrap().is_empty());
    }

    #[test]
    fn a_pin_ends_without_the_database_and_without_a_store() {
        let (folder, store) = new_store();
        let id = snapshot(&store);
        assert!(store.pin("container:a", &[id]).unwrap());
        fs::rename(store.path("meta.db"), store.path("meta.db.away")).unwrap();
        Store::unpin_at(store.root(), "container:a").unwrap();
        assert_eq!(text(&store, "container:a"), None);
        Store::unpin_at(&folder.path().join("none"), "container:a").unwrap();
    }

    #[test]
    fn nothing_is_collected_while_a_pin_says_nothing() {
        let (_folder, store) = new_store();
        let id = snapshot(&store);
        assert!(store.pin("container:a", &[id]).unwrap());
        let whole = text(&store, "container:a").unwrap();
        for damaged in
            ["", "\n", &whole[..whole.len() - 1], &whole[..9], "\0\0\0\0\n", &format!("{whole}x\n")]
        {
            fs::write(store.path(FOLDER).join("container:a"), damaged).unwrap();
            let refused = store.gc(&Sweep::default()).unwrap_err();
            assert!(
                matches!(&refused, Error::DamagedPin { owner, .. } if owner == "container:a"),
                "{damaged:?}"
            );
            assert!(store.prune(&[]).is_err() && store.usage().is_err(), "{damaged:?}");
            assert!(store.lease().hold(&[id]).unwrap() && store.snapshot_dir(&id).exists(), "{damaged:?}");
            let (inventory, faults) = store.check_rows(true).unwrap();
            assert_eq!(inventory.pins, ["container:a"], "{damaged:?}");
            let told = |fault: &crate::Fault| fault.subject == Subject::Pin("container:a".to_owned());
            assert!(faults.len() == 1 && told(&faults[0]), "{faults:?}");
        }
        fs::remove_file(store.path(FOLDER).join("container:a")).unwrap();
        fs::create_dir(store.path(FOLDER).join("container:a")).unwrap();
        assert!(matches!(store.gc(&Sweep::default()), Err(Error::Io { action: "read", .. })));
        assert_eq!(store.check_rows(true).unwrap().1.len(), 1);
        fs::remove_dir(store.path(FOLDER).join("container:a")).unwrap();
        assert_eq!(store.gc(&Sweep::default()).unwrap().snapshots, 1);
    }

    #[test]
    fn a_pin_on_what_is_gone_is_told() {
        let (_folder, store) = new_store();
        fs::write(store.path(FOLDER).join("container:a"), "00000000000000aa\n").unwrap();
        let (_, faults) = store.check_rows(true).unwrap();
        assert_eq!(faults[0].problem, "its layer `00000000000000aa` isn't in the store");
        assert_eq!((faults.len(), &faults[0].subject), (1, &Subject::Pin("container:a".to_owned())));
    }

    #[test]
    fn what_a_killed_writer_left_pins_nothing_and_is_swept() {
        let (_folder, store) = new_store();
        let id = snapshot(&store);
        fs::write(store.path(FOLDER).join(NEW), format!("{id}\n")).unwrap();
        assert!(store.check_rows(true).unwrap().0.pins.is_empty());
        assert_eq!(
            store
                .check_leftovers()
                .unwrap()
                .iter()
                .filter(|fault| fault.subject == Subject::Place("pins"))
                .count(),
            1
        );
        assert_eq!(store.gc(&Sweep::default()).unwrap().snapshots, 1);
        assert_eq!(fs::read_dir(store.path(FOLDER)).unwrap().count(), 0);
    }
}
