//! What each vertex does: one file per op, its key beside its execution.

mod agent;
mod bind;
pub mod copy;
mod credentials;
mod diff_ids;
mod exec;
mod explain;
mod lent;
mod link;
mod machine;
pub mod mkdir;
mod mounts;
mod programs;
mod remote;
mod source;
mod tail;
mod transfer;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

pub(crate) use bind::bind;
pub(crate) use credentials::Credentials;
pub(crate) use diff_ids::Maker;
pub(crate) use lent::Lent;
pub(crate) use machine::Machine;
pub(crate) use remote::{FILE as REMOTE_FILE, Remotes};
pub(crate) use source::Bases;

use crate::api::{Failure, FailureKind};
use crate::build::solve::OpError;

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

/// A failure of the machine, with the chain of its reasons.
fn system(error: &(dyn std::error::Error + 'static)) -> OpError {
    Box::new(Failure::from_error(FailureKind::System, error))
}

/// Gives the root of a fresh layer the mode and owner of the one below: an overlay's `/` shows its upper's.
fn inherit_root(below: Option<&Path>, layer: &Path) -> io::Result<()> {
    let (mode, uid, gid) = match below {
        Some(below) => {
            let metadata = fs::metadata(below)?;
            (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
        }
        None => (0o755, 0, 0),
    };
    chown(layer, Some(uid), Some(gid))?;
    fs::set_permissions(layer, fs::Permissions::from_mode(mode))
}
