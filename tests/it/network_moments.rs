//! `kill -9` of a command before each change that it makes: the next command leaves nothing of it in the kernel that the
//! records don't know, and the same command works again.
//!
//! Some moments of each command are tried, and with `KILN_MOMENTS=all` every one.

use std::path::Path;

use crate::support::binary::{Kiln, names};
use crate::support::moments::{Ended, kill_at};
use crate::support::{ledger, needs_root};

/// So many moments of a command are tried.
const MOMENTS: usize = 8;
/// What a container of these tests is.
const RUN: &str = "run -d --name box --network one -p 80 -v data:/data busybox sleep 1000";

/// A command that is killed.
struct Case<'a> {
    /// What has to be there for it.
    before: &'a [&'a str],
    command: &'a str,
    /// What a second time is refused with when the first one was done but for the last word.
    done: &'a str,
    /// What has to go for the next moment; it need not be there.
    after: &'a [&'a str],
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

impl Case<'_> {
    fn try_all(&self, kiln: &Kiln) {
        let all = self.moments(kiln);
        let tried = if std::env::var_os("KILN_MOMENTS").is_some() { all } else { MOMENTS.min(all) };
        println!("{}: {tried} moments of {all}", self.command);
        for number in 0..tried {
            // The first one and the last one too.
            self.try_one(kiln, number * (all - 1) / (tried - 1));
        }
        kiln.ok(&["prune", "-f"]);
        ledger::assert_empty(kiln, self.command);
    }

    fn set_up(&self, kiln: &Kiln) {
        for line in self.before {
            kiln.ok(&words(line));
        }
    }

    fn clear(&self, kiln: &Kiln) {
        for line in self.after {
            let ran = kiln.run(&words(line));
            assert!(ran.code == 0 || ran.error.contains("no such"), "{line}: {ran}");
        }
    }

    /// How many moments it has when nobody kills it.
    fn moments(&self, kiln: &Kiln) -> usize {
        self.set_up(kiln);
        let Ended::Alone(count) = kill_at(&mut kiln.command(&words(self.command)), usize::MAX) else {
            panic!("nobody killed it");
        };
        self.clear(kiln);
        count
    }

    fn try_one(&self, kiln: &Kiln, moment: usize) {
        self.set_up(kiln);
        let ended = kill_at(&mut kiln.command(&words(self.command)), moment);
        let when = format!("`{}`, moment {moment}, {ended}", self.command);
        kiln.ok(if moment.is_multiple_of(2) { &["ps", "-a"] } else { &["network", "ls"] });
        ledger::assert_agrees(kiln, &when);
        let again = kiln.run(&words(self.command));
        let is_done = !self.done.is_empty() && again.error.contains(self.done);
        assert!(again.code == 0 || is_done, "{when}, and then {again}");
        ledger::assert_agrees(kiln, &format!("{when}, and once more"));
        for id in kiln.ok(&["ps", "-q"]).lines() {
            // One that was left frozen would hang here.
            kiln.ok(&["exec", id, "true"]);
        }
        self.clear(kiln);
    }
}

/// Nothing is set aside, half made, or not in the list.
fn assert_volumes_are_whole(kiln: &Kiln) {
    let folder = kiln.root().join("volumes");
    kiln.ok(&["volume", "prune", "-f"]);
    for part in [".new", ".removed"] {
        assert_eq!(names(&folder.join(part)), Vec::<String>::new(), "{part}");
    }
    let listed = kiln.ok(&["volume", "ls", "-q"]);
    let found = names(&folder).into_iter().filter(|name| !name.starts_with('.'));
    assert_eq!(found.collect::<Vec<_>>(), listed.lines().collect::<Vec<_>>());
}

fn kiln(name: &str) -> Option<Kiln> {
    needs_root(name).then(Kiln::busybox)
}

#[test]
fn a_killed_change_of_a_network_leaves_nothing_past_the_next_command() {
    let name = "a_killed_change_of_a_network_leaves_nothing_past_the_next_command";
    let Some(kiln) = kiln(name) else { return };
    let cases = [
        Case {
            before: &[],
            command: "network create --ipv6 one",
            done: "exists already",
            after: &["network rm one"],
        },
        Case {
            before: &["network create one"],
            command: "network rm one",
            done: "no such network",
            after: &["network rm one"],
        },
        Case {
            before: &["network create one", "network create two", RUN],
            command: "network connect two box",
            done: "already",
            after: &["rm -f box", "network rm one", "network rm two"],
        },
        Case {
            before: &["network create one", "network create two", RUN, "network connect two box"],
            command: "network disconnect one box",
            done: "is not connected",
            after: &["rm -f box", "network rm one", "network rm two"],
        },
    ];
    for case in cases {
        case.try_all(&kiln);
    }
}

#[test]
fn a_killed_start_or_end_of_a_container_leaves_nothing_past_the_next_command() {
    let name = "a_killed_start_or_end_of_a_container_leaves_nothing_past_the_next_command";
    let Some(kiln) = kiln(name) else { return };
    let cases = [
        Case {
            before: &["network create one"],
            command: RUN,
            done: "is already in use by container",
            after: &["rm -f box", "network rm one", "volume rm data"],
        },
        // Without ports its links are made while its monitor is at work.
        Case {
            before: &["network create --ipv6 one"],
            command: "run -d --name box --network one --network-alias alias busybox sleep 1000",
            done: "is already in use by container",
            after: &["rm -f box", "network rm one"],
        },
        Case {
            before: &["network create one", RUN, "stop -t 0 box"],
            command: "start box",
            done: "",
            after: &["rm -f box", "network rm one"],
        },
        Case {
            before: &["network create one", RUN],
            command: "rm -f box",
            done: "no such",
            after: &["rm -f box", "network rm one"],
        },
    ];
    for case in cases {
        case.try_all(&kiln);
    }
    kiln.ok(&["volume", "rm", "data"]);
    assert_volumes_are_whole(&kiln);
}

#[test]
fn a_killed_change_of_a_volume_leaves_nothing_past_the_next_command() {
    let name = "a_killed_change_of_a_volume_leaves_nothing_past_the_next_command";
    let Some(kiln) = kiln(name) else { return };
    let tar = kiln.scratch().join("data.tar");
    kiln.ok(&words("volume create first"));
    kiln.ok(&["run", "--rm", "-v", "first:/data", "busybox", "sh", "-c", "echo content > /data/file"]);
    kiln.ok(&["volume", "export", "first", "-o", tar.to_str().unwrap()]);
    let import = format!("volume import copy {}", tar.display());
    let used: &[&str] = &["run -d --name box -v first:/data busybox sleep 1000"];
    let cases = [
        Case { before: &[], command: "volume create data", done: "", after: &["volume rm data"] },
        Case {
            before: &["volume create data"],
            command: "volume rm data",
            done: "no such volume",
            after: &["volume rm data"],
        },
        Case {
            before: used,
            command: "volume clone first copy",
            done: "already exists",
            after: &["rm -f box", "volume rm copy"],
        },
        Case { before: &[], command: &import, done: "is not empty", after: &["volume rm copy"] },
    ];
    for case in cases {
        case.try_all(&kiln);
        assert_volumes_are_whole(&kiln);
    }
    let content = |volume: &str| kiln.root().join(format!("volumes/{volume}/_data/file"));
    assert_eq!(std::fs::read_to_string(content("first")).unwrap(), "content\n");
    assert!(!Path::new(&content("copy")).exists());
}
