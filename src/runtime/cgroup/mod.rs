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
//! The folder `kiln` may be another one (`--cgroup-parent`).
//!
//! The child is cloned into the v2 folder and writes itself to the `tasks` file of each v1 folder: moving a process by
//! `cgroup.procs` waits for all processors, several milliseconds.

mod freezer;
mod hierarchies;
mod oom;
mod setting;
mod usage;
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
pub use self::oom::OomWatch;
pub use self::usage::Usage;
pub(super) use self::view::{View, mount_view};
use super::error::{At, StartError};
use super::spec::{CgroupPlace, Limits};

/// The folder below each hierarchy's top that is kiln's.
const OURS: &str = "kiln";
/// The period that a CPU quota counts in, microseconds; docker's.
const CPU_PERIOD_US: u64 = 100_000;
/// Where distributions mount the hierarchies.
const USUAL_TOP: &str = "/sys/fs/cgroup";
/// The controllers of all limits, by their names in v1.
const LIMITED: [&str; 6] = ["memory", "cpu", "cpuset", "pids", "blkio", "devices"];
/// What a container is measured by even without limits, where v2 has it.
const MEASURED: [&str; 4] = ["memory", "cpu", "pids", "io"];
/// Attempts to remove a folder whose tasks are just ending, and the pause between them.
const REMOVE_ATTEMPTS: u32 = 50;
const REMOVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);
/// Rounds of moving processes that fork meanwhile.
const MOVE_ROUNDS: u32 = 50;
/// Rounds of killing what is in a cgroup of v1, since it may fork meanwhile.
const KILL_ROUNDS: u32 = 50;

/// The cgroup of one process tree.
#[derive(Debug, Default)]
pub struct Cgroup {
    /// Below each hierarchy's top: `kiln/<id>`.
    name: PathBuf,
    folders: Vec<PathBuf>,
    /// Those of the folders, when they were made here.
    hierarchies: Vec<Hierarchy>,
    /// Files to which the child writes itself (v1).
    pub tasks: Vec<OwnedFd>,
    /// The folder into which the child is cloned (v2).
    pub v2: Option<OwnedFd>,
}

impl Cgroup {
    /// Makes the folders that `place` and `limits` need and writes the limits.
    pub fn create(id: &str, place: &CgroupPlace, limits: &Limits) -> Result<Cgroup, StartError> {
        if limits.is_empty() && *place == CgroupPlace::ForLimits {
            return Ok(Cgroup::default());
        }
        let usual = limits.is_empty().then(|| hierarchies::usual(Path::new(USUAL_TOP))).flatten();
        Cgroup::create_in(&usual.map_or_else(mounted, Ok)?, id, place, limits)
    }

    fn create_in(
        all: &[Hierarchy],
        id: &str,
        place: &CgroupPlace,
        limits: &Limits,
    ) -> Result<Cgroup, StartError> {
        let mut cgroup = Cgroup { name: name(id, place)?, ..Cgroup::default() };
        if *place != CgroupPlace::ForLimits {
            cgroup.join_measured(all);
        }
        match cgroup.join_limited(all, limits) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.remove();
                Err(error)
            }
        }
    }

    /// Changes the limits of what runs in it; nothing else becomes different. For controllers that it had no folder of,
    /// its processes are moved.
    pub fn limit(&mut self, limits: &Limits) -> Result<(), StartError> {
        let before = self.folders.len();
        let all = mounted()?;
        self.find_name(&all);
        let result = self.join_limited(&all, limits);
        self.close_doors();
        let new = self.folders[before..].to_vec();
        for folder in new {
            self.move_into(&folder).at("cgroup", || format!("cannot use `{}`", folder.display()))?;
        }
        result
    }

    /// Reads out of the folders of [`Cgroup::open`] where it is in each hierarchy.
    fn find_name(&mut self, all: &[Hierarchy]) {
        if self.name.as_os_str().is_empty() {
            let below = |folder: &PathBuf| {
                let tops =
                    all.iter().filter_map(|hierarchy| folder.strip_prefix(&hierarchy.mount_point).ok());
                // Of hierarchies within another's folder the inner one has it.
                tops.min_by_key(|name| name.components().count()).map(Path::to_owned)
            };
            self.name = self.folders.iter().find_map(below).unwrap_or_default();
        }
    }

    /// Moves all its processes to a further folder of its own.
    fn move_into(&self, folder: &Path) -> io::Result<()> {
        // They may fork meanwhile.
        for _ in 0..MOVE_ROUNDS {
            let there = pids_in(&folder.join("cgroup.procs"));
            let missing: Vec<i32> = self.pids().into_iter().filter(|pid| !there.contains(pid)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            for pid in missing {
                match fs::write(folder.join("cgroup.procs"), pid.to_string()) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                    _ => {}
                }
            }
        }
        Err(io::Error::other("its processes multiply too fast"))
    }

    /// Takes the folders of a process tree that another process started.
    pub fn open(folders: &[PathBuf]) -> Cgroup {
        Cgroup { folders: folders.to_vec(), ..Cgroup::default() }
    }

    /// Takes the folders that the process tree `id` has, or has left, in kiln's part of the hierarchies.
    pub fn of(id: &str) -> Cgroup {
        let folders = our_folders().into_iter().map(|folder| folder.join(id));
        Cgroup { folders: folders.filter(|folder| folder.is_dir()).collect(), ..Cgroup::default() }
    }

    /// Takes the folders that process `pid` is in, which another runtime has started in this cgroup; the others go.
    pub fn adopt(&mut self, pid: i32) -> io::Result<()> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let all = hierarchies(&fs::read_to_string("/proc/self/mountinfo")?);
        let folder = |hierarchy: &Hierarchy| {
            let is_its = |names: &str| match &hierarchy.v1 {
                Some(own) => names.split(',').any(|name| own.iter().any(|own| own == name)),
                None => names.is_empty(),
            };
            let path = text.lines().find_map(|line| {
                let (names, path) = line.split_once(':')?.1.split_once(':')?;
                is_its(names).then(|| Path::new(path.trim_start_matches('/')))
            });
            // Only what is the container's alone may be frozen, killed and removed.
            path.filter(|path| *path == self.name).map(|path| hierarchy.mount_point.join(path))
        };
        let joined: Vec<PathBuf> = all.iter().filter_map(folder).collect();
        for left in self.folders.iter().filter(|folder| !joined.contains(folder)) {
            let _ = fs::remove_dir(left);
        }
        self.folders = joined;
        Ok(())
    }

    /// Below each hierarchy's top, where it is.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Opens what a further process needs to join: the v1 task files, and the v2 folder.
    pub fn open_doors(&mut self) -> io::Result<()> {
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
    pub fn close_doors(&mut self) {
        self.tasks.clear();
        self.v2 = None;
    }

    /// The folders that a container has without limits. What this machine lacks or doesn't let be made is left out.
    fn join_measured(&mut self, all: &[Hierarchy]) {
        if let Some(hierarchy) = find_v2(all) {
            let has =
                fs::read_to_string(hierarchy.mount_point.join("cgroup.controllers")).unwrap_or_default();
            let enabled = MEASURED.iter().filter(|name| has.split_whitespace().any(|has| has == **name));
            if self.join(hierarchy).is_ok() {
                for controller in enabled {
                    let _ = self.enable(hierarchy, controller);
                }
            }
        }
        // v2 tells the time of processors by itself.
        let old = find_v2(all).is_none().then_some("cpuacct");
        for hierarchy in std::iter::once("memory").chain(old).filter_map(|controller| find(all, controller)) {
            let _ = self.join(hierarchy);
        }
    }

    fn join_limited(&mut self, all: &[Hierarchy], limits: &Limits) -> Result<(), StartError> {
        for controller in LIMITED {
            let settings = v1::settings(controller, limits);
            let Some(first) = settings.first() else { continue };
            let Some(hierarchy) = find(all, controller) else {
                let flag = first.flag;
                let text = format!("this machine has no cgroup controller `{controller}` for `{flag}`");
                return Err(StartError::new("cgroup", text));
            };
            let folder = self.join(hierarchy)?;
            if hierarchy.v1.is_none() {
                self.enable(hierarchy, v2::name(controller))?;
                setting::write(&folder, &v2::settings(controller, limits))?;
                continue;
            }
            if controller == "cpuset" {
                for level in levels(&hierarchy.mount_point, &self.name) {
                    v1::fill_cpuset(&level)?;
                }
            }
            setting::write(&folder, &settings)?;
        }
        Ok(())
    }

    /// Makes the folder in a hierarchy, once for each.
    fn join(&mut self, hierarchy: &Hierarchy) -> Result<PathBuf, StartError> {
        let folder = hierarchy.mount_point.join(&self.name);
        if self.folders.contains(&folder) {
            return Ok(folder);
        }
        let fail = || format!("cannot make the cgroup `{}`", folder.display());
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&folder).at("cgroup", fail)?;
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
        for level in levels(&hierarchy.mount_point, &self.name) {
            v2::enable(&level.parent, controller)?;
        }
        Ok(())
    }

    /// Returns the folders, for processes that join later.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the file `name` of whichever folder has it.
    fn file(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|file| file.exists())
    }

    /// Returns the processes in it and in the cgroups that were made in it, as this process's `/proc` numbers them.
    pub fn pids(&self) -> Vec<i32> {
        let folder = self.folders.iter().find(|folder| folder.join("cgroup.procs").exists());
        folder.map(|folder| pids_below(folder)).unwrap_or_default()
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
            self.let_die();
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

/// A folder on the way from a hierarchy's top to a cgroup, and the one above it.
struct Level {
    parent: PathBuf,
    folder: PathBuf,
}

/// The folders that lead to `name`, the uppermost first.
fn levels(top: &Path, name: &Path) -> Vec<Level> {
    let mut parent = top.to_owned();
    let level = |part: std::path::Component<'_>| {
        let folder = parent.join(part);
        Level { parent: std::mem::replace(&mut parent, folder.clone()), folder }
    };
    name.components().map(level).collect()
}

/// Where a cgroup is below each hierarchy's top.
fn name(id: &str, place: &CgroupPlace) -> Result<PathBuf, StartError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if id.is_empty() || id.starts_with('.') || !id.bytes().all(allowed) {
        return Err(StartError::new("cgroup", format!("`{id}` can't name a cgroup")));
    }
    let CgroupPlace::Below(parent) = place else { return Ok(Path::new(OURS).join(id)) };
    let parent = Path::new(parent.trim_matches('/'));
    if parent.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(StartError::new("cgroup", format!("`{}` can't be a cgroup", parent.display())));
    }
    Ok(parent.join(id))
}

fn mounted() -> Result<Vec<Hierarchy>, StartError> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo");
    Ok(hierarchies(&mountinfo.at("cgroup", || "cannot read `/proc/self/mountinfo`")?))
}

fn pids_below(folder: &Path) -> Vec<i32> {
    let mut pids = pids_in(&folder.join("cgroup.procs"));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(pids_below(&entry.path()));
        }
    }
    pids
}

fn pids_in(file: &Path) -> Vec<i32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
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
    use crate::runtime::spec::DeviceLimit;

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let limits = Limits { pids: Some(5), ..Limits::default() };
        for id in ["", "..", "a/b", ".x"] {
            let error = Cgroup::create(id, &CgroupPlace::ForLimits, &limits).unwrap_err();
            assert!(error.message.contains("can't name a cgroup"), "{id}");
            assert!(Cgroup::create(id, &CgroupPlace::Own, &Limits::default()).is_err(), "{id}");
        }
        assert!(Cgroup::create("..", &CgroupPlace::ForLimits, &Limits::default()).is_ok());
        assert!(name("x", &CgroupPlace::Below("/a/../b".into())).is_err());
        assert_eq!(name("x", &CgroupPlace::Below("/a/b/".into())).unwrap(), Path::new("a/b/x"));
    }

    #[test]
    fn processes_of_inner_cgroups_are_its_own_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for (name, pids) in [("cgroup.procs", "1\n2\n"), ("a/cgroup.procs", ""), ("a/b/cgroup.procs", "3\n")]
        {
            fs::write(folder.path().join(name), pids).unwrap();
        }
        assert_eq!(Cgroup::open(&[folder.path().to_owned()]).pids(), [1, 2, 3]);
    }

    /// A folder that looks as a hierarchy of v2 to who doesn't ask the kernel.
    fn unified(controllers: &str, files: &[&str]) -> (tempfile::TempDir, Vec<Hierarchy>) {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("cgroup.controllers"), controllers).unwrap();
        fs::create_dir_all(top.path().join("kiln/box")).unwrap();
        for file in files {
            fs::write(top.path().join("kiln/box").join(file), "").unwrap();
        }
        let all = vec![Hierarchy { mount_point: top.path().to_owned(), v1: None }];
        (top, all)
    }

    #[test]
    fn limits_on_a_machine_with_v2_alone() {
        let (top, all) =
            unified("cpuset cpu io memory pids", &["memory.max", "cpu.max", "pids.max", "io.max"]);
        let device = DeviceLimit { device: "8:0".into(), value: 1 << 20 };
        let limits = Limits {
            memory: Some(64 << 20),
            memory_swap: Some(128 << 20),
            memory_swap_is_default: true,
            cpu_quota: Some(50_000),
            pids: Some(7),
            read_bps: vec![device],
            ..Limits::default()
        };
        let cgroup = Cgroup::create_in(&all, "box", &CgroupPlace::Own, &limits).unwrap();
        let read = |file: &str| fs::read_to_string(top.path().join(file)).unwrap();
        assert_eq!(cgroup.folders(), [top.path().join("kiln/box")]);
        assert_eq!(read("kiln/box/memory.max"), "67108864");
        assert_eq!(read("kiln/box/cpu.max"), "50000 100000");
        assert_eq!(read("kiln/box/pids.max"), "7");
        assert_eq!(read("kiln/box/io.max"), "8:0 rbps=1048576");
        // The last of those that were written one by one: a real one adds them up.
        assert_eq!(
            (read("cgroup.subtree_control"), read("kiln/cgroup.subtree_control")),
            ("+io".into(), "+io".into())
        );
        let limits = Limits { memory_swappiness: Some(5), ..Limits::default() };
        let error = Cgroup::create_in(&all, "box", &CgroupPlace::Own, &limits).unwrap_err();
        assert!(error.message.contains("`--memory-swappiness` is not possible here"), "{}", error.message);
        let all = unified("memory", &[]).1;
        let limits = Limits { cpu_shares: Some(5), ..Limits::default() };
        let error = Cgroup::create_in(&all, "box", &CgroupPlace::Own, &limits).unwrap_err();
        assert!(error.message.contains("no cgroup controller `cpu` for `--cpu-shares`"), "{}", error.message);
    }
}
