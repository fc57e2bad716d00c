//! The check: does the store hold what its rows say?
//!
//! 1. [`Store::check_rows`] compares the rows with one another, in one state of the database, and the pins with them.
//! 2. [`Store::check_blob`] reads a blob; what a snapshot's files should be, only the caller can tell.
//! 3. [`Store::check_merged`] merges groups of layers again and compares.
//! 4. [`Store::check_leftovers`] looks for what nobody needs: the collector's work, no damage.
//! 5. [`Store::repair`] drops what is damaged and all that stands on it, and collects.
//!
//! Builds go on meanwhile: nothing is locked and, while all is well, nothing is written. What looks wrong may
//! only have died, or been born again under its name; so it is leased and looked at a second time.

mod leftovers;
mod merged;
mod repair;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

pub use self::repair::Repaired;
use crate::meta::{RawRecord, Tx};
use crate::{Blob, Digest, Error, Hasher, Result, SnapshotId, Store};

/// Bytes read at once from a blob.
const BUFFER: usize = 256 << 10;

/// Whether something is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that was kept is gone or has changed.
    Damage,
    /// Something that nobody needs waits for the collector.
    Garbage,
}

/// What a fault is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The database itself.
    Database,
    /// A blob.
    Blob(Digest),
    /// A snapshot.
    Snapshot(SnapshotId),
    /// A build record, by the number of its row.
    Record(i64),
    /// An image, by its id as it stands in the database.
    Image(String),
    /// A name of an image.
    Name(String),
    /// What an owner pins.
    Pin(String),
    /// A folder that shows several layers as one, by its name.
    Merged(String),
    /// A cache that RUN steps mount, by the name of its folder.
    CacheMount(String),
    /// Something else, by its place in the store.
    Place(&'static str),
}

/// Something that isn't as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In what.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, as a sentence about the subject.
    pub problem: String,
}

/// What the store says that it holds.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The snapshots that are ready.
    pub snapshots: Vec<SnapshotId>,
    /// The blobs that are ready.
    pub blobs: Vec<Blob>,
    /// The number of build records.
    pub records: u64,
    /// The number of images.
    pub images: u64,
    /// Who pins snapshots.
    pub pins: Vec<String>,
}

impl Fault {
    fn damage(subject: Subject, problem: impl Into<String>) -> Self {
        Self { subject, severity: Severity::Damage, problem: problem.into() }
    }

    fn garbage(subject: Subject, problem: impl Into<String>) -> Self {
        Self { subject, severity: Severity::Garbage, problem: problem.into() }
    }
}

impl Store {
    /// Compares the rows with one another and with the pins; `quick` doesn't look through the database's own indexes.
    pub fn check_rows(&self, quick: bool) -> Result<(Inventory, Vec<Fault>)> {
        let look = |tx: &Tx<'_>| {
            let mut rows = Rows::default();
            rows.faults
                .extend(tx.faults(quick)?.into_iter().map(|line| Fault::damage(Subject::Database, line)));
            rows.snapshots(tx)?;
            rows.blobs(tx)?;
            rows.images(tx)?;
            rows.records(tx)?;
            Ok(rows)
        };
        let looked = self.meta().read(look).and_then(|rows| Ok((rows, self.check_pins()?)));
        match looked {
            Err(Error::Database { source, .. }) => {
                let fault = Fault::damage(Subject::Database, format!("it can't be read: {source}"));
                Ok((Inventory::default(), vec![fault]))
            }
            other => other.map(|(mut rows, pins)| {
                rows.pins(pins);
                (rows.inventory, rows.faults)
            }),
        }
    }

    /// Reads a blob and compares it with its name; `quick` compares sizes only.
    ///
    /// `passed` is told the number of bytes as they are read.
    pub fn check_blob(&self, blob: &Blob, quick: bool, passed: &dyn Fn(u64)) -> Result<Option<Fault>> {
        if self.blob_problem(blob, quick, passed)?.is_none() {
            return Ok(None);
        }
        let lease = self.lease();
        let is_there = lease.write(|tx, lease| match tx.blob_size(&blob.digest)? {
            Some(_) => tx.lease_blob(lease, &blob.digest).map(|()| true),
            None => Ok(false),
        })?;
        let problem = if is_there { self.blob_problem(blob, quick, &|_| {})? } else { None };
        Ok(problem.map(|problem| Fault::damage(Subject::Blob(blob.digest), problem)))
    }

    fn blob_problem(&self, blob: &Blob, quick: bool, passed: &dyn Fn(u64)) -> Result<Option<String>> {
        let path = self.blob_path(&blob.digest);
        let mut file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some("its file is gone".to_owned()));
            }
            other => other.map_err(Error::io("open", &path))?,
        };
        let size = file.metadata().map_err(Error::io("read", &path))?.len();
        if size != blob.size {
            return Ok(Some(format!("its file has {size} bytes instead of {}", blob.size)));
        }
        if quick {
            return Ok(None);
        }
        let (mut hasher, mut buffer) = (Hasher::new(), vec![0; BUFFER]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    passed(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Some(format!("its file can't be read: {error}"))),
            }
        }
        Ok((hasher.finish() != blob.digest).then(|| "its content is another than its name says".to_owned()))
    }
}

/// What the rows say, and what is wrong with them.
#[derive(Default)]
struct Rows {
    inventory: Inventory,
    faults: Vec<Fault>,
    ready: HashSet<SnapshotId>,
    sizes: HashMap<Digest, u64>,
}

impl Rows {
    fn snapshots(&mut self, tx: &Tx<'_>) -> Result<()> {
        for (id, state) in tx.snapshot_states()? {
            match (id.parse(), state.as_str()) {
                (Ok(id), "ready") => {
                    self.ready.insert(id);
                    self.inventory.snapshots.push(id);
                }
                (Ok(_), "staging" | "dying") => {}
                (_, state) => {
                    let problem = format!("the row of snapshot `{id}` in state `{state}` makes no sense");
                    self.faults.push(Fault::damage(Subject::Database, problem));
                }
            }
        }
        Ok(())
    }

    fn blobs(&mut self, tx: &Tx<'_>) -> Result<()> {
        for (hex, state, size) in tx.blob_states()? {
            match (format!("sha256:{hex}").parse::<Digest>(), state.as_str(), u64::try_from(size)) {
                (Ok(digest), "ready", Ok(size)) => {
                    self.sizes.insert(digest, size);
                    self.inventory.blobs.push(Blob { digest, size });
                }
                (Ok(_), "staging" | "dying", _) => {}
                (_, state, _) => {
                    let problem = format!("the row of blob `{hex}` in state `{state}` makes no sense");
                    self.faults.push(Fault::damage(Subject::Database, problem));
                }
            }
        }
        for (_, blob) in tx.packed_layers()? {
            if !self.sizes.contains_key(&blob) {
                let problem = "is named as a packed layer and isn't there";
                self.faults.push(Fault::garbage(Subject::Blob(blob), problem));
            }
        }
        Ok(())
    }

    fn images(&mut self, tx: &Tx<'_>) -> Result<()> {
        for image in tx.raw_images()? {
            self.inventory.images += 1;
            let mut problems = Vec::from_iter(self.chain_problem(&image.chain));
            for (what, hex) in [("config", Some(&image.id)), ("manifest", image.manifest.as_ref())] {
                let digest = hex.map(|hex| format!("sha256:{hex}").parse::<Digest>());
                if digest.is_some_and(|digest| !digest.is_ok_and(|digest| self.sizes.contains_key(&digest))) {
                    problems.push(format!("its {what} isn't in the store"));
                }
            }
            let fault = |problem| Fault::damage(Subject::Image(image.id.clone()), problem);
            self.faults.extend(problems.into_iter().map(fault));
        }
        let fault = |name| Fault::damage(Subject::Name(name), "leads to no image");
        self.faults.extend(tx.loose_names()?.into_iter().map(fault));
        Ok(())
    }

    fn records(&mut self, tx: &Tx<'_>) -> Result<()> {
        let (mut faults, mut without_key) = (Vec::new(), 0);
        tx.each_record(|record| {
            self.inventory.records += 1;
            without_key += u64::from(!record.has_key);
            if let Some(problem) = self.record_problem(&record) {
                faults.push(Fault::damage(Subject::Record(record.row), problem));
            }
        })?;
        self.faults.append(&mut faults);
        let loose = tx.loose_keys()?;
        if loose > 0 {
            let problem = format!("{loose} keys lead to no build record");
            self.faults.push(Fault::garbage(Subject::Place("meta.db"), problem));
        }
        if without_key > 0 {
            let problem = format!("{without_key} build records have no key any more");
            self.faults.push(Fault::garbage(Subject::Place("meta.db"), problem));
        }
        Ok(())
    }

    fn record_problem(&self, record: &RawRecord) -> Option<String> {
        if format!("sha256:{}", record.result).parse::<Digest>().is_err() {
            return Some("its result is no digest".to_owned());
        }
        if serde_json::from_str::<Vec<(String, String)>>(&record.parts).is_err() {
            return Some("the parts of its key can't be read".to_owned());
        }
        self.chain_problem(&record.chain)
    }

    fn pins(&mut self, pins: Vec<(String, Option<String>)>) {
        for (owner, problem) in pins {
            let fault = |problem| Fault::damage(Subject::Pin(owner.clone()), problem);
            self.faults.extend(problem.map(fault));
            self.inventory.pins.push(owner);
        }
    }

    /// Tells what a chain (as the database spells it) lacks.
    fn chain_problem(&self, chain: &str) -> Option<String> {
        chain.split_whitespace().find_map(|id| match id.parse::<SnapshotId>() {
            Ok(id) if self.ready.contains(&id) => None,
            Ok(id) => Some(format!("its layer `{id}` isn't in the store")),
            Err(error) => Some(error.to_string()),
        })
    }
}
