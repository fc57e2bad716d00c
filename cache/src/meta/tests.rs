//! Stores of older kilns.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::{Digest, Record, SnapshotId, Store, Sweep};

/// What version 1 gave a new database.
const TABLES_1: &str = "
CREATE TABLE snapshots (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, boot TEXT, diff TEXT, tar_bytes INTEGER,
    bytes INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshots_by_diff ON snapshots (diff) WHERE diff IS NOT NULL;
CREATE INDEX snapshots_by_boot ON snapshots (boot) WHERE boot IS NOT NULL;
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY, state TEXT NOT NULL, size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE layer_blobs (
    diff TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, media_type TEXT NOT NULL,
    PRIMARY KEY (diff, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE lease_snapshots (
    lease TEXT NOT NULL, snapshot TEXT NOT NULL, PRIMARY KEY (lease, snapshot)
) STRICT, WITHOUT ROWID;
CREATE TABLE lease_blobs (
    lease TEXT NOT NULL, blob TEXT NOT NULL, PRIMARY KEY (lease, blob)
) STRICT, WITHOUT ROWID;
CREATE TABLE pins (
    owner TEXT NOT NULL, snapshot TEXT NOT NULL, PRIMARY KEY (owner, snapshot)
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
    id INTEGER PRIMARY KEY, result TEXT NOT NULL, chain TEXT NOT NULL, created INTEGER NOT NULL,
    parts TEXT NOT NULL
) STRICT;
CREATE TABLE keys (key TEXT PRIMARY KEY, record INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE notes (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE images (
    id TEXT PRIMARY KEY, manifest TEXT, chain TEXT NOT NULL, size INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE names (name TEXT PRIMARY KEY, image TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_image ON names (image);
CREATE TABLE repo_digests (name TEXT PRIMARY KEY, image TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX repo_digests_by_image ON repo_digests (image);
PRAGMA user_version = 1;
";

/// The snapshot and the digests that [`old_store`] has.
const SNAPSHOT: &str = "00000000000000aa";

fn digest(of: &str) -> Digest {
    Digest::of(of)
}

/// Makes a store as version 1 left it: an image with a name, a step's record under two keys, entered twice, and a
/// container.
fn old_store(root: &Path) {
    drop(Store::open(root).unwrap());
    fs::remove_dir(root.join("pins")).unwrap();
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        let _ = fs::remove_file(root.join(name));
    }
    let connection = Connection::open(root.join("meta.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch(TABLES_1).unwrap();
    let (diff, image) = (digest("diff").hex(), digest("config").hex());
    let (result, cheap, content) = (digest("result").hex(), digest("cheap").hex(), digest("content").hex());
    let rows = format!(
        "INSERT INTO snapshots VALUES ('{SNAPSHOT}', 'ready', NULL, '{diff}', 10240, 7, 5);
         INSERT INTO snapshots VALUES ('00000000000000bb', 'ready', NULL, NULL, NULL, 7, 5);
         INSERT INTO images VALUES ('{image}', NULL, '{SNAPSHOT}', 7, 5);
         INSERT INTO names VALUES ('docker.io/library/app:latest', '{image}');
         INSERT INTO records VALUES (1, '{result}', '{SNAPSHOT}', 5, '[[\"args\",\"true\"]]');
         INSERT INTO records VALUES (2, '{result}', '{SNAPSHOT}', 5, '[[\"args\",\"true\"]]');
         INSERT INTO keys VALUES ('{content}', 1);
         INSERT INTO keys VALUES ('{cheap}', 2);
         INSERT INTO keys VALUES ('{image}', 3);
         INSERT INTO pins VALUES ('container:c', '{SNAPSHOT}');
         INSERT INTO pins VALUES ('mount:m', '{SNAPSHOT}');
         INSERT INTO pins VALUES ('mount:m', '00000000000000cc');
         INSERT INTO snapshots VALUES ('00000000000000cc', 'ready', NULL, NULL, NULL, 7, 5);
         INSERT INTO notes VALUES ('content-seen', 'k', '1');"
    );
    connection.execute_batch(&rows).unwrap();
    fs::create_dir_all(root.join("snapshots").join(SNAPSHOT).join("fs")).unwrap();
    fs::write(root.join("version"), "kiln store 1\n").unwrap();
}

/// Makes it a store as version 2 left it.
fn to_version_2(root: &Path) {
    let connection = Connection::open(root.join("meta.db")).unwrap();
    connection.execute_batch(super::schema::FROM_1_TO_2).unwrap();
    fs::write(root.join("version"), "kiln store 2\n").unwrap();
}

fn check_migrated(store: &Store) {
    let id: SnapshotId = SNAPSHOT.parse().unwrap();
    let expected = Record {
        result: digest("result"),
        chain: vec![id],
        created: 5,
        parts: vec![("args".to_owned(), "true".to_owned())],
    };
    for key in ["cheap", "content"] {
        assert_eq!(store.record(&digest(key)).unwrap().as_ref(), Some(&expected), "{key}");
    }
    assert_eq!(store.image_by_name("docker.io/library/app:latest").unwrap().unwrap().chain, [id]);
    assert_eq!(store.diff(&id).unwrap().unwrap().tar_bytes, 10240);
    assert_eq!(store.layer_snapshot(&digest("diff")).unwrap(), Some(id));
    assert_eq!(store.note("content-seen", "k").unwrap().as_deref(), Some("1"));
    let pins = ["container:c", "mount:m"];
    assert_eq!(store.check_rows(false).unwrap().0.pins, pins);
    let texts = pins.map(|owner| fs::read_to_string(store.root().join("pins").join(owner)).unwrap());
    assert_eq!(texts, [format!("{SNAPSHOT}\n"), format!("{SNAPSHOT}\n00000000000000cc\n")]);
}

#[test]
fn a_store_of_version_1_keeps_its_images_and_its_cache() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    old_store(&root);
    let store = Store::open(&root).unwrap();
    check_migrated(&store);
    assert_eq!(store.meta().read(|tx| tx.record_chains()).unwrap().len(), 1, "one record under two keys");
    let swept = store.gc(&Sweep::default()).unwrap();
    assert_eq!((swept.snapshots, swept.records), (1, 0), "what nothing needed goes, and nothing else");
    check_migrated(&store);
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "kiln store 3\n");
}

#[test]
fn a_store_of_version_2_keeps_what_containers_pin() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    old_store(&root);
    to_version_2(&root);
    let store = Store::open(&root).unwrap();
    check_migrated(&store);
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "kiln store 3\n");
    let is_left = "SELECT count(*) FROM sqlite_schema WHERE name = 'pins'";
    let connection = Connection::open(root.join("meta.db")).unwrap();
    assert_eq!(connection.query_row(is_left, (), |row| row.get::<_, i64>(0)), Ok(0));
    assert_eq!(store.gc(&Sweep::default()).unwrap().snapshots, 1);
    check_migrated(&store);
    store.unpin("mount:m").unwrap();
    assert_eq!(store.gc(&Sweep::default()).unwrap().snapshots, 1);
}

#[test]
fn a_kill_between_the_pins_and_the_database_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    old_store(&root);
    to_version_2(&root);
    fs::create_dir(root.join("pins")).unwrap();
    // The older kiln ended one of the pins in between, and another was cut.
    for (owner, text) in [("container:gone", &*format!("{SNAPSHOT}\n")), ("mount:m", "0000"), (".new", "")] {
        fs::write(root.join("pins").join(owner), text).unwrap();
    }
    check_migrated(&Store::open(&root).unwrap());
}

#[test]
fn several_may_open_a_store_of_version_1_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    old_store(&root);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| check_migrated(&Store::open(&root).unwrap()));
        }
    });
}

#[test]
fn a_kill_between_the_database_and_the_version_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    old_store(&root);
    drop(Store::open(&root).unwrap());
    for version in ["kiln store 1\n", "kiln store 2\n"] {
        fs::write(root.join("version"), version).unwrap();
        check_migrated(&Store::open(&root).unwrap());
    }
    check_migrated(&Store::open(&root).unwrap());
}

#[test]
fn the_store_waits_for_the_processes_of_an_older_kiln() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    old_store(&root);
    let older = fs::File::open(root.join("lock")).unwrap();
    older.lock_shared().unwrap();
    std::thread::scope(|scope| {
        let newer = scope.spawn(|| check_migrated(&Store::open(&root).unwrap()));
        std::thread::yield_now();
        assert!(!newer.is_finished() && root.join("version").exists());
        assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "kiln store 1\n");
        drop(older);
        newer.join().unwrap();
    });
}
