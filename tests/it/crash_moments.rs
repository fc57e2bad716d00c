//! Fifty moments at which a build dies, by `kill -9` or on a full disk: the next one is right, and takes over every
//! step that was done.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::binary::{Kiln, Ran, Step, busybox_tar, finish, names, read, run, start};
use crate::support::needs_root;

/// Two stages at once that copy, run and end in a third. A program that finds the disk full fails its step.
const DOCKERFILE: &str = "\
FROM busybox AS one
ARG N
COPY big /one-big
RUN sleep 0.03 && echo one$N > /one && cat /one-big /one > /one-copy
FROM busybox AS two
ARG N
RUN echo two$N > /two && dd if=/dev/zero of=/zeros bs=65536 count=24
RUN sleep 0.02 && cat /two /two > /twice && (sleep 500 &)
FROM busybox
COPY --from=one /one /one-copy /
COPY --from=two /twice /zeros /
WORKDIR /w
RUN cat /one /twice > all && rm /zeros
";

const MOMENTS: u32 = 50;

/// A store, a context, and what comes of it.
struct Site {
    kiln: Kiln,
    context: PathBuf,
    big: String,
}

impl Site {
    fn new(kiln: Kiln) -> Self {
        let big = "content\n".repeat(120_000);
        let context = kiln.context(&[("Dockerfile", DOCKERFILE), ("big", &big)]);
        Self { kiln, context, big }
    }

    /// The build of this moment, which shares with no other one but the base and the first COPY.
    fn command(&self, moment: u32) -> Command {
        self.kiln.build_command(&self.context, &["-t", "site", "--build-arg", &format!("N={moment}")])
    }

    /// Builds again and looks at all of it; what `before` had done is not done again.
    fn assert_right(&self, moment: u32, before: &Ran) {
        let again = run(&mut self.command(moment)).ok();
        let done: BTreeSet<String> = before.ended(Step::Done).into_iter().collect();
        let cached: BTreeSet<String> = again.ended(Step::Cached).into_iter().collect();
        assert!(
            done.is_subset(&cached),
            "moment {moment}: {done:?} was done by\n{before}\nand then\n{again}"
        );
        let argument = format!("N={moment}");
        let files = self.kiln.build_files(&self.context, &["--build-arg", &argument]);
        assert_eq!(read(&files, "w/all"), format!("one{moment}\ntwo{moment}\ntwo{moment}\n"));
        assert_eq!(read(&files, "one-copy"), format!("{}one{moment}\n", self.big));
        assert!(!files.path().join("zeros").exists() && !files.path().join("one-big").exists());
    }

    /// Nothing is damaged, and nothing but the trash of killed processes is left over.
    fn assert_sound(&self, words: &[&str]) {
        self.kiln.settle();
        let ran = self.kiln.run(&[&["system", "check"], words].concat());
        assert_eq!(ran.code, 0, "{ran}");
        assert!(!ran.out.contains("left over: mount"), "{ran}");
    }

    /// Removes all; nothing stays.
    fn assert_empties(&self) {
        self.kiln.settle();
        self.kiln.ok(&["prune", "-f", "-a"]);
        let check = self.kiln.run(&["system", "check"]);
        assert!(check.is_clean(), "{check}");
        for folder in ["snapshots", "blobs/sha256", "pins", "tmp", "trash", "leases"] {
            assert_eq!(names(&self.kiln.root().join(folder)), Vec::<String>::new(), "{folder}");
        }
        assert!(self.kiln.root().join("reserve").exists());
    }
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<Pid> {
    let threads = names(Path::new(&format!("/proc/{pid}/task")));
    let of = |thread: String| {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default()
    };
    let all: String = threads.into_iter().map(of).collect();
    all.split_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

/// The flush that a build left behind.
fn flushes(root: &Path) -> Vec<Pid> {
    let is_flush = |number: &String| {
        let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("_flush") && line.contains(root.to_str().unwrap())
    };
    let numbers = names(Path::new("/proc")).into_iter().filter(|name| name.parse::<i32>().is_ok());
    numbers.filter(is_flush).filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Kills a part of the build, or all of it.
fn kill_some(site: &Site, child: &Child, kind: u32) {
    let pid = pid_of(child);
    let doomed = match kind {
        0 => {
            // What is gone already needs no kill.
            let _ = kill_process_group(pid, Signal::KILL);
            Vec::new()
        }
        1 => children(child.id()),
        2 => [vec![pid], flushes(site.kiln.root())].concat(),
        _ => vec![pid],
    };
    for pid in doomed {
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[test]
fn after_a_kill_at_fifty_moments_the_next_build_is_right() {
    if !needs_root("after_a_kill_at_fifty_moments_the_next_build_is_right") {
        return;
    }
    let site = Site::new(Kiln::busybox());
    let begin = Instant::now();
    run(&mut site.command(1000)).ok();
    let whole = begin.elapsed() + Duration::from_millis(20);
    let mut done = 0;
    for moment in 0..MOMENTS {
        let child = start(site.command(moment).process_group(0));
        std::thread::sleep(whole * moment / MOMENTS);
        kill_some(&site, &child, moment % 4);
        let killed = finish(child);
        done += killed.ended(Step::Done).len();
        site.assert_right(moment, &killed);
        if moment % 10 == 9 {
            site.assert_sound(&[]);
            site.kiln.ok(&["prune", "-f"]);
        }
    }
    assert!(done > 20, "the kills came too early to show anything: {done}");
    site.assert_empties();
}

/// A small filesystem in a file.
struct Disk {
    file: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn new(folder: &Path, megabytes: u64) -> Self {
        let disk = Self { file: folder.join("disk.img"), at: folder.join("disk") };
        fs::File::create(&disk.file).unwrap().set_len(megabytes << 20).unwrap();
        fs::create_dir(&disk.at).unwrap();
        let (file, at) = (disk.file.to_str().unwrap(), disk.at.to_str().unwrap());
        tool("mkfs.ext4", &["-q", "-m", "0", "-b", "4096", "-O", "^has_journal", file]);
        tool("mount", &["-o", "loop", file, at]);
        disk
    }

    /// Leaves this many bytes free.
    fn fill(&self, free: u64) {
        let stat = rustix::fs::statvfs(&self.at).unwrap();
        let available = stat.f_bavail * stat.f_frsize;
        let file = fs::File::create(self.at.join("filler")).unwrap();
        let none = rustix::fs::FallocateFlags::empty();
        if let Some(bytes) = available.checked_sub(free).filter(|bytes| *bytes > 0) {
            // The filesystem's own blocks count, too: then it is as full as it can be.
            let _ = rustix::fs::fallocate(&file, none, 0, bytes);
        }
    }

    fn clear(&self) {
        fs::remove_file(self.at.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted =
            || Command::new("umount").arg("-q").arg(&self.at).status().is_ok_and(|status| status.success());
        // A flush in the background keeps it busy for a moment.
        let gone = (0..100).any(|_| {
            unmounted() || {
                std::thread::sleep(Duration::from_millis(50));
                false
            }
        });
        if !gone {
            drop(Command::new("umount").arg("-l").arg(&self.at).status());
        }
    }
}

fn tool(program: &str, words: &[&str]) {
    let ran = run(Command::new(program).args(words));
    assert_eq!(ran.code, 0, "{program} {words:?}: {ran}");
}

#[test]
fn after_a_full_disk_at_fifty_moments_the_next_build_is_right() {
    if !needs_root("after_a_full_disk_at_fifty_moments_the_next_build_is_right") {
        return;
    }
    let outside = Kiln::empty();
    let disk = Disk::new(outside.scratch(), 64);
    let kiln = Kiln::at(&disk.at.join("root"));
    kiln.run_with(&["import", "-", "busybox"], &busybox_tar()).ok();
    let site = Site::new(kiln);
    let available = || {
        let stat = rustix::fs::statvfs(&disk.at).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    let before = available();
    run(&mut site.command(1000)).ok();
    site.kiln.settle();
    let whole = before - available();
    let (mut failed, mut done) = (0, 0);
    for moment in 0..MOMENTS {
        // The collector of the build before would make room on a full disk, of what this one leaves.
        site.kiln.settle();
        disk.fill(whole * u64::from(moment) / u64::from(MOMENTS - 5));
        let ran = run(&mut site.command(moment));
        if ran.code != 0 {
            failed += 1;
            done += ran.ended(Step::Done).len();
            assert!(
                ["no space left", "is full"].iter().any(|word| ran.error.to_lowercase().contains(word)),
                "moment {moment}: {ran}"
            );
        }
        site.kiln.settle();
        disk.clear();
        site.assert_right(moment, &ran);
        if moment % 10 == 9 {
            site.assert_sound(&[]);
        }
        if moment % 5 == 4 {
            site.kiln.ok(&["prune", "-f"]);
        }
    }
    assert!(failed > 30 && done > 20, "the disk was never full where it matters: {failed} {done}");
    site.assert_empties();
}
