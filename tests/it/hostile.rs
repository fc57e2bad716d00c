//! Bad input to `kiln build`, `import` and `load`: a clear error, a non-zero exit, and nothing changed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kiln::oci::{Platform, media_type};
use kiln_cache::Digest;
use serde_json::json;

use crate::support::binary::{Kiln, Ran, busybox_tar, names};
use crate::support::needs_root;
use crate::support::registry::{FakeRegistry, Fault};

/// Builds each Dockerfile, which must fail with these words, and change nothing at all in the store.
fn all_refused(kiln: &Kiln, cases: &[(&str, &[&str])]) {
    let good =
        kiln.context(&[("Dockerfile", "FROM busybox\nRUN true\n"), ("there.txt", ""), ("folder/file", "")]);
    kiln.build(&good, &["-t", "victim"]).ok();
    let (seen, files) = (kiln.visible(), kiln.files());
    for (text, words) in cases {
        let context = kiln.context(&[("Dockerfile", text), ("there.txt", ""), ("folder/file", "")]);
        let refused = kiln.build(&context, &["-t", "victim"]).fails_with(words);
        assert_eq!(refused.out, "", "{text}");
        assert!(refused.error.contains("error: "), "{refused}");
    }
    assert_eq!(kiln.visible(), seen);
    // Locks, what is told of builds, and the database's own files aside.
    let own = |path: &&PathBuf| {
        ["inflight", "leases", "stat", "builds", "tmp", "trash", "meta.db-wal", "meta.db"]
            .iter()
            .all(|name| !path.starts_with(kiln.root().join(name)))
    };
    let after = kiln.files();
    assert_eq!(after.keys().filter(own).collect::<Vec<_>>(), files.keys().filter(own).collect::<Vec<_>>());
    for (path, of) in files.iter().filter(|(path, _)| own(path)) {
        assert_eq!(after.get(path), Some(of), "{}", path.display());
    }
}

#[test]
fn bytes_that_are_no_text_are_shown_where_they_stand() {
    if !needs_root("bytes_that_are_no_text_are_shown_where_they_stand") {
        return;
    }
    let kiln = Kiln::empty();
    let context = kiln.context(&[("x", "")]);
    std::fs::write(context.join("Dockerfile"), b"FROM scratch\nLABEL a=\xff\n").unwrap();
    let said = kiln.build(&context, &[]);
    assert_eq!(said.code, 1);
    assert!(
        said.error.contains("Dockerfile:2:9: error: `Dockerfile` is not valid UTF-8: byte 0xff"),
        "{said}"
    );
}

#[test]
fn bad_dockerfiles_are_refused_with_place_and_hint() {
    if !needs_root("bad_dockerfiles_are_refused_with_place_and_hint") {
        return;
    }
    let kiln = Kiln::busybox();
    all_refused(
        &kiln,
        &[
            ("", &["Dockerfile", "empty"]),
            ("   \n\n", &["Dockerfile", "no instructions"]),
            ("# only\n# comments\n", &["Dockerfile", "no instructions", "FROM <image>"]),
            (
                "FORM busybox\n",
                &[
                    "Dockerfile:1:1: error: unknown instruction: `FORM`",
                    "   1 | FORM busybox\n     | ^^^^",
                    "did you mean FROM",
                ],
            ),
            (
                "FROM busybox\nWORK /x\nCOPPY a b\n  RUNN true\n",
                &[
                    "Dockerfile:2:1: error: unknown instruction: `WORK`",
                    "did you mean WORKDIR",
                    "Dockerfile:3:1: error: unknown instruction: `COPPY`",
                    "did you mean COPY",
                    "Dockerfile:4:3: error: unknown instruction: `RUNN`",
                    "  |   ^^^^",
                ],
            ),
            ("RUN true\n", &["Dockerfile:1", "FROM"]),
            ("FROM busybox\nCOPY --form=x a b\n", &["Dockerfile:2:6", "--form", "did you mean", "--from"]),
            ("FROM busybox\nCOPY a\n", &["Dockerfile:2", "COPY"]),
            ("FROM busybox\nRUN <<EOF\ntrue\n", &["EOF", "Dockerfile:2"]),
            ("FROM busybox\nEXPOSE 99999999\n", &["99999999"]),
            (
                "FROM busybox AS builder\nFROM busybox\nCOPY --from=bulider /a /b\n",
                &[">>> COPY", "did you mean `builder`"],
            ),
            (
                "FROM later AS a\nFROM busybox AS later\nCOPY --from=a /a /b\n",
                &[">>> FROM later", "further down"],
            ),
            ("FROM busybox AS later\nCOPY --from=5 /a /b\n", &["Dockerfile:2", "5"]),
            ("FROM busybox AS self\nCOPY --from=self /a /b\n", &["self"]),
            ("FROM ${NOTHING}\n", &["Dockerfile:1", "NOTHING"]),
            ("FROM Busybox\n", &["Dockerfile:1", "Busybox"]),
        ],
    );
}

#[test]
fn missing_sources_stages_and_contexts_are_named() {
    if !needs_root("missing_sources_stages_and_contexts_are_named") {
        return;
    }
    let kiln = Kiln::busybox();
    all_refused(
        &kiln,
        &[
            (
                "FROM busybox\nCOPY missing.txt /\n",
                &["missing.txt", "Dockerfile:2", ">>> COPY missing.txt /"],
            ),
            ("FROM busybox\nCOPY ../outside /\n", &["outside", ">>> COPY"]),
            ("FROM busybox\nCOPY --from=busybox /no/such /\n", &["/no/such", ">>> COPY"]),
            ("FROM busybox\nCOPY there.txt folder /file\n", &["/file"]),
            ("FROM busybox\nCOPY --chown=stranger there.txt /\n", &["stranger", ">>> COPY"]),
        ],
    );
    let context =
        kiln.context(&[("Dockerfile", "FROM busybox AS builder\nFROM busybox AS final\n"), ("file", "")]);
    let before = kiln.visible();
    let folder = context.to_str().unwrap();
    kiln.build(&context, &["--target", "bulider"]).fails_with(&["bulider", "builder"]);
    kiln.build(&context, &["--target", "9"]).fails_with(&["9"]);
    kiln.build(&context.join("no"), &[]).fails_with(&["doesn't exist"]);
    kiln.build(&context.join("file"), &[]).fails_with(&["is not a directory"]);
    kiln.run(&["build", "-f", "nowhere", folder]).fails_with(&["nowhere", "doesn't exist"]);
    kiln.build(&kiln.context(&[("Dockerfile.dev", "")]), &[])
        .fails_with(&["no Dockerfile", "Dockerfile.dev"]);
    kiln.build(&context, &["-t", "Bad Name"]).fails_with(&["Bad Name"]);
    assert_eq!(kiln.visible(), before);
}

#[test]
fn contexts_cannot_reach_out() {
    if !needs_root("contexts_cannot_reach_out") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        ("Dockerfile", "FROM busybox\nCOPY way/passwd /stolen\n"),
        ("way", "-> /etc"),
        ("up", "-> ../../../../../../../../etc/passwd"),
        ("Up", "FROM busybox\nCOPY up/ /stolen\n"),
        ("Loop", "FROM busybox\nCOPY loop/x /stolen\n"),
        ("loop", "-> loop"),
    ]);
    kiln.build(&context, &[]).fails_with(&["way/passwd"]);
    kiln.build(&context, &["-f", context.join("Loop").to_str().unwrap()]).fails_with(&["loop"]);
    let hostile =
        archive(&[("../../escaped", b'0', "", "x"), ("Dockerfile", b'0', "", "FROM busybox\nRUN true\n")]);
    kiln.run_with(&["build", "-"], &hostile).fails_with(&["../../escaped"]);
    let linked = archive(&[
        ("d", b'2', "/tmp", ""),
        ("d/kiln-escaped", b'0', "", "x"),
        ("Dockerfile", b'0', "", "FROM busybox\n"),
    ]);
    // A link is followed inside the root, as a process in it would.
    kiln.run_with(&["build", "-"], &linked).ok();
    assert!(!Path::new("/tmp/kiln-escaped").exists());
    // ADD unpacks archives under the same rules.
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nADD x.tar /\n")]);
    std::fs::write(context.join("x.tar"), archive(&[("../../escaped", b'0', "", "x")])).unwrap();
    kiln.build(&context, &[]).fails_with(&["../../escaped", ">>> ADD x.tar /"]);
}

/// A tar whose entries have these names as they are: name, type, link target, content.
fn archive(entries: &[(&str, u8, &str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, target, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A registry with an image `bad` of this one layer, whose config promises `diff_id` (its own when not given).
fn image(layer: &[u8], diff_id: Option<&str>) -> (FakeRegistry, Digest) {
    let registry = FakeRegistry::start();
    let own = Digest::of(layer).to_string();
    let config = json!({
        "architecture": Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id.unwrap_or(&own)] },
    });
    let digest = registry.put_image("bad", "latest", &[(media_type::OCI_LAYER, layer)], &config);
    (registry, digest)
}

/// Builds FROM a registry's image `bad`.
fn build_from(kiln: &Kiln, host: &str, name: &str) -> Ran {
    let context = kiln.context(&[("Dockerfile", &format!("FROM {host}/{name}\nRUN true\n"))]);
    kiln.build(&context, &["-t", "result"])
}

#[test]
fn registries_that_are_down_or_lie_are_told() {
    if !needs_root("registries_that_are_down_or_lie_are_told") {
        return;
    }
    let kiln = Kiln::busybox();
    let before = kiln.visible();
    let down = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    build_from(&kiln, &down, "x").fails_with(&[&down, "refused", "Dockerfile:1", "hint: "]);
    kiln.run(&["pull", &format!("{down}/x")]).fails_with(&[&down, "refused"]);

    let good = archive(&[("file", b'0', "", "content")]);
    let (registry, digest) = image(&good, None);
    build_from(&kiln, &registry.host(), "nowhere").fails_with(&["nowhere", "not found"]);
    registry.fault("GET /v2/bad/manifests", 9, Fault::Replace(b"{\"schemaVersion\":2}".to_vec()));
    build_from(&kiln, &registry.host(), &format!("bad@{digest}"))
        .fails_with(&["wrong content", &digest.to_string()]);

    let blob = format!("GET /v2/bad/blobs/{}", Digest::of(&good));
    let (registry, _) = image(&good, None);
    registry.fault(&blob, 99, Fault::Break(0));
    build_from(&kiln, &registry.host(), "bad").fails_with(&[&registry.host(), "connection broken"]);
    for fault in [Fault::Truncate(700), Fault::Replace(vec![b'x'; good.len()])] {
        let (registry, _) = image(&good, None);
        registry.fault(&blob, 99, fault.clone());
        let failed = build_from(&kiln, &registry.host(), "bad").fails_with(&["127.0.0.1"]);
        assert!(failed.error.contains(&Digest::of(&good).to_string()[..19]), "{fault:?}: {failed}");
    }
    let (registry, _) = image(&good, Some(&Digest::of(b"other").to_string()));
    build_from(&kiln, &registry.host(), "bad").fails_with(&["unpacks to"]);
    let (registry, _) = image(&good[..600], None);
    build_from(&kiln, &registry.host(), "bad").fails_with(&["truncated"]);
    assert_eq!(kiln.visible(), before);
    assert_eq!(names(&kiln.root().join("tmp")), Vec::<String>::new());
}

#[test]
fn layers_and_archives_cannot_reach_out_of_their_root() {
    if !needs_root("layers_and_archives_cannot_reach_out_of_their_root") {
        return;
    }
    let kiln = Kiln::busybox();
    let before = kiln.visible();
    let target = kiln.scratch().join("target");
    std::fs::write(&target, "untouched").unwrap();
    let outside = kiln.scratch().to_str().unwrap();
    let up = format!("{}{outside}", "../".repeat(20).trim_end_matches('/'));
    for entries in [
        &[("../../etc/passwd", b'0', "", "x")][..],
        &[("a/../../target", b'0', "", "x")],
        &[("d", b'2', outside, ""), ("d/target", b'0', "", "x")],
        &[("d", b'2', up.as_str(), ""), ("d/target", b'0', "", "x")],
        &[("h", b'1', target.to_str().unwrap(), ""), ("h", b'0', "", "x")],
        &[("h", b'1', "../../../../../../../etc/passwd", "")],
    ] {
        let layer = archive(entries);
        let name = entries[entries.len() - 1].0;
        let (registry, _) = image(&layer, None);
        build_from(&kiln, &registry.host(), "bad").fails_with(&[name]);
        kiln.run_with(&["import", "-", "imported"], &layer).fails_with(&[name]);
        let saved = docker_archive(&layer);
        kiln.run_with(&["load"], &saved).fails_with(&[name]);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched", "{entries:?}");
    }
    assert_eq!(kiln.visible(), before);
    assert_eq!(names(&kiln.root().join("tmp")), Vec::<String>::new());
    // Absolute names are names below the root, as every tool that unpacks layers takes them.
    let files = kiln.scratch().join("target");
    let layer = archive(&[(target.to_str().unwrap(), b'0', "", "x")]);
    kiln.run_with(&["import", "-", "absolute"], &layer).ok();
    assert_eq!(std::fs::read_to_string(files).unwrap(), "untouched");
}

/// What `docker save` writes for an image of one layer.
fn docker_archive(layer: &[u8]) -> Vec<u8> {
    let config = json!({
        "architecture": Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(layer).to_string()] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": ["loaded:latest"], "Layers": ["layer.tar"] }]);
    let mut tar = tar::Builder::new(Vec::new());
    let files = [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer.to_vec()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A small filesystem of its own; unmounted when dropped.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    pub(crate) fn new(folder: &Path, megabytes: u32) -> Self {
        let at = folder.join("disk");
        std::fs::create_dir(&at).unwrap();
        let disk = Self(at);
        disk.mount(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "kiln-test"]);
        disk
    }

    fn mount(&self, words: &[&str]) {
        // A flush that an earlier command left behind may still have files open.
        let mounted = || Command::new("mount").args(words).arg(&self.0).status().unwrap().success();
        assert!((0..200).any(|_| mounted() || {
            std::thread::sleep(Duration::from_millis(50));
            false
        }));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted =
            |how: &[&str]| Command::new("umount").args(how).arg(&self.0).status().is_ok_and(|s| s.success());
        // A flush in the background keeps it busy for a moment.
        for _ in 0..50 {
            if unmounted(&["-q"]) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        unmounted(&["-l"]);
    }
}

#[test]
fn a_full_disk_is_told_and_changes_nothing() {
    if !needs_root("a_full_disk_is_told_and_changes_nothing") {
        return;
    }
    let outside = Kiln::empty();
    let disk = Disk::new(outside.scratch(), 24);
    let kiln = Kiln::at(&disk.0.join("root"));
    kiln.run_with(&["import", "-", "busybox"], &busybox_tar()).ok();
    let before = kiln.visible();
    let big = "x".repeat(40 << 20);
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nCOPY big /\n"), ("big", &big)]);
    kiln.build(&context, &["-t", "big"]).fails_with(&[
        "No space left on device",
        ">>> COPY big /",
        "kiln prune",
    ]);
    assert_eq!(kiln.visible(), before);
    let run =
        kiln.context(&[("Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1048576 count=40\n")]);
    kiln.build(&run, &["-t", "big"]).fails_with(&["No space left on device", "exit code: 1"]);
    assert_eq!(kiln.visible(), before);
    let layer = archive(&[("big", b'0', "", &big)]);
    kiln.run_with(&["import", "-", "imported"], &layer)
        .fails_with(&["No space left on device", "kiln prune"]);
    let (registry, _) = image(&layer, None);
    build_from(&kiln, &registry.host(), "bad").fails_with(&["No space left on device", "kiln prune"]);
    assert_eq!(kiln.visible(), before);
    // What was half-made has been given back at once.
    assert_eq!(names(&kiln.root().join("tmp")), Vec::<String>::new());
    let small = kiln.context(&[("Dockerfile", "FROM busybox\nRUN echo small > /small\n")]);
    kiln.build(&small, &["-t", "small"]).ok();
}

#[test]
fn a_store_that_cannot_be_is_told() {
    if !needs_root("a_store_that_cannot_be_is_told") {
        return;
    }
    let outside = Kiln::empty();
    let disk = Disk::new(outside.scratch(), 24);
    let kiln = Kiln::at(&disk.0.join("root"));
    kiln.run_with(&["import", "-", "busybox"], &busybox_tar()).ok();
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    disk.mount(&["-o", "remount,ro"]);
    kiln.build(&context, &["-t", "x"]).fails_with(&["Read-only file system", kiln.root().to_str().unwrap()]);
    disk.mount(&["-o", "remount,rw"]);
    kiln.build(&context, &["-t", "x"]).ok();

    let file = outside.scratch().join("file");
    std::fs::write(&file, "").unwrap();
    Kiln::at(&file).build(&context, &[]).fails_with(&[file.to_str().unwrap(), "irectory"]);
    let other = outside.scratch().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("mine"), "").unwrap();
    Kiln::at(&other).build(&context, &[]).fails_with(&[other.to_str().unwrap(), "mine"]);
    assert_eq!(names(&other), ["mine"]);
}
