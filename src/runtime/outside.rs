//! Why a program doesn't run, looked at from outside, by the parent of the process that waits.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};

use super::child::{self, Attempt, Message};
use super::error::{At, StartError};
use super::{program, wire};
use crate::sys::clone::{Cloned, clone_process};

/// Explains the failure `errno` of process `pid`.
pub(super) fn explain(pid: i32, attempt: &Attempt, errno: i64) -> StartError {
    let errno = i32::try_from(errno).unwrap_or(libc::EIO);
    let explained = || -> Result<StartError, StartError> {
        let fail = || "cannot look why the program does not run";
        let (channel, far) = wire::pair().at("exec", fail)?;
        // A process of its own: it becomes the user, in the container's root.
        match clone_process(0, None).at("clone", fail)? {
            Cloned::Child => child::end_with(far.as_fd(), || match enter(pid) {
                Ok(()) => program::explain(&attempt.name, &attempt.path, errno),
                Err(error) => error,
            }),
            Cloned::Parent { pidfd, .. } => {
                drop(far);
                let heard = wire::receive::<Message>(&channel).at("exec", fail);
                let exited = rustix::process::WaitIdOptions::EXITED;
                let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), exited);
                match heard? {
                    Some((Message::Failed(error), _)) => Ok(error),
                    _ => Err(StartError::new("exec", fail())),
                }
            }
        }
    };
    explained().unwrap_or_else(|error| error)
}

/// Goes to where process `pid` is, and becomes its user; programs are looked at there, and none is run.
fn enter(pid: i32) -> Result<(), StartError> {
    let fail = || "cannot look why the program does not run";
    let open = |name: &str| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(format!("/proc/{pid}/{name}"), flags, Mode::empty()).at("exec", fail)
    };
    let (root, cwd) = (open("root")?, open("cwd")?);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).at("exec", fail)?;
    let ids = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().filter_map(|id| id.parse().ok()).collect()
    };
    let first = |name| ids(name).first().copied().unwrap_or_default();
    rustix::process::fchdir(&root).at("exec", fail)?;
    rustix::process::chroot(".").at("exec", fail)?;
    rustix::process::fchdir(&cwd).at("exec", fail)?;
    let groups: Vec<Gid> = ids("Groups:").into_iter().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(first("Uid:")), Gid::from_raw(first("Gid:")));
    rustix::thread::set_thread_groups(&groups).at("exec", fail)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).at("exec", fail)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at("exec", fail)
}
