//! User namespaces of a bundle: `linux.uidMappings` and `gidMappings`, a namespace by its path, and mounts with ids
//! mapped.
//!
//! All new namespaces of such a container belong to its user namespace, as the spec's users expect it: root inside may
//! do there what its capabilities say. So its first process mounts what it sees as root inside. Sources of bind mounts
//! may be where that root finds no way, and only the machine's maps ids of a mount: the [`Lender`] opens them.
//!
//! 1. A helper enters the namespaces of others that are given, then the user namespace, and clones the first process
//!    from there as the creator's own child.
//! 2. The creator clones the lender, which enters the first process's mount namespace with the creator's own rights.
//! 3. The first process becomes root inside, and asks the lender for each bind mount by its number.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::child;
use super::config::{Config, IdMapping, Linux, Mount, Process};
use super::error::{Doing, Error, Result};
use super::mounts::Mounter;
use super::options::Options;
use crate::runtime::{
    At, StartError, die_with_parent, enter_userns, forget_caller, make_userns, own_stdio, report, reported,
    wire,
};
use crate::sys;
use crate::sys::clone::{Cloned, clone_process};

/// As many ranges as the kernel takes.
const MOST_RANGES: usize = 340;

fn bad<T>(text: impl AsRef<str>) -> Result<T> {
    Err(Error::Refused(format!("config.json: {}", text.as_ref())))
}

/// Refuses mappings that can't be, and mounts that can't be mapped.
pub(super) fn check(config: &Config, linux: &Linux) -> Result<()> {
    let lists = [("uid", &linux.uid_mappings), ("gid", &linux.gid_mappings)];
    for (kind, list) in lists {
        let name = format!("linux.{kind}Mappings");
        ranges(&name, list)?;
        match config.namespace("user") {
            None if !list.is_empty() => return bad(format!("`{name}` without a user namespace")),
            Some(namespace) if namespace.path.as_os_str().is_empty() => {
                if list.is_empty() {
                    return bad(format!("User namespaces enabled, but no {kind} mappings found"));
                }
                if outside(list, 0).is_none() {
                    return bad(format!("User namespaces enabled, but no mapping found for {kind} 0"));
                }
            }
            _ => {}
        }
    }
    config.mounts.iter().try_for_each(|mount| check_mount(config, mount))
}

/// Refuses ids of a process that a new user namespace doesn't have.
pub(super) fn check_user(config: &Config, process: &Process) -> Result<()> {
    let user = &process.user;
    for (kind, list, id) in [("uid", uids(config), user.uid), ("gid", gids(config), user.gid)] {
        if list.is_some_and(|list| outside(list, id).is_none()) {
            let text = format!("cannot set {kind} to unmapped user {id} in user namespace");
            return Err(Error::Refused(text));
        }
    }
    Ok(())
}

fn check_mount(config: &Config, mount: &Mount) -> Result<()> {
    let place = &mount.destination;
    let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
    ranges(&format!("mounts.uidMappings` of `{place}"), uids)?;
    ranges(&format!("mounts.gidMappings` of `{place}"), gids)?;
    if uids.is_empty() != gids.is_empty() {
        return bad(format!(
            "`uidMappings` of the mount `{place}` MUST be specified along with `gidMappings`"
        ));
    }
    let options = Options::read(mount)?;
    if options.idmap.is_none() && uids.is_empty() {
        return Ok(());
    }
    if options.bind.is_none() {
        return bad(format!("`{place}` with mapped ids, which is no bind mount, is not supported"));
    }
    if uids.is_empty() && config.namespace("user").is_none() {
        return bad(format!(
            "`{place}` has no `uidMappings` and `gidMappings`, and the container no user namespace to map ids by"
        ));
    }
    Ok(())
}

/// Refuses ranges that the kernel wouldn't take.
fn ranges(name: &str, list: &[IdMapping]) -> Result<()> {
    if list.len() > MOST_RANGES {
        return bad(format!("`{name}` has more than {MOST_RANGES} ranges"));
    }
    for (index, range) in list.iter().enumerate() {
        let last = range.size.checked_sub(1);
        let fits = last.is_some_and(|last| {
            range.container_id.checked_add(last).is_some() && range.host_id.checked_add(last).is_some()
        });
        if !fits {
            return bad(format!("`{name}` has a range of {} ids, which can't be", range.size));
        }
        let meets = |a: u32, b: u32, of: u32| a.max(b) - a.min(b) < of;
        let overlap = list[..index].iter().any(|earlier| {
            let shared = |of: fn(&IdMapping) -> u32| {
                let (a, b) = (of(earlier), of(range));
                meets(a, b, if a < b { earlier.size } else { range.size })
            };
            shared(|range| range.container_id) || shared(|range| range.host_id)
        });
        if overlap {
            return bad(format!("`{name}` maps an id twice: its ranges overlap"));
        }
    }
    Ok(())
}

fn uids(config: &Config) -> Option<&[IdMapping]> {
    new_namespace(config).map(|linux| linux.uid_mappings.as_slice())
}

fn gids(config: &Config) -> Option<&[IdMapping]> {
    new_namespace(config).map(|linux| linux.gid_mappings.as_slice())
}

/// The part of the config that says what a new user namespace is like.
fn new_namespace(config: &Config) -> Option<&Linux> {
    config.namespace("user").filter(|namespace| namespace.path.as_os_str().is_empty())?;
    config.linux.as_ref()
}

/// What an id inside is outside.
fn outside(list: &[IdMapping], id: u32) -> Option<u32> {
    list.iter().find_map(|range| {
        let offset = id.checked_sub(range.container_id).filter(|offset| *offset < range.size)?;
        range.host_id.checked_add(offset)
    })
}

/// The lines that the kernel reads.
fn map(list: &[IdMapping]) -> String {
    list.iter().map(|range| format!("{} {} {}\n", range.container_id, range.host_id, range.size)).collect()
}

/// Makes or opens the user namespace of a container.
pub(super) fn namespace(config: &Config) -> Result<Option<OwnedFd>> {
    let Some(namespace) = config.namespace("user") else { return Ok(None) };
    if let Some(linux) = new_namespace(config) {
        return Ok(Some(make_userns(&map(&linux.uid_mappings), &map(&linux.gid_mappings))?));
    }
    let opened = rustix::fs::open(&namespace.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.doing(|| format!("cannot open the user namespace `{}`", namespace.path.display())).map(Some)
}

/// Makes the namespaces that the ids of mounts are mapped by; one for each mount, `None` for one without.
pub(super) fn of_mounts(config: &Config, container: Option<&OwnedFd>) -> Result<Vec<Option<OwnedFd>>> {
    let one = |mount: &Mount| -> Result<Option<OwnedFd>> {
        if !mount.uid_mappings.is_empty() {
            return Ok(Some(make_userns(&map(&mount.uid_mappings), &map(&mount.gid_mappings))?));
        }
        match (Options::read(mount)?.idmap, container) {
            (Some(_), Some(container)) => {
                container.try_clone().doing(|| "cannot keep the user namespace").map(Some)
            }
            _ => Ok(None),
        }
    };
    config.mounts.iter().map(one).collect()
}

/// What the helper needs to clone the first process.
pub(super) struct Entry<'a> {
    pub(super) userns: &'a OwnedFd,
    /// Namespaces of others, which belong to the machine as a rule.
    pub(super) others: &'a [(LinkNameSpaceType, OwnedFd)],
    pub(super) pid: Option<&'a OwnedFd>,
    /// Those to be made.
    pub(super) flags: u64,
    pub(super) v2: Option<BorrowedFd<'a>>,
    pub(super) config: &'a Config,
    pub(super) process: &'a Process,
}

impl Entry<'_> {
    /// Clones the first process as a child of this one.
    pub(super) fn clone(&self) -> Result<Cloned> {
        let fail = || "cannot make a process";
        let (told, far) = wire::pair().doing(fail)?;
        let helper = match clone_process(0, None).doing(fail)? {
            Cloned::Parent { pidfd, .. } => pidfd,
            Cloned::Child => match self.enter() {
                Ok(Cloned::Child) => return Ok(Cloned::Child),
                Ok(Cloned::Parent { pid, pidfd }) => report(far.as_fd(), Ok((pid, pidfd))),
                Err(error) => report(far.as_fd(), Err(error)),
            },
        };
        drop(far);
        let (pid, pidfd) = reported(helper.as_fd(), &told)?;
        Ok(Cloned::Parent { pid, pidfd })
    }

    fn enter(&self) -> std::result::Result<Cloned, StartError> {
        forget_caller()?;
        // Only the machine's root may lower it.
        if let Some(score) = self.process.oom_score_adj {
            std::fs::write("/proc/self/oom_score_adj", score.to_string())
                .at("oom", || format!("cannot set `oomScoreAdj` to {score}"))?;
        }
        give_stdio(self.config, self.process);
        let pid = self.pid.map(|fd| (LinkNameSpaceType::ProcessID, fd));
        for (kind, fd) in self.others.iter().map(|(kind, fd)| (*kind, fd)).chain(pid) {
            move_into_link_name_space(fd.as_fd(), Some(kind))
                .at("namespaces", || format!("cannot enter the namespace {kind:?}"))?;
        }
        enter_userns(self.userns.as_fd())?;
        clone_process(self.flags | libc::CLONE_PARENT as u64, self.v2).at("clone", || "cannot make a process")
    }
}

/// Gives pipes and terminals to the user as the machine knows it; what is mapped to nobody stays as it is.
pub(super) fn give_stdio(config: &Config, process: &Process) {
    let Some(user) = uids(config).and_then(|list| outside(list, process.user.uid)) else { return };
    let stdio = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3));
    own_stdio(&stdio.into_iter().flatten().collect::<Vec<_>>(), user);
}

/// Becomes root of the user namespace that was entered.
pub(super) fn become_root() -> std::result::Result<(), StartError> {
    let fail = || "cannot become root in the user namespace";
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    rustix::thread::set_thread_groups(&[]).at("userns", fail)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).at("userns", fail)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at("userns", fail)
}

/// What the lender says; the mount comes along.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Lent,
    Failed(StartError),
}

/// A process that opens the sources of bind mounts with the rights of the creator.
pub(super) struct Lender(OwnedFd);

impl Lender {
    /// Clones it for the first process; `socket` is its end.
    pub(super) fn clone(first: BorrowedFd<'_>, socket: &OwnedFd, mounter: &Mounter<'_>) -> Result<Lender> {
        match clone_process(0, None).doing(|| "cannot make a process")? {
            Cloned::Parent { pidfd, .. } => Ok(Lender(pidfd)),
            Cloned::Child => sys::process::exit_now(i32::from(lend(first, socket, mounter).is_err())),
        }
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        // It ends by itself when the first process has closed its socket.
        let _ = sys::process::pidfd_signal(self.0.as_fd(), libc::SIGKILL);
        super::reap(self.0.as_fd());
    }
}

fn lend(
    first: BorrowedFd<'_>,
    socket: &OwnedFd,
    mounter: &Mounter<'_>,
) -> std::result::Result<(), StartError> {
    let fail = || "cannot lend a mount";
    let mut keep = vec![first.as_raw_fd(), socket.as_raw_fd()];
    keep.extend(mounter.idmaps.iter().flatten().map(AsRawFd::as_raw_fd));
    child::leave_creator_behind(0, &keep)?;
    die_with_parent()?;
    rustix::thread::move_into_thread_name_spaces(first, ThreadNameSpaceType::MOUNT).at("mount", fail)?;
    while let Some((index, _)) = wire::receive::<usize>(socket).at("mount", fail)? {
        match mounter.source(index) {
            Ok(tree) => wire::send(socket, &Answer::Lent, &[tree.as_fd()]),
            Err(error) => wire::send(socket, &Answer::Failed(error), &[]),
        }
        .at("mount", fail)?;
    }
    Ok(())
}

/// Asks the lender for a mount by its number.
pub(super) fn borrow(socket: BorrowedFd<'_>, index: usize) -> std::result::Result<OwnedFd, StartError> {
    let fail = || "cannot borrow a mount";
    let gone = || StartError::new("mount", "the helper that opens mounts is gone");
    wire::send(socket, &index, &[]).at("mount", fail)?;
    match wire::receive::<Answer>(socket).at("mount", fail)? {
        Some((Answer::Lent, fds)) => fds.into_iter().next().ok_or_else(gone),
        Some((Answer::Failed(error), _)) => Err(error),
        None => Err(gone()),
    }
}

/// Maps the ids of a mount that is attached to nothing.
pub(super) fn map_mount(
    tree: &OwnedFd,
    mount: &Mount,
    namespace: &OwnedFd,
    below: bool,
) -> std::result::Result<(), StartError> {
    sys::mount::map_ids(tree.as_fd(), namespace.as_fd(), below).at("mount", || {
        let path: &Path = &mount.source;
        format!(
            "the mount {:?} MUST have an idmapping applied, which the filesystem of `{}` doesn't do",
            mount.destination,
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn ranges_that_overlap_or_overflow_are_refused() {
        ranges("m", &[range(0, 1000, 1), range(1, 5000, 10), range(11, 5010, 1)]).unwrap();
        for list in [
            vec![range(0, 1000, 10), range(9, 5000, 1)],
            vec![range(9, 1000, 1), range(0, 5000, 10)],
            vec![range(0, 1000, 10), range(10, 1009, 1)],
        ] {
            let text = ranges("m", &list).unwrap_err().to_string();
            assert!(text.contains("overlap"), "{text}");
        }
        assert!(ranges("m", &[range(0, 0, 0)]).is_err());
        assert!(ranges("m", &[range(0, u32::MAX, 2)]).is_err());
        assert!(ranges("m", &vec![range(0, 0, 1); MOST_RANGES + 1]).is_err());
    }

    #[test]
    fn an_id_inside_is_one_outside_or_nobodys() {
        let list = [range(0, 1000, 1), range(1, 100_000, 10)];
        assert_eq!(outside(&list, 0), Some(1000));
        assert_eq!(outside(&list, 10), Some(100_009));
        assert_eq!(outside(&list, 11), None);
        assert_eq!(map(&list), "0 1000 1\n1 100000 10\n");
    }
}
