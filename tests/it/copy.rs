//! COPY and ADD with their flags, from the command line.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::binary::{Kiln, Step, read};
use crate::support::needs_root;

/// The diffIDs of an image, base first.
fn layers(kiln: &Kiln, image: &str) -> Vec<String> {
    let inspected: serde_json::Value = serde_json::from_str(&kiln.ok(&["image", "inspect", image])).unwrap();
    let layers = inspected[0]["RootFS"]["Layers"].as_array().unwrap();
    layers.iter().map(|layer| layer.as_str().unwrap().to_owned()).collect()
}

/// Octal mode, user and group of a file.
fn stat(root: &Path, name: &str) -> (String, u32, u32) {
    let stat = fs::symlink_metadata(root.join(name)).unwrap();
    (format!("{:o}", stat.mode() & 0o7777), stat.uid(), stat.gid())
}

#[test]
fn a_linked_layer_survives_a_change_of_what_stands_below() {
    if !needs_root("a_linked_layer_survives_a_change_of_what_stands_below") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox AS files\nRUN echo made > /made\nFROM busybox\nARG V\nRUN echo $V > /v; echo app:x:70$V:71:::>> /etc/passwd\n\
             COPY --link --chmod=640 f /opt/x/f\nCOPY --link --from=files /made /\nADD --link --chown=5:6 d /d/\n",
        ),
        ("f", "f"),
        ("d/e", "e"),
    ]);
    let build = |v: &str| kiln.build(&context, &["-t", v, "--build-arg", &format!("V={v}")]).ok();
    assert_eq!(build("1").ended(Step::Done).len(), 5);
    let second = build("2");
    assert_eq!(second.ended(Step::Done), ["RUN echo 2 > /v; echo app:x:702:71:::>> /etc/passwd"], "{second}");
    let (one, two) = (layers(&kiln, "1"), layers(&kiln, "2"));
    assert_eq!(one[one.len() - 3..], two[two.len() - 3..]);
    assert_ne!(one[..one.len() - 3], two[..two.len() - 3]);
    let files = kiln.build_files(&context, &["--build-arg", "V=2"]);
    assert_eq!((read(&files, "v").trim(), read(&files, "made").trim()), ("2", "made"));
    assert_eq!(stat(files.path(), "opt/x/f"), ("640".into(), 0, 0));
    // An octal --chmod is also the mode of directories that are made for the copy, less 022.
    assert_eq!(stat(files.path(), "opt/x"), ("640".into(), 0, 0));
    assert_eq!(stat(files.path(), "d"), ("755".into(), 5, 6));
    assert_eq!(stat(files.path(), "d/e"), ("644".into(), 5, 6));
}

/// As docker does it, with a layer of its own nevertheless.
#[test]
fn a_linked_copy_with_a_mode_goes_into_what_is_there_and_runs_again_when_that_is_another_directory() {
    if !needs_root(
        "a_linked_copy_with_a_mode_goes_into_what_is_there_and_runs_again_when_that_is_another_directory",
    ) {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox\nARG V\nARG MODE\nRUN mkdir -p /a/b && ln -s a/b /l && chmod $MODE /a && echo $V > /v\n\
             COPY --link --chmod=755 f /l\nCOPY --link --chmod=go-r f /bin/\n",
        ),
        ("f", "f"),
    ]);
    let build = |v: &str, mode: &str| {
        let (v, mode) = (format!("V={v}"), format!("MODE={mode}"));
        kiln.build(&context, &["-t", "made", "--build-arg", &v, "--build-arg", &mode]).ok()
    };
    let ran = |v: &str, mode: &str| build(v, mode).ended(Step::Done).len();
    assert_eq!(ran("1", "711"), 3);
    assert_eq!(ran("2", "711"), 1, "another base with the same directories");
    assert_eq!(ran("2", "1777"), 2, "the first copy has another directory above it");
    let files = kiln.build_files(&context, &["--build-arg", "V=2", "--build-arg", "MODE=1777"]);
    assert_eq!(fs::read_link(files.path().join("l")).unwrap(), Path::new("a/b"));
    assert_eq!(stat(files.path(), "a/b/f"), ("755".into(), 0, 0));
    assert_eq!(stat(files.path(), "a"), ("1777".into(), 0, 0));
    assert_eq!(stat(files.path(), "bin/f"), ("600".into(), 0, 0));
    assert!(files.path().join("bin/sh").exists());
}

/// Names are looked up where the copy goes; only their numbers matter.
#[test]
fn a_linked_copy_by_name_runs_again_when_the_name_means_somebody_else() {
    if !needs_root("a_linked_copy_by_name_runs_again_when_the_name_means_somebody_else") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox\nARG V\nARG ID\nRUN echo $V > /v; echo app:x:$ID:9::: >> /etc/passwd; echo app:x:8: >> /etc/group\n\
             COPY --link --chown=app:app f /f\n",
        ),
        ("f", "f"),
    ]);
    let build = |v: &str, id: &str| {
        let (v, id) = (format!("V={v}"), format!("ID={id}"));
        let built = kiln.build(&context, &["--build-arg", &v, "--build-arg", &id]).ok();
        let copied = built.ended(Step::Done).iter().any(|step| step.starts_with("COPY"));
        let files = kiln.build_files(&context, &["--build-arg", &v, "--build-arg", &id]);
        (copied, stat(files.path(), "f"))
    };
    let owned = |uid: u32| ("644".to_owned(), uid, 8);
    assert_eq!(build("1", "100"), (true, owned(100)));
    assert_eq!(build("2", "100"), (false, owned(100)), "another base with the same numbers");
    assert_eq!(build("2", "101"), (true, owned(101)));
    let text = fs::read_to_string(context.join("Dockerfile")).unwrap();
    fs::write(context.join("Dockerfile"), text.replace("app:app", "nobody-here")).unwrap();
    kiln.build(&context, &[]).fails_with(&["unknown user `nobody-here`", "COPY --link"]);
}

/// docker.io 28.2.2: the linked layer's folders replace links of the base, and hide nothing else.
#[test]
fn a_linked_copy_follows_no_link_of_the_base_and_keeps_its_files() {
    if !needs_root("a_linked_copy_follows_no_link_of_the_base_and_keeps_its_files") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox\nRUN mkdir -p /real /both && echo r > /real/r && ln -s real /way && echo b > /both/b\n\
             COPY --link f /way/f\nCOPY --link f /both/\nCOPY f /way/again\nRUN cat /way/f /both/b /both/f /real/r\n",
        ),
        ("f", "f"),
    ]);
    let files = kiln.build_files(&context, &[]);
    assert!(files.path().join("way").symlink_metadata().unwrap().is_dir());
    assert!(!files.path().join("real/f").exists());
    for name in ["way/f", "way/again", "both/b", "both/f", "real/r"] {
        assert!(files.path().join(name).exists(), "{name}");
    }
}

#[test]
fn files_of_a_stage_that_came_out_the_same_are_not_copied_again() {
    if !needs_root("files_of_a_stage_that_came_out_the_same_are_not_copied_again") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox AS made\nARG V\nRUN echo $V; echo same > /same\nFROM busybox\nCOPY --from=made /same /same\nRUN cat /same\n",
    )]);
    let build = |v: &str| kiln.build(&context, &["--build-arg", &format!("V={v}")]).ok();
    let first = build("1");
    let second = build("2");
    assert_eq!(second.ended(Step::Done), ["RUN echo 2; echo same > /same"], "{second}");
    assert_eq!(second.id(), first.id());
}

/// The second copy is looked up by content first: what was read for that isn't read again, and is right.
#[test]
fn files_of_a_stage_that_came_out_otherwise_are_copied_as_they_are_now() {
    if !needs_root("files_of_a_stage_that_came_out_otherwise_are_copied_as_they_are_now") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox AS made\nARG V\nRUN mkdir /m; head -c 3000000 /dev/zero > /m/z; echo same > /m/same; echo $V > /m/v; \
         ln /m/v /m/w\nFROM scratch\nCOPY --from=made /m /m\n",
    )]);
    for v in ["one", "two", "three", "one"] {
        let files = kiln.build_files(&context, &["--build-arg", &format!("V={v}")]);
        assert_eq!(
            (read(&files, "m/v").trim(), read(&files, "m/w").trim(), read(&files, "m/same").trim()),
            (v, v, "same")
        );
        assert_eq!(fs::metadata(files.path().join("m/z")).unwrap().len(), 3_000_000);
    }
}

#[test]
fn flags_work_together_and_from_stages_named_by_variables() {
    if !needs_root("flags_work_together_and_from_stages_named_by_variables") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox AS one\nRUN mkdir -p /src/a/b && echo one > /src/a/b/f && chmod 700 /src/a && chown 7:8 /src/a/b\n\
             FROM busybox AS two\nRUN mkdir -p /src/a && echo two > /src/a/two.o && touch /src/a/keep\n\
             FROM busybox\nARG WHICH=one\nCOPY --link --from=$WHICH --parents --chmod=g=u,o+X /src/./a/** /out\n\
             ARG WHICH=two\nCOPY --from=${WHICH} --parents --exclude=**/*.o /src/a /out\nCOPY --parents d/./e /\n",
        ),
        ("d/e/f", "f"),
    ]);
    let files = kiln.build_files(&context, &[]);
    for (name, expected) in [
        ("out", ("755", 0, 0)),
        ("out/a", ("771", 0, 0)),
        ("out/a/b", ("775", 7, 8)),
        ("out/a/b/f", ("664", 0, 0)),
        ("out/src/a/keep", ("644", 0, 0)),
        ("e/f", ("644", 0, 0)),
    ] {
        let (mode, uid, gid) = stat(files.path(), name);
        assert_eq!((mode.as_str(), uid, gid), expected, "{name}");
    }
    assert!(!files.path().join("out/src/a/two.o").exists());
    let other = kiln.build_files(&context, &["--build-arg", "WHICH=two"]);
    assert!(other.path().join("out/a/two.o").exists() && !other.path().join("out/a/b").exists());
}

/// The archives of testdata/archives: found by their content, whatever they are called.
#[test]
fn bzip2_and_xz_archives_are_unpacked_as_contexts_by_add_and_by_import() {
    if !needs_root("bzip2_and_xz_archives_are_unpacked_as_contexts_by_add_and_by_import") {
        return;
    }
    let kiln = Kiln::busybox();
    let archives = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/archives");
    for name in ["tiny.tar.bz2", "tiny.tar.xz"] {
        let archive = fs::read(archives.join(name)).unwrap();
        let built = kiln.run_with(&["build", "-t", "piped", "--network", "none", "-"], &archive).ok();
        assert_eq!(built.code, 0);
        let context = kiln.context(&[(
            "Dockerfile",
            "FROM scratch\nADD archive /on/\nADD --unpack=false archive /off/\nADD --unpack=true --link archive /linked/\n\
             COPY archive /copied\n",
        )]);
        fs::write(context.join("archive"), &archive).unwrap();
        let files = kiln.build_files(&context, &[]);
        for file in ["on/src/a", "linked/src/a"] {
            assert_eq!(read(&files, file), "a", "{name} {file}");
        }
        for file in ["off/archive", "copied"] {
            assert_eq!(fs::read(files.path().join(file)).unwrap(), archive, "{name} {file}");
        }
        let path = archives.join(name);
        kiln.ok(&["import", path.to_str().unwrap(), "imported"]);
        assert_eq!(layers(&kiln, "imported").len(), 1);
    }
    let context = kiln.context(&[("Dockerfile", "FROM scratch\nADD a /\n")]);
    fs::copy(archives.join("dictionary-of-4-gib.tar.xz"), context.join("a")).unwrap();
    kiln.build(&context, &[]).fails_with(&["cannot unpack `/a`", "its xz dictionary is over 128 MiB"]);
}

/// How many files in the store's layers have a second name.
fn shared_files(kiln: &Kiln) -> usize {
    let layers = walkdir::WalkDir::new(kiln.root().join("snapshots")).into_iter().map(Result::unwrap);
    layers.filter(|entry| entry.file_type().is_file() && entry.metadata().unwrap().nlink() > 1).count()
}

#[test]
fn an_image_rebuilt_after_a_change_is_that_of_a_cold_build() {
    if !needs_root("an_image_rebuilt_after_a_change_is_that_of_a_cold_build") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox\nCOPY --chown=7:8 src /app\nADD src/sub /added/\nRUN cat /app/changed\n",
        ),
        ("src/same", "same"),
        ("src/changed", "one"),
        ("src/renamed", "renamed"),
        ("src/touched", "touched"),
        ("src/sub/same", "same below"),
    ]);
    let at = |name: &str| context.join("src").join(name);
    kiln.build(&context, &["-t", "built"]).ok();
    assert_eq!(shared_files(&kiln), 0);
    fs::write(at("changed"), "two").unwrap();
    fs::rename(at("renamed"), at("moved")).unwrap();
    fs::hard_link(at("moved"), at("sub/linked")).unwrap();
    let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    fs::File::open(at("touched")).unwrap().set_times(time).unwrap();
    let rebuilt = kiln.build(&context, &["-t", "built"]).ok();
    assert!(rebuilt.error.contains("two"), "{rebuilt}");
    // `same` and `sub/same` in /app, and `same` in /added; each in two layers. The names of `moved` are of one layer.
    assert_eq!(shared_files(&kiln), 3 * 2 + 2);
    let cold = Kiln::busybox();
    cold.build(&context, &["-t", "built"]).ok();
    assert_eq!(layers(&kiln, "built")[..3], layers(&cold, "built")[..3]);
    kiln.build(&context, &["-t", "anew", "--no-cache"]).ok();
    assert_eq!(layers(&kiln, "anew")[..3], layers(&cold, "built")[..3]);
    assert_eq!(shared_files(&kiln), 3 * 2 + 2 * 2, "without the cache nothing is taken over");
}
