//! Builds that end before their time: by the user's interrupt, or because a step failed beside others.
//!
//! What ran is gone by the time that kiln has ended: processes, mounts, networks and what was half made.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};
use std::{fs, thread};

use kiln::network::Networks;

use crate::support::binary::{Kiln, Ran, finish, gone, names, start};
use crate::support::needs_root;

/// Far beyond what it takes, which the machine decides.
const SOON: Duration = Duration::from_secs(20);

/// Programs `sleep` whose time begins with `word`.
fn sleepers(word: &str) -> Vec<String> {
    let pids =
        names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let line = |pid: String| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.map(line).filter(|line| line.starts_with(&format!("sleep\0{word}"))).collect()
}

fn mounts(root: &Path) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains(root.to_str().unwrap())).map(str::to_owned).collect()
}

/// Nothing of a build is left, at once.
fn nothing_is_left(kiln: &Kiln, word: &str) {
    assert_eq!(sleepers(word), Vec::<String>::new());
    assert_eq!(mounts(kiln.root()), Vec::<String>::new());
    for folder in ["tmp", "leases"] {
        assert_eq!(names(&kiln.root().join(folder)), Vec::<String>::new(), "{folder}");
    }
    let bridge = Networks::new(&kiln.root().join("networks")).bridge().to_owned();
    gone("links", || names(&Path::new("/sys/class/net").join(&bridge).join("brif")));
}

/// Interrupts `child` as soon as `count` programs sleep for `word`.
fn interrupt(mut child: Child, word: &str, count: usize) -> Ran {
    let began = Instant::now();
    while sleepers(word).len() < count {
        assert!(began.elapsed() < SOON && child.try_wait().unwrap().is_none(), "the steps don't start");
        thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    let stopped = Instant::now();
    // A test that runs as a shell's background job has SIGINT ignored, and so have its children.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ran = finish(child);
    println!("{word}: {} ms", stopped.elapsed().as_millis());
    assert!(stopped.elapsed() < SOON);
    ran
}

#[test]
fn an_interrupt_leaves_nothing_of_parallel_steps() {
    if !needs_root("an_interrupt_leaves_nothing_of_parallel_steps") {
        return;
    }
    let kiln = Kiln::busybox();
    let stages: String = (0..6)
        .map(|stage| format!("FROM busybox AS s{stage}\nRUN touch /half; sleep 7701777{stage}\n"))
        .collect();
    let copies: String = (0..6).map(|stage| format!("COPY --from=s{stage} /half /{stage}\n")).collect();
    let deaf = "FROM busybox AS deaf\nRUN trap '' INT TERM HUP; touch /half; while true; do sleep 77017776; done\n\
                FROM busybox AS many\nRUN for i in 1 2 3 4 5 6 7 8 9; do (sleep 77017777 &); done; sleep 77017778\n";
    let text =
        format!("{stages}{deaf}FROM busybox\n{copies}COPY --from=deaf /half /d\nCOPY --from=many / /m\n");
    let context = kiln.context(&[("Dockerfile", &text)]);
    let child = start(&mut kiln.build_command(&context, &["--network", "bridge", "-t", "never"]));
    // Six, the deaf one, and the many: nine children and one more.
    let ran = interrupt(child, "7701777", 17);
    assert_eq!(ran.code, 130, "{ran}");
    assert!(ran.error.contains("CANCELED"), "{ran}");
    nothing_is_left(&kiln, "7701777");
    assert_eq!(kiln.ok(&["images", "-q", "never"]), "");
}

#[test]
fn a_failure_ends_the_steps_beside_it_and_is_told_alone() {
    if !needs_root("a_failure_ends_the_steps_beside_it_and_is_told_alone") {
        return;
    }
    let kiln = Kiln::busybox();
    let text = "FROM busybox AS slow\nRUN echo begun; sleep 7702777\n\
                FROM busybox AS wrong\nRUN sleep 0.5; echo oh no; exit 7\n\
                FROM busybox\nCOPY --from=slow /x /\nCOPY --from=wrong /x /\n";
    let context = kiln.context(&[("Dockerfile", text)]);
    let ran = finish(start(&mut kiln.build_command(&context, &["--progress", "plain"])));
    assert_eq!(ran.code, 1, "{ran}");
    let lines = |word: &str| ran.error.lines().filter(|line| line.contains(word)).count();
    assert_eq!([lines("CANCELED"), lines("ERROR: process")], [1, 1], "{ran}");
    assert!(ran.error.contains("exit code: 7"), "{ran}");
    nothing_is_left(&kiln, "7702777");
}

#[test]
fn an_interrupt_ends_a_big_copy() {
    if !needs_root("an_interrupt_ends_a_big_copy") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nCOPY big /\nRUN true\n")]);
    let file = fs::File::create(context.join("big")).unwrap();
    // Without holes, so that each byte is read: 1 GB.
    let block = vec![7u8; 16 << 20];
    (0..64).for_each(|_| std::io::Write::write_all(&mut &file, &block).unwrap());
    let mut child = start(&mut kiln.build_command(&context, &[]));
    while names(&kiln.root().join("tmp")).is_empty() {
        assert!(child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(2));
    }
    // Nobody sleeps for so long: other tests beside this one sleep, too.
    let ran = interrupt(child, "77017790", 0);
    assert_eq!(ran.code, 130, "{ran}");
    nothing_is_left(&kiln, "77017790");
}

#[test]
fn all_that_a_failed_step_wrote_is_shown_once() {
    if !needs_root("all_that_a_failed_step_wrote_is_shown_once") {
        return;
    }
    let kiln = Kiln::busybox();
    // More than what is kept in memory.
    let text =
        "FROM busybox\nRUN i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo line number $i; done; exit 3\n";
    let context = kiln.context(&[("Dockerfile", text)]);
    let count = |ran: &Ran, text: &str| ran.error.lines().filter(|line| line.ends_with(text)).count();
    let quiet = finish(start(&mut kiln.build_command(&context, &["-q"])));
    let numbers = quiet.error.lines().filter_map(|line| line.strip_prefix("line number "));
    assert!(numbers.map(|number| number.parse::<u32>().unwrap()).eq(1..=9000), "{quiet}");
    let plain = finish(start(&mut kiln.build_command(&context, &["--progress", "plain"])));
    assert_eq!([count(&plain, "line number 1"), count(&plain, "line number 8000")], [1, 1]);
    assert_eq!(count(&plain, "line number 9000"), 2, "its last lines stand by the error, too");
}
