//! Files of records that are rotated: `name` is the newest, `name.1` the one before, and so on.
//!
//! An old file may be compressed, as `name.1.gz`. It then keeps its time of modification, by which a reader that
//! had it open knows it again. Nothing is written to a file after its renaming: a reader that finds its file
//! renamed reads it to the end and goes on with the next one, however many there are by now.
//!
//! Not known here: what the records say, and when a file is full.

pub mod begin;
mod reader;
mod watch;

pub use reader::{Framing, Reader};
pub use watch::Watch;

use std::io;
use std::path::{Path, PathBuf};

/// Returns the path of the file of `base` that is `age` rotations old.
pub fn file(base: &Path, age: usize) -> PathBuf {
    match age {
        0 => base.to_owned(),
        _ => base.with_added_extension(age.to_string()),
    }
}

/// Returns the path of the same file once it is compressed.
pub fn compressed(base: &Path, age: usize) -> PathBuf {
    file(base, age).with_added_extension("gz")
}

/// Makes each of the `files` files one rotation older; the oldest is dropped, and there is no newest one then.
pub fn rotate(base: &Path, files: usize) -> io::Result<()> {
    for age in (1..files.max(2)).rev() {
        // What was plain may have been compressed, and the other way round.
        for old in [file(base, age), compressed(base, age)] {
            ignore_missing(std::fs::remove_file(old))?;
        }
        if age < files {
            ignore_missing(std::fs::rename(compressed(base, age - 1), compressed(base, age)))?;
            ignore_missing(std::fs::rename(file(base, age - 1), file(base, age)))?;
        }
    }
    if files <= 1 {
        ignore_missing(std::fs::remove_file(base))?;
    }
    Ok(())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
