//! What a checkout leaves on the disk, made into what was asked for.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::super::error::{Error, Result};
use crate::api::GitSource;

/// Files of `.git` that say how it came here, and change with every fetch.
const TRACES: [&str; 4] = ["FETCH_HEAD", "ORIG_HEAD", "hooks", "logs"];

/// Takes out of the checkout `repository` what isn't wanted; gives the folder that is, and the bytes of its files.
///
/// Modes are git's (755 and 644), whatever the umask is.
pub(super) fn tidy(repository: &Path, source: &GitSource, keep: bool, time: i64) -> Result<(PathBuf, u64)> {
    let folder = inside(repository, source)?;
    let work = || -> io::Result<u64> {
        if keep {
            for name in TRACES {
                remove(&repository.join(".git").join(name))?;
            }
        }
        let mut bytes = 0;
        let mut walk = walkdir::WalkDir::new(&folder).min_depth(1).into_iter();
        while let Some(entry) = walk.next() {
            let entry = entry?;
            if entry.file_name() == ".git" && !keep {
                // The repository's own, or the link of a submodule to it.
                if entry.file_type().is_dir() {
                    walk.skip_current_dir();
                }
                remove(entry.path())?;
                continue;
            }
            bytes += normalise(&entry, &repository.join(".git"))?;
        }
        if source.commit_time {
            set_times(&folder, time)?;
        }
        Ok(bytes)
    };
    let bytes = work().map_err(|source| Error::Io { verb: "tidy the checkout", source })?;
    Ok((folder, bytes))
}

/// The folder of the subdirectory; no link of the repository's leads anywhere else.
fn inside(repository: &Path, source: &GitSource) -> Result<PathBuf> {
    let mut folder = repository.to_owned();
    for part in source.subdir.split('/').filter(|part| !part.is_empty()) {
        folder.push(part);
        let reason = match fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => continue,
            Ok(metadata) if metadata.is_symlink() => format!("`{part}` is a symbolic link"),
            Ok(_) => format!("`{part}` is a file"),
            Err(_) => String::new(),
        };
        let repository = crate::api::without_password(&source.remote);
        return Err(Error::NoSubdir { repository, subdir: source.subdir.clone(), reason });
    }
    Ok(folder)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sets the mode that git means; gives the bytes of a file.
fn normalise(entry: &walkdir::DirEntry, git_dir: &Path) -> io::Result<u64> {
    let kind = entry.file_type();
    if kind.is_symlink() {
        return Ok(0);
    }
    let metadata = entry.metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    let wanted = match kind.is_dir() || mode & 0o100 != 0 {
        true => 0o755,
        // Objects are read-only for their owner too.
        false if entry.path().starts_with(git_dir) => (mode & 0o200) | 0o444,
        false => 0o644,
    };
    if mode != wanted {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(wanted))?;
    }
    Ok(if kind.is_file() { metadata.len() } else { 0 })
}

/// Gives everything below `folder` the time of its commit.
fn set_times(folder: &Path, time: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: time, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for entry in walkdir::WalkDir::new(folder).contents_first(true) {
        rustix::fs::utimensat(CWD, entry?.path(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
