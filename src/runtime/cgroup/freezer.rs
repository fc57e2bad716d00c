//! Freezing what is in a cgroup.
//!
//! The v2 folder does it where there is one; otherwise v1's freezer, in a folder that is made when it is first needed.
//! Never both: who thaws could not know of the other.

use std::fs;

use super::{Cgroup, find, mounted};
use crate::runtime::error::{At, StartError};

/// The file of v1 that says how it is, and is written to.
const V1_STATE: &str = "freezer.state";

impl Cgroup {
    /// Begins to freeze all processes, or lets them go on.
    pub fn freeze(&mut self, frozen: bool) -> Result<(), StartError> {
        if let Some(file) = self.file("cgroup.freeze") {
            let value = if frozen { "1" } else { "0" };
            return super::write(&file, value);
        }
        let file = match self.file(V1_STATE) {
            Some(file) => file,
            // It never was.
            None if !frozen => return Ok(()),
            None => {
                let all = mounted()?;
                self.find_name(&all);
                let none = || StartError::new("cgroup", "this machine has no cgroup controller `freezer`");
                let hierarchy = find(&all, "freezer").ok_or_else(none)?;
                let folder = self.join(hierarchy)?;
                self.close_doors();
                self.move_into(&folder).at("cgroup", || format!("cannot use `{}`", folder.display()))?;
                folder.join(V1_STATE)
            }
        };
        super::write(&file, if frozen { "FROZEN" } else { "THAWED" })
    }

    /// Tells whether no process of it runs any more since it was frozen.
    pub fn is_frozen(&self) -> bool {
        let says = |name: &str, text: &str| {
            let content = self.file(name).and_then(|file| fs::read_to_string(file).ok());
            content.is_some_and(|content| content.lines().any(|line| line == text))
        };
        says("cgroup.events", "frozen 1") || says(V1_STATE, "FROZEN")
    }

    /// Lets processes that were killed die: those that v1 has frozen wait for that.
    pub fn let_die(&self) {
        if let Some(file) = self.folders.iter().map(|folder| folder.join(V1_STATE)).find(|file| file.exists())
        {
            let _ = fs::write(file, "THAWED");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_folder_of_v2_is_what_freezes() {
        let folder = tempfile::tempdir().unwrap();
        let (v2, v1) = (folder.path().join("v2"), folder.path().join("v1"));
        for (path, content) in [(v2.join("cgroup.freeze"), "0"), (v1.join(V1_STATE), "THAWED\n")] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let mut both = Cgroup::open(&[v1.clone(), v2.clone()]);
        both.freeze(true).unwrap();
        assert_eq!((read(&v2.join("cgroup.freeze")), both.is_frozen()), ("1".into(), false));
        fs::write(v2.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        assert!(both.is_frozen());
        both.freeze(false).unwrap();
        assert_eq!(
            (read(&v2.join("cgroup.freeze")), read(&v1.join(V1_STATE))),
            ("0".into(), "THAWED\n".into())
        );
        let mut old = Cgroup::open(std::slice::from_ref(&v1));
        old.freeze(true).unwrap();
        assert_eq!(read(&v1.join(V1_STATE)), "FROZEN");
        assert!(old.is_frozen());
        old.let_die();
        assert_eq!(read(&v1.join(V1_STATE)), "THAWED");
    }

    #[test]
    fn without_v2_the_freezer_of_v1_is_joined_when_it_is_needed() {
        let all = mounted().unwrap();
        let own = |controller| find(&all, controller).filter(|hierarchy| hierarchy.v1.is_some());
        if !rustix::process::geteuid().is_root() || own("freezer").is_none() || own("pids").is_none() {
            return;
        }
        let name = Path::new("kiln").join(format!("freezer-test-{}", std::process::id()));
        let mut cgroup = Cgroup { name, ..Cgroup::default() };
        let folder = cgroup.join(own("pids").unwrap()).unwrap();
        // As one that another process has made.
        cgroup = Cgroup::open(cgroup.folders());
        let mut sleeper = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(folder.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        let frozen = cgroup.freeze(true);
        let is_frozen = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            cgroup.is_frozen()
        });
        let folders = cgroup.folders().len();
        sleeper.kill().unwrap();
        cgroup.let_die();
        sleeper.wait().unwrap();
        cgroup.remove();
        assert!(frozen.is_ok() && is_frozen && folders == 2, "{frozen:?} {is_frozen} {folders}");
        assert!(!folder.exists());
    }
}
