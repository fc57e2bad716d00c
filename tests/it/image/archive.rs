//! Archives of images: what kiln saves, what it loads, and who else reads and writes them.

use super::*;

#[test]
fn peers_read_what_kiln_saves() {
    if !needs_root("peers_read_what_kiln_saves") {
        return;
    }
    let (registry, home) = (FakeRegistry::start(), Home::new());
    two_layers(&registry, "app");
    let pulled = registry.reference("app:v1").familiar();
    home.pull(&registry.reference("app:v1")).unwrap();
    home.import(&tar_of(&[("hello", "x"), ("sub/file", "y")]), "made:v1");
    for name in ["made:v1", &pulled] {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name).display().to_string();
        std::fs::write(path("docker.tar"), home.save(&[name])).unwrap();
        let seen = run("skopeo", &["inspect", &format!("docker-archive:{}", path("docker.tar"))]);
        let seen: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["Os"], "linux");
        let seen = run("skopeo", &["inspect", &format!("oci-archive:{}", path("docker.tar"))]);
        assert!(seen.contains("Digest"));

        run("mkdir", &[&path("layout")]);
        run("tar", &["-xf", &path("docker.tar"), "-C", &path("layout")]);
        // Debian's umoci knows no zstd.
        if name == "made:v1" {
            run("umoci", &["unpack", "--image", &format!("{}:v1", path("layout")), &path("bundle")]);
            let mut found: Vec<String> = walkdir::WalkDir::new(path("bundle/rootfs"))
                .into_iter()
                .map(|item| {
                    item.unwrap().path().strip_prefix(path("bundle/rootfs")).unwrap().display().to_string()
                })
                .collect();
            found.sort();
            assert_eq!(found, merged(&home, name));
        }

        let storage = ["--root", &path("storage"), "--runroot", &path("run"), "--storage-driver", "vfs"];
        let loaded = run("podman", &[&storage[..], &["load", "-i", &path("docker.tar")]].concat());
        assert!(loaded.contains(&name.rsplit('/').next().unwrap().to_owned()), "{loaded}");
    }
}

#[test]
fn kiln_loads_what_peers_write() {
    if !needs_root("kiln_loads_what_peers_write") {
        return;
    }
    let (source, scratch) = (Home::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| scratch.path().join(name).display().to_string();
    source.import(&tar_of(&[("bin/", ""), ("bin/hello", "x")]), "made:v1");
    std::fs::write(path("kiln.tar"), source.save(&["made:v1"])).unwrap();
    let storage = ["--root", &path("storage"), "--runroot", &path("run"), "--storage-driver", "vfs"];
    run("podman", &[&storage[..], &["load", "-q", "-i", &path("kiln.tar")]].concat());
    let name = "docker.io/library/made:v1";
    // An image of two layers, committed by buildah.
    let container = run("buildah", &[&storage[..], &["from", "--pull-never", name]].concat());
    let container = container.trim();
    run("buildah", &[&storage[..], &["copy", container, &path("kiln.tar"), "/copied"]].concat());
    run("buildah", &[&storage[..], &["commit", "-q", container, "docker.io/library/peer:v2"]].concat());
    for (format, file) in [("docker-archive", "d.tar"), ("oci-archive", "o.tar")] {
        run(
            "podman",
            &[&storage[..], &["save", "--format", format, "-o", &path(file), "docker.io/library/peer:v2"]]
                .concat(),
        );
        let home = Home::new();
        let bytes = std::fs::read(path(file)).unwrap();
        for archive in [bytes.clone(), gzip(&bytes)] {
            let names = home.engine.load(&mut archive.as_slice()).unwrap();
            assert_eq!(names, ["peer:v2"], "{format}");
        }
        assert_eq!(merged(&home, "peer:v2"), ["", "bin", "bin/hello", "copied"], "{format}");
        let seen = run(
            "podman",
            &[&storage[..], &["inspect", "--format", "{{.Id}}", "docker.io/library/peer:v2"]].concat(),
        );
        if format == "oci-archive" {
            assert_eq!(home.engine.images().unwrap()[0].id, format!("sha256:{}", seen.trim()));
        }
    }
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &format!("docker-archive:{}", path("kiln.tar")),
            &format!("oci:{}:made:v1", path("oci")),
        ],
    );
    run("tar", &["-cf", &path("oci.tar"), "-C", &path("oci"), "."]);
    let home = Home::new();
    home.engine.load(&mut std::fs::File::open(path("oci.tar")).unwrap()).unwrap();
    assert_eq!(home.engine.images().unwrap()[0].id, source.engine.images().unwrap()[0].id);
}

#[test]
fn saving_and_loading_gives_the_same_images() {
    if !needs_root("saving_and_loading_gives_the_same_images") {
        return;
    }
    let (registry, one, two) = (FakeRegistry::start(), Home::new(), Home::new());
    two_layers(&registry, "app");
    let pulled = registry.reference("app:v1").familiar();
    one.pull(&registry.reference("app:v1")).unwrap();
    one.import(&tar_of(&[("hello", "x")]), "made:v1");
    one.engine.tag("made:v1", &reference("made:latest")).unwrap();
    let names = ["made:v1", "made", pulled.as_str()];
    let archive = one.save(&names);
    assert!(archive == one.save(&names), "the same images give the same archive");
    let mut loaded = two.engine.load(&mut archive.as_slice()).unwrap();
    loaded.sort();
    assert_eq!(loaded, [pulled.as_str(), "made:latest", "made:v1"].map(str::to_owned));
    assert_eq!(one.tags(), two.tags());
    let ids =
        |home: &Home| home.engine.images().unwrap().into_iter().map(|image| image.id).collect::<Vec<_>>();
    assert_eq!(ids(&one), ids(&two));
    assert!(two.save(&names) == archive, "an archive survives a round trip");
}

#[test]
fn archives_that_lie_are_refused_whole() {
    if !needs_root("archives_that_lie_are_refused_whole") {
        return;
    }
    let plain = tar_of(&[("a", "b")]);
    let text = |value: &Value| value.to_string();
    let config_text = text(&json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&plain).to_string()] } }));
    let list = |layer: &str| text(&json!([{ "Config": "c.json", "RepoTags": ["x:y"], "Layers": [layer] }]));
    let as_text = String::from_utf8(plain.clone()).unwrap();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("neither", tar_of(&[("readme", "x")])),
        ("not in it", tar_of(&[("c.json", &config_text), ("manifest.json", &list("missing/layer.tar"))])),
        ("not in it", tar_of(&[("c.json", &config_text), ("manifest.json", &list("../../../etc/passwd"))])),
        ("leaves the root", tar_of(&[("../manifest.json", "[]")])),
        (
            "unpacks to",
            tar_of(&[("c.json", &config_text), ("l.tar", "wrong"), ("manifest.json", &list("l.tar"))]),
        ),
        ("is not valid", tar_of(&[("manifest.json", "{")])),
        ("no image", tar_of(&[("manifest.json", "[]")])),
        ("checksum", vec![9; 4096]),
        ("truncated", tar_of(&[("c.json", &config_text)])[..600].to_vec()),
    ];
    for (said, archive) in cases {
        let home = Home::new();
        let failure = home.engine.load(&mut archive.as_slice()).unwrap_err();
        let words = format!("{} {}", failure.message, failure.causes.join(" "));
        assert!(
            words.contains(said)
                || (said == "unpacks to" && words.contains("cannot unpack `l.tar` of the archive")),
            "{said}: {words}"
        );
        home.assert_empty();
    }
    let home = Home::new();
    let archive = tar_of(&[("c.json", &config_text), ("l.tar", &as_text), ("manifest.json", &list("l.tar"))]);
    assert_eq!(home.engine.load(&mut archive.as_slice()).unwrap(), ["x:y"]);
}

#[test]
fn old_docker_archives_link_equal_layers() {
    if !needs_root("old_docker_archives_link_equal_layers") {
        return;
    }
    let home = Home::new();
    let layer = tar_of(&[("a", "1")]);
    let diff_id = Digest::of(&layer).to_string();
    let config = json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [diff_id, diff_id] } })
    .to_string();
    let list = json!([{ "Config": "c.json", "RepoTags": null, "Layers": ["aa/layer.tar", "bb/layer.tar"] }]);
    let text = String::from_utf8(layer).unwrap();
    let mut archive =
        tar_of(&[("c.json", &config), ("aa/layer.tar", &text), ("manifest.json", &list.to_string())]);
    archive.truncate(archive.len() - 1024);
    let mut link = tar::Header::new_gnu();
    link.set_path("bb/layer.tar").unwrap();
    link.set_link_name("../aa/layer.tar").unwrap();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_cksum();
    archive.extend(link.as_bytes());
    archive.extend([0; 1024]);
    let names = home.engine.load(&mut archive.as_slice()).unwrap();
    assert_eq!(names, [home.engine.images().unwrap()[0].id.clone()], "it has no name");
    assert_eq!(merged(&home, &names[0]), ["", "a"]);
}
