//! What happened in a store, as `kiln events` tells it.
//!
//! ```text
//! <store>/events/
//!     events.jsonl     one event a line, the newest last; at 1 MB it becomes …
//!     events.jsonl.1   … this one, and so on up to .3
//! ```
//!
//! Every process of the store writes: each event by one append, under a shared lock of the file. Whoever makes
//! the file too long takes the lock for itself and renames it; a writer that got its lock after that takes the new
//! file. So nothing is written to a renamed file, and a reader that has reached its end may go on with the next.
//!
//! An event that can't be written is lost: no verb fails for it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::api::{EngineEvent, EventsRequest};
use crate::rotated::{self, Framing, Reader, Watch};

/// When the file is full.
const FILE_BYTES: u64 = 1_000_000;
/// How many files there are.
const FILES: usize = 4;
/// How long a reader waits at most before it looks at the clock again.
const WAIT: Duration = Duration::from_millis(500);

/// The events of one store.
#[derive(Debug, Clone)]
pub struct Log {
    folder: PathBuf,
    limit: u64,
}

impl Log {
    /// Returns the events of the store at `root`; nothing is made before the first one.
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join("events"), limit: FILE_BYTES }
    }

    /// Writes down `events`, one after another.
    pub fn tell(&self, events: &[EngineEvent]) {
        if let Err(error) = self.write(events) {
            tracing::debug!(%error, ?events, "an event is lost");
        }
    }

    fn base(&self) -> PathBuf {
        self.folder.join("events.jsonl")
    }

    fn write(&self, events: &[EngineEvent]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        let mut file = self.open()?;
        file.write_all(&lines)?;
        if file.metadata()?.len() > self.limit {
            self.rotate(&file)?;
        }
        Ok(())
    }

    /// Opens the newest file, locked against a rotation.
    fn open(&self) -> io::Result<File> {
        let base = self.base();
        loop {
            let open = || OpenOptions::new().append(true).create(true).open(&base);
            let file = match open() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    std::fs::create_dir_all(&self.folder)?;
                    open()?
                }
                opened => opened?,
            };
            rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockShared))?;
            if is_at(&file, &base)? {
                return Ok(file);
            }
        }
    }

    /// Renames the files, if nobody else is at it or writes just now: the next writer will try again.
    fn rotate(&self, file: &File) -> io::Result<()> {
        // Shared to exclusive is not one step: somebody may have been in between.
        let alone = flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if alone && is_at(file, &self.base())? {
            rotated::rotate(&self.base(), FILES)?;
        }
        Ok(())
    }

    /// Gives the wanted events to `take`, as they come, until the wanted end or until `take` gives `false`.
    pub fn read(
        &self,
        request: &EventsRequest,
        now: impl Fn() -> i64,
        take: &mut dyn FnMut(EngineEvent) -> io::Result<bool>,
    ) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        // Watched before the first read, so that none falls in between.
        let watch = Watch::new(&self.folder)?;
        let mut reader = match request.since {
            Some(_) => Reader::oldest(&self.base(), FILES, Framing::Lines)?,
            None if request.until.is_some_and(|until| until <= now()) => {
                Reader::oldest(&self.base(), FILES, Framing::Lines)?
            }
            None => Reader::last(&self.base(), FILES, Framing::Lines, 0)?,
        };
        loop {
            let past = request.until.is_some_and(|until| now() >= until);
            while let Some(line) = reader.next_record()? {
                // A line that was cut by a full disk is skipped.
                let Ok(event) = serde_json::from_slice::<EngineEvent>(line) else { continue };
                let early = request.since.is_some_and(|since| event.time < since);
                let late = request.until.is_some_and(|until| event.time > until);
                if !early && !late && !take(event)? {
                    return Ok(());
                }
            }
            if past {
                return Ok(());
            }
            watch.wait(WAIT)?;
        }
    }
}

/// Tells whether `path` is still the name of `file`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let inode = file.metadata()?.ino();
    Ok(std::fs::metadata(path).is_ok_and(|there| there.ino() == inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: i64) -> EngineEvent {
        let (kind, action, id) = ("container".into(), "start".into(), format!("id{number}"));
        EngineEvent { time: number, kind, action, id, attributes: [("name".into(), "web".into())].into() }
    }

    fn read(log: &Log, since: Option<i64>, until: i64) -> Vec<i64> {
        let mut times = Vec::new();
        let request = EventsRequest { since, until: Some(until) };
        log.read(&request, || 1_000_000, &mut |event| {
            times.push(event.time);
            Ok(true)
        })
        .unwrap();
        times
    }

    #[test]
    fn events_are_read_between_two_moments() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(folder.path());
        assert_eq!(read(&log, Some(0), 10), [0; 0]);
        (1..6).for_each(|number| log.tell(&[event(number)]));
        assert_eq!(read(&log, Some(2), 4), [2, 3, 4]);
        assert_eq!(read(&log, None, 2), [1, 2], "all that was, when the end is past");
    }

    #[test]
    fn many_writers_lose_nothing_over_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log { limit: 20_000, ..Log::new(folder.path()) };
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let log = &log;
                scope.spawn(move || (0..100).for_each(|number| log.tell(&[event(writer * 100 + number)])));
            }
            let mut seen = 0;
            log.read(&EventsRequest { since: Some(0), until: None }, || 0, &mut |_| {
                seen += 1;
                Ok(seen < 400)
            })
            .unwrap();
        });
        assert!(std::fs::read_dir(folder.path().join("events")).unwrap().count() > 1);
    }
}
