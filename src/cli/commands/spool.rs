//! Standard input that has to be read more than once: a file without a name, so that nothing is left behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Copies `first` and then all of `rest` to a nameless file; also the path that opens it as long as it is held.
pub(crate) fn spool(folder: PathBuf, first: &[u8], rest: &mut dyn Read) -> io::Result<(File, PathBuf)> {
    let mut file = nameless(folder)?;
    file.write_all(first)?;
    io::copy(rest, &mut file)?;
    file.flush()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Ok((file, path))
}

/// Makes a file for this user's eyes only, and takes its name away.
fn nameless(folder: PathBuf) -> io::Result<File> {
    let path = folder.join(format!("kiln-context-{}", std::process::id()));
    // What stands there was left by a killed process of the same number.
    drop(std::fs::remove_file(&path));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spooled_file_can_be_opened_again_and_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let (file, path) = spool(folder.path().into(), b"one ", &mut &b"two"[..]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(file);
    }
}
