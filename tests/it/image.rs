//! Images between registries, archives and the store, with peers reading what kiln writes and the reverse.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use kiln::api::{Event, Events, Failure, FailureKind, PruneRequest, PullPolicy, Removed, Settings};
use kiln::engine::Engine;
use kiln::image::layer;
use kiln::oci::{Platform, Reference, media_type};
use kiln_cache::{Digest, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::needs_root;
use crate::support::registry::{DebianRegistry, FakeRegistry, Fault};

mod archive;

/// A store of its own.
struct Home {
    folder: TempDir,
    engine: Engine,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(&folder.path().join("root"));
        Self { folder, engine }
    }

    fn store(&self) -> Store {
        Store::open(&self.folder.path().join("root")).unwrap()
    }

    fn pull(&self, reference: &Reference) -> Result<Vec<String>, Failure> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let events = Events::new(move |event| {
            if let Event::Status(line) = event {
                sink.lock().unwrap().push(line);
            }
        });
        self.engine.pull(reference, &Platform::host(), &events)?;
        Ok(lines.lock().unwrap().clone())
    }

    fn import(&self, tar: &[u8], name: &str) -> String {
        let changes = ["CMD [\"/hello\"]".to_owned(), "ENV A=b".to_owned()];
        self.engine.import(&mut &tar[..], Some(&reference(name)), &changes, Some("made by a test")).unwrap()
    }

    fn save(&self, names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut out = Vec::new();
        self.engine.save(&names, &mut out).unwrap();
        out
    }

    fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> =
            self.engine.images().unwrap().into_iter().flat_map(|image| image.tags).collect();
        tags.sort();
        tags
    }

    /// Nothing visible, and nothing half-made on the disk.
    fn assert_empty(&self) {
        assert!(self.engine.images().unwrap().is_empty());
        let root = self.folder.path().join("root");
        for folder in ["snapshots", "tmp"] {
            let left: Vec<_> =
                std::fs::read_dir(root.join(folder)).unwrap().map(|item| item.unwrap().path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

fn engine(root: &Path) -> Engine {
    Engine::new(Settings {
        root: root.to_owned(),
        run: root.join("run"),
        certs: Vec::new(),
        source_date_epoch: Some(1_700_000_000),
        proxies: Vec::new(),
        programs: Vec::new(),
        known_hosts: None,
        cdi: Vec::new(),
        cache: kiln::api::CacheBounds { off: true, ..Default::default() },
        publish: Default::default(),
    })
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

/// A tar of files, `(name, content)`; a name with a slash at its end is a folder.
fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        // `set_path` would refuse what a hostile archive holds.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        let folder = name.ends_with('/');
        header.set_entry_type(if folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_size(content.len() as u64);
        header.set_cksum();
        out.extend(header.as_bytes());
        out.extend(content.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0; 1024]);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = layer::GzipWriter::new(Vec::new()).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn config(layers: &[&[u8]]) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    json!({
        "created": "2024-01-02T03:04:05Z", "architecture": Platform::host().architecture, "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/hello"], "OnBuild": ["RUN x"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [
            { "created": "2024-01-02T03:04:05Z", "created_by": "ADD files / # buildkit", "comment": "buildkit.dockerfile.v0" },
            { "created_by": "CMD [\"/hello\"]", "empty_layer": true },
            { "created_by": "RUN second" },
        ],
    })
}

/// An image of a gzip and a zstd layer.
fn two_layers(registry: &FakeRegistry, name: &str) -> Digest {
    let one = tar_of(&[("bin/", ""), ("bin/hello", "hi"), ("old", "gone soon")]);
    let two = tar_of(&[(".wh.old", ""), ("etc/motd", "welcome")]);
    let layers = [
        (media_type::OCI_LAYER_GZIP, gzip(&one)),
        (media_type::OCI_LAYER_ZSTD, zstd::encode_all(two.as_slice(), 3).unwrap()),
    ];
    let layers: Vec<(&str, &[u8])> = layers.iter().map(|(kind, bytes)| (*kind, bytes.as_slice())).collect();
    registry.put_image(name, "v1", &layers, &config(&[&one, &two]))
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn merged(home: &Home, name: &str) -> Vec<String> {
    let store = home.store();
    let image = kiln::image::find(&store, name).unwrap();
    let dirs: Vec<_> = image.chain.iter().map(|id| store.snapshot_dir(id)).collect();
    let mut names = Vec::new();
    layer::flatten(&dirs, &mut |node| {
        names.push(String::from_utf8(node.path.to_vec()).unwrap());
        Ok(())
    })
    .unwrap();
    names
}

#[test]
fn a_pulled_image_is_whole_and_pulled_once() {
    if !needs_root("a_pulled_image_is_whole_and_pulled_once") {
        return;
    }
    let (registry, home) = (FakeRegistry::start(), Home::new());
    let digest = two_layers(&registry, "team/app");
    let name = registry.reference("team/app:v1");
    let lines = home.pull(&name).unwrap();
    assert_eq!(lines[0], "v1: Pulling from team/app");
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Pull complete")).count(), 2);
    assert_eq!(lines[lines.len() - 2], format!("Digest: {digest}"));
    assert_eq!(lines[lines.len() - 1], format!("Status: Downloaded newer image for {}", name.familiar()));
    assert_eq!(merged(&home, &name.familiar()), ["", "bin", "bin/hello", "etc", "etc/motd"]);

    let blobs = registry.count("GET /v2/team/app/blobs/");
    let lines = home.pull(&name).unwrap();
    assert_eq!(lines.last().unwrap(), &format!("Status: Image is up to date for {}", name.familiar()));
    assert_eq!(registry.count("GET /v2/team/app/blobs/"), blobs);

    let rows = home.engine.history(&name.familiar()).unwrap();
    let shown: Vec<(&str, u64)> = rows.iter().map(|row| (row.created_by.as_str(), row.size)).collect();
    assert_eq!(shown, [("RUN second", 7), ("CMD [\"/hello\"]", 0), ("ADD files / # buildkit", 11)]);
    assert!(rows[0].image.is_some() && rows[1].image.is_none());
    let json = home.engine.inspect_image(&name.familiar()).unwrap();
    assert_eq!(json["RepoDigests"][0], format!("{}@{digest}", name.familiar_name()));
    assert_eq!(json["Config"]["OnBuild"][0], "RUN x");
    assert_eq!(json["RootFS"]["Layers"].as_array().unwrap().len(), 2);

    // Another name whose layers are here already.
    two_layers(&registry, "team/copy");
    let lines = home.pull(&registry.reference("team/copy:v1")).unwrap();
    assert_eq!(registry.count("GET /v2/team/copy/blobs/"), 0, "{lines:?}");
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    if !needs_root("an_index_gives_the_image_of_the_platform") {
        return;
    }
    let (registry, home) = (FakeRegistry::start(), Home::new());
    let digest = two_layers(&registry, "app");
    let size = registry.manifest("app", &digest.to_string()).unwrap().1.len();
    let entry = |architecture: &str| {
        json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest.to_string(), "size": size,
            "platform": { "os": "linux", "architecture": architecture } })
    };
    let index = |architectures: &[&str]| {
        let entries: Vec<Value> = architectures.iter().map(|name| entry(name)).collect();
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries }).to_string()
    };
    let host = Platform::host().architecture;
    registry.put_manifest("app", "multi", media_type::OCI_INDEX, index(&["s390x", &host]).as_bytes());
    home.pull(&registry.reference("app:multi")).unwrap();
    registry.put_manifest("app", "alien", media_type::OCI_INDEX, index(&["s390x"]).as_bytes());
    let failure = home.pull(&registry.reference("app:alien")).unwrap_err();
    assert!(
        failure.message.contains("no image for platform") && failure.message.contains("linux/s390x"),
        "{failure}"
    );
}

#[test]
fn damaged_and_hostile_images_leave_nothing() {
    if !needs_root("damaged_and_hostile_images_leave_nothing") {
        return;
    }
    let registry = FakeRegistry::start();
    let good = tar_of(&[("a", "b")]);
    let put = |name: &str, plain: &[u8], packed: &[u8]| {
        let config = json!({ "architecture": Platform::host().architecture, "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(plain).to_string()] } });
        registry.put_image(name, "latest", &[(media_type::OCI_LAYER_GZIP, packed)], &config);
    };
    let climbing = tar_of(&[("../../etc/passwd", "root::0:0")]);
    put("climbing", &climbing, &gzip(&climbing));
    put("other-diff", b"something else", &gzip(&good));
    let cut = &gzip(&tar_of(&[("a", &"x".repeat(100_000))]))[..80];
    put("cut", b"", cut);
    let short = &good[..700];
    put("short", short, &gzip(short));
    put("not-a-tar", &[7; 2000], &gzip(&[7; 2000]));
    put("swapped", &good, &gzip(&good));
    registry.fault("GET /v2/swapped/blobs/", 50, Fault::Replace(gzip(&tar_of(&[("evil", "1")]))));
    let mut extra = config(&[&good]);
    extra["rootfs"]["diff_ids"] = json!([]);
    registry.put_image("no-diffs", "latest", &[(media_type::OCI_LAYER_GZIP, &gzip(&good))], &extra);
    for (name, said) in [
        ("climbing", "../../etc/passwd"),
        ("other-diff", "unpacks to"),
        ("cut", "unpack"),
        ("short", "truncated"),
        ("not-a-tar", "is this a tar archive?"),
        ("swapped", ""),
        ("no-diffs", "0 layers and the manifest 1"),
    ] {
        let home = Home::new();
        let failure = home.pull(&registry.reference(name)).unwrap_err();
        let words = format!("{} {}", failure.message, failure.causes.join(" "));
        assert!(words.contains(said), "{name}: {words}");
        assert_eq!(failure.kind, FailureKind::Corrupt, "{name}: {words}");
        home.assert_empty();
    }
}

#[test]
fn a_registry_that_breaks_off_leaves_nothing() {
    if !needs_root("a_registry_that_breaks_off_leaves_nothing") {
        return;
    }
    let (registry, home) = (FakeRegistry::start(), Home::new());
    two_layers(&registry, "app");
    registry.fault("GET /v2/app/blobs/", 500, Fault::Status(404, Vec::new(), String::new()));
    assert!(home.pull(&registry.reference("app:v1")).is_err());
    home.assert_empty();
    assert!(home.pull(&registry.reference("app:nothing")).unwrap_err().kind == FailureKind::NotFound);
}

#[test]
fn the_same_layer_twice_is_one_snapshot() {
    if !needs_root("the_same_layer_twice_is_one_snapshot") {
        return;
    }
    let (registry, home) = (FakeRegistry::start(), Home::new());
    let plain = tar_of(&[("a", "1")]);
    let packed = gzip(&plain);
    let layer = (media_type::DOCKER_LAYER_GZIP, packed.as_slice());
    registry.put_image("twice", "latest", &[layer, layer], &config(&[&plain, &plain]));
    home.pull(&registry.reference("twice")).unwrap();
    assert_eq!(registry.count("GET /v2/twice/blobs/"), 2, "a config and a layer");
    assert_eq!(merged(&home, &registry.reference("twice").familiar()), ["", "a"]);
}

#[test]
fn two_pulls_at_once_fetch_each_layer_once() {
    if !needs_root("two_pulls_at_once_fetch_each_layer_once") {
        return;
    }
    let (registry, home) = (FakeRegistry::start(), Home::new());
    two_layers(&registry, "app");
    let name = registry.reference("app:v1");
    let root = home.folder.path().join("root");
    drop(home.store());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| engine(&root).pull(&name, &Platform::host(), &Events::none()).unwrap());
        }
    });
    let layers: Vec<String> = registry
        .seen()
        .iter()
        .filter(|seen| seen.method == "GET" && seen.path.contains("/blobs/"))
        .map(|seen| seen.path.clone())
        .collect();
    let config = home.engine.images().unwrap()[0].id.clone();
    let layers: Vec<&String> = layers.iter().filter(|path| !path.ends_with(&config)).collect();
    assert_eq!(layers.len(), 2, "{layers:?}");
}

#[test]
fn a_pulled_image_is_pushed_unchanged() {
    let name = "a_pulled_image_is_pushed_unchanged";
    if !needs_root(name) {
        return;
    }
    let Some(debian) = DebianRegistry::start(name) else { return };
    let (registry, home) = (FakeRegistry::start(), Home::new());
    let digest = two_layers(&registry, "app");
    let from = registry.reference("app:v1").familiar();
    home.pull(&registry.reference("app:v1")).unwrap();
    let target = debian.reference("copied/app:v2");
    home.engine.tag(&from, &target).unwrap();
    let pushed = home.engine.push(&target, &Events::none()).unwrap();
    assert_eq!(pushed.digest, digest.to_string());
    let raw = run("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{}", target.familiar())]);
    let seen: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(seen["Digest"], digest.to_string());
    // Pushed again, everything is there.
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let events = Events::new(move |event| sink.lock().unwrap().push(event));
    home.engine.push(&target, &events).unwrap();
    let lines = format!("{:?}", lines.lock().unwrap());
    assert!(lines.contains("Layer already exists") && !lines.contains(": Pushed"), "{lines}");
}

#[test]
fn a_made_image_goes_through_a_registry_and_comes_back_the_same() {
    let name = "a_made_image_goes_through_a_registry_and_comes_back_the_same";
    if !needs_root(name) {
        return;
    }
    let Some(debian) = DebianRegistry::start(name) else { return };
    let (one, two) = (Home::new(), Home::new());
    let target = debian.reference("made:latest");
    // A canonical tar, so that no blob is kept and the push has to pack.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::fs::write(folder.path().join("bin/hello"), "x".repeat(3 << 20)).unwrap();
    let mut tar = Vec::new();
    layer::tar(folder.path(), &mut tar, layer::Times::Kept).unwrap();
    let id = one.import(&tar, &target.familiar());
    let first = one.engine.push(&target, &Events::none()).unwrap();
    assert_eq!(one.engine.push(&target, &Events::none()).unwrap(), first);
    two.pull(&target).unwrap();
    assert_eq!(two.engine.images().unwrap()[0].id, id);
    let json = one.engine.inspect_image(&target.familiar()).unwrap();
    assert_eq!(json["RepoDigests"][0], format!("{}@{}", target.familiar_name(), first.digest));
    assert_eq!(json["Config"]["Cmd"][0], "/hello");
    assert_eq!(json["RepoTags"][0], target.familiar());
}

#[test]
fn an_import_takes_any_compression_and_its_changes() {
    if !needs_root("an_import_takes_any_compression_and_its_changes") {
        return;
    }
    let home = Home::new();
    let tar = tar_of(&[("hello", "x")]);
    let ids = [tar.clone(), gzip(&tar), zstd::encode_all(tar.as_slice(), 1).unwrap()]
        .map(|bytes| home.import(&bytes, "made"));
    assert!(ids[0] == ids[1] && ids[1] == ids[2]);
    let json = home.engine.inspect_image("made").unwrap();
    assert_eq!((&json["Config"]["Env"][0], &json["Comment"]), (&json!("A=b"), &json!("made by a test")));
    assert_eq!(json["Created"], "2023-11-14T22:13:20Z");

    let failure = home.engine.import(&mut &tar_of(&[("../x", "")])[..], None, &[], None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Corrupt);
    let failure = home.engine.import(&mut &tar[..], None, &["RUN true".to_owned()], None).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(home.engine.images().unwrap().len(), 1);
}

#[test]
fn removing_names_and_images_says_what_went() {
    if !needs_root("removing_names_and_images_says_what_went") {
        return;
    }
    let home = Home::new();
    let id = home.import(&tar_of(&[("a", "1")]), "box:v1");
    home.engine.tag("box:v1", &reference("box:v2")).unwrap();
    home.engine.tag(&id, &reference("other/box:v3")).unwrap();
    assert_eq!(home.tags(), ["box:v1", "box:v2", "other/box:v3"]);
    assert_eq!(home.engine.rmi("box:v2", false).unwrap(), [Removed::Untagged("box:v2".into())]);
    let short = &id["sha256:".len()..][..12];
    let failure = home.engine.rmi(short, false).unwrap_err();
    assert!(
        failure.message.contains("(must be forced) - image is referenced in multiple repositories"),
        "{failure}"
    );
    assert_eq!(failure.kind, FailureKind::Conflict);
    let removed = home.engine.rmi(short, true).unwrap();
    assert_eq!(removed[..2], [Removed::Untagged("box:v1".into()), Removed::Untagged("other/box:v3".into())]);
    assert_eq!(removed[2], Removed::Deleted(id));
    assert!(matches!(&removed[3..], [Removed::Deleted(_)]), "its layer: {removed:?}");
    home.assert_empty();

    let failure = home.engine.rmi("box", false).unwrap_err();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::NotFound, "no such image: box"));
}

#[test]
fn an_image_that_a_container_uses_stays() {
    if !needs_root("an_image_that_a_container_uses_stays") {
        return;
    }
    let home = Home::new();
    home.import(&tar_of(&[("a", "1")]), "used");
    let store = home.store();
    let image = kiln::image::find(&store, "used").unwrap();
    let user =
        |running| kiln::image::ImageUse { image: image.id, container: "0123456789abcdef".into(), running };
    let remove = |name: &str, force, running| kiln::image::remove(&store, name, force, &[user(running)]);
    let message = remove("used", false, false).unwrap_err().to_string();
    assert!(message.contains(
        "unable to remove repository reference \"used:latest\" (must force) - container 0123456789ab"
    ));
    let id = image.id.short();
    assert!(
        remove(&id, false, false)
            .unwrap_err()
            .to_string()
            .contains("(must be forced) - image is being used by stopped")
    );
    assert!(
        remove(&id, true, true)
            .unwrap_err()
            .to_string()
            .contains("(cannot be forced) - image is being used by running")
    );
    assert_eq!(remove("used", true, true).unwrap(), [Removed::Untagged("used:latest".into())]);
    assert_eq!(home.engine.images().unwrap().len(), 1, "a running container keeps it, nameless");
}

#[test]
fn pruning_takes_dangling_images_and_frees_their_bytes() {
    if !needs_root("pruning_takes_dangling_images_and_frees_their_bytes") {
        return;
    }
    let home = Home::new();
    let old = home.import(&tar_of(&[("a", &"1".repeat(100_000))]), "app");
    home.import(&tar_of(&[("a", "2")]), "app");
    assert_eq!(home.engine.images().unwrap().len(), 2);
    let dangling = PruneRequest { images: true, ..PruneRequest::default() };
    let report = home.engine.prune(&dangling).unwrap();
    assert_eq!(report.images[0], Removed::Deleted(old));
    assert!(report.bytes >= 100_000, "{report:?}");
    assert_eq!(home.tags(), ["app:latest"]);
    home.engine.prune(&PruneRequest { all: true, ..dangling }).unwrap();
    home.assert_empty();
}

#[test]
fn images_are_found_by_all_their_names() {
    if !needs_root("images_are_found_by_all_their_names") {
        return;
    }
    let home = Home::new();
    let id = home.import(&tar_of(&[("a", "1")]), "debian:bookworm");
    let events = Events::none();
    let hex = &id["sha256:".len()..];
    for name in
        ["debian:bookworm", "docker.io/library/debian:bookworm", &id, hex, &hex[..12], &hex[..4], &id[..15]]
    {
        let found = home.engine.ensure_image(name, PullPolicy::Never, &events).unwrap();
        assert_eq!(found.id.to_string(), id, "{name}");
    }
    for slip in ["debain:bookworm", "debian", "debian:bookwrm"] {
        let failure = home.engine.ensure_image(slip, PullPolicy::Never, &events).unwrap_err();
        assert_eq!(failure.hints, ["did you mean `debian:bookworm`?"], "{slip}");
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    if !needs_root("a_full_disk_is_said_and_leaves_nothing") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = Mounted::new(folder.path(), "size=8m");
    let engine = engine(&folder.path().join("root"));
    let mut big = tar_of(&[("small", "x")]);
    big.truncate(1024);
    let mut rest = tar_of(&[("big", &"x".repeat(20 << 20))]);
    big.append(&mut rest);
    let failure = engine.import(&mut big.as_slice(), None, &[], None).unwrap_err();
    let words = format!("{} {}", failure.message, failure.causes.join(" "));
    assert!(words.contains("No space left"), "{words}");
    assert!(failure.hints[0].contains("kiln prune"), "{:?}", failure.hints);
    assert_eq!(failure.kind, FailureKind::System);
    assert!(engine.images().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(folder.path().join("root/tmp")).unwrap().count(), 0);
    engine.import(&mut tar_of(&[("small", "x")]).as_slice(), None, &[], None).unwrap();
    drop(engine);
    drop(mount);
}

/// A small filesystem, unmounted when dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(folder: &Path, options: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &folder.display().to_string()]);
        Self(folder.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_merged_root_is_exported_as_tar_and_as_folder() {
    if !needs_root("a_merged_root_is_exported_as_tar_and_as_folder") {
        return;
    }
    let (registry, home) = (FakeRegistry::start(), Home::new());
    two_layers(&registry, "app");
    home.pull(&registry.reference("app:v1")).unwrap();
    let store = home.store();
    let image = kiln::image::find(&store, &registry.reference("app:v1").familiar()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let layers: Vec<_> = image.chain.iter().map(|id| (*id, layer::Times::Kept)).collect();
    kiln::image::export_dir(&store, &layers, out.path()).unwrap();
    let mut text = String::new();
    std::fs::File::open(out.path().join("bin/hello")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi");
    assert!(!out.path().join("old").exists());
    let mut tar = Vec::new();
    kiln::image::export_tar(&store, &layers, &mut tar).unwrap();
    let mut archive = tar::Archive::new(tar.as_slice());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["bin/", "bin/hello", "etc/", "etc/motd"]);
}
