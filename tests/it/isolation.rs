//! What flags of isolation change in a container.

use crate::support::binary::{Kiln, run};
use crate::support::needs_root;

/// Runs `sh -c SCRIPT` with `flags` and gives what it wrote.
fn says(kiln: &Kiln, flags: &[&str], script: &str) -> String {
    let words = [&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat();
    kiln.ok(&words).trim_end().to_owned()
}

/// Runs `true` with `flags`, which must be refused with a text that has all of `parts`.
fn refused(kiln: &Kiln, flags: &[&str], parts: &[&str]) {
    let words = [&["run", "--rm"], flags, &["busybox", "true"]].concat();
    let before = kiln.ok(&["ps", "-aq"]);
    let ran = kiln.run(&words);
    assert_eq!(ran.code, 125, "{flags:?}: {}{}", ran.out, ran.error);
    for part in parts {
        assert!(ran.error.contains(part), "{flags:?}: {part} is not in {}", ran.error);
    }
    assert_eq!(kiln.ok(&["ps", "-aq"]), before, "{flags:?} left a container");
}

const CAPS: &str = "grep -E 'CapEff|CapBnd' /proc/self/status | cut -f 2";

#[test]
fn capabilities_are_added_and_dropped() {
    if !needs_root("isolation::capabilities_are_added_and_dropped") {
        return;
    }
    let kiln = Kiln::busybox();
    let both = |bits: &str| format!("{bits}\n{bits}");
    assert_eq!(says(&kiln, &[], CAPS), both("00000000a80425fb"));
    assert_eq!(says(&kiln, &["--cap-drop", "ALL"], CAPS), both("0000000000000000"));
    assert_eq!(says(&kiln, &["--cap-drop", "all", "--cap-add", "CAP_CHOWN"], CAPS), both("0000000000000001"));
    assert_eq!(
        says(&kiln, &["--cap-add", "net_admin", "--cap-drop", "MKNOD"], CAPS),
        both("00000000a00435fb")
    );
    assert_eq!(
        says(&kiln, &["-u", "1000", "--cap-add", "NET_ADMIN"], CAPS),
        "0000000000000000\n00000000a80435fb"
    );
    // What the capability is for works, its system calls included.
    assert_eq!(
        says(&kiln, &["--cap-add", "SYS_ADMIN"], "mount -t tmpfs x /tmp && hostname here && hostname"),
        "here"
    );
    assert_eq!(says(&kiln, &["--cap-drop", "CHOWN"], "touch /x; chown 1 /x 2>/dev/null || echo no"), "no");
    refused(&kiln, &["--cap-add", "FLY"], &["FLY", "--cap-add"]);
    refused(&kiln, &["--cap-drop", "CAP_FLY"], &["CAP_FLY", "--cap-drop"]);
}

#[test]
fn a_further_process_has_the_rights_of_its_container() {
    if !needs_root("isolation::a_further_process_has_the_rights_of_its_container") {
        return;
    }
    let kiln = Kiln::busybox();
    let flags =
        ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"];
    let words =
        [&["run", "-d", "--name", "cc", "--network", "none"][..], &flags, &["busybox", "sleep", "1000"]];
    kiln.ok(&words.concat());
    let shown = kiln.ok(&["exec", "cc", "grep", "-E", "CapEff|NoNewPrivs|Seccomp:", "/proc/self/status"]);
    assert_eq!(shown, "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n");
    let all = kiln.ok(&["exec", "--privileged", "cc", "grep", "CapEff", "/proc/self/status"]);
    assert!(!all.contains("0000000000000000"), "{all}");
    kiln.ok(&["rm", "-f", "cc"]);
}

#[test]
fn security_options_do_what_they_say() {
    if !needs_root("isolation::security_options_do_what_they_say") {
        return;
    }
    let kiln = Kiln::busybox();
    let status = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2";
    assert_eq!(says(&kiln, &[], status), "0\n2");
    assert_eq!(says(&kiln, &["--security-opt", "no-new-privileges"], status), "1\n2");
    assert_eq!(says(&kiln, &["--security-opt", "no-new-privileges:true", "-u", "1"], status), "1\n2");
    assert_eq!(says(&kiln, &["--security-opt", "seccomp=unconfined"], status), "0\n0");
    assert_eq!(says(&kiln, &["--privileged", "--security-opt", "seccomp=builtin"], status), "0\n2");
    let masked = "touch /proc/sys/kernel/hostname 2>/dev/null && echo writable; grep -c ' /proc/' /proc/self/mountinfo; true";
    assert_ne!(says(&kiln, &[], masked), "writable\n0");
    assert_eq!(says(&kiln, &["--security-opt", "systempaths=unconfined"], masked), "writable\n0");
    let cgroup = "find /sys/fs/cgroup -name cgroup.procs -maxdepth 2 | head -n 1 | xargs dirname | sed 's,$,/x,' | xargs mkdir";
    assert_eq!(
        says(&kiln, &["--security-opt", "writable-cgroups=true"], &format!("{cgroup} && echo made")),
        "made"
    );
    assert_eq!(says(&kiln, &[], &format!("{cgroup} 2>/dev/null || echo no")), "no");
    refused(&kiln, &["--security-opt", "apparmor=mine"], &["apparmor=mine"]);
    refused(&kiln, &["--security-opt", "label=type:x"], &["label=type:x"]);
    refused(&kiln, &["--security-opt", "sekomp=x"], &["sekomp=x", "--security-opt"]);
}

#[test]
fn a_seccomp_profile_of_ones_own_holds() {
    if !needs_root("isolation::a_seccomp_profile_of_ones_own_holds") {
        return;
    }
    let kiln = Kiln::busybox();
    let profile = kiln.scratch().join("profile.json");
    let rule = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28},
        {"names":["setuid","setgroups","setresuid","capset","sendmsg","close_range"],"action":"SCMP_ACT_ALLOW"}]}"#;
    std::fs::write(&profile, rule).unwrap();
    let option = format!("seccomp={}", profile.display());
    let script = "mkdir /x 2>&1; touch /y && echo fine";
    let out = says(&kiln, &["--security-opt", &option], script);
    assert!(out.contains("No space left on device") && out.ends_with("fine"), "{out}");
    // A profile that lets nothing through but what a program needs has no say in kiln's own calls.
    let strict = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"action":"SCMP_ACT_ALLOW","names":["capset","execve",
        "brk","arch_prctl","set_tid_address","set_robust_list","rseq","prlimit64","readlinkat","readlink","getrandom",
        "mprotect","write","exit_group","exit","getuid","geteuid","prctl","fstat","newfstatat","ioctl","writev"]}]}"#;
    std::fs::write(&profile, strict).unwrap();
    let words =
        ["run", "--rm", "--network", "none", "--security-opt", &option, "-u", "7", "busybox", "echo", "fine"];
    assert_eq!(kiln.ok(&words), "fine\n");
    std::fs::write(&profile, "{}").unwrap();
    refused(&kiln, &["--security-opt", &option], &["--security-opt", "defaultAction"]);
    refused(&kiln, &["--security-opt", "seccomp=/no/such/file"], &["/no/such/file"]);
}

#[test]
fn limits_of_a_process_are_its_own() {
    if !needs_root("isolation::limits_of_a_process_are_its_own") {
        return;
    }
    let kiln = Kiln::busybox();
    let files = "ulimit -Sn; ulimit -Hn; ulimit -Sc";
    // The caller's limits of this moment are not the container's.
    let binary = kiln.command(&[]).get_program().to_owned();
    let line = format!(
        "ulimit -Sn 777 && exec {} run --rm --network none busybox sh -c '{files}'",
        binary.to_string_lossy()
    );
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", &line]).env("KILN_ROOT", kiln.root()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("1024\n") && text.ends_with("\n0\n"), "{text}{output:?}");
    assert_eq!(says(&kiln, &["--ulimit", "nofile=100:200", "--ulimit", "core=5120"], files), "100\n200\n10");
    assert_eq!(says(&kiln, &["--ulimit", "nofile=300"], files), "300\n300\n0");
    assert_eq!(says(&kiln, &["--ulimit", "stack=-1"], "ulimit -s"), "unlimited");
    kiln.ok(&[
        "run",
        "-d",
        "--name",
        "cc",
        "--network",
        "none",
        "--ulimit",
        "nofile=55:66",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(kiln.ok(&["exec", "cc", "sh", "-c", files]), "55\n66\n0\n");
    kiln.ok(&["rm", "-f", "cc"]);
    refused(&kiln, &["--ulimit", "nofiles=5"], &["nofiles", "--ulimit"]);
    refused(&kiln, &["--ulimit", "nofile=x"], &["nofile=x", "--ulimit"]);
    refused(&kiln, &["--ulimit", "nofile=9:8"], &["nofile=9:8", "--ulimit"]);
    refused(&kiln, &["--ulimit", "nofile"], &["--ulimit"]);
}

#[test]
fn kernel_parameters_of_its_own_namespaces_are_set() {
    if !needs_root("isolation::kernel_parameters_of_its_own_namespaces_are_set") {
        return;
    }
    let kiln = Kiln::busybox();
    let flags = [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.msgmax=9000",
        "--sysctl",
        "fs.mqueue.msg_max=20",
    ];
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max";
    assert_eq!(says(&kiln, &flags, script), "1\n9000\n20");
    refused(&kiln, &["--sysctl", "kernel.panic=1"], &["kernel.panic", "--sysctl"]);
    refused(&kiln, &["--sysctl", "vm.swappiness=1"], &["vm.swappiness", "--sysctl"]);
    refused(&kiln, &["--sysctl", "net.ipv4.ip_forward"], &["--sysctl"]);
    refused(&kiln, &["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"], &["net.ipv4.ip_forward"]);
    refused(&kiln, &["--sysctl", "net.ipv4.nothing=1"], &["net.ipv4.nothing"]);
    // What it may not have is the machine's, by whatever way it is named. The value is the one that is there.
    let panic = std::fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    for way in [
        "net.../../kernel/panic",
        "net/../kernel/panic",
        "net.//.kernel.panic",
        "fs/mqueue/../../kernel/panic",
    ] {
        refused(&kiln, &["--sysctl", &format!("{way}={}", panic.trim())], &[way, "has none of its own"]);
    }
    let most = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    let most = format!("kernel.msgmax={}", most.trim());
    refused(&kiln, &["--ipc", "host", "--sysctl", &most], &["kernel.msgmax", "isn't the container's own"]);
}

#[test]
fn memory_folders_groups_and_names() {
    if !needs_root("isolation::memory_folders_groups_and_names") {
        return;
    }
    let kiln = Kiln::busybox();
    assert_eq!(says(&kiln, &["--shm-size", "16m"], "df -m /dev/shm | tail -n 1 | awk '{print $2}'"), "16");
    assert_eq!(says(&kiln, &["--group-add", "7", "--group-add", "99", "-u", "5"], "id -G"), "0 7 99");
    assert_eq!(
        says(&kiln, &["--domainname", "example.org", "-h", "web"], "cat /proc/sys/kernel/domainname"),
        "example.org"
    );
    assert_eq!(says(&kiln, &["--oom-score-adj", "300"], "cat /proc/self/oom_score_adj"), "300");
    let script = "cd /run && touch x && grep ' /run ' /proc/self/mountinfo && df -k /run | tail -n 1 && stat -c %a /run";
    let shown = says(&kiln, &["--tmpfs", "/run:size=1m,mode=1770", "--read-only"], script);
    assert!(
        shown.contains("nosuid,nodev,noexec") && shown.contains("1024") && shown.ends_with("1770"),
        "{shown}"
    );
    let shown = says(
        &kiln,
        &["--tmpfs", "/run:exec,ro,uid=9"],
        "grep ' /run ' /proc/self/mountinfo; stat -c %u /run",
    );
    assert!(!shown.contains("noexec") && shown.contains(" ro,nosuid") && shown.ends_with('9'), "{shown}");
    // A deeper mount is there whatever the order of the flags.
    let host = kiln.scratch().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "deep").unwrap();
    let volume = format!("{}:/run/deep/er", host.display());
    assert_eq!(says(&kiln, &["-v", &volume, "--tmpfs", "/run"], "cat /run/deep/er/file"), "deep");
    refused(&kiln, &["--shm-size", "x"], &["`x`", "--shm-size"]);
    refused(&kiln, &["--tmpfs", "run"], &["--tmpfs", "absolute"]);
    refused(&kiln, &["--tmpfs", "/run:dev"], &["--tmpfs", "`dev`"]);
    refused(&kiln, &["--tmpfs", "/run", "--tmpfs", "/run/"], &["duplicate mount point"]);
    refused(&kiln, &["--oom-score-adj", "2000"], &["2000", "--oom-score-adj"]);
    refused(&kiln, &["--group-add", "nobody2"], &["nobody2"]);
}

#[test]
fn devices_of_the_machine_are_given() {
    if !needs_root("isolation::devices_of_the_machine_are_given") {
        return;
    }
    let kiln = Kiln::busybox();
    assert_eq!(says(&kiln, &["--device", "/dev/zero:/dev/mine"], "head -c 3 /dev/mine | wc -c"), "3");
    assert_eq!(
        says(&kiln, &["--device", "/dev/full:/dev/sub/full:rwm"], "echo x > /dev/sub/full || echo full"),
        "full"
    );
    // A folder gives all devices below it.
    assert_eq!(
        says(&kiln, &["--device", "/dev/net:/dev/all"], "test -c /dev/all/tun && echo tun || ls /dev/all"),
        "tun"
    );
    refused(&kiln, &["--device", "/dev/zero:/dev/mine:q"], &["/dev/zero:/dev/mine:q", "--device"]);
    refused(&kiln, &["--device", "/dev/none"], &["/dev/none"]);
    refused(&kiln, &["--device", "/etc/passwd:/dev/x"], &["/etc/passwd", "no device"]);
}

/// Starts `sleep` in a container `name` without a network.
fn sleeper(kiln: &Kiln, name: &str, flags: &[&str]) {
    kiln.ok(
        &[&["run", "-d", "--name", name, "--network", "none"], flags, &["busybox", "sleep", "1000"]].concat()
    );
}

#[test]
fn an_init_passes_signals_on_and_reaps() {
    if !needs_root("isolation::an_init_passes_signals_on_and_reaps") {
        return;
    }
    let kiln = Kiln::busybox();
    // The program isn't the first process, and its code is the container's.
    let shown =
        kiln.run(&["run", "--rm", "--init", "--network", "none", "busybox", "sh", "-c", "echo $$; exit 7"]);
    assert_eq!((shown.code, shown.out.as_str()), (7, "2\n"), "{}", shown.error);
    let killed =
        kiln.run(&["run", "--rm", "--init", "--network", "none", "busybox", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, 137);
    let orphan = "(sleep 0.1 &) ; sleep 0.5; cat /proc/[0-9]*/stat | grep -c ') Z'; true";
    assert_eq!(says(&kiln, &["--init"], orphan), "0");
    // A shell as pid 1 without a handler ignores SIGTERM; behind an init it ends by it.
    let trap = ["busybox", "sh", "-c", "trap 'echo got; exit 5' USR1; while true; do sleep 0.1; done"];
    kiln.ok(&[&["run", "-d", "--name", "cc", "--init", "--network", "none"][..], &trap].concat());
    kiln.ok(&["kill", "-s", "USR1", "cc"]);
    assert_eq!(kiln.ok(&["wait", "cc"]), "5\n");
    assert_eq!(kiln.ok(&["logs", "cc"]), "got\n");
    sleeper(&kiln, "dd", &["--init"]);
    assert_eq!(kiln.ok(&["exec", "dd", "cat", "/proc/1/comm"]), "kiln-init\n");
    kiln.ok(&["stop", "-t", "50", "dd"]);
    assert_eq!(kiln.ok(&["inspect", "-f", "{{.State.ExitCode}}", "dd"]).trim(), "143");
    // Why a program can't be run is told all the same.
    let missing = kiln.run(&["run", "--rm", "--init", "--network", "none", "busybox", "/none"]);
    assert_eq!(missing.code, 127, "{}", missing.error);
    assert!(missing.error.contains("/none"), "{}", missing.error);
}

/// How long a `sleep` lasts that no other test or its like beside this one runs.
fn own_seconds(number: u32) -> String {
    format!("{}", 10_000_000 * number + std::process::id())
}

/// Waits until nobody sleeps for `seconds`: what was killed may need a moment on a machine with much to do.
fn ends(seconds: &str) {
    let line = format!("sleep {seconds}");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        // Killed ones are there until somebody reaps them.
        let words = ["-r", "R,S,D", "-fx", &line];
        let running = std::process::Command::new("pgrep").args(words).output().unwrap();
        if running.stdout.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < end, "{line} goes on");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn processes_of_the_host_or_of_another_container_are_seen_and_none_is_left() {
    if !needs_root("isolation::processes_of_the_host_or_of_another_container_are_seen_and_none_is_left") {
        return;
    }
    let kiln = Kiln::busybox();
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
    assert_eq!(says(&kiln, &["--pid", "host"], "readlink /proc/self/ns/pid"), own);
    assert_ne!(says(&kiln, &[], "readlink /proc/self/ns/pid"), own);
    // What the first process leaves running ends with it, though no namespace sees to that.
    let seconds = own_seconds(1);
    let left = format!("sleep {seconds} & exec sleep 0.2");
    says(&kiln, &["--pid", "host"], &left);
    sleeper(&kiln, "first", &[]);
    let seen = says(&kiln, &["--pid", "container:first"], "cat /proc/1/cmdline | tr '\\0' ' '");
    assert_eq!(seen, "sleep 1000");
    says(&kiln, &["--pid", "container:first"], &left);
    let seen = kiln.ok(&["exec", "first", "sh", "-c", "cat /proc/[0-9]*/cmdline"]);
    assert!(!seen.contains(&seconds), "{seen}");
    ends(&seconds);
    // A name is found when the container is made: it may be another's later.
    let made = kiln.ok(&["create", "--pid", "container:first", "busybox", "true"]);
    kiln.ok(&["stop", "-t", "0", "first"]);
    let started = kiln.run(&["start", made.trim()]);
    assert!(started.code != 0 && started.error.contains("not running"), "{}", started.error);
    kiln.ok(&["rm", made.trim(), "first"]);
    refused(&kiln, &["--pid", "container:none"], &["none"]);
    refused(&kiln, &["--pid", "mine"], &["mine", "--pid"]);
}

#[test]
fn ipc_and_names_are_shared_on_request() {
    if !needs_root("isolation::ipc_and_names_are_shared_on_request") {
        return;
    }
    let kiln = Kiln::busybox();
    let ns = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    assert_eq!(says(&kiln, &["--ipc", "host"], "readlink /proc/self/ns/ipc"), ns("ipc"));
    assert_eq!(says(&kiln, &["--uts", "host"], "readlink /proc/self/ns/uts"), ns("uts"));
    assert_eq!(says(&kiln, &["--cgroupns", "host"], "readlink /proc/self/ns/cgroup"), ns("cgroup"));
    assert_ne!(says(&kiln, &["--cgroupns", "private"], "readlink /proc/self/ns/cgroup"), ns("cgroup"));
    assert_eq!(says(&kiln, &["--ipc", "none"], "ls /dev/shm 2>/dev/null || echo none"), "none");
    sleeper(&kiln, "open", &["--ipc", "shareable"]);
    sleeper(&kiln, "shut", &[]);
    kiln.ok(&["exec", "open", "sh", "-c", "echo shared > /dev/shm/file"]);
    let script = "readlink /proc/self/ns/ipc; cat /dev/shm/file; echo back > /dev/shm/other";
    let shown = says(&kiln, &["--ipc", "container:open"], script);
    assert_eq!(
        shown,
        kiln.ok(&["exec", "open", "sh", "-c", "readlink /proc/self/ns/ipc; cat /dev/shm/file"]).trim()
    );
    assert_eq!(kiln.ok(&["exec", "open", "cat", "/dev/shm/other"]), "back\n");
    refused(&kiln, &["--uts", "host", "-h", "me"], &["--hostname", "--uts host"]);
    refused(&kiln, &["--ipc", "none", "--shm-size", "1m"], &["--shm-size"]);
    refused(&kiln, &["--uts", "container:open"], &["--uts", "private, host"]);
    let shut = kiln.run(&["run", "--rm", "--ipc", "container:shut", "busybox", "true"]);
    assert!(shut.code == 125 && shut.error.contains("shareable"), "{}", shut.error);
    kiln.ok(&["rm", "-f", "open", "shut"]);
}

#[test]
fn a_network_is_shared_with_another_container() {
    if !needs_root("isolation::a_network_is_shared_with_another_container") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&[
        "run",
        "-d",
        "--name",
        "donor",
        "-h",
        "giver",
        "--add-host",
        "db:10.9.8.7",
        "busybox",
        "sleep",
        "1000",
    ]);
    let script = "readlink /proc/self/ns/net; cat /etc/hosts /etc/resolv.conf; hostname; echo $HOSTNAME";
    let words = ["run", "--rm", "--network", "container:donor", "busybox", "sh", "-c", script];
    let expected = kiln.ok(&["exec", "donor", "sh", "-c", script]);
    assert_eq!(kiln.ok(&words), expected);
    assert!(expected.contains("10.9.8.7\tdb") && expected.ends_with("giver\ngiver\n"), "{expected}");
    // The donor keeps its address when the guest ends, and the guest the namespace when the donor does.
    assert!(kiln.ok(&["exec", "donor", "ip", "-o", "address"]).contains("eth0"));
    kiln.ok(&["run", "-d", "--name", "guest", "--network", "container:donor", "busybox", "sleep", "1000"]);
    kiln.run(&["network", "connect", "bridge", "guest"])
        .fails_with(&["container guest has the network `container:donor`", "hint: "]);
    kiln.ok(&["rm", "-f", "donor"]);
    assert!(kiln.ok(&["exec", "guest", "ip", "-o", "address"]).contains("lo"));
    // It isn't stopped for a start that can't be.
    kiln.run(&["restart", "-t", "0", "guest"]).fails_with(&["no such container: "]);
    assert_eq!(kiln.ok(&["inspect", "-f", "{{.State.Running}}", "guest"]), "true\n");
    kiln.ok(&["rm", "-f", "guest"]);
    refused(&kiln, &["--network", "container:none"], &["none"]);
    sleeper(&kiln, "donor", &[]);
    let conflict = kiln.run(&["run", "--rm", "--network", "container:donor", "-h", "me", "busybox", "true"]);
    assert!(conflict.code == 125 && conflict.error.contains("--hostname"), "{}", conflict.error);
    kiln.ok(&["rm", "-f", "donor"]);
}

#[test]
fn nothing_outside_of_a_namespace_outlives_a_lost_monitor() {
    if !needs_root("isolation::nothing_outside_of_a_namespace_outlives_a_lost_monitor") {
        return;
    }
    let kiln = Kiln::busybox();
    let seconds = own_seconds(2);
    let script = format!("sleep {seconds} & sleep {seconds} & wait");
    let words =
        ["run", "-d", "--name", "cc", "--network", "none", "--pid", "host", "busybox", "sh", "-c", &script];
    kiln.ok(&words);
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", "cc"]);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
    let monitor: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let monitor = rustix::process::Pid::from_raw(monitor).unwrap();
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL).unwrap();
    // Its lock is free once the kernel has taken it down.
    let told = || kiln.ok(&["ps", "-a"]).contains("Exited (255)");
    let mut tries = (0..600).map(|_| std::thread::sleep(std::time::Duration::from_millis(50)));
    while !told() {
        assert!(tries.next().is_some(), "{}", kiln.ok(&["ps", "-a"]));
    }
    ends(&seconds);
    kiln.ok(&["rm", "cc"]);
}

#[test]
fn rules_say_what_is_done_with_devices() {
    if !needs_root("isolation::rules_say_what_is_done_with_devices") {
        return;
    }
    // Version 2 of cgroups has no files for this: there the flags are refused by name.
    if !std::path::Path::new("/sys/fs/cgroup/devices/devices.list").exists() {
        return;
    }
    let kiln = Kiln::busybox();
    let script = "head=$(busybox dd if=/dev/x bs=1 count=1 2>/dev/null | busybox wc -c); echo read-$head
        (echo > /dev/x) 2>&1 | grep -o 'not permitted'; echo > /dev/null && echo usual";
    let run = |words: &[&str], script: &str| {
        kiln.ok(&[&["run", "--rm", "--network", "none"], words, &["busybox", "sh", "-c", script]].concat())
    };
    let read_only = ["--device", "/dev/zero:/dev/x:r"];
    assert_eq!(run(&read_only, script), "read-1\nnot permitted\nusual\n");
    assert_eq!(run(&["--device", "/dev/zero:/dev/x"], script), "read-1\nusual\n");
    // Only with a rule is a node of the container's own more than a file.
    let script = "busybox mknod /z c 1 5; busybox mknod /k c 10 229
        for node in /z /k; do (: < $node) 2>/dev/null && echo $node; done; (: > /k) 2>/dev/null || echo held; true";
    assert_eq!(run(&["--device-cgroup-rule", "c 7:* r"], script), "/z\nheld\n");
    assert_eq!(run(&["--device-cgroup-rule", "c 10:* r"], script), "/z\n/k\nheld\n");
    assert_eq!(run(&["--device-cgroup-rule", "c 10:229 rw"], script), "/z\n/k\n");
    assert_eq!(run(&[], script), "held\n");
    for (bad, word) in [("c 1:x r", "two numbers"), ("x 1:1 r", "a, b or c"), ("c 1:1", "write it as")] {
        let ran = kiln.run(&["run", "--rm", "--device-cgroup-rule", bad, "busybox", "true"]);
        assert!(ran.code == 125 && ran.error.contains("`--device-cgroup-rule`"), "{}", ran.error);
        assert!(ran.error.contains(word), "{}", ran.error);
    }
    // Further processes, and a second start, are held to them too.
    let words =
        [&["run", "-d", "--name", "box", "--network", "none"][..], &read_only, &["busybox", "sleep", "1000"]];
    kiln.ok(&words.concat());
    let write = || kiln.run(&["exec", "box", "sh", "-c", "echo > /dev/x"]).code;
    assert_ne!(write(), 0);
    kiln.ok(&["restart", "-t", "0", "box"]);
    assert_ne!(write(), 0);
    kiln.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_container_gets_the_devices_of_cdi_specs() {
    if !needs_root("isolation::a_container_gets_the_devices_of_cdi_specs") {
        return;
    }
    let kiln = Kiln::busybox();
    let specs = kiln.scratch().join("cdi");
    std::fs::create_dir(&specs).unwrap();
    let spec = r#"{"cdiVersion": "0.6.0", "kind": "acme.example/null", "devices": [{"name": "one", "containerEdits": {
        "env": ["ACME=1"], "deviceNodes": [{"path": "/dev/acme", "hostPath": "/dev/zero"}], "additionalGids": [44],
        "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/opt/acme/name", "options": ["ro", "bind"]}]}}]}"#;
    std::fs::write(specs.join("acme.json"), spec).unwrap();
    let run = |device: &str| {
        let script = "busybox head -c 3 /dev/acme | busybox wc -c; echo $ACME; id -G; cat /opt/acme/name";
        let words = ["run", "--rm", "--network", "none", "--device", device, "busybox", "sh", "-c", script];
        run(kiln.command(&words).env("KILN_CDI", &specs))
    };
    let name = std::fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(run("acme.example/null=one").ok().out, format!("3\n1\n0 44\n{name}"));
    let lost = run("acme.example/null=two");
    assert!(
        lost.code == 125 && lost.error.contains("the device `acme.example/null=two` is needed"),
        "{}",
        lost.error
    );
}
