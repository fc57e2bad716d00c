//! `kiln debug`.

use std::path::Path;
use std::process::Command;

use crate::support::kiln::Kiln;
use crate::support::needs_root;
use crate::support::pty::Pty;

const CONFIG: &str = r#"{"Cmd":["sh"],"Env":["PATH=/bin"]}"#;

/// A store with an image of tools, and a container `bare` that runs and has one program and no shell.
fn kiln(name: &str) -> Option<Kiln> {
    if !needs_root(name) {
        return None;
    }
    let kiln = Kiln::new();
    if !kiln.add_busybox(CONFIG) {
        return None;
    }
    let folder = kiln.root.path().join("bare");
    std::fs::create_dir_all(folder.join("etc")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    std::fs::copy(busybox.unwrap(), folder.join("sleep")).unwrap();
    std::fs::write(folder.join("etc/own"), "of the container\n").unwrap();
    std::fs::write(folder.join("etc/group"), "root:x:0:\nbare:x:7:\n").unwrap();
    let tar = kiln.root.path().join("bare.tar");
    let made = Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&tar).arg(".").status().unwrap();
    assert!(made.success());
    kiln.ok(&["import", tar.to_str().unwrap(), "bare"]);
    let run = ["run", "-d", "--name", "bare", "--network", "none", "-h", "barehost", "-v", "vol:/vol"];
    kiln.ok(&[&run[..], &["bare", "/sleep", "999"]].concat());
    Some(kiln)
}

#[test]
fn tools_of_another_image_stand_beside_the_containers_files() {
    let Some(kiln) = kiln("tools_of_another_image_stand_beside_the_containers_files") else { return };
    assert_eq!(kiln.run(&["exec", "bare", "sh"]).status.code(), Some(127), "it has no shell");
    let sh = |script: &str| {
        let ran = kiln.run(&["debug", "--image", "busybox", "bare", "sh", "-c", script]);
        assert_eq!(ran.status.code(), Some(0), "{script}: {ran:?}");
        String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(
        sh("cat /etc/own /data/sub/file; tail -1 /etc/group"),
        "of the container\nfrom the image\nbare:x:7:"
    );
    assert_eq!(sh("hostname; tr '\\0' ' ' < /proc/1/cmdline"), "barehost\n/sleep 999");
    assert_eq!(sh("echo > /scratch && cat /proc/1/root/etc/own"), "of the container");
    assert_eq!(kiln.run(&["debug", "bare", "sh", "-c", "exit 3"]).status.code(), Some(3));
    // What it wrote is gone, but for what is the container's own.
    assert_eq!(sh("ls /scratch 2>/dev/null || echo gone"), "gone");
    sh("echo v > /vol/v; echo r > /proc/1/root/r");
    assert_eq!(kiln.ok(&["diff", "bare"]), "A /r\nA /vol", "and the container sees nothing of the tools");
    assert_eq!(kiln.ok(&["run", "--rm", "--network", "none", "-v", "vol:/v", "busybox", "cat", "/v/v"]), "v");
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!all.contains(kiln.root.path().to_str().unwrap()), "nothing stays mounted");
    kiln.ok(&["kill", "bare"]);
    kiln.ok(&["wait", "bare"]);
    assert_eq!(kiln.run(&["debug", "bare"]).status.code(), Some(125));
    assert_eq!(kiln.run(&["debug"]).status.code(), Some(125));
}

#[test]
fn a_container_whose_bin_is_a_link_does_not_hide_the_tools() {
    let Some(kiln) = kiln("a_container_whose_bin_is_a_link_does_not_hide_the_tools") else { return };
    let folder = kiln.root.path().join("bare");
    std::fs::create_dir_all(folder.join("usr/bin")).unwrap();
    std::os::unix::fs::symlink("usr/bin", folder.join("bin")).unwrap();
    let tar = Command::new("tar").arg("-C").arg(&folder).args(["-cf", "-", "."]).output().unwrap();
    std::fs::write(kiln.root.path().join("merged.tar"), tar.stdout).unwrap();
    kiln.ok(&["import", kiln.root.path().join("merged.tar").to_str().unwrap(), "merged"]);
    kiln.ok(&["run", "-d", "--name", "merged", "--network", "none", "merged", "/sleep", "999"]);
    assert_eq!(
        kiln.ok(&["debug", "merged", "sh", "-c", "ls -d /bin/ls /.kiln/bin/ls 2>/dev/null; true"]),
        "/.kiln/bin/ls"
    );
    assert_eq!(kiln.ok(&["diff", "merged"]), "");
}

#[test]
fn a_container_with_a_user_namespace_has_tools_with_its_ids() {
    let Some(kiln) = kiln("a_container_with_a_user_namespace_has_tools_with_its_ids") else { return };
    let run =
        ["run", "-d", "--name", "mapped", "--userns", "auto", "--network", "none", "bare", "/sleep", "999"];
    kiln.ok(&run);
    let script = "id -u; stat -c %u /bin/ls /etc/own /.kiln/bin/ls; echo w > /scratch; cat /scratch; \
                  mkdir /data/new && echo made";
    assert_eq!(kiln.ok(&["debug", "mapped", "sh", "-c", script]), "0\n0\n0\n0\nw\nmade");
}

#[test]
fn a_debug_shell_has_the_terminal_and_no_more_rights_than_the_container() {
    let Some(kiln) = kiln("a_debug_shell_has_the_terminal_and_no_more_rights_than_the_container") else {
        return;
    };
    let mut pty = Pty::spawn(&kiln.command(&["debug", "bare"]));
    pty.expect("# ");
    pty.send("tty; id -u\r");
    pty.expect("/dev/pts/0");
    pty.send("mount -t tmpfs none /vol || echo re''fused\r");
    pty.expect("refused");
    pty.send("umount /vol || echo re''fused\r");
    pty.expect("refused");
    pty.send("exit 5\r");
    assert_eq!(pty.wait().0, 5);
    let user = ["debug", "-u", "7:7", "-e", "X=y", "-w", "/vol", "bare", "sh", "-c", "id -u; echo $X; pwd"];
    assert_eq!(kiln.ok(&user), "7\ny\n/vol");
}
