//! Contexts of every kind: directories, archives, repositories, downloads, named ones.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::support::binary::{Kiln, Ran, Step, read, run};
use crate::support::git::{Repository, serve};
use crate::support::http::{Reply, WebServer};
use crate::support::needs_root;

/// Builds with the context `context`, which need not be a path, and gives the files of the result.
fn files(kiln: &Kiln, context: &str, words: &[&str]) -> tempfile::TempDir {
    kiln.build_files(Path::new(context), words)
}

fn fails(kiln: &Kiln, context: &str, words: &[&str], said: &[&str]) -> Ran {
    kiln.build(Path::new(context), words).fails_with(said)
}

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(target) = content.strip_prefix("-> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, target).unwrap();
        } else {
            header.set_size(content.len() as u64);
            // `append_data` would refuse what a hostile archive holds.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const ALL: &str = "FROM scratch\nCOPY . /\n";

#[test]
fn a_repository_is_a_context_with_its_ignore_file() {
    if !needs_root("a_repository_is_a_context_with_its_ignore_file") {
        return;
    }
    let kiln = Kiln::empty();
    let repository = Repository::new(&[
        ("Dockerfile", ALL),
        (".dockerignore", "hidden\n"),
        ("hidden", "h"),
        ("shown", "s"),
        ("app/dockerfile", "FROM scratch\nCOPY . /lower/\n"),
        ("app/file", "f"),
        ("other.Dockerfile", "FROM scratch\nCOPY shown /other\n"),
        ("other.Dockerfile.dockerignore", "nothing\n"),
        ("evil.Dockerfile", "-> /etc/passwd"),
    ]);
    let server = serve(&[("r", &repository)]);
    let url = server.url("/r.git");
    let out = files(&kiln, &url, &[]);
    assert!(out.path().join("shown").exists() && !out.path().join("hidden").exists());
    assert!(!out.path().join(".git").exists());
    assert_eq!(read(&files(&kiln, &format!("{url}#main:app"), &[]), "lower/file"), "f");
    assert_eq!(read(&files(&kiln, &url, &["-f", "other.Dockerfile"]), "other"), "s");
    let kept = files(&kiln, &url, &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]);
    assert!(kept.path().join(".git/HEAD").exists());

    let local = kiln.context(&[("D", "FROM scratch\nCOPY hidden shown /abs/\n"), ("D.dockerignore", "x")]);
    let absolute = local.join("D");
    assert_eq!(read(&files(&kiln, &url, &["-f", absolute.to_str().unwrap()]), "abs/hidden"), "h");

    let second = kiln.build(Path::new(&url), &["-t", "x"]).ok();
    let third = kiln.build(Path::new(&url), &["-t", "x"]).ok();
    assert_eq!((third.id(), third.ended(Step::Done)), (second.id(), Vec::new()), "{third}");
    assert!(third.error.contains("[internal] load the build context http://"), "{third}");

    fails(&kiln, &url, &["-f", "evil.Dockerfile"], &["no Dockerfile `evil.Dockerfile`"]);
    fails(
        &kiln,
        &url,
        &["-f", "no"],
        &["there is no Dockerfile `no` in the build context", "`-f Dockerfile`"],
    );
    fails(&kiln, &format!("{url}#nope"), &[], &["has no branch, tag or commit `nope`"]);
    fails(&kiln, &format!("{url}?what=1"), &[], &["unexpected query `what`"]);
}

#[test]
fn a_downloaded_archive_or_dockerfile_is_a_context() {
    if !needs_root("a_downloaded_archive_or_dockerfile_is_a_context") {
        return;
    }
    let kiln = Kiln::empty();
    let archive = tar_of(&[("Dockerfile", ALL), (".dockerignore", "b"), ("a", "1"), ("b", "2")]);
    let hostile = tar_of(&[("Dockerfile", ALL), ("../../../out", "x")]);
    let linked = tar_of(&[("Dockerfile", "-> /etc/passwd")]);
    let server = WebServer::start(move |asked| match asked.path.as_str() {
        "/x.tar" => Reply::file(asked, &archive, "\"1\""),
        "/x.tgz" => Reply::ok(gzip(&archive)),
        "/hostile" => Reply::ok(hostile.clone()),
        "/linked" => Reply::ok(linked.clone()),
        "/Dockerfile" => Reply::ok("FROM scratch\nCOPY <<EOF /one\none\nEOF\n"),
        "/page" => Reply::ok("<!doctype html><p>log in first"),
        "/binary" => Reply::ok(vec![0xff; 100]),
        "/local" => Reply::ok("FROM scratch\nCOPY local /\n"),
        _ => Reply::status(404),
    });
    for path in ["/x.tar", "/x.tgz", "/x.tar"] {
        let out = files(&kiln, &server.url(path), &[]);
        assert!(out.path().join("a").exists() && !out.path().join("b").exists(), "{path}");
    }
    assert_eq!(read(&files(&kiln, &server.url("/Dockerfile"), &[]), "one"), "one\n");
    fails(&kiln, &server.url("/hostile"), &[], &["leads out of it"]);
    fails(&kiln, &server.url("/linked"), &[], &["there is no Dockerfile"]);
    fails(&kiln, &server.url("/binary"), &[], &["is not valid UTF-8"]);
    fails(&kiln, &server.url("/page"), &[], &["unknown instruction"]);
    fails(&kiln, &server.url("/no"), &[], &["404 Not Found"]);

    let local = kiln.context(&[("local", "l")]);
    let url = server.url("/local");
    assert_eq!(read(&files(&kiln, local.to_str().unwrap(), &["-f", &url]), "local"), "l");
    let words = ["build", "--network", "none", "-f", "-", &server.url("/x.tar")];
    kiln.run_with(&words, ALL.as_bytes()).ok();
}

#[test]
fn named_contexts_stand_for_images_stages_and_sources() {
    if !needs_root("named_contexts_stand_for_images_stages_and_sources") {
        return;
    }
    let kiln = Kiln::busybox();
    let repository = Repository::new(&[("from-git", "g"), (".dockerignore", "no"), ("no", "n")]);
    let server = serve(&[("r", &repository)]);
    let archive = tar_of(&[("from-tar", "t")]);
    let web = WebServer::start(move |asked| match asked.path.as_str() {
        "/x.tar" => Reply::ok(archive.clone()),
        _ => Reply::ok("plain"),
    });
    let src = kiln.context(&[("file", "f"), ("secret", "s"), (".dockerignore", "secret")]);
    let rootfs = kiln.context(&[("bin/tool*", "tool"), ("etc/x", "y")]);
    let main = kiln.context(&[(
        "Dockerfile",
        "FROM alpine:latest AS base\n\
         FROM busybox AS replaced\nRUN false\n\
         FROM scratch\n\
         COPY --from=src / /src/\nCOPY --from=git / /git/\nCOPY --from=tar / /tar/\nCOPY --from=one / /one/\n\
         COPY --from=img /bin/busybox /\nCOPY --from=base / /base/\nCOPY --from=replaced /file /replaced\n",
    )]);
    let words = [
        format!("src={}", src.display()),
        format!("docker.io/library/alpine={}", rootfs.display()),
        format!("replaced={}", src.display()),
        format!("git={}", server.url("/r.git")),
        format!("tar={}", web.url("/x.tar")),
        format!("one={}", web.url("/dir/one.txt")),
        "img=docker-image://busybox".to_owned(),
        "unused=docker-image://no.such.registry.invalid/x".to_owned(),
        format!("sr={}", src.display()),
    ];
    let flags: Vec<&str> = words.iter().flat_map(|word| ["--build-context", word.as_str()]).collect();
    let out = kiln.build_files(&main, &flags);
    let there = |name: &str| out.path().join(name).exists();
    assert!(there("src/file") && !there("src/secret") && there("git/from-git") && !there("git/no"));
    assert_eq!(read(&out, "one/one.txt"), "plain");
    assert!(there("tar/from-tar") && there("busybox") && there("base/etc/x") && there("replaced"));
    let tool = std::fs::metadata(out.path().join("base/bin/tool")).unwrap();
    assert_eq!((tool.mode() & 0o777, tool.uid()), (0o755, 0));

    let told = kiln.build(&main, &flags).ok();
    assert!(told.error.contains("build context `sr` is not used"), "{told}");
    assert!(told.error.contains("did you mean src?"), "{told}");
    assert!(told.error.contains("build context `unused` is not used"), "{told}");
    assert_eq!(told.ended(Step::Done), Vec::<String>::new(), "{told}");
    let mount = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=from=src,target=/m cat /m/file && test ! -e /m/secret\n",
    )]);
    kiln.build(&mount, &flags[..2]).ok();

    std::fs::write(src.join("file"), "changed").unwrap();
    let changed = kiln.build(&main, &flags).ok();
    assert!(changed.ended(Step::Done).iter().any(|name| name.contains("--from=src")), "{changed}");
}

#[test]
fn an_oci_layout_is_a_named_context() {
    if !needs_root("an_oci_layout_is_a_named_context") {
        return;
    }
    let kiln = Kiln::busybox();
    let archive = kiln.scratch().join("layout.tar");
    let source = kiln.context(&[("Dockerfile", "FROM busybox\nENV A=b\nRUN echo hi > /hi\n")]);
    let output = format!("type=oci,dest={}", archive.display());
    kiln.build(&source, &["-t", "base:v1", "-o", &output]).ok();
    let layout = kiln.context(&[("x", "")]);
    tar::Archive::new(std::fs::File::open(&archive).unwrap()).unpack(&layout).unwrap();

    let other = Kiln::empty();
    let main = other.context(&[("Dockerfile", "FROM base\nRUN test \"$A\" = b && cat /hi\n")]);
    for place in [layout.display().to_string(), format!("{}:v1", layout.display())] {
        let word = format!("base=oci-layout://{place}");
        let built = other.build(&main, &["--no-cache", "--build-context", &word]).ok();
        assert!(built.error.contains("hi\n") && built.error.contains("FROM oci-layout://"), "{built}");
    }
    let wrong = format!("base=oci-layout://{}:v2", layout.display());
    other.build(&main, &["--build-context", &wrong]).fails_with(&["it has no image `v2` (tags: v1)"]);
    let none = format!("base=oci-layout://{}", main.display());
    other.build(&main, &["--build-context", &none]).fails_with(&["is no OCI layout: it has no `index.json`"]);
}

#[test]
fn modes_of_a_checkout_count_as_git_keeps_them_when_asked() {
    if !needs_root("modes_of_a_checkout_count_as_git_keeps_them_when_asked") {
        return;
    }
    let kiln = Kiln::empty();
    let checkout = |file: u32, program: u32, folder: u32| {
        let context = kiln.context(&[("Dockerfile", ALL), ("d/file", "f"), ("d/run", "r")]);
        for (name, mode) in [("d/file", file), ("d/run", program), ("d", folder), ("Dockerfile", file)] {
            std::fs::set_permissions(context.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        context
    };
    let (strict, lax) = (checkout(0o600, 0o700, 0o700), checkout(0o664, 0o775, 0o775));
    let build = |context: &Path, words: &[&str]| kiln.build(context, words).ok();
    let git = ["--context-modes", "git"];
    let first = build(&strict, &git);
    let second = build(&lax, &git);
    assert_eq!((second.id(), second.ended(Step::Done)), (first.id(), Vec::new()), "{second}");
    let out = kiln.build_files(&lax, &git);
    let mode = |name: &str| std::fs::metadata(out.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("d/file"), mode("d/run"), mode("d")), (0o644, 0o755, 0o755));
    assert_ne!(build(&lax, &[]).id(), first.id());
    let mut by_variable = kiln.build_command(&strict, &[]);
    assert_eq!(run(by_variable.env("KILN_CONTEXT_MODES", "git")).ok().id(), first.id());
    kiln.build(&lax, &["--context-modes", "x"]).fails_with(&["invalid value `x` of --context-modes"]);
}

#[test]
fn pipes_sockets_and_links_of_a_context_do_no_harm() {
    if !needs_root("pipes_sockets_and_links_of_a_context_do_no_harm") {
        return;
    }
    let kiln = Kiln::empty();
    let context = kiln.context(&[
        ("Dockerfile", "FROM scratch\nCOPY . /all/\n"),
        ("One", "FROM scratch\nCOPY pipe /\n"),
        ("Out", "FROM scratch\nCOPY out /out\n"),
        ("Round", "FROM scratch\nCOPY round /round\n"),
        ("out", "-> ../../../../../../etc/passwd"),
        ("round", "-> round"),
    ]);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let pipe = context.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(context.join("socket")).unwrap();
    let out = kiln.build_files(&context, &[]);
    assert!(!out.path().join("all/socket").exists());
    let link = std::fs::read_link(out.path().join("all/out")).unwrap();
    assert_eq!(link, Path::new("../../../../../../etc/passwd"), "a link inside is copied as it is");
    let with = |file: &str| {
        let file = context.join(file);
        kiln.build(&context, &["-f", file.to_str().unwrap()])
    };
    with("One").fails_with(&["cannot copy `/pipe`: it is neither a file nor a directory"]);
    with("Out").fails_with(&["`/out`: not found"]);
    with("Round").fails_with(&["too many symbolic links"]);
}

#[test]
fn an_image_can_carry_the_time_of_its_context() {
    if !needs_root("an_image_can_carry_the_time_of_its_context") {
        return;
    }
    let kiln = Kiln::empty();
    let repository = Repository::new(&[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "f")]);
    let server = serve(&[("r", &repository)]);
    let created = |context: &Path, epoch: &str| {
        let arg = format!("SOURCE_DATE_EPOCH={epoch}");
        kiln.build(context, &["-t", "timed", "--build-arg", &arg]).ok();
        kiln.ok(&["image", "inspect", "--format", "{{.Created}}", "timed"]).trim().to_owned()
    };
    assert_eq!(created(Path::new(&server.url("/r.git")), "context"), "2023-11-14T22:13:20Z");
    assert_eq!(created(Path::new(&server.url("/r.git")), "86400"), "1970-01-02T00:00:00Z");
    let dockerfile = "FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL at=$SOURCE_DATE_EPOCH\nCOPY f /\n";
    let local = kiln.context(&[("Dockerfile", dockerfile), ("f", "f"), (".dockerignore", "n")]);
    for name in ["Dockerfile", "f", ".dockerignore"] {
        let file = std::fs::File::options().write(true).open(local.join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    }
    std::fs::write(local.join("n"), "newer, and hidden").unwrap();
    assert_eq!(created(&local, "context"), "2001-09-09T01:46:40Z");
    assert_eq!(kiln.config("timed")["Labels"]["at"], "1000000000");
    kiln.build(&local, &["--build-arg", "SOURCE_DATE_EPOCH=stage"])
        .fails_with(&["SOURCE_DATE_EPOCH is `stage`: only unix seconds and `context` are supported"]);
}
