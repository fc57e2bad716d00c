//! The cgroup of a process tree, through whichever hierarchy each controller lives in.
//!
//! A machine may have v1 hierarchies, v2, or both at once; the choice is made controller by controller. The folders
//! are `<hierarchy>/kiln/<id>`:
//!
//! * one for each controller that a limit needs;
//! * for a container ([`CgroupPlace::Own`]) also one in v2, which needs no controller to freeze, to kill and to measure
//!   time by, and one that counts memory. Where neither can be made, it goes without: a process tree is killed by its
//!   pid namespace.
//!
//! The child is cloned into the v2 folder and writes itself to the `tasks` file of each v1 folder: moving a process by
//! `cgroup.procs` waits for all processors, several milliseconds.

mod hierarchies;
mod v1;
mod v2;
mod view;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

pub(super) use self::hierarchies::our_folders;
use self::hierarchies::{Hierarchy, find, find_v2, hierarchies};
pub(super) use self::view::{View, mount_view};
use super::error::{At, StartError};
use super::spec::{CgroupPlace, Limits};

/// The folder below each hierarchy's top that is kiln's.
const OURS: &str = "kiln";
/// The period that a CPU quota counts in, microseconds; docker's.
const CPU_PERIOD_US: u64 = 100_000;
/// What a container is measured by even without limits, where v2 has it.
const MEASURED: [&str; 4] = ["memory", "cpu", "pids", "io"];
/// Attempts to remove a folder whose tasks are just ending, and the pause between them.
const REMOVE_ATTEMPTS: u32 = 50;
const REMOVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);
/// Rounds of killing what is in a cgroup of v1, since it may fork meanwhile.
const KILL_ROUNDS: u32 = 50;

/// The cgroup of one process tree.
#[derive(Debug, Default)]
pub struct Cgroup {
    folders: Vec<PathBuf>,
    /// Those of the folders, when they were made here.
    hierarchies: Vec<Hierarchy>,
    /// Files to which the child writes itself (v1).
    pub(super) tasks: Vec<OwnedFd>,
    /// The folder into which the child is cloned (v2).
    pub(super) v2: Option<OwnedFd>,
}

impl Cgroup {
    /// Makes the folders that `place` and `limits` need and writes the limits.
    pub(super) fn create(id: &str, place: CgroupPlace, limits: &Limits) -> Result<Cgroup, StartError> {
        let mut cgroup = Cgroup::default();
        if limits.is_empty() && place == CgroupPlace::ForLimits {
            return Ok(cgroup);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(allowed) {
            return Err(StartError::new("cgroup", format!("`{id}` can't name a cgroup")));
        }
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")
            .at("cgroup", || "cannot read `/proc/self/mountinfo`")?;
        let all = hierarchies(&mountinfo);
        if place == CgroupPlace::Own {
            cgroup.join_measured(&all, id);
        }
        match cgroup.join_limited(&all, id, limits) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.remove();
                Err(error)
            }
        }
    }

    /// Takes the folders of a process tree that another process started.
    pub fn open(folders: &[PathBuf]) -> Cgroup {
        Cgroup { folders: folders.to_vec(), ..Cgroup::default() }
    }

    /// Opens what a further process needs to join: the v1 task files, and the v2 folder.
    pub(super) fn open_doors(&mut self) -> io::Result<()> {
        for folder in &self.folders {
            if folder.join("tasks").exists() {
                self.tasks.push(open_tasks(folder)?);
            } else {
                self.v2 = Some(open_folder(folder)?);
            }
        }
        Ok(())
    }

    /// Closes them, for a process that nobody joins by.
    pub(super) fn close_doors(&mut self) {
        self.tasks.clear();
        self.v2 = None;
    }

    /// The folders that a container has without limits. What this machine lacks or doesn't let be made is left out.
    fn join_measured(&mut self, all: &[Hierarchy], id: &str) {
        if let Some(hierarchy) = find_v2(all) {
            let has =
                fs::read_to_string(hierarchy.mount_point.join("cgroup.controllers")).unwrap_or_default();
            let enabled = MEASURED.iter().filter(|name| has.split_whitespace().any(|has| has == **name));
            if self.join(hierarchy, id).is_ok() {
                for controller in enabled {
                    let _ = self.enable(hierarchy, controller);
                }
            }
        }
        if let Some(hierarchy) = find(all, "memory") {
            let _ = self.join(hierarchy, id);
        }
    }

    fn join_limited(&mut self, all: &[Hierarchy], id: &str, limits: &Limits) -> Result<(), StartError> {
        for controller in limits.controllers() {
            let Some(hierarchy) = find(all, controller) else {
                let text = format!("this machine has no cgroup controller `{controller}` to limit it by");
                return Err(StartError::new("cgroup", text));
            };
            let folder = self.join(hierarchy, id)?;
            if hierarchy.v1.is_some() {
                v1::limit(controller, &folder, limits)?;
            } else {
                self.enable(hierarchy, controller)?;
                v2::limit(controller, &folder, limits)?;
            }
        }
        Ok(())
    }

    /// Makes the folder in a hierarchy, once for each.
    fn join(&mut self, hierarchy: &Hierarchy, id: &str) -> Result<PathBuf, StartError> {
        let ours = hierarchy.mount_point.join(OURS);
        let folder = ours.join(id);
        if self.folders.contains(&folder) {
            return Ok(folder);
        }
        let fail = || format!("cannot make the cgroup `{}`", folder.display());
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_folder(&ours).at("cgroup", fail)?;
                make_folder(&folder).at("cgroup", fail)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.at("cgroup", fail)?,
        }
        self.folders.push(folder.clone());
        self.hierarchies.push(hierarchy.clone());
        if hierarchy.v1.is_none() {
            self.v2 = Some(open_folder(&folder).at("cgroup", fail)?);
        } else {
            self.tasks.push(open_tasks(&folder).at("cgroup", fail)?);
        }
        Ok(folder)
    }

    fn enable(&self, hierarchy: &Hierarchy, controller: &str) -> Result<(), StartError> {
        v2::enable(&hierarchy.mount_point, controller)?;
        v2::enable(&hierarchy.mount_point.join(OURS), controller)
    }

    /// Returns the folders, for processes that join later.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the file `name` of whichever folder has it.
    fn file(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|file| file.exists())
    }

    /// Returns how many processes the kernel has killed for memory; to be asked before the removal.
    pub fn oom_kills(&self) -> u64 {
        let Some(file) = self.file("memory.events").or_else(|| self.file("memory.oom_control")) else {
            return 0;
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or(0)
    }

    /// Returns the processes in it, as this process's `/proc` numbers them.
    pub fn pids(&self) -> Vec<i32> {
        let Some(file) = self.file("cgroup.procs") else { return Vec::new() };
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills all that is in it.
    pub fn kill(&self) -> io::Result<()> {
        if let Some(file) = self.file("cgroup.kill") {
            return fs::write(file, "1");
        }
        for _ in 0..KILL_ROUNDS {
            let pids = self.pids();
            if pids.is_empty() {
                break;
            }
            for pid in pids.into_iter().filter_map(rustix::process::Pid::from_raw) {
                // It may have ended by itself.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            std::thread::sleep(REMOVE_PAUSE);
        }
        Ok(())
    }

    /// Removes the folders, with those that were made in them; tasks that are just ending are waited for.
    pub fn remove(&mut self) {
        for folder in self.folders.drain(..) {
            for _ in 0..REMOVE_ATTEMPTS {
                match remove_tree(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(REMOVE_PAUSE)
                    }
                    _ => break,
                }
            }
        }
    }
}

/// Removes a cgroup, and when that has cgroups in it, those first.
fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        result => return result,
    }
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn open_tasks(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder.join("tasks"), flags, Mode::empty())?)
}

fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?)
}

fn write(file: &Path, value: &str) -> Result<(), StartError> {
    fs::write(file, value).at("cgroup", || format!("cannot write `{value}` to `{}`", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let limits = Limits { pids: Some(5), ..Limits::default() };
        for id in ["", "..", "a/b", ".x"] {
            let error = Cgroup::create(id, CgroupPlace::ForLimits, &limits).unwrap_err();
            assert!(error.message.contains("can't name a cgroup"), "{id}");
            assert!(Cgroup::create(id, CgroupPlace::Own, &Limits::default()).is_err(), "{id}");
        }
        assert!(Cgroup::create("..", CgroupPlace::ForLimits, &Limits::default()).is_ok());
    }
}
