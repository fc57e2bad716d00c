//! Files that a verb writes for its user: whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::api::{Failure, FailureKind};

/// Hands `fill` a writer to `destination`, or to standard output when there is none.
///
/// A file appears under its name when it is complete; after a failure nothing new is there.
pub(super) fn write(
    destination: Option<&Path>,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(path) = destination else {
        let mut out = BufWriter::new(io::stdout().lock());
        fill(&mut out)?;
        return out.flush().map_err(|error| Failure::from_error(FailureKind::System, &error));
    };
    let failed = |error: io::Error| {
        let mut failure = Failure::new(FailureKind::System, format!("cannot write `{}`", path.display()));
        failure.causes.push(error.to_string());
        failure
    };
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        // A device or a pipe is written into; a rename would put a file in its place, also of the machine's /dev/null.
        let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        return out.flush().map_err(failed);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&name);
    let written = File::create(temporary).map_err(failed).and_then(|file| {
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        out.flush().map_err(failed)?;
        fs::rename(temporary, path).map_err(failed)
    });
    if written.is_err() {
        // The reason is told by `written`; a file that was never made can't be removed.
        let _ = fs::remove_file(temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;

    use super::*;

    #[test]
    fn a_device_is_written_into_and_stays_one() {
        // A link to the device, in a folder of the test's own: a rename would replace the link alone.
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        write(Some(&link), |out| out.write_all(b"x").map_err(|_| Failure::new(FailureKind::System, "")))
            .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::metadata(&link).unwrap().file_type().is_char_device());
    }
}
