//! System calls from inside: this test program, which is static, runs as the container's program.

use kiln::runtime::{Exit, How, Mount, Spec};

use super::Box;
use crate::support::needs_root;

fn probe(b: &Box) -> Spec {
    let source = std::env::current_exe().unwrap();
    Spec {
        mounts: vec![Mount::Bind { source, target: "/probe".into(), readonly: true, how: How::default() }],
        ..b.spec(&["/probe", "--ignored", "--exact", "--nocapture", "runtime::probe::inside_of_a_container"])
    }
}

#[test]
fn dangerous_system_calls_are_refused() {
    if !needs_root("runtime::probe::dangerous_system_calls_are_refused") {
        return;
    }
    let b = Box::new();
    let output = b.run(&probe(&b)).unwrap();
    assert_eq!(output.exit, Exit::Code(0), "{}", output.text);
    assert!(output.text.contains("1 passed"), "{}", output.text);
}

/// The error number of a raw system call; 0 when it succeeds.
fn errno(number: libc::c_long, args: [libc::c_long; 3]) -> i32 {
    #[expect(unsafe_code, reason = "the call is the subject of the test")]
    // SAFETY: all arguments are numbers or null; no call here writes memory.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], 0, 0, 0) };
    if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

/// Runs inside only.
#[test]
#[ignore = "runs inside of a container"]
fn inside_of_a_container() {
    let refused = [
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("bpf", libc::SYS_bpf),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("open_tree", libc::SYS_open_tree),
        ("kexec_load", libc::SYS_kexec_load),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("pivot_root", libc::SYS_pivot_root),
    ];
    for (name, number) in refused {
        assert_eq!(errno(number, [0, 0, 0]), libc::EPERM, "{name}");
    }
    assert_eq!(errno(libc::SYS_clone3, [0, 0, 0]), libc::ENOSYS);
    assert_eq!(errno(600, [0, 0, 0]), libc::ENOSYS, "newer than the table");
    let stream = libc::c_long::from(libc::SOCK_STREAM);
    for (family, expected) in [(libc::AF_ALG, libc::EPERM), (libc::AF_VSOCK, libc::EPERM), (libc::AF_UNIX, 0)]
    {
        assert_eq!(errno(libc::SYS_socket, [family.into(), stream, 0]), expected, "family {family}");
    }
    for flags in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
        assert_eq!(errno(libc::SYS_clone, [flags.into(), 0, 0]), libc::EPERM);
    }
    assert_eq!(errno(libc::SYS_personality, [0xffff_ffff, 0, 0]), 0);
    assert_eq!(errno(libc::SYS_personality, [0x0040_0000, 0, 0]), libc::EPERM, "ADDR_NO_RANDOMIZE");
    // Nothing of the machine shows: no descriptor, no mount of the old root, no own key.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(mounts.lines().any(|line| line.contains(" / / ") && line.contains("overlay")), "{mounts}");
    assert!(!mounts.contains(" /host ") && mounts.lines().count() < 60, "{mounts}");
    for node in ["/dev/null", "/dev/zero"] {
        let error = std::fs::remove_file(node).unwrap_err().raw_os_error();
        assert_eq!(error, Some(libc::EBUSY), "{node}");
    }
    // Above the root is the root, also for a process that has walked out of one: what lies below it has no path.
    let root = std::fs::File::open("/").unwrap();
    std::fs::create_dir("/walk").unwrap();
    std::os::unix::fs::chroot("/walk").unwrap();
    rustix::process::fchdir(&root).unwrap();
    for _ in 0..64 {
        rustix::process::chdir("..").unwrap();
    }
    assert!(std::fs::exists("walk").unwrap() && std::fs::exists("probe").unwrap());
}
