//! Containers with user ids of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::binary::Kiln;
use crate::support::needs_root;

#[test]
fn root_inside_is_nobody_outside_and_files_keep_their_ids() {
    if !needs_root("userns::root_inside_is_nobody_outside_and_files_keep_their_ids") {
        return;
    }
    let kiln = Kiln::busybox();
    let host = kiln.scratch().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("given"), "x").unwrap();
    let (bind, named) = (format!("{}:/bind", host.display()), "data:/named");
    let script = "id -u; stat -c '%u:%g' / /etc/hosts /bind/given /dev/shm /run; touch /root/made /bind/made /named/made /dev/x
        chown 7:8 /bind/made; mkdir -p /run/x; stat -c '%u:%g' /root/made /bind/made . /dev/pts/ptmx; sleep 1000";
    let words = [
        "run",
        "-d",
        "--name",
        "cc",
        "--userns",
        "auto",
        "-v",
        &bind,
        "-v",
        named,
        "--tmpfs",
        "/run:uid=3",
        "-w",
        "/new/cwd",
    ];
    kiln.ok(&[&words[..], &["busybox", "sh", "-c", script]].concat());
    let expected = "0\n0:0\n0:0\n0:0\n0:0\n3:0\n0:0\n7:8\n0:0\n0:0\n";
    let mut shown = String::new();
    for _ in 0..200 {
        let ran = kiln.run(&["logs", "cc"]);
        shown = ran.out + &ran.error;
        if shown.len() >= expected.len() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(shown, expected);
    // On disk, in the layer and in volumes, the ids are those inside.
    let made = fs::metadata(host.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (7, 8));
    let id = kiln.ok(&["inspect", "-f", "{{.Id}}", "cc"]);
    let upper = kiln.root().join("containers").join(id.trim()).join("upper");
    assert_eq!(fs::metadata(upper.join("root/made")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(upper.join("new/cwd")).unwrap().uid(), 0);
    // The process itself has nothing to do with the machine's root.
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", "cc"]);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", pid.trim())).unwrap();
    let numbers: Vec<u32> = map.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(numbers[0] == 0 && numbers[1] >= 1 << 31 && numbers[2] == 65_536, "{map}");
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    assert!(status.contains(&format!("Uid:\t{}\t", numbers[1])), "{status}");
    // A further process is in the same one, with a terminal too.
    assert_eq!(kiln.ok(&["exec", "cc", "id", "-u"]), "0\n");
    assert_eq!(kiln.ok(&["exec", "cc", "cat", "/proc/self/uid_map"]), map);
    assert_eq!(kiln.ok(&["exec", "-t", "-u", "9", "cc", "sh", "-c", "stat -c %u $(tty)"]).trim(), "9");
    assert_eq!(kiln.ok(&["exec", "-u", "9", "cc", "sh", "-c", "echo fine > /dev/stdout"]), "fine\n");
    // So are files that are copied while it runs: as it sees them.
    let (put, got) = (kiln.scratch().join("put"), kiln.scratch().join("got"));
    fs::write(&put, "x").unwrap();
    std::os::unix::fs::chown(&put, Some(5), Some(6)).unwrap();
    let put = put.to_str().unwrap();
    kiln.ok(&["cp", put, "cc:/root/plain"]);
    kiln.ok(&["cp", "-a", put, "cc:/root/archive"]);
    let owners = ["exec", "cc", "stat", "-c", "%u:%g", "/root/plain", "/root/archive"];
    assert_eq!(kiln.ok(&owners), "0:0\n5:6\n");
    kiln.ok(&["cp", "-a", "cc:/root/archive", got.to_str().unwrap()]);
    let copied = fs::metadata(&got).unwrap();
    assert_eq!((copied.uid(), copied.gid()), (5, 6));
    // What it changed can be committed like any other's.
    kiln.ok(&["commit", "cc", "copy"]);
    assert_eq!(kiln.ok(&["run", "--rm", "copy", "stat", "-c", "%u", "/root/made"]), "0\n");
    kiln.ok(&["rm", "-f", "-v", "cc"]);
}

#[test]
fn each_container_has_ids_of_its_own_and_no_rights_over_the_machine() {
    if !needs_root("userns::each_container_has_ids_of_its_own_and_no_rights_over_the_machine") {
        return;
    }
    let kiln = Kiln::busybox();
    let map =
        || kiln.ok(&["run", "--name", &name(), "--userns", "auto", "busybox", "cat", "/proc/self/uid_map"]);
    let maps = [map(), map(), map()];
    assert!(maps[0] != maps[1] && maps[1] != maps[2] && maps[0] != maps[2], "{maps:?}");
    let script = "mount -t tmpfs x /tmp; hostname x; echo 1 > /proc/sys/net/ipv4/ip_forward; mknod /b b 8 0;
        cat /proc/1/environ >/dev/null && echo own; id -u";
    let flags = ["--userns", "auto", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
    let words = [&["run", "--rm"][..], &flags, &["busybox", "sh", "-c", script]].concat();
    assert_eq!(kiln.ok(&words), "own\n0\n");
    for init in ["--init", "-t"] {
        assert_eq!(kiln.ok(&["run", "--rm", "--userns", "auto", init, "busybox", "id", "-u"]).trim(), "0");
    }
    assert_eq!(
        kiln.ok(&[
            "run",
            "--rm",
            "--userns",
            "auto",
            "-u",
            "1000:7",
            "busybox",
            "sh",
            "-c",
            "echo $(id -u):$(id -g)"
        ])
        .trim(),
        "1000:7"
    );
    let own = kiln.ok(&["run", "--rm", "--userns", "host", "busybox", "cat", "/proc/self/uid_map"]);
    assert_eq!(own.split_ascii_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
    for (flags, text) in [
        (&["--userns", "keep-id"][..], "keep-id"),
        (&["--userns", "mine"], "mine"),
        (&["--userns", "auto", "--privileged"], "--privileged"),
        (&["--userns", "auto", "-u", "70000"], "70000"),
    ] {
        let ran = kiln.run(&[&["run", "--rm"], flags, &["busybox", "true"]].concat());
        assert!(ran.code == 125 && ran.error.contains(text), "{flags:?}: {ran}");
    }
}

/// A name for each call.
fn name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("own{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
