//! The store's database: the one place that names SQLite.
//!
//! WAL, `synchronous=NORMAL`: a killed process loses nothing, a power loss may lose the last
//! transactions but never the order of them. The WAL file stays when the last connection closes and
//! nothing is checkpointed then, because that costs four flushes and two unlinks at the end of each
//! command; it is kept short instead, since the first connection of a process reads it whole.

mod blobs;
mod check;
mod collect;
mod images;
mod leases;
mod records;
mod schema;
mod snapshots;
#[cfg(test)]
mod tests;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{
    Connection, DEFAULT_NAME, ErrorCode, FileControl, OpenFlags, OptionalExtension as _, Params, Row, ToSql,
    TransactionBehavior,
};

pub(crate) use check::RawRecord;
pub(crate) use collect::{Dying, Kind};
pub(crate) use images::ImageRow;
pub(crate) use usage::RecordRow;

use crate::{Digest, Error, Result, SnapshotId};

/// Pages in the WAL after which a commit moves them into the database (1024 of 4 KiB), which flushes the disk twice. The
/// process that flushes a store after a build does so where nobody waits; until then the next process reads at most
/// these, in about two milliseconds.
const CHECKPOINT_PAGES: u32 = 1024;

/// What a process reads of it at its start in about a tenth of a millisecond.
const LONG_LOG_BYTES: u64 = 256 << 10;

/// Connections kept for the next caller.
const IDLE_CONNECTIONS: usize = 8;

/// Tries of a locked database: ten after 1 ms each, then one each 5 ms for two minutes. A change takes a millisecond, but a
/// process that is starved of processor time may hold the lock for long; one that was killed holds none.
const BUSY_TRIES: i32 = 24_010;

/// What the database said.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(#[from] rusqlite::Error);

impl DatabaseError {
    fn is_full(&self) -> bool {
        self.0.sqlite_error_code() == Some(ErrorCode::DiskFull)
    }

    fn is_io(&self) -> bool {
        self.0.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
    }
}

/// The database, shared by the threads of this process.
#[derive(Debug)]
pub(crate) struct Meta {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Threads of one process wait here in line; only processes wait by trying again.
    writing: Mutex<()>,
    /// The thread whose questions are answered in one transaction for a while, and its connection.
    view: Mutex<Option<(ThreadId, Connection)>>,
}

/// A transaction, with one small function per question or change.
pub(crate) struct Tx<'a> {
    path: &'a Path,
    connection: &'a Connection,
}

impl Meta {
    /// Makes the database, unless an interrupted creation made it already. The caller holds the store's lock.
    pub(crate) fn create(
        path: &Path,
        take_over: impl FnOnce(&[(String, SnapshotId)]) -> Result<()>,
    ) -> Result<()> {
        let create = || -> rusqlite::Result<()> {
            let connection = connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
            if connection.pragma_query_value(None, "user_version", |row| row.get(0)) == Ok(0) {
                connection.pragma_update(None, "journal_mode", "wal")?;
                connection.execute_batch(schema::TABLES)?;
            }
            Ok(())
        };
        create().map_err(|error| failure(path, error))?;
        Self::migrate(path, take_over)
    }

    /// Brings the database of an older kiln to this one's form: all of it or nothing. The caller holds the
    /// store's lock alone, and gets the pins, by their owners, which are rows no more.
    pub(crate) fn migrate(
        path: &Path,
        take_over: impl FnOnce(&[(String, SnapshotId)]) -> Result<()>,
    ) -> Result<()> {
        let wrap = |error| failure(path, error);
        let mut connection = connect(path, OpenFlags::empty()).map_err(wrap)?;
        // The file that names the new format must not outlive a power cut that this doesn't.
        connection.pragma_update(None, "synchronous", "full").map_err(wrap)?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrap)?;
        let tx = Tx { path, connection: &transaction };
        let version: i64 = tx.one("PRAGMA user_version", (), |row| row.get(0))?.unwrap_or(0);
        if version == 1 {
            transaction.execute_batch(schema::FROM_1_TO_2).map_err(wrap)?;
        }
        if version < 3 {
            take_over(&tx.pins_of_version_2()?)?;
            transaction.execute_batch(schema::FROM_2_TO_3).map_err(wrap)?;
        }
        transaction.commit().map_err(wrap)
    }

    /// Opens the database, which exists.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = connect(path, OpenFlags::empty()).map_err(|error| failure(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            idle: Mutex::new(vec![connection]),
            writing: Mutex::new(()),
            view: Mutex::new(None),
        })
    }

    /// Asks questions, all answered from one state of the store.
    pub(crate) fn read<T>(&self, ask: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let Some(connection) = self.take_view() else {
            return self.read_anew(ask);
        };
        let value = ask(&Tx { path: &self.path, connection: &connection });
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((thread::current().id(), connection));
        value
    }

    /// Asks what is so now, also while this thread has a view.
    pub(crate) fn read_anew<T>(&self, ask: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        self.transaction(TransactionBehavior::Deferred, ask)
    }

    /// Begins to answer this thread's questions from one state of the store; false when another thread's are.
    pub(crate) fn begin_view(&self) -> Result<bool> {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if view.is_some() {
            return Ok(false);
        }
        let connection = self.connection()?;
        connection.execute_batch("BEGIN DEFERRED").map_err(|error| failure(&self.path, error))?;
        *view = Some((thread::current().id(), connection));
        Ok(true)
    }

    /// Ends what [`Meta::begin_view`] began.
    pub(crate) fn end_view(&self) {
        if let Some(connection) = self.take_view()
            // A connection that can't end its transaction is closed, which ends it.
            && connection.execute_batch("COMMIT").is_ok()
        {
            self.keep(connection);
        }
    }

    /// The connection of this thread's view.
    fn take_view(&self) -> Option<Connection> {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.take_if(|(thread, _)| *thread == thread::current().id()).map(|(_, connection)| connection)
    }

    /// Changes the store: all of it or, after an error or a kill, nothing.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.transaction(TransactionBehavior::Immediate, change)
    }

    /// Closes the connections that nobody uses.
    pub(crate) fn rest(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Tells whether the WAL is longer than a process should have to read at its start.
    pub(crate) fn has_long_log(&self) -> bool {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LONG_LOG_BYTES)
    }

    /// Moves all pages of the WAL into the database, unless somebody reads or writes right now.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let mut connection = self.connection()?;
        let mut checkpoint = || -> rusqlite::Result<()> {
            // Waiting for a reader, or copying, it would keep the writers out: the pages are moved beside both, and
            // the file is cut if nobody is there at that moment.
            connection.busy_handler(None::<fn(i32) -> bool>)?;
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        };
        match checkpoint() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
            other => other.map_err(|error| failure(&self.path, error)),
        }
    }

    fn transaction<T>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Tx<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection()?;
        let wrap = |error| failure(&self.path, error);
        let transaction = connection.transaction_with_behavior(behavior).map_err(wrap)?;
        let value = work(&Tx { path: &self.path, connection: &transaction })?;
        transaction.commit().map_err(wrap)?;
        self.keep(connection);
        Ok(value)
    }

    fn connection(&self) -> Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => connect(&self.path, OpenFlags::empty()).map_err(|error| failure(&self.path, error)),
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
    }
}

impl Tx<'_> {
    /// Returns the pins, which were rows up to version 2.
    fn pins_of_version_2(&self) -> Result<Vec<(String, SnapshotId)>> {
        let sql = "SELECT owner, snapshot FROM pins ORDER BY owner";
        self.all(sql, (), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Runs one change; the number of changed rows.
    fn run(&self, sql: &str, params: impl Params) -> Result<usize> {
        let run = || self.connection.prepare_cached(sql)?.execute(params);
        run().map_err(|error| failure(self.path, error))
    }

    /// Asks for at most one row.
    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let ask = || self.connection.prepare_cached(sql)?.query_row(params, map).optional();
        ask().map_err(|error| failure(self.path, error))
    }

    /// Asks for all rows.
    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let ask = || {
            self.connection.prepare_cached(sql)?.query_map(params, map)?.collect::<rusqlite::Result<Vec<T>>>()
        };
        ask().map_err(|error| failure(self.path, error))
    }
}

fn connect(path: &Path, also: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | also;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(|tries: i32| {
        std::thread::sleep(Duration::from_millis(if tries < 10 { 1 } else { 5 }));
        tries < BUSY_TRIES
    }))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A plan holds for all values: otherwise a statement is compiled again for each of them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.file_control(DEFAULT_NAME, FileControl::PersistWal(&mut 1))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    Ok(connection)
}

fn failure(path: &Path, error: rusqlite::Error) -> Error {
    let path = path.to_owned();
    let fault = DatabaseError(error);
    if fault.is_full() || (fault.is_io() && crate::store::is_full(&path)) {
        return Error::DiskFull { action: "write", path, source: fault.into() };
    }
    Error::Database { path, source: fault }
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.hex().into())
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = format!("sha256:{}", value.as_str()?);
        text.parse().map_err(FromSqlError::other)
    }
}

impl ToSql for SnapshotId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for SnapshotId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(FromSqlError::other)
    }
}

/// A chain of snapshots, base first, as one column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Chain(pub(crate) Vec<SnapshotId>);

impl ToSql for Chain {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.iter().map(SnapshotId::to_string).collect::<Vec<_>>().join(" ").into())
    }
}

impl FromSql for Chain {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let ids = value.as_str()?.split_whitespace().map(str::parse);
        Ok(Self(ids.collect::<Result<_, _>>().map_err(FromSqlError::other)?))
    }
}

/// A size or count; SQLite's numbers are signed.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The same the other way.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
