//! Attacks out of a container that must fail with the default profile. Those by `cp` are in `cp.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::binary::{Kiln, Ran};
use crate::support::needs_root;

/// Runs `sh -c SCRIPT` as a hostile program, without a network.
fn attack(kiln: &Kiln, flags: &[&str], script: &str) -> Ran {
    let network: &[&str] = if flags.contains(&"--network") { &[] } else { &["--network", "none"] };
    kiln.run(&[&["run", "--rm"], network, flags, &["busybox", "sh", "-c", script]].concat())
}

/// This test program as a volume, which runs the test `name` of this file inside.
fn probe(kiln: &Kiln, flags: &[&str], name: &str) -> Ran {
    let volume = format!("{}:/probe:ro", std::env::current_exe().unwrap().display());
    let test = ["busybox", "/probe", "--ignored", "--exact", "--nocapture", name];
    kiln.run(&[&["run", "--rm", "--network", "none", "-v", &volume], flags, &test].concat())
}

#[test]
fn no_descriptor_of_the_host_is_left_open() {
    if !needs_root("attacks::no_descriptor_of_the_host_is_left_open") {
        return;
    }
    let kiln = Kiln::busybox();
    let program = kiln.command(&[]).get_program().to_string_lossy().into_owned();
    // The caller has folders of the host open without the mark that closes them.
    let outer = |words: &str| {
        let line = format!("exec 7</ 8</etc 9</root; exec {program} {words}");
        let mut command = std::process::Command::new("sh");
        let output = command.args(["-c", &line]).env("KILN_ROOT", kiln.root()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let list = "sh -c 'for f in /proc/[0-9]*/fd/*; do echo $(basename $f) $(readlink $f); done'";
    for flags in ["", "--init", "-t", "--privileged"] {
        let (fine, shown) = outer(&format!("run --rm {flags} --network none busybox {list}"));
        assert!(fine && !shown.is_empty(), "{flags}: {shown}");
        for line in shown.lines() {
            let (number, target) = line.trim().split_once(' ').unwrap_or((line, ""));
            let is_own = ["pipe:", "/dev/", "/proc", "socket:"].iter().any(|own| target.starts_with(own));
            assert!(
                number.parse::<u32>().unwrap_or(99) <= 10 && (is_own || target.is_empty()),
                "{flags}: {line}"
            );
            assert!(!target.starts_with("socket:"), "{flags}: {line}");
        }
    }
    kiln.ok(&["run", "-d", "--name", "cc", "--network", "none", "busybox", "sleep", "1000"]);
    // The working directory is entered before the program runs: no number leads out.
    for number in 0..16 {
        let look = "sh -c 'ls -a . ../.. 2>/dev/null; pwd -P'";
        for words in ["run --rm --network none -w", "exec -w"] {
            let place = if words.starts_with("exec") { "cc" } else { "busybox" };
            let (fine, shown) = outer(&format!("{words} /proc/self/fd/{number} {place} {look}"));
            assert!(!fine || !shown.contains("passwd"), "{words} {number}: {shown}");
        }
    }
    kiln.ok(&["rm", "-f", "cc"]);
}

#[test]
fn kilns_program_is_not_overwritten() {
    if !needs_root("attacks::kilns_program_is_not_overwritten") {
        return;
    }
    let kiln = Kiln::busybox();
    let program = kiln.command(&[]).get_program().to_owned();
    let before = fs::read(&program).unwrap();
    let folder = kiln.scratch().join("hostile");
    fs::create_dir(&folder).unwrap();
    symlink("/proc/self/exe", folder.join("link")).unwrap();
    fs::write(folder.join("script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(folder.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let volume = format!("{}:/hostile", folder.display());
    // It waits for a process whose program isn't its own, and writes to that.
    let writer = "while true; do for p in /proc/[0-9]*; do
        case $(readlink $p/exe) in /bin/busybox|'') ;; *) (echo x >> $p/exe) 2>/dev/null && echo written;; esac
    done; done";
    for flags in [&[][..], &["--init"], &["--privileged"], &["--init", "--privileged"]] {
        let words = [&["run", "-d", "--name", "cc", "--network", "none", "-v", &volume], flags];
        kiln.ok(&[words.concat(), vec!["busybox", "sh", "-c", writer]].concat());
        for program in ["/hostile/link", "/hostile/script"] {
            for _ in 0..5 {
                kiln.run(&["exec", "cc", program]);
            }
            kiln.run(&[
                "run",
                "--rm",
                "--pid",
                "container:cc",
                "--network",
                "none",
                "-v",
                &volume,
                "busybox",
                program,
            ]);
        }
        assert_eq!(kiln.ok(&["logs", "cc"]), "", "{flags:?}");
        kiln.ok(&["rm", "-f", "cc"]);
    }
    assert!(before == fs::read(&program).unwrap(), "the program has changed");
}

#[test]
fn links_of_an_image_do_not_move_what_is_masked() {
    if !needs_root("attacks::links_of_an_image_do_not_move_what_is_masked") {
        return;
    }
    let kiln = Kiln::busybox();
    let victim = kiln.scratch().join("victim");
    fs::create_dir(&victim).unwrap();
    let out = format!("-> /../../../../../../../../..{}", victim.display());
    let look = "cat /proc/self/status >/dev/null && echo proc; (echo b > /proc/sysrq-trigger) 2>/dev/null && echo trigger;
        (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo pattern; wc -c < /proc/keys; ls /sys/firmware; true";
    for (name, target) in
        [("proc", "-> /tmp"), ("proc", &*out), ("sys", &*out), ("dev", &*out), ("etc", &*out)]
    {
        let context = kiln.context(&[
            ("Dockerfile", "FROM scratch\nCOPY files /\n"),
            (&format!("files/{name}"), target),
            ("files/bin/", ""),
            ("files/tmp/", ""),
            ("files/usr/", ""),
        ]);
        fs::copy("/bin/busybox", context.join("files/bin/sh")).unwrap();
        let image = format!("hostile-{}", name);
        kiln.build(&context, &["-t", &image]).ok();
        let script = look.replace("cat ", "/bin/sh cat ");
        let ran = kiln.run(&["run", "--rm", "--network", "none", &image, "/bin/sh", "sh", "-c", &script]);
        // Refused, or all of it in its place below the container's root.
        let masked = "0\n";
        assert!(ran.code != 0 || ran.out.contains(masked), "{name} {target}: {ran}");
        assert!(!ran.out.contains("trigger") && !ran.out.contains("pattern"), "{name} {target}: {ran}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{name} {target}: {ran}");
    }
    // A volume's target may not be in them either.
    for target in ["/proc/sys", "/sys/kernel", "/proc/self/attr", "/proc/1/fd"] {
        let volume = format!("{}:{target}", victim.display());
        assert_ne!(attack(&kiln, &["-v", &volume], "true").code, 0, "{target}");
    }
}

/// Exchanges a folder in `shared` with a link as fast as it can until `done`.
fn exchange(shared: &Path, done: &AtomicBool) {
    let (folder, link) = (shared.join("dir"), shared.join("link"));
    while !done.load(Ordering::Relaxed) {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let _ = rustix::fs::renameat_with(rustix::fs::CWD, &folder, rustix::fs::CWD, &link, flags);
    }
}

#[test]
fn a_mount_point_that_is_exchanged_for_a_link_leads_nowhere() {
    if !needs_root("attacks::a_mount_point_that_is_exchanged_for_a_link_leads_nowhere") {
        return;
    }
    let kiln = Kiln::busybox();
    let (shared, victim) = (kiln.scratch().join("shared"), kiln.scratch().join("victim"));
    fs::create_dir_all(shared.join("dir")).unwrap();
    fs::create_dir(&victim).unwrap();
    symlink(format!("/../../../../../../..{}", victim.display()), shared.join("link")).unwrap();
    let source = kiln.scratch().join("source");
    fs::create_dir(&source).unwrap();
    let volumes = [format!("{}:/shared", shared.display()), format!("{}:/shared/dir/here", source.display())];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| exchange(&shared, &done));
        for _ in 0..25 {
            let flags = ["-v", &volumes[0], "-v", &volumes[1], "--tmpfs", "/shared/dir/memory"];
            attack(&kiln, &flags, "touch /shared/dir/here/x");
            assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
        }
        done.store(true, Ordering::Relaxed);
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/victim"), "{mounts}");
}

#[test]
fn a_block_device_is_not_opened() {
    if !needs_root("attacks::a_block_device_is_not_opened") {
        return;
    }
    let kiln = Kiln::busybox();
    let partitions = fs::read_to_string("/proc/partitions").unwrap();
    let mut fields = partitions.lines().last().unwrap().split_ascii_whitespace();
    let (major, minor) = (fields.next().unwrap(), fields.next().unwrap());
    let host = kiln.scratch().join("host");
    fs::create_dir(&host).unwrap();
    let volume = format!("{}:/volume", host.display());
    let script = format!(
        "for d in / /tmp /dev /dev/shm /run /volume; do
            mknod $d/disk b {major} {minor}; mknod $d/mem c 1 1
            for n in disk mem; do head -c 1 $d/$n >/dev/null 2>&1 && echo opened $d/$n; done
        done; echo done"
    );
    let ran = attack(&kiln, &["-v", &volume, "--tmpfs", "/run:suid,exec"], &script);
    assert_eq!(ran.out, "done\n", "{ran}");
    assert_ne!(attack(&kiln, &["--tmpfs", "/run:dev"], "true").code, 0);
}

#[test]
fn system_calls_that_lead_out_are_refused() {
    if !needs_root("attacks::system_calls_that_lead_out_are_refused") {
        return;
    }
    let kiln = Kiln::busybox();
    // mount, umount2, unshare, setns, keyctl, add_key, bpf, clone of namespaces and their kin, each with its error.
    let ran = probe(&kiln, &[], "runtime::probe::inside_of_a_container");
    assert!(ran.code == 0 && ran.out.contains("1 passed"), "{ran}");
    let script = "mount -t tmpfs x /tmp && echo mounted; mount -o remount,rw /sys && echo remounted
        umount /proc/kcore && echo uncovered; unshare -U true && echo unshared; unshare -m true && echo unshared
        unshare -r true && echo unshared; nsenter -t 1 -m true && echo entered; echo done";
    for flags in [&[][..], &["-u", "1000"], &["--cap-add", "NET_ADMIN"]] {
        let ran = attack(&kiln, flags, script);
        assert_eq!(ran.out, "done\n", "{flags:?}: {ran}");
    }
}

#[test]
fn processes_of_the_host_are_out_of_reach() {
    if !needs_root("attacks::processes_of_the_host_are_out_of_reach") {
        return;
    }
    let kiln = Kiln::busybox();
    let mut victim =
        std::process::Command::new("sleep").arg("1000").env("SECRET", "of-the-host").spawn().unwrap();
    let pid = format!("PID={}", victim.id());
    // Without a pid namespace of its own it sees the process, and that is all.
    for flags in [&["-e", &*pid][..], &["-e", &pid, "--pid", "host"]] {
        let ran = probe(&kiln, flags, "attacks::inside_against_a_process");
        assert!(ran.code == 0 && ran.out.contains("1 passed"), "{flags:?}: {ran}");
    }
    assert!(victim.try_wait().unwrap().is_none());
    victim.kill().unwrap();
    victim.wait().unwrap();
}

/// Runs inside only.
#[test]
#[ignore = "runs inside of a container"]
fn inside_against_a_process() {
    let pid: i32 = std::env::var("PID").unwrap().parse().unwrap();
    #[expect(unsafe_code, reason = "the call is the subject of the test")]
    // SAFETY: both calls take numbers and null.
    let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) };
    assert_eq!(attached, -1, "ptrace");
    for name in ["environ", "mem", "root/etc/passwd", "cwd/", "maps", "fd/0"] {
        let path = format!("/proc/{pid}/{name}");
        let read = fs::read(&path).or_else(|error| match fs::read_dir(&path) {
            Ok(_) => Ok(Vec::new()),
            Err(_) => Err(error),
        });
        assert!(read.is_err(), "{path} was read");
    }
    // The first process of the machine, and the monitor, which is the parent of this container.
    for name in ["/proc/1/root/etc/shadow", "/proc/1/environ"] {
        let is_own = std::process::id() == 1;
        assert!(is_own || fs::read(name).is_err(), "{name}");
    }
}

#[test]
fn switches_of_the_kernel_are_not_written() {
    if !needs_root("attacks::switches_of_the_kernel_are_not_written") {
        return;
    }
    let kiln = Kiln::busybox();
    let files = [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/irq/default_smp_affinity",
        "/proc/bus/pci/devices",
        "/proc/kcore",
        "/proc/kmsg",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
    ];
    let core = fs::read("/proc/sys/kernel/core_pattern").unwrap();
    let tries: String =
        files.iter().map(|file| format!("(echo c > {file}) 2>/dev/null && echo {file};")).collect();
    // Nor by another name, nor by a mount of its own.
    let script = format!("{tries} mkdir /mine; mount -t proc x /mine; ls /mine; cd /proc/self/cwd/proc/sys/kernel;
        (echo x > core_pattern) 2>/dev/null && echo relative; head -c 1 /proc/kcore; cat /proc/keys; echo done");
    for flags in [&[][..], &["--pid", "host"], &["--ipc", "host", "--uts", "host"], &["--network", "host"]] {
        let ran = attack(&kiln, flags, &script);
        assert_eq!(ran.out, "done\n", "{flags:?}: {ran}");
    }
    assert_eq!(core, fs::read("/proc/sys/kernel/core_pattern").unwrap());
}

#[test]
fn a_release_agent_is_not_set() {
    if !needs_root("attacks::a_release_agent_is_not_set") {
        return;
    }
    let kiln = Kiln::busybox();
    let script = "for f in $(find /sys/fs/cgroup -name release_agent -o -name notify_on_release -o -name cgroup.procs); do
            (echo 1 > $f) 2>/dev/null && echo $f
        done
        mkdir /c; for h in memory rdma cpu devices; do mount -t cgroup -o $h x /c 2>/dev/null && echo $h; done
        mount -t cgroup2 x /c 2>/dev/null && echo v2; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo made; echo done";
    for flags in [&[][..], &["--cgroupns", "host"], &["-m", "64m"]] {
        let ran = attack(&kiln, flags, script);
        assert_eq!(ran.out, "done\n", "{flags:?}: {ran}");
    }
}

#[test]
fn a_set_uid_program_gives_nothing_after_no_new_privileges() {
    if !needs_root("attacks::a_set_uid_program_gives_nothing_after_no_new_privileges") {
        return;
    }
    let kiln = Kiln::busybox();
    let program = kiln.scratch().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let volume = format!("{}:/program:ro", program.display());
    let become_root = |flags: &[&str]| {
        let test =
            ["busybox", "/program", "--ignored", "--exact", "--nocapture", "attacks::inside_as_another_user"];
        let words =
            [&["run", "--rm", "--network", "none", "-u", "1000", "-v", &volume], flags, &test].concat();
        kiln.run(&words).out
    };
    assert!(become_root(&[]).contains("effective user 0"), "the attack itself works");
    let kept = become_root(&["--security-opt", "no-new-privileges"]);
    assert!(kept.contains("effective user 1000"), "{kept}");
}

/// Runs inside only.
#[test]
#[ignore = "runs inside of a container"]
fn inside_as_another_user() {
    println!("effective user {}", rustix::process::geteuid().as_raw());
}
