//! `kiln system check`: each kind of damage is planted, found and repaired, and a healthy store is clean.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::binary::{Kiln, Ran, busybox_tar, names, run};
use crate::support::needs_root;

/// A store with a base, an image of two layers on it, and one that nobody named.
fn built() -> Kiln {
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox\nCOPY a sub /\nRUN mkdir /d && ln /a /d/link && echo r > /r && rm /etc/group\n",
        ),
        ("a", &"content\n".repeat(1000)),
        ("sub/b", "b"),
    ]);
    kiln.build(&context, &["-t", "built"]).ok();
    kiln.settle();
    kiln
}

fn check(kiln: &Kiln, words: &[&str]) -> (Ran, Value) {
    let words: Vec<&str> = ["system", "check", "--format", "json"].iter().chain(words).copied().collect();
    let ran = kiln.run(&words);
    let mut report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran}"));
    // What other stores left on the machine.
    let of_others =
        |problem: &Value| ["network bridge", "cgroup"].iter().any(|kind| problem["kind"] == *kind);
    report["problems"].as_array_mut().unwrap().retain(|problem| !of_others(problem));
    (ran, report)
}

/// Asserts that nothing at all is told.
fn assert_clean(kiln: &Kiln) -> Value {
    kiln.settle();
    let (ran, report) = check(kiln, &[]);
    assert_eq!((ran.code, &report["problems"]), (0, &Value::Array(vec![])), "{ran}");
    report
}

/// Asserts that damage of this kind is told with these words, that a repair mends it and that all is well then.
fn assert_found_and_mended(kiln: &Kiln, kind: &str, words: &str) -> Value {
    let (ran, report) = check(kiln, &[]);
    assert_eq!(ran.code, 1, "{ran}");
    let problems = report["problems"].as_array().unwrap();
    let is_told = |problem: &&Value| {
        problem["kind"] == kind
            && problem["damage"] == true
            && problem["problem"].as_str().unwrap().contains(words)
    };
    assert!(problems.iter().any(|problem| is_told(&problem)), "`{kind}: {words}` is missing in:\n{ran}");
    let (ran, report) = check(kiln, &["--repair"]);
    assert_eq!((ran.code, &report["problems"]), (0, &Value::Array(vec![])), "{ran}");
    assert_clean(kiln);
    report["repaired"].clone()
}

/// The image and the base can be made again, whatever was lost.
fn assert_usable(kiln: &Kiln) {
    if kiln.ok(&["images", "-q", "busybox"]).is_empty() {
        kiln.run_with(&["import", "-", "busybox:latest"], &busybox_tar()).ok();
    }
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nRUN echo again > /again\n")]);
    kiln.build(&context, &["-t", "again"]).ok();
    assert_clean(kiln);
}

/// The files below a folder of every snapshot that are called `name`.
fn in_snapshots(kiln: &Kiln, name: &str) -> PathBuf {
    let all = kiln.root().join("snapshots");
    let found = names(&all).into_iter().map(|id| all.join(id).join("fs").join(name));
    found.into_iter().find(|path| path.symlink_metadata().is_ok()).unwrap()
}

fn largest_blob(kiln: &Kiln) -> PathBuf {
    let all = kiln.root().join("blobs/sha256");
    names(&all)
        .into_iter()
        .map(|name| all.join(name))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap()
}

fn flip(path: &Path, offset: u64) {
    let mut file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[test]
fn a_store_is_clean_after_all_sorts_of_commands() {
    if !needs_root("a_store_is_clean_after_all_sorts_of_commands") {
        return;
    }
    let kiln = built();
    let report = assert_clean(&kiln);
    assert!(report["bytes"].as_u64().unwrap() > 1000, "{report}");
    assert_eq!((&report["layers"], &report["images"]), (&3.into(), &2.into()), "{report}");
    let told = kiln.run(&["system", "check"]);
    assert!(told.is_clean(), "{told}");
    let saved = kiln.scratch().join("saved.tar");
    kiln.ok(&["save", "built", "-o", saved.to_str().unwrap()]);
    kiln.ok(&["run", "--rm", "--network", "none", "built", "true"]);
    kiln.ok(&["create", "--name", "kept", "built", "true"]);
    kiln.ok(&["start", "kept"]);
    kiln.ok(&["tag", "built", "other:1"]);
    assert_clean(&kiln);
    let failing = kiln.context(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\nRUN false\n")]);
    assert_eq!(kiln.build(&failing, &[]).code, 1);
    kiln.ok(&["rm", "-f", "kept"]);
    kiln.ok(&["rmi", "built", "other:1"]);
    assert_clean(&kiln);
    kiln.ok(&["load", "-i", saved.to_str().unwrap()]);
    assert_clean(&kiln);
    kiln.ok(&["prune", "-f", "-a"]);
    let report = assert_clean(&kiln);
    assert_eq!((&report["layers"], &report["blobs"]), (&0.into(), &0.into()), "{report}");
    assert!(check(&kiln, &["--quick"]).0.code == 0);
}

#[test]
fn damage_of_a_blob_is_found() {
    if !needs_root("damage_of_a_blob_is_found") {
        return;
    }
    let kiln = built();
    let blob = largest_blob(&kiln);
    flip(&blob, 100);
    assert_eq!(check(&kiln, &["--quick"]).0.code, 0, "its size is right");
    assert_found_and_mended(&kiln, "blob", "its content is another");
    assert_usable(&kiln);

    let kiln = built();
    fs::File::options().write(true).open(largest_blob(&kiln)).unwrap().set_len(10).unwrap();
    assert_eq!(check(&kiln, &["--quick"]).0.code, 1);
    assert_found_and_mended(&kiln, "blob", "has 10 bytes instead of");

    let kiln = built();
    let config = kiln.ok(&["image", "inspect", "-f", "{{.Id}}", "built"]);
    let hex = config.trim().trim_start_matches("sha256:");
    fs::remove_file(kiln.root().join("blobs/sha256").join(hex)).unwrap();
    let repaired = assert_found_and_mended(&kiln, "blob", "its file is gone");
    assert_eq!(
        repaired["images"],
        serde_json::json!(["built:latest"]),
        "a named image is never dropped silently"
    );
    assert_eq!(kiln.ok(&["images", "-q", "built"]), "");
    assert_usable(&kiln);
}

#[test]
fn damage_of_a_layer_is_found() {
    if !needs_root("damage_of_a_layer_is_found") {
        return;
    }
    type Plant = fn(&Kiln);
    let plants: [(&str, Plant, &str); 8] = [
        ("content", |kiln| flip(&in_snapshots(kiln, "a"), 4000), "its files aren't those of the layer"),
        ("length", |kiln| drop(fs::write(in_snapshots(kiln, "r"), "")), "its files aren't"),
        ("gone", |kiln| fs::remove_file(in_snapshots(kiln, "b")).unwrap(), "its files aren't"),
        ("added", |kiln| fs::write(in_snapshots(kiln, "d").join("new"), "").unwrap(), "its files aren't"),
        (
            "mode",
            |kiln| fs::set_permissions(in_snapshots(kiln, "a"), fs::Permissions::from_mode(0o600)).unwrap(),
            "its files aren't",
        ),
        (
            "owner",
            |kiln| std::os::unix::fs::chown(in_snapshots(kiln, "d"), Some(7), None).unwrap(),
            "its files aren't",
        ),
        (
            "folder",
            |kiln| {
                let d = in_snapshots(kiln, "d");
                fs::remove_dir_all(d.parent().unwrap()).unwrap();
            },
            "its folder is gone",
        ),
        ("base", |kiln| flip(&in_snapshots(kiln, "bin/busybox"), 50_000), "its files aren't"),
    ];
    for (what, plant, words) in plants {
        let kiln = built();
        plant(&kiln);
        let repaired = assert_found_and_mended(&kiln, "layer", words);
        let dropped = repaired["images"].as_array().unwrap();
        assert!(dropped.contains(&"built:latest".into()), "{what}: {repaired}");
        assert_eq!(dropped.contains(&"busybox:latest".into()), what == "base", "{repaired}");
        assert!(repaired["records"].as_u64().unwrap() > 0, "{what}: {repaired}");
        assert_usable(&kiln);
    }
}

#[test]
fn markers_that_no_layer_may_have_are_found() {
    if !needs_root("markers_that_no_layer_may_have_are_found") {
        return;
    }
    let kiln = built();
    fs::write(in_snapshots(&kiln, "d").join(".wh.x"), "").unwrap();
    assert_found_and_mended(&kiln, "layer", "`.wh.");
    let kiln = built();
    let file = in_snapshots(&kiln, "r");
    let none = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&file, "trusted.overlay.metacopy", b"", none).is_ok() {
        assert_found_and_mended(&kiln, "layer", "cannot read `r`");
    }
}

/// Runs SQL on a store's database.
fn sql(kiln: &Kiln, text: &str) {
    let store = kiln_cache::Store::open(kiln.root()).unwrap();
    drop(store);
    let program =
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.close()";
    let database = kiln.root().join("meta.db");
    let mut python = std::process::Command::new("python3");
    assert!(python.args(["-c", program]).arg(database).arg(text).status().unwrap().success());
}

#[test]
fn rows_that_contradict_one_another_are_found() {
    if !needs_root("rows_that_contradict_one_another_are_found") {
        return;
    }
    for (text, kind, words) in [
        (
            "DELETE FROM snapshots WHERE id = (SELECT substr(chain, -16) FROM images WHERE length(chain) > 16)",
            "image",
            "isn't in the store",
        ),
        (
            "UPDATE records SET chain = '0123456789abcdef'",
            "build record",
            "`0123456789abcdef` isn't in the store",
        ),
        ("UPDATE records SET parts = '{'", "build record", "the parts of its key can't be read"),
        ("UPDATE records SET result = 'x'", "build record", "its result is no digest"),
        (
            "DELETE FROM images WHERE id = (SELECT image FROM names WHERE name LIKE '%built%')",
            "name",
            "leads to no image",
        ),
        ("UPDATE images SET chain = substr(chain, 1, 16)", "image", "its config has 3 layers, and it has 1"),
        (
            "DELETE FROM blobs WHERE digest IN (SELECT id FROM images)",
            "image",
            "its config isn't in the store",
        ),
    ] {
        let kiln = built();
        sql(&kiln, text);
        assert_found_and_mended(&kiln, kind, words);
        assert_usable(&kiln);
    }
}

#[test]
fn damage_of_merged_layers_is_found() {
    if !needs_root("damage_of_merged_layers_is_found") {
        return;
    }
    type Plant = fn(&Path);
    let plants: [Plant; 4] = [
        |fs| fs::remove_file(fs.join("f3")).unwrap(),
        |fs| fs::write(fs.join("d/new"), "").unwrap(),
        |fs| fs::set_permissions(fs.join("d"), fs::Permissions::from_mode(0o700)).unwrap(),
        |fs| {
            fs::remove_file(fs.join("f4")).unwrap();
            fs::write(fs.join("f4"), "4\n").unwrap();
        },
    ];
    let kiln = Kiln::busybox();
    let steps: String = (0..40)
        .map(|step| format!("RUN mkdir -p /d; echo {step} > /f{step}; rm -f /g; touch /g\n"))
        .collect();
    let context = kiln.context(&[("Dockerfile", &format!("FROM busybox\n{steps}"))]);
    for plant in plants {
        kiln.build(&context, &["--no-cache", "-t", "deep"]).ok();
        assert_clean(&kiln);
        let all = kiln.root().join("merged");
        let merged = names(&all).into_iter().map(|name| all.join(name).join("fs"));
        plant(&merged.into_iter().find(|fs| fs.join("f27").exists()).unwrap());
        assert_found_and_mended(&kiln, "merged layers", "isn't what its layers show");
        kiln.ok(&["rmi", "deep"]);
        kiln.ok(&["prune", "-f"]);
    }
    assert_usable(&kiln);
}

#[test]
fn a_damaged_database_is_told() {
    if !needs_root("a_damaged_database_is_told") {
        return;
    }
    let kiln = built();
    sql(&kiln, "PRAGMA wal_checkpoint(TRUNCATE)");
    let database = kiln.root().join("meta.db");
    let pages = database.metadata().unwrap().len() / 4096;
    let mut file = fs::File::options().write(true).open(&database).unwrap();
    for page in 1..pages {
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&[0xa5; 64]).unwrap();
    }
    drop(file);
    let ran = kiln.run(&["system", "check"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(format!("{ran}").contains("database"), "{ran}");
}

#[test]
fn what_is_left_over_is_no_damage_and_is_removed() {
    if !needs_root("what_is_left_over_is_no_damage_and_is_removed") {
        return;
    }
    let kiln = built();
    let root = kiln.root();
    for place in ["tmp/00000000000000aa/fs", "trash/1/x", "snapshots/00000000000000bb/fs"] {
        fs::create_dir_all(root.join(place)).unwrap();
    }
    let unknown = root.join("blobs/sha256").join("0".repeat(64));
    for file in [root.join("leases/00000000000000cc"), root.join("stat/odd"), unknown] {
        fs::write(file, "x").unwrap();
    }
    fs::remove_file(root.join("reserve")).unwrap();
    let layer = names(&root.join("snapshots")).pop().unwrap();
    for name in ["container:aa", ".new"] {
        fs::write(root.join("pins").join(name), format!("{layer}\n")).unwrap();
    }
    sql(
        &kiln,
        "INSERT INTO keys VALUES ('00', 9999); INSERT INTO lease_blobs VALUES ('00000000000000dd', '00');
        INSERT INTO snapshots (id, state) VALUES ('00000000000000ee', 'staging')",
    );
    let (ran, report) = check(&kiln, &[]);
    assert_eq!(ran.code, 0, "{ran}");
    let told = report["problems"].as_array().unwrap();
    assert!(told.iter().all(|problem| problem["damage"] == false), "{ran}");
    for name in ["tmp", "leases", "pins", "trash", "snapshots", "blobs", "stat", "reserve", "meta.db"] {
        assert!(
            told.iter().any(|problem| problem["kind"] == "leftover" && problem["name"] == name),
            "{name}: {ran}"
        );
    }
    assert!(told.iter().any(|problem| problem["kind"] == "container"), "{ran}");
    let (ran, report) = check(&kiln, &["--repair"]);
    assert_eq!((ran.code, &report["problems"]), (0, &Value::Array(vec![])), "{ran}");
    assert_clean(&kiln);
    kiln.ok(&["run", "--rm", "--network", "none", "built", "cat", "/r"]);
}

#[test]
fn what_a_cut_pin_kept_is_not_collected() {
    if !needs_root("what_a_cut_pin_kept_is_not_collected") {
        return;
    }
    let kiln = built();
    let id = kiln.ok(&["run", "-d", "--network", "none", "built", "sleep", "1000"]).trim().to_owned();
    let layers = |kiln: &Kiln| names(&kiln.root().join("snapshots"));
    let (pins, kept) = (kiln.root().join("pins"), layers(&kiln));
    let owner = format!("container:{id}");
    let config = kiln.root().join("containers").join(&id).join("config.json");
    let [pin, record] = [pins.join(&owner), config.clone()].map(|path| fs::read_to_string(path).unwrap());
    // Nobody knows what it kept when the record is damaged too.
    fs::write(pins.join(&owner), "").unwrap();
    fs::write(&config, "{").unwrap();
    kiln.run(&["cache", "prune", "-f", "-a"]).fails_with(&[&owner, "kiln system check"]);
    assert_eq!(layers(&kiln), kept);
    let (ran, report) = check(&kiln, &[]);
    let is_told = |problem: &Value| problem["damage"] == true && problem["name"] == id[..12];
    assert!(ran.code == 1 && report["problems"].as_array().unwrap().iter().any(is_told), "{ran}");
    // From the record it is made anew; what has no owner goes.
    fs::write(&config, record).unwrap();
    fs::write(pins.join(format!("mount:{}", "b".repeat(64))), "").unwrap();
    kiln.ok(&["prune", "-f", "-a"]);
    assert_eq!((names(&pins), fs::read_to_string(pins.join(&owner)).unwrap()), (vec![owner], pin));
    kiln.ok(&["rm", "-f", &id]);
    assert_eq!(names(&pins), Vec::<String>::new());
    kiln.ok(&["prune", "-f", "-a"]);
    assert_eq!(layers(&kiln), Vec::<String>::new());
}

#[test]
fn a_container_whose_record_is_damaged_is_told() {
    if !needs_root("a_container_whose_record_is_damaged_is_told") {
        return;
    }
    let kiln = built();
    let id = kiln.ok(&["create", "built", "true"]);
    assert_clean(&kiln);
    let folder = kiln.root().join("containers").join(id.trim());
    fs::write(folder.join("config.json"), "{").unwrap();
    let (ran, report) = check(&kiln, &[]);
    assert_eq!((ran.code, &report["problems"][0]["kind"]), (1, &"container".into()), "{ran}");
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(check(&kiln, &["--repair"]).0.code, 0);
    assert_clean(&kiln);
}

#[test]
fn a_mount_on_a_folder_of_the_store_is_found_and_removed() {
    if !needs_root("a_mount_on_a_folder_of_the_store_is_found_and_removed") {
        return;
    }
    let kiln = built();
    let place = kiln.root().join("tmp/00000000000000aa");
    fs::create_dir_all(&place).unwrap();
    let none = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", &place, "tmpfs", none, None::<&std::ffi::CStr>).unwrap();
    let (ran, report) = check(&kiln, &[]);
    let told = report["problems"].as_array().unwrap();
    assert!(told.iter().any(|problem| problem["kind"] == "mount"), "{ran}");
    assert_eq!(check(&kiln, &["--repair"]).0.code, 0);
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(place.to_str().unwrap()));
    assert_clean(&kiln);
}

#[test]
fn a_packet_filter_whose_store_is_gone_is_found_without_a_bridge() {
    if !needs_root("a_packet_filter_whose_store_is_gone_is_found_without_a_bridge") {
        return;
    }
    let gone = tempfile::tempdir().unwrap();
    let networks = kiln::network::Networks::new(&gone.path().join("networks"));
    drop(networks.connect("test").unwrap());
    let (bridge, table) = (networks.bridge().to_owned(), networks.table().to_owned());
    run(std::process::Command::new("ip").args(["link", "delete", &bridge])).ok();
    drop(gone);
    let kiln = Kiln::busybox();
    let found = format!("packet filter of no store {table}");
    let check = kiln.run(&["system", "check", "--quick"]);
    assert!(check.out.contains(&found), "{check}");
    kiln.run(&["system", "check", "--quick", "--repair"]);
    let check = kiln.run(&["system", "check", "--quick"]);
    assert!(!check.out.contains(&found), "{check}");
}

#[test]
fn a_pin_that_a_power_loss_has_cut_is_made_anew_by_the_next_removal() {
    if !needs_root("a_pin_that_a_power_loss_has_cut_is_made_anew_by_the_next_removal") {
        return;
    }
    let kiln = Kiln::busybox();
    let id = kiln.ok(&["create", "--network", "none", "busybox", "true"]);
    let pins = kiln.root().join("pins");
    let pin = pins.join(format!("container:{}", id.trim_end()));
    let whole = fs::read_to_string(&pin).unwrap();
    let forsaken = pins.join(format!("container:{}", "0".repeat(64)));
    kiln.ok(&["tag", "busybox", "other"]);
    for (path, text) in [(&pin, ""), (&forsaken, "00")] {
        fs::write(path, text).unwrap();
    }
    kiln.ok(&["rmi", "other"]);
    assert_eq!(fs::read_to_string(&pin).unwrap(), whole);
    assert!(!forsaken.exists());
    let check = kiln.run(&["system", "check", "--quick"]);
    assert!(check.is_clean(), "{check}");
    fs::write(&pin, "").unwrap();
    kiln.ok(&["prune", "-f", "--filter", "until=1h"]);
    assert_eq!(kiln.ok(&["start", "-a", id.trim_end()]), "");
}
