//! The tables, and the way from those of an older kiln to them.

/// What a new database gets.
///
/// `state` is `staging` (being made, kept by its lease), `ready`, or `dying` (nothing needs it, its
/// files are on their way to the trash). Digests are 64 hex digits; a chain is snapshots' names,
/// base first, with blanks between; times are seconds since 1970. `boot` is the boot whose page cache may hold
/// the only copy of a snapshot's files; NULL once they were flushed. Of a snapshot's bytes, `disk` is what its files
/// take on the disk (NULL until somebody has measured), and `shared` the part of it that is the same blocks or
/// inodes as files of the snapshot `source`. `rule` says which times a layer's tar has; 0 keeps those of the files.
/// A record with a time in `collected` has lost its snapshots: its keys still lead to its result id.
pub(super) const TABLES: &str = "
BEGIN IMMEDIATE;
CREATE TABLE snapshots (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, boot TEXT, bytes INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL DEFAULT 0, disk INTEGER, shared INTEGER NOT NULL DEFAULT 0, source TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshots_by_boot ON snapshots (boot) WHERE boot IS NOT NULL;
CREATE INDEX snapshots_by_source ON snapshots (source) WHERE source IS NOT NULL;
CREATE TABLE diffs (
    snapshot TEXT NOT NULL, rule INTEGER NOT NULL, diff TEXT NOT NULL, tar_bytes INTEGER NOT NULL,
    PRIMARY KEY (snapshot, rule)
) STRICT, WITHOUT ROWID;
CREATE INDEX diffs_by_diff ON diffs (diff);
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
CREATE TABLE records (
    id INTEGER PRIMARY KEY, result TEXT NOT NULL, chain TEXT NOT NULL, created INTEGER NOT NULL,
    parts TEXT NOT NULL, kind TEXT NOT NULL, description TEXT NOT NULL, used INTEGER NOT NULL,
    uses INTEGER NOT NULL, collected INTEGER
) STRICT;
CREATE INDEX records_by_result ON records (result);
CREATE INDEX records_by_collected ON records (collected) WHERE collected IS NOT NULL;
CREATE TABLE keys (key TEXT PRIMARY KEY, record INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_record ON keys (record);
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
PRAGMA user_version = 3;
COMMIT;
";

/// Makes version 2 of version 1, inside a transaction of the caller's.
///
/// Nobody knows when an old record was used last: it counts as used today, so that nothing goes for its age.
/// Version 1 entered a record anew for each key that was found later; those are one record here.
pub(super) const FROM_1_TO_2: &str = "
ALTER TABLE snapshots ADD COLUMN disk INTEGER;
ALTER TABLE snapshots ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN source TEXT;
CREATE INDEX snapshots_by_source ON snapshots (source) WHERE source IS NOT NULL;
CREATE TABLE diffs (
    snapshot TEXT NOT NULL, rule INTEGER NOT NULL, diff TEXT NOT NULL, tar_bytes INTEGER NOT NULL,
    PRIMARY KEY (snapshot, rule)
) STRICT, WITHOUT ROWID;
CREATE INDEX diffs_by_diff ON diffs (diff);
INSERT INTO diffs SELECT id, 0, diff, coalesce(tar_bytes, 0) FROM snapshots WHERE diff IS NOT NULL;
DROP INDEX snapshots_by_diff;
ALTER TABLE snapshots DROP COLUMN diff;
ALTER TABLE snapshots DROP COLUMN tar_bytes;
ALTER TABLE records ADD COLUMN kind TEXT NOT NULL DEFAULT 'regular';
ALTER TABLE records ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE records ADD COLUMN uses INTEGER NOT NULL DEFAULT 1;
ALTER TABLE records ADD COLUMN collected INTEGER;
UPDATE records SET used = unixepoch();
CREATE INDEX records_by_result ON records (result);
CREATE INDEX records_by_collected ON records (collected) WHERE collected IS NOT NULL;
CREATE INDEX keys_by_record ON keys (record);
DELETE FROM keys WHERE record NOT IN (SELECT id FROM records);
UPDATE keys SET record = (
    SELECT min(same.id) FROM records AS own JOIN records AS same
    ON same.result = own.result AND same.chain = own.chain AND same.created = own.created
    WHERE own.id = keys.record);
DELETE FROM records WHERE id NOT IN (SELECT record FROM keys);
PRAGMA user_version = 2;
";

/// Makes version 3 of version 2, inside a transaction of the caller's, when the pins are files.
pub(super) const FROM_2_TO_3: &str = "
DROP TABLE pins;
PRAGMA user_version = 3;
";
