//! Attacks on the engine as a whole: what they could reach, they don't.

use std::io::Write as _;

use crate::hostile::Disk;
use crate::support::binary::{Kiln, busybox_tar};
use crate::support::needs_root;

#[test]
fn a_store_inside_the_context_is_no_part_of_it() {
    if !needs_root("a_store_inside_the_context_is_no_part_of_it") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.root().parent().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(context.join(name), text).unwrap();
    write("file", "");
    write("Dockerfile", "FROM busybox\nCOPY . /x/\nRUN find /x > /found\n");
    for ignored in ["", "!**\n"] {
        write(".dockerignore", ignored);
        let out = kiln.context(&[]);
        let output = format!("type=local,dest={}", out.display());
        kiln.build(&context, &["-o", &output]).ok();
        let found = std::fs::read_to_string(out.join("found")).unwrap();
        assert!(found.contains("/x/file\n") && !found.contains("/x/root"), "{found}");
        std::fs::remove_dir_all(out).unwrap();
    }
    write("Dockerfile", "FROM busybox\nCOPY root/meta.db /x\n");
    kiln.build(&context, &[]).fails_with(&["root/meta.db"]);
}

#[test]
fn how_a_container_ended_is_kept_on_a_full_disk() {
    if !needs_root("how_a_container_ended_is_kept_on_a_full_disk") {
        return;
    }
    let outside = Kiln::empty();
    let disk = Disk::new(outside.scratch(), 24);
    let kiln = Kiln::at(&disk.0.join("root"));
    kiln.run_with(&["import", "-", "busybox"], &busybox_tar()).ok();
    let shared = outside.context(&[]);
    let volume = format!("{}:/shared", shared.display());
    let script = "until [ -e /shared/go ]; do sleep 0.05; done; exit 9";
    kiln.ok(&[
        "run",
        "-d",
        "--name",
        "ends",
        "--network",
        "none",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let mut full = std::fs::File::create(disk.0.join("full")).unwrap();
    while full.write_all(&[0; 4096]).is_ok() {}
    drop(full);
    std::fs::write(shared.join("go"), "").unwrap();
    assert_eq!(kiln.ok(&["wait", "ends"]), "9\n");
    kiln.settle();
    let listed = kiln.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
    assert!(listed.starts_with("ends Exited (9)"), "{listed}");
    std::fs::remove_file(disk.0.join("full")).unwrap();
    kiln.ok(&["rm", "ends"]);
}

#[test]
fn a_wholly_full_disk_is_emptied_by_prune() {
    if !needs_root("a_wholly_full_disk_is_emptied_by_prune") {
        return;
    }
    let outside = Kiln::empty();
    let disk = Disk::new(outside.scratch(), 24);
    let kiln = Kiln::at(&disk.0.join("root"));
    kiln.run_with(&["import", "-", "busybox"], &busybox_tar()).ok();
    kiln.ok(&["create", "--name", "old", "--network", "none", "busybox", "true"]);
    kiln.settle();
    let mut full = std::fs::File::create(disk.0.join("full")).unwrap();
    while full.write_all(&[0; 4096]).is_ok() {}
    drop(full);
    kiln.ok(&["prune", "-af"]);
    assert_eq!((kiln.ok(&["ps", "-aq"]), kiln.ok(&["images", "-q"])), (String::new(), String::new()));
}
