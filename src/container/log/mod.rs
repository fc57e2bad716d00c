//! A container's output, as its log driver keeps it.
//!
//! ```text
//! <container>/<id>-json.log       json-file: the newest entries; at max-size (10 MB) it becomes …
//! <container>/<id>-json.log.1     … this one, or .1.gz, and so on; the last of max-file (3) is dropped
//! <container>/<id>-local.log      local: the same in binary form (20 MB, 5 files, compressed)
//! ```
//!
//! 1. `Lines` makes entries of the program's bytes: a line each; one that is longer than 16 KiB is cut into
//!    several, all but its last without the newline.
//! 2. An `Output` keeps them: a `Writer` in files, a `Journal` in the machine's journal with a copy in files.
//! 3. With `mode=non-blocking` both are in a process of their own, a `Pump`.
//! 4. `read` shows them, and follows over rotations.

mod base64;
mod entry;
mod journald;
mod lines;
mod pump;
mod reader;
mod settings;
mod writer;

pub(super) use reader::Wanted;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::entry::Form;
use self::journald::Journal;
use self::lines::Lines;
use self::pump::Pump;
use self::reader::Place;
use self::settings::{Driver, Settings};
use self::writer::Writer;
use super::record::Record;
use crate::api::LogConfig;

/// The first argument of the process that compresses an old file.
pub const COMPRESS_DOOR: &str = "_compress";

/// The first argument of the process that writes a log for a monitor that mustn't wait.
pub const PUMP_DOOR: &str = "_pump";

/// Which output a line came from, as it is spelled in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Where a container's output goes.
pub(super) trait Sink: std::fmt::Debug {
    /// Takes in what came from `stream`.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()>;
    /// Writes what is left of it, at the end of a run.
    fn finish(&mut self) -> io::Result<()>;
}

/// Checks the flags; gives what is wrong with them.
pub(super) fn check(config: &LogConfig) -> Result<(), String> {
    let settings = Settings::parse(config)?;
    match settings.driver {
        Driver::Journald if !Path::new(journald::SOCKET).exists() => Err(format!(
            "the log driver `journald` needs systemd's journal, and `{}` is missing",
            journald::SOCKET
        )),
        _ => Ok(()),
    }
}

/// Returns the log of `record`, whose folder is `folder`, to be gone on with; `None` when it keeps none.
pub(super) fn open(folder: &Path, record: &Record) -> io::Result<Option<Box<dyn Sink>>> {
    let settings = Settings::parse(&record.config.log).map_err(io::Error::other)?;
    match settings.buffer.filter(|_| settings.driver != Driver::None) {
        Some(_) => Ok(Some(Box::new(Pump::start(folder)?))),
        None => direct(folder, record, &settings),
    }
}

/// The log whose writes wait for the disk.
fn direct(folder: &Path, record: &Record, settings: &Settings) -> io::Result<Option<Box<dyn Sink>>> {
    let Some((base, form)) = place(folder, &record.id, settings.driver) else { return Ok(None) };
    let writer = Writer::new(&base, form, settings, settings.attributes(record));
    Ok(Some(Box::new(match settings.driver {
        Driver::Journald => {
            Lines::new(Box::new(Journal::new(Path::new(journald::SOCKET), record, settings, writer)?))
        }
        _ => Lines::new(Box::new(writer)),
    })))
}

/// Shows the wanted entries of a log; `Ok(false)` when its driver keeps none.
pub(super) fn read(
    folder: &Path,
    record: &Record,
    wanted: &Wanted,
    is_running: &mut dyn FnMut() -> bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<bool> {
    let settings = Settings::parse(&record.config.log).map_err(io::Error::other)?;
    let Some((base, form)) = place(folder, &record.id, settings.driver) else { return Ok(false) };
    let place = Place { name: &record.name, base: &base, files: settings.files, form };
    reader::read(&place, wanted, is_running, out, err)?;
    Ok(true)
}

/// Returns the path of the newest log file of a container; none when its driver has none.
pub fn path(folder: &Path, record: &Record) -> Option<PathBuf> {
    let settings = Settings::parse(&record.config.log).ok()?;
    place(folder, &record.id, settings.driver).map(|(base, _)| base)
}

/// The door `_compress`: gives the process's exit code.
pub fn compress_main(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> i32 {
    let done = arguments.next().map(|base| writer::compress(Path::new(&base)));
    i32::from(!matches!(done, Some(Ok(()))))
}

/// The door `_pump`: gives the process's exit code.
pub fn pump_main(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> i32 {
    let mut run = || -> io::Result<()> {
        let folder = PathBuf::from(arguments.next().unwrap_or_default());
        let record = Record::read(&folder).map_err(io::Error::other)?;
        let settings = Settings::parse(&record.config.log).map_err(io::Error::other)?;
        let Some(sink) = direct(&folder, &record, &settings)? else { return Ok(()) };
        pump::pump(&mut io::stdin(), settings.buffer.unwrap_or(0), sink, &mut io::stdout())
    };
    i32::from(run().is_err())
}

fn place(folder: &Path, id: &str, driver: Driver) -> Option<(PathBuf, Form)> {
    match driver {
        Driver::JsonFile => Some((folder.join(format!("{id}-json.log")), Form::Json)),
        Driver::Local | Driver::Journald => Some((folder.join(format!("{id}-local.log")), Form::Sized)),
        Driver::None => None,
    }
}
