//! What several tests need.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kiln_cache::{Digest, Lease, Record, Snapshot, SnapshotId, Store};

/// Names the store to a child process.
const ROOT_VARIABLE: &str = "KILN_CACHE_TEST_ROOT";

/// Returns a new store and the folder that holds it.
pub(crate) fn new_store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

/// Commits a snapshot of one file.
pub(crate) fn snapshot(store: &Store, lease: &Lease, content: &str) -> SnapshotId {
    let staged = store.stage(lease).unwrap();
    fs::write(staged.fs().join("file"), content).unwrap();
    staged.commit(Snapshot { bytes: content.len() as u64, created: 7, ..Snapshot::default() }).unwrap()
}

/// Returns the content of a snapshot made by [`snapshot`].
pub(crate) fn content(store: &Store, id: &SnapshotId) -> io::Result<String> {
    fs::read_to_string(store.snapshot_dir(id).join("file"))
}

/// Returns a record of this chain.
pub(crate) fn record(chain: &[SnapshotId]) -> Record {
    let parts = vec![("args".to_owned(), "true".to_owned())];
    Record { result: Digest::of(format!("{chain:?}")), chain: chain.to_vec(), created: 5, parts }
}

/// Returns the names in a folder of the store.
pub(crate) fn names(store: &Store, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(store.root().join(folder)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Returns this test binary, set to run one ignored test (`module::name`) on the store at `root`.
pub(crate) fn child(name: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]).env(ROOT_VARIABLE, root);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A running child, which a failing test doesn't leave behind.
pub(crate) struct Running(Child);

impl Running {
    /// Starts [`child`].
    pub(crate) fn start(name: &str, root: &Path) -> Self {
        Self(child(name, root).spawn().unwrap())
    }

    /// Waits for its end, which must be a success.
    pub(crate) fn finish(mut self) {
        assert!(self.0.wait().unwrap().success());
    }

    /// Ends it by `kill -9`.
    pub(crate) fn kill(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the store's folder in a child; `None` when somebody runs all ignored tests by hand.
pub(crate) fn root_of_child() -> Option<PathBuf> {
    std::env::var_os(ROOT_VARIABLE).map(PathBuf::from)
}
