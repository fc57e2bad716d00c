//! `kiln fmt`: a Dockerfile in its canonical form, printed or written back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Engine, dockerfile};
use crate::api::{DockerfileSource, Failure, FailureKind, Formatted};

impl Engine {
    /// Formats a Dockerfile; one with mistakes is refused with all of them.
    pub fn format(&self, source: &DockerfileSource) -> Result<Formatted, Failure> {
        let (mut name, bytes, path) = dockerfile::source(source, Path::new(""))?;
        if let Some(path) = &path {
            name = path.display().to_string();
        }
        let text = kiln_grammar::format::format(&name, &bytes)
            .map_err(|found| dockerfile::mistakes(&name, &String::from_utf8_lossy(&bytes), &found))?;
        Ok(Formatted { changed: text.as_bytes() != bytes, text })
    }

    /// Writes a formatted Dockerfile back: all of it or nothing, with the mode and owner that it has.
    ///
    /// A link stays a link: the file that it leads to is written.
    pub fn write_formatted(&self, path: &Path, formatted: &Formatted) -> Result<(), Failure> {
        replace(path, formatted.text.as_bytes()).map_err(|error| {
            let mut failure = Failure::new(FailureKind::System, format!("cannot write `{}`", path.display()));
            failure.causes.push(error.to_string());
            failure
        })
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let real = fs::canonicalize(path)?;
    let old = fs::metadata(&real)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(real.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let beside = real.with_file_name(name);
    let written = write(&beside, bytes, &old).and_then(|()| fs::rename(&beside, &real));
    if written.is_err() {
        // What can't be removed either is left for its owner to see.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write(path: &Path, bytes: &[u8], old: &fs::Metadata) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_and_the_file_behind_it_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
