//! Steps that go on from a child which was started before anybody knew what it would run.

use std::fs;
use std::io::Read;
use std::path::Path;

use kiln::runtime::{Ahead, Exit, Mount, Spec, StartErrorKind, StepIo};
use kiln_cache::Mounts;

use super::{Box, Output, SHELL, is_running, pipe};
use crate::support::needs_root;

impl Box {
    fn ahead(&self, spec: &Spec, place: &Path) -> Ahead {
        let rootfs = Mounts { lowers: vec![place.to_owned()], upper: None, work: None };
        self.launcher.ahead(Spec { rootfs, shm_bytes: spec.shm_bytes, ..Spec::default() }, None).unwrap()
    }

    fn run_from(&self, ahead: Ahead, spec: &Spec) -> Result<Output, kiln::runtime::StartError> {
        let (mut read, write) = pipe();
        let stderr = write.try_clone().unwrap();
        let io = StepIo { stdin: None, stdout: write, stderr, keep: Vec::new() };
        let step = self.launcher.run_from(Some(ahead), spec, io, None, || ())?;
        let mut text = Vec::new();
        read.read_to_end(&mut text).unwrap();
        Ok(Output { exit: step.wait()?, text: String::from_utf8_lossy(&text).into_owned() })
    }
}

/// All that a program can find out about its surroundings, without the numbers that differ from run to run. While it
/// lists the processes, the shell has no other child than `ls`.
const LOOK: &str = "
    sed '/ overlay /d; s/^[0-9]* [0-9]* [0-9:]*//' /proc/self/mountinfo
    grep -e ^Cap -e ^Sec -e ^NoNew -e ^Groups -e ^Sig -e ^Uid /proc/self/status
    ls -l /proc/self/fd/ | sed 's/.* //; s/[0-9]*//g'
    stat -c '%n %a %u %g %t %T' /dev /dev/* /proc /sys /run/* /etc/* /
    cat /proc/self/cgroup /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj /run/note
    id; umask; hostname; pwd; env; ulimit -a; all=$(ls /proc); echo \"$all\" | grep '^[0-9]'; ls -A /sys/firmware /proc/acpi";

#[test]
fn a_step_started_ahead_sees_what_any_other_sees() {
    if !needs_root("runtime::ahead::a_step_started_ahead_sees_what_any_other_sees") {
        return;
    }
    let b = Box::new();
    let note = Mount::File {
        target: "/run/note".into(),
        content: kiln::redacted::Redacted::new("note"),
        mode: 0o600,
        owner: (33, 44),
        readonly: true,
    };
    let file = Mount::Layers {
        layers: Mounts { lowers: vec![b.lower()], upper: None, work: None },
        source: "/etc/passwd".into(),
        is_folder: false,
        target: "/run/names".into(),
        readonly: true,
    };
    let spec = Spec {
        env: vec!["A=b".into()],
        cwd: "/made".into(),
        user: "web".into(),
        mounts: vec![note, file],
        remove_stubs: false,
        ..b.spec(&[SHELL[0], SHELL[1], LOOK])
    };
    let plain = b.run(&spec).unwrap();
    let ahead = b.run_from(b.ahead(&spec, &b.lower()), &spec).unwrap();
    assert!(plain.text.contains("/dev/shm") && plain.text.contains("Seccomp:\t2"), "{}", plain.text);
    assert_eq!(ahead.text, plain.text);
    assert_eq!(ahead.exit, plain.exit);
}

#[test]
fn a_child_that_does_not_fit_or_has_failed_is_not_used() {
    if !needs_root("runtime::ahead::a_child_that_does_not_fit_or_has_failed_is_not_used") {
        return;
    }
    let b = Box::new();
    let small = Spec { shm_bytes: 1 << 20, ..b.spec(&[SHELL[0], SHELL[1], "df -k /dev/shm | tail -1"]) };
    let output = b.run_from(b.ahead(&b.spec(&["true"]), &b.lower()), &small).unwrap();
    assert!(output.text.split_whitespace().any(|word| word == "1024"), "{}", output.text);
    let nowhere = b.dir.path().join("nowhere");
    let spec = b.spec(&["true"]);
    assert_eq!(b.run_from(b.ahead(&spec, &nowhere), &spec).unwrap().exit, Exit::Code(0));
}

#[test]
fn what_was_started_ahead_fails_as_any_other_and_leaves_nothing() {
    if !needs_root("runtime::ahead::what_was_started_ahead_fails_as_any_other_and_leaves_nothing") {
        return;
    }
    let b = Box::new();
    // Its own only: other programs of the machine mount and unmount meanwhile.
    let place = b.dir.path().display().to_string();
    let mounts = || {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.lines().filter(|line| line.contains(&place)).count()
    };
    let before = mounts();
    let spec = b.spec(&["no-such-program"]);
    let error = b.run_from(b.ahead(&spec, &b.lower()), &spec).unwrap_err();
    assert_eq!(error.kind, StartErrorKind::NotFound);
    let spec = b.spec(&["sleep", "12347"]);
    let (_read, write) = pipe();
    let io = StepIo { stdin: None, stdout: write.try_clone().unwrap(), stderr: write, keep: Vec::new() };
    drop(b.launcher.run_from(Some(b.ahead(&spec, &b.lower())), &spec, io, None, || ()).unwrap());
    assert!(!is_running("12347"));
    drop(b.ahead(&spec, &b.lower()));
    // The launcher ends when its children have.
    let _unused = b.ahead(&spec, &b.lower());
    drop(b);
    assert_eq!(mounts(), before);
}
