//! A layer that takes files over from an earlier one is the layer that a cold build makes.

use std::collections::BTreeMap;
use std::fs::FileTimes;
use std::time::{Duration, SystemTime};

use kiln_cache::{FileKind, Lease, Snapshot, SnapshotId, Store};

use super::*;
use crate::build::tree::{Digests, Known};
use crate::image::layer as tar;

const KEPT: tar::Times = tar::Times::Kept;

/// A context that changes, and the layers that copies of it made.
struct Rebuilt {
    setup: Setup,
    store: Store,
    lease: Lease,
    digests: Digests,
    last: Option<SnapshotId>,
    /// Those in the tar of the last layer.
    marks: Option<tar::Marks>,
}

/// A layer: its snapshot and its folder.
type Made = (SnapshotId, PathBuf);

impl Rebuilt {
    fn new(context: &[&str]) -> Self {
        let setup = Setup::new(context);
        let store = Store::open(&setup.folder.path().join("store")).unwrap();
        Self { lease: store.lease(), setup, store, digests: Digests::default(), last: None, marks: None }
    }

    fn make(&self, spec: &CopySpec, previous: Option<SnapshotId>) -> Made {
        let context = self.setup.context();
        let context = Known::new(&context, &self.digests);
        let looked_up = content_digest(spec, &context).unwrap();
        let staged = self.store.stage(&self.lease).unwrap();
        let previous = previous.and_then(|id| {
            Previous::open(&self.store.snapshot_dir(&id), self.store.file_list(&id).unwrap().unwrap())
        });
        let layer = Layer {
            folder: &staged.fs(),
            chain: &[],
            previous,
            list: &mut |entries| staged.write_files(entries),
        };
        let selected = select(spec, &context).unwrap();
        let written = execute_as(owner(spec, &[]).unwrap(), spec, &context, &selected, layer).unwrap();
        assert_eq!(written.digest, looked_up);
        let id = staged.commit(Snapshot::default()).unwrap();
        (id, self.store.snapshot_dir(&id))
    }

    /// Copies with what the last copy made, and tells how many files it took over.
    fn copy(&mut self, spec: &CopySpec) -> (PathBuf, usize) {
        let before = self.last.map(|id| tar::diff_id(&self.store.snapshot_dir(&id), KEPT).unwrap());
        let (id, warm) = self.make(spec, self.last);
        let taken = files(&warm).values().filter(|names| **names > 1).count();
        if let Some(last) = self.last {
            let after = tar::diff_id(&self.store.snapshot_dir(&last), KEPT).unwrap();
            assert_eq!(before, Some(after), "the older layer stays as it is");
        }
        let (cold_id, cold) = self.make(spec, None);
        assert_eq!(tar::diff_id(&warm, KEPT).unwrap(), tar::diff_id(&cold, KEPT).unwrap());
        let last = self.last.map(|last| self.store.snapshot_dir(&last));
        let previous = last.as_ref().and_then(|dir| Some((dir.as_path(), self.marks.as_ref()?)));
        let (digest, bytes, marks) = tar::diff_id_after(&warm, KEPT, previous).unwrap();
        assert_eq!((digest, bytes), tar::diff_id(&cold, KEPT).unwrap());
        self.marks = Some(marks);
        assert_eq!(self.list(id), self.list(cold_id));
        self.check_list(id, &warm);
        self.last = Some(id);
        (warm, taken)
    }

    fn list(&self, id: SnapshotId) -> Vec<kiln_cache::FileEntry> {
        self.store.file_list(&id).unwrap().unwrap().map(std::result::Result::unwrap).collect()
    }

    /// Each file of the layer is listed as it is there.
    fn check_list(&self, id: SnapshotId, folder: &Path) {
        let listed = self.list(id);
        let regular: Vec<_> = listed.iter().filter(|entry| entry.kind == FileKind::File).collect();
        assert_eq!(regular.len(), files(folder).len());
        for entry in regular {
            let path = folder.join(std::str::from_utf8(&entry.place).unwrap());
            let stat = fs::metadata(&path).unwrap();
            assert_eq!(entry.digest, Some(Digest::of(fs::read(&path).unwrap())));
            assert_eq!(
                (entry.mode, entry.uid, entry.gid, entry.size),
                (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.len())
            );
            assert_eq!(entry.mtime, (stat.mtime(), stat.mtime_nsec() as u32));
        }
    }
}

/// The regular files below `folder` and how many names their inodes have.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(dir) = pending.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            if stat.is_dir() {
                pending.push(path);
            } else if stat.is_file() {
                found.insert(path, stat.nlink());
            }
        }
    }
    found
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 5);
    fs::File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[test]
fn only_what_changed_is_written_anew() {
    if !is_root("only_what_changed_is_written_anew") {
        return;
    }
    let mut rebuilt = Rebuilt::new(&["src/a", "src/b", "src/c", "src/d", "src/e", "src/sub/f"]);
    let spec = spec(&["src"], "/app");
    assert_eq!(rebuilt.copy(&spec).1, 0);
    // The cold copy beside it took nothing over either.
    assert_eq!(rebuilt.copy(&spec).1, 6);
    let at = |name: &str| rebuilt.setup.at(name);
    fs::write(at("src/a"), "changed").unwrap();
    fs::set_permissions(at("src/b"), fs::Permissions::from_mode(0o600)).unwrap();
    set_time(&at("src/c"), 1000);
    fs::hard_link(at("src/d"), at("src/g")).unwrap();
    fs::rename(at("src/e"), at("src/h")).unwrap();
    let (warm, taken) = rebuilt.copy(&spec);
    assert_eq!(taken - 2, 1, "all but sub/f is new, and d and g are names of one file");
    assert_eq!(files(&warm)[&warm.join("app/sub/f")], 3);
    assert_eq!(fs::read(warm.join("app/a")).unwrap(), b"changed");
}

#[test]
fn equal_files_of_one_layer_never_share_an_inode() {
    if !is_root("equal_files_of_one_layer_never_share_an_inode") {
        return;
    }
    let mut rebuilt = Rebuilt::new(&["one"]);
    fs::hard_link(rebuilt.setup.at("one"), rebuilt.setup.at("two")).unwrap();
    let spec = spec(&["."], "/");
    rebuilt.copy(&spec);
    let time = fs::metadata(rebuilt.setup.at("one")).unwrap().modified().unwrap();
    fs::remove_file(rebuilt.setup.at("two")).unwrap();
    fs::copy(rebuilt.setup.at("one"), rebuilt.setup.at("two")).unwrap();
    let two = fs::File::open(rebuilt.setup.at("two")).unwrap();
    two.set_times(FileTimes::new().set_modified(time)).unwrap();
    let (warm, taken) = rebuilt.copy(&spec);
    assert_eq!(taken, 0);
    assert_ne!(fs::metadata(warm.join("one")).unwrap().ino(), fs::metadata(warm.join("two")).unwrap().ino());
}

#[derive(Debug, Clone)]
enum Edit {
    Write(usize, u8),
    Remove(usize),
    Mode(usize, u32),
    Time(usize, u64),
    Rename(usize, usize),
    Link(usize, usize),
    Symlink(usize, usize),
    Directory(usize),
    CopyWithTime(usize, usize),
}

const NAMES: [&str; 7] = ["a", "b", "d/x", "d/y", "d/x/z", "e", "d"];

fn edit() -> impl Strategy<Value = Edit> {
    let name = 0..NAMES.len();
    let two = (0..NAMES.len(), 0..NAMES.len());
    prop_oneof![
        4 => (name.clone(), 0..3u8).prop_map(|(name, byte)| Edit::Write(name, byte)),
        1 => name.clone().prop_map(Edit::Remove),
        1 => (name.clone(), prop_oneof![Just(0o644), Just(0o4755), Just(0o400)])
            .prop_map(|(name, mode)| Edit::Mode(name, mode)),
        1 => (name.clone(), 1..3u64).prop_map(|(name, time)| Edit::Time(name, time)),
        1 => two.clone().prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => two.clone().prop_map(|(from, to)| Edit::Link(from, to)),
        1 => two.clone().prop_map(|(from, to)| Edit::Symlink(from, to)),
        1 => name.prop_map(Edit::Directory),
        1 => two.prop_map(|(from, to)| Edit::CopyWithTime(from, to)),
    ]
}

/// Does `edit` in `context`; what is impossible there changes nothing.
fn apply(context: &Path, edit: &Edit) {
    let at = |name: &usize| context.join(NAMES[*name]);
    let remove = |path: &Path| {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        let _ = fs::create_dir_all(path.parent().unwrap());
    };
    match edit {
        Edit::Write(name, byte) => {
            remove(&at(name));
            let _ = fs::write(at(name), vec![*byte; 5000]);
        }
        Edit::Remove(name) => remove(&at(name)),
        Edit::Mode(name, mode) if at(name).is_file() => {
            let _ = fs::set_permissions(at(name), fs::Permissions::from_mode(*mode));
        }
        Edit::Time(name, time) if at(name).exists() => set_time(&at(name), *time),
        Edit::Rename(from, to) => {
            let _ = fs::rename(at(from), at(to));
        }
        Edit::Link(from, to) => {
            let _ = fs::hard_link(at(from), at(to));
        }
        Edit::Symlink(from, to) if from != to => {
            remove(&at(to));
            let _ = symlink(NAMES[*from], at(to));
        }
        Edit::Directory(name) => {
            remove(&at(name));
            let _ = fs::create_dir_all(at(name));
        }
        Edit::CopyWithTime(from, to) if at(from).is_file() && from != to => {
            let time = fs::metadata(at(from)).unwrap().modified().unwrap();
            if fs::copy(at(from), at(to)).is_ok() {
                let file = fs::File::open(at(to)).unwrap();
                file.set_times(FileTimes::new().set_modified(time)).unwrap();
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_rebuilt_layer_is_that_of_a_cold_build(
        rounds in prop::collection::vec(prop::collection::vec(edit(), 1..5), 1..8),
        chown in any::<bool>(),
        chmod in any::<bool>(),
        exclude in any::<bool>(),
        twice in any::<bool>(),
    ) {
        if !is_root("a_rebuilt_layer_is_that_of_a_cold_build") {
            return Ok(());
        }
        let mut rebuilt = Rebuilt::new(&["a", "b", "d/y", "e"]);
        let mut spec = spec(if twice { &[".", "e*", "d/y*"] } else { &["."] }, "/app/");
        spec.chown = chown.then(|| "7:8".to_owned());
        spec.chmod = chmod.then_some(Chmod::Mode(0o640));
        spec.excludes = if exclude { vec!["b".to_owned()] } else { Vec::new() };
        rebuilt.copy(&spec);
        for edits in rounds {
            for edit in &edits {
                apply(&rebuilt.setup.folder.path().join("context"), edit);
            }
            // A directory in the place of a file is an error of the copy, and no matter here.
            if content_digest(&spec, &rebuilt.setup.context()).is_ok() && !clashes(&rebuilt, twice) {
                rebuilt.copy(&spec);
            }
        }
    }
}

/// With two sources, one may bring a file and the other a directory of the same name.
fn clashes(rebuilt: &Rebuilt, twice: bool) -> bool {
    let at = |name: &str| rebuilt.setup.at(name);
    twice && (at("e").is_dir() || at("d/y").is_dir() || at("e").is_symlink() || at("d/y").is_symlink())
}
