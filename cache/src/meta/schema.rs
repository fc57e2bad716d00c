//! The tables.

/// What a new database gets.
///
/// `state` is `staging` (being made, kept by its lease), `ready`, or `dying` (nothing needs it, its
/// files are on their way to the trash). Digests are 64 hex digits; a chain is snapshots' names,
/// base first, with blanks between. `boot` is the boot whose page cache may hold the only copy of a
/// snapshot's files; NULL once they were flushed.
pub(super) const TABLES: &str = "
BEGIN IMMEDIATE;
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
COMMIT;
";
