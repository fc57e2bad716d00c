//! A container's output, kept as docker's json-file driver keeps it.
//!
//! ```text
//! <container>/<id>-json.log       the newest lines; at 10 MB it becomes …
//! <container>/<id>-json.log.1     … this one, and that …
//! <container>/<id>-json.log.2     … this one, which is dropped then
//! ```
//!
//! One JSON object a line: `{"log":"text\n","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}`. A line of
//! the program that is longer than 16 KiB is cut into several objects, all but its last without the newline.

mod reader;
mod writer;

pub(super) use reader::{Wanted, read};

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::writer::Writer;

/// Which output a line came from, as it is spelled in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry<'a> {
    log: std::borrow::Cow<'a, str>,
    stream: Stream,
    time: std::borrow::Cow<'a, str>,
}

/// How many files there are.
const FILES: usize = 3;

/// The path of the file that is `age` rotations old.
fn file(base: &Path, age: usize) -> PathBuf {
    match age {
        0 => base.to_owned(),
        _ => base.with_added_extension(age.to_string()),
    }
}

/// Where a container's output goes.
pub(super) trait Sink: std::fmt::Debug {
    /// Takes in what came from `stream`.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()>;
    /// Writes what is left of it, at the end of a run.
    fn finish(&mut self) -> io::Result<()>;
}

/// Returns the log of container `id`, whose folder is `folder`, to be gone on with.
pub(super) fn open(folder: &Path, id: &str) -> Box<dyn Sink> {
    Box::new(Writer::new(&path(folder, id)))
}

/// Returns the path of the newest log file of container `id`, whose folder is `folder`.
pub fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}-json.log"))
}
