//! Many containers at once, and one after another.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln::network::Networks;

use crate::support::binary::{Kiln, finish, gone, names, start};
use crate::support::needs_root;

/// Far beyond what it takes, which the machine decides.
const SOON: Duration = Duration::from_secs(60);

/// The cgroup folders of these containers in all hierarchies.
fn cgroups(ids: &BTreeSet<String>) -> Vec<PathBuf> {
    let hierarchies = names(Path::new("/sys/fs/cgroup")).into_iter();
    let folders = hierarchies.map(|name| Path::new("/sys/fs/cgroup").join(name).join("kiln"));
    let inside = folders.filter(|folder| folder.is_dir()).flat_map(|folder| {
        names(&folder).into_iter().filter(|name| ids.contains(name)).map(move |name| folder.join(name))
    });
    inside.collect()
}

fn mounts(root: &Path) -> usize {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains(root.to_str().unwrap())).count()
}

/// The process that stands behind the container.
fn monitor(kiln: &Kiln, container: &str) -> PathBuf {
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", container]);
    PathBuf::from("/proc").join(field(&Path::new("/proc").join(pid.trim()), "PPid:"))
}

fn field(process: &Path, name: &str) -> String {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").to_owned()
}

/// The files of the store that aren't the database's or the log of events.
fn files(kiln: &Kiln) -> BTreeSet<PathBuf> {
    let is_kept = |path: &Path| {
        let path = path.strip_prefix(kiln.root()).unwrap().to_str().unwrap();
        path.starts_with("meta.db") || path.starts_with("events")
    };
    // What goes while it is looked at is gone.
    let all =
        walkdir::WalkDir::new(kiln.root()).into_iter().filter_map(|entry| Some(entry.ok()?.into_path()));
    all.filter(|path| path != kiln.root() && !is_kept(path)).collect()
}

#[test]
fn a_thousand_containers_one_after_another_leave_nothing() {
    if !needs_root("a_thousand_containers_one_after_another_leave_nothing") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["run", "-d", "--name", "keeper", "busybox", "sleep", "100000"]);
    // The first one makes what all of them share.
    kiln.ok(&["run", "--rm", "busybox", "true"]);
    let keeper = monitor(&kiln, "keeper");
    let open = names(&keeper.join("fd"));
    let before = files(&kiln);
    let (links, mounted) = (names(Path::new("/sys/class/net")), mounts(kiln.root()));
    let cidfile = kiln.scratch().join("id");
    let mut ids = BTreeSet::new();
    for number in 0..1000 {
        let network = if number % 10 == 0 { "bridge" } else { "none" };
        let words = ["run", "--rm", "--network", network, "--cidfile", cidfile.to_str().unwrap()];
        assert_eq!(kiln.ok(&[&words[..], &["busybox", "echo", "x"]].concat()), "x\n");
        ids.insert(fs::read_to_string(&cidfile).unwrap().trim().to_owned());
        fs::remove_file(&cidfile).unwrap();
    }
    assert_eq!(ids.len(), 1000);
    gone("cgroups", || cgroups(&ids).into_iter().map(|path| path.display().to_string()).collect());
    gone("files", || files(&kiln).difference(&before).map(|path| path.display().to_string()).collect());
    let bridge = Networks::new(&kiln.root().join("networks")).bridge().to_owned();
    gone("interfaces", || {
        let ports = names(&Path::new("/sys/class/net").join(&bridge).join("brif"));
        // The keeper has one.
        if ports.len() > 1 { ports } else { Vec::new() }
    });
    assert!(links.contains(&bridge), "{links:?}");
    assert_eq!(mounts(kiln.root()), mounted);
    assert_eq!(names(&keeper.join("fd")), open);
    kiln.ok(&["rm", "-f", "keeper"]);
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_monitor_that_waits_is_small() {
    if !needs_root("a_monitor_that_waits_is_small") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "100000"]);
    let monitor = monitor(&kiln, "box");
    let memory = || field(&monitor, "VmRSS:").parse::<u64>().unwrap();
    let end = Instant::now() + SOON;
    while memory() >= 3 << 10 {
        assert!(Instant::now() < end, "the monitor has {} kB", memory());
        std::thread::sleep(Duration::from_millis(100));
    }
    // And it still does its work.
    assert_eq!(kiln.ok(&["exec", "box", "echo", "x"]), "x\n");
    kiln.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_hundred_containers_live_at_once() {
    if !needs_root("a_hundred_containers_live_at_once") {
        return;
    }
    let kiln = Kiln::busybox();
    let run = |name: &str, network: &str| {
        let words = ["run", "-d", "--name", name, "--network", network, "busybox", "sleep", "100000"];
        start(&mut kiln.command(&words))
    };
    let mut ids = BTreeSet::new();
    for half in 0..2 {
        let started: Vec<_> = (0..50)
            .map(|number| run(&format!("c{half}-{number}"), if number % 2 == 0 { "bridge" } else { "none" }))
            .collect();
        ids.extend(started.into_iter().map(|child| finish(child).ok().out.trim().to_owned()));
    }
    assert_eq!(ids.len(), 100);
    let listed: BTreeSet<String> = kiln.ok(&["ps", "-q", "--no-trunc"]).lines().map(str::to_owned).collect();
    assert_eq!(listed, ids);
    let addresses = kiln.ok(&[
        &["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"][..],
        &ids.iter().map(String::as_str).collect::<Vec<_>>(),
    ]
    .concat());
    let distinct: BTreeSet<&str> = addresses.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(distinct.len(), 50, "{addresses}");
    // Ten want one name: one has it, the others are told who.
    let rivals: Vec<_> = (0..10).map(|_| run("wanted", "none")).collect();
    let rivals: Vec<_> = rivals.into_iter().map(finish).collect();
    assert_eq!(rivals.iter().filter(|ran| ran.code == 0).count(), 1);
    for ran in rivals.iter().filter(|ran| ran.code != 0) {
        assert!(ran.code == 125 && ran.error.contains("wanted"), "{ran}");
    }
    let all = kiln.ok(&["ps", "-aq"]);
    kiln.ok(&[&["rm", "-f"][..], &all.lines().collect::<Vec<_>>()].concat());
    assert_eq!(kiln.ok(&["ps", "-aq"]), "");
    gone("cgroups", || cgroups(&ids).into_iter().map(|path| path.display().to_string()).collect());
}
