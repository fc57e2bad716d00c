//! When equal times mean equal content.
//!
//! File times come from a clock that ticks every few milliseconds: two changes within one tick look alike.
//! Linux 6.13 mends it for some filesystems (multigrain timestamps): once somebody has looked at an
//! inode, its next change gets a time of its own. Elsewhere only what was old when the scan began is
//! trusted. Times of network and synthetic filesystems come from another machine's clock, or from
//! nowhere, and are never trusted.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use super::FileStat;

/// The first kernel with multigrain timestamps.
const MULTIGRAIN: (u32, u32) = (6, 13);

/// How old a file's times must be on a filesystem without them: two seconds, the coarsest step that a
/// local filesystem stores.
const AGE_NS: i128 = 2_000_000_000;

/// Which files' times can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// All of this device.
    AtOnce { dev: u64 },
    /// Those of this device (if one is named) that last changed before this time.
    Before { dev: Option<u64>, limit_ns: i128 },
    /// None.
    Never,
}

/// What is known about a kind of filesystem, by its magic number (`linux/magic.h`).
enum Kind {
    Multigrain,
    Local,
    /// Shows the files of other devices under numbers of its own.
    Overlay,
    Other,
}

impl Trust {
    /// Decides for the files in `directory`.
    pub(super) fn of(directory: &Path) -> Self {
        let (Ok(stat), Ok(metadata)) = (rustix::fs::statfs(directory), fs::metadata(directory)) else {
            return Self::Never;
        };
        let release = rustix::system::uname();
        let dev = metadata.dev();
        match kind(stat.f_type as u64) {
            Kind::Multigrain if is_at_least(&release.release().to_string_lossy(), MULTIGRAIN) => {
                Self::AtOnce { dev }
            }
            Kind::Multigrain | Kind::Local => Self::Before { dev: Some(dev), limit_ns: now_ns() - AGE_NS },
            Kind::Overlay => Self::Before { dev: None, limit_ns: now_ns() - AGE_NS },
            Kind::Other => Self::Never,
        }
    }

    /// Returns whether a change after `stat` would surely show in the times.
    pub(super) fn covers(&self, stat: &FileStat) -> bool {
        match self {
            Self::AtOnce { dev } => stat.dev == *dev,
            Self::Before { dev, limit_ns } => {
                dev.is_none_or(|dev| stat.dev == dev) && stat.mtime_ns.max(stat.ctime_ns) < *limit_ns
            }
            Self::Never => false,
        }
    }
}

fn kind(magic: u64) -> Kind {
    match magic & 0xffff_ffff {
        // ext4 (and ext2, ext3, which it drives), XFS, btrfs, tmpfs
        0xef53 | 0x5846_5342 | 0x9123_683e | 0x0102_1994 => Kind::Multigrain,
        // F2FS, bcachefs, ZFS
        0xf2f5_2010 | 0xca45_1a4e | 0x2fc1_2fc1 => Kind::Local,
        0x794c_7630 => Kind::Overlay,
        _ => Kind::Other,
    }
}

/// Returns the time that local filesystems give to a change right now.
fn now_ns() -> i128 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// Compares the first two numbers of a kernel's release, such as `6.18.44-generic`.
fn is_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (release, expected) in [
            ("6.13.0", true),
            ("6.18.44-x", true),
            ("7.0", true),
            ("6.9.1", false),
            ("5.20.3", false),
            ("x", false),
        ] {
            assert_eq!(is_at_least(release, MULTIGRAIN), expected, "{release}");
        }
    }

    #[test]
    fn without_multigrain_times_only_old_files_are_trusted() {
        let stat = FileStat { dev: 1, ino: 1, size: 1, mode: 0, uid: 0, gid: 0, mtime_ns: 50, ctime_ns: 99 };
        let trust = Trust::Before { dev: Some(1), limit_ns: 100 };
        assert!(trust.covers(&stat));
        assert!(!trust.covers(&FileStat { ctime_ns: 100, ..stat }), "changed as the scan began");
        assert!(!trust.covers(&FileStat { mtime_ns: 1000, ..stat }), "a time in the future");
        assert!(!trust.covers(&FileStat { dev: 2, ..stat }), "another filesystem is mounted there");
        assert!(Trust::AtOnce { dev: 1 }.covers(&FileStat { ctime_ns: 1000, ..stat }));
        assert!(!Trust::AtOnce { dev: 1 }.covers(&FileStat { dev: 2, ..stat }));
        assert!(!Trust::Never.covers(&stat));
    }

    #[test]
    fn proc_is_never_trusted() {
        assert_eq!(Trust::of(Path::new("/proc")), Trust::Never);
    }
}
