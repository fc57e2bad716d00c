//! ADD of addresses: downloads.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::Digest as _;

use crate::support::binary::{Kiln, Ran, Step, read};
use crate::support::http::{Reply, WebServer};
use crate::support::needs_root;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&sha2::Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build(kiln: &Kiln, dockerfile: &str) -> Ran {
    kiln.build(&kiln.context(&[("Dockerfile", dockerfile), ("local.txt", "local")]), &["-t", "out"])
}

#[test]
fn a_downloaded_file_has_mode_600_and_the_servers_time() {
    if !needs_root("a_downloaded_file_has_mode_600_and_the_servers_time") {
        return;
    }
    let kiln = Kiln::empty();
    let server = WebServer::start(|asked| match asked.path.as_str() {
        "/a/one%20file?x=1" => Reply::ok("one").header("Last-Modified", MODIFIED),
        "/" => Reply::ok("unnamed"),
        "/two.txt" => Reply::ok("two"),
        _ => Reply::status(404),
    });
    let context = kiln.context(&[
        ("local.txt", "local"),
        (
            "Dockerfile",
            &format!(
                "FROM scratch\nADD [\"{}\", \"{}\", \"local.txt\", \"/d/\"]\nADD --chmod=644 --chown=7:8 {} <<H /e/\nheredoc\nH\nADD {} /name\n",
                server.url("/a/one%20file?x=1"),
                server.url("/"),
                server.url("/two.txt"),
                server.url("/two.txt"),
            ),
        ),
    ]);
    let out = kiln.build_files(&context, &[]);
    let stat = |name: &str| {
        let stat = std::fs::metadata(out.path().join(name)).unwrap();
        (stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime())
    };
    assert_eq!(stat("d/one file"), (0o600, 0, 0, 784_111_777));
    assert_eq!(stat("d/__unnamed__"), (0o600, 0, 0, 0));
    assert_eq!(stat("d/local.txt").0, 0o644);
    assert_eq!(stat("e/two.txt"), (0o644, 7, 8, 0));
    assert_eq!(
        (read(&out, "d/one file"), read(&out, "e/H"), read(&out, "name")),
        ("one".into(), "heredoc\n".into(), "two".into())
    );
    let twice = server.seen().iter().filter(|asked| asked.path == "/two.txt").count();
    assert_eq!(twice, 1, "one build asks once");
}

#[test]
fn an_unchanged_file_is_not_downloaded_again_and_later_steps_stay_cached() {
    if !needs_root("an_unchanged_file_is_not_downloaded_again_and_later_steps_stay_cached") {
        return;
    }
    let kiln = Kiln::busybox();
    let version = Arc::new(AtomicUsize::new(1));
    let server = WebServer::start({
        let version = Arc::clone(&version);
        move |asked| {
            let version = version.load(Ordering::Relaxed);
            let body = format!("version {version}");
            match asked.path.as_str() {
                "/tagged" => Reply::file(asked, body.as_bytes(), &format!("\"v{version}\"")),
                _ => Reply::ok(body),
            }
        }
    });
    let dockerfile = |path: &str| format!("FROM busybox\nADD {} /f\nRUN cat /f\n", server.url(path));
    for path in ["/tagged", "/plain"] {
        version.store(1, Ordering::Relaxed);
        let first = build(&kiln, &dockerfile(path)).ok();
        assert!(first.error.contains("version 1"), "{first}");
        let second = build(&kiln, &dockerfile(path)).ok();
        assert_eq!(second.id(), first.id(), "{second}");
        assert_eq!(second.ended(Step::Done), Vec::<String>::new(), "{second}");
        version.store(2, Ordering::Relaxed);
        let third = build(&kiln, &dockerfile(path)).ok();
        assert!(third.error.contains("version 2"), "{third}");
    }
    let asked: Vec<String> = server
        .seen()
        .iter()
        .filter(|asked| asked.path == "/tagged")
        .map(|asked| asked.header("if-none-match").to_owned())
        .collect();
    assert_eq!(asked, ["", "\"v1\"", "\"v1\""]);
}

#[test]
fn a_checksum_is_verified_and_needs_no_network_the_second_time() {
    if !needs_root("a_checksum_is_verified_and_needs_no_network_the_second_time") {
        return;
    }
    let kiln = Kiln::empty();
    let server = WebServer::start(|_| Reply::ok("content"));
    let add = |checksum: &str| format!("FROM scratch\nADD --checksum={checksum} {} /f\n", server.url("/f"));
    for checksum in [
        sha256(b"content"),
        format!("sha384:{}", hex(&sha2::Sha384::digest(b"content"))),
        format!("sha512:{}", hex(&sha2::Sha512::digest(b"content"))),
    ] {
        let before = server.seen().len();
        let first = build(&kiln, &add(&checksum)).ok();
        assert_eq!(build(&kiln, &add(&checksum)).ok().id(), first.id());
        assert_eq!(server.seen().len(), before + 1, "the second build asked nobody");
    }
    let wrong = sha256(b"other");
    build(&kiln, &add(&wrong)).fails_with(&[
        "checksum of",
        &format!("expected `{wrong}`, got `{}`", sha256(b"content")),
        &format!("hint: if the file was meant to change, write `--checksum={}`", sha256(b"content")),
        ">>> ADD --checksum",
    ]);
    build(&kiln, &add("md5:00")).fails_with(&["unsupported checksum algorithm `md5`"]);
    let several = format!("FROM scratch\nADD --checksum={wrong} {} local.txt /f/\n", server.url("/f"));
    build(&kiln, &several).fails_with(&["checksum can't be specified for multiple sources"]);
    let local = format!("FROM scratch\nADD --checksum={wrong} local.txt /f/\n");
    build(&kiln, &local).fails_with(&["checksum requires HTTP(S) or Git sources"]);
    build(&kiln, &format!("FROM scratch\nCOPY {} /\n", server.url("/f")))
        .fails_with(&["source can't be a URL for COPY"]);
}

#[test]
fn a_linked_download_belongs_to_whom_the_image_knows() {
    if !needs_root("a_linked_download_belongs_to_whom_the_image_knows") {
        return;
    }
    let kiln = Kiln::busybox();
    let server = WebServer::start(|_| Reply::ok("f"));
    let url = server.url("/f");
    let text = format!(
        "FROM busybox\nADD --link --chown=user:staff --chmod=u=rw,go= {url} local.txt /l/\nADD --link {url} /m\n"
    );
    let context = kiln.context(&[("Dockerfile", &text), ("local.txt", "local")]);
    let out = kiln.build_files(&context, &[]);
    for name in ["l/f", "l/local.txt"] {
        let stat = std::fs::metadata(out.path().join(name)).unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o777), (1000, 50, 0o600), "{name}");
    }
    assert_eq!(read(&out, "m"), "f");
}

#[test]
fn a_downloaded_archive_is_unpacked_only_when_asked() {
    if !needs_root("a_downloaded_archive_is_unpacked_only_when_asked") {
        return;
    }
    let kiln = Kiln::empty();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    tar.append_data(&mut header, "inside", &b"in"[..]).unwrap();
    let archive = tar.into_inner().unwrap();
    let server = WebServer::start(move |_| Reply::ok(archive.clone()));
    let url = server.url("/x.tar");
    let dockerfile = format!(
        "FROM scratch\nADD {url} /kept/\nADD --unpack {url} /open/\nADD --unpack=false {url} /shut/\n"
    );
    let out = kiln.build_files(&kiln.context(&[("Dockerfile", &dockerfile)]), &[]);
    assert_eq!(read(&out, "open/inside"), "in");
    assert!(out.path().join("kept/x.tar").is_file() && out.path().join("shut/x.tar").is_file());
}

#[test]
fn a_download_that_breaks_goes_on_where_it_broke() {
    if !needs_root("a_download_that_breaks_goes_on_where_it_broke") {
        return;
    }
    let kiln = Kiln::empty();
    let body: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    let expected = sha256(&body);
    let server = WebServer::start(move |asked| {
        let reply = Reply::file(asked, &body, "\"x\"");
        match (asked.path.as_str(), asked.header("range")) {
            ("/ranges", "") => reply.cut(2_000_000),
            // Knows no ranges, and breaks once.
            ("/whole", "") => Reply::ok(body.clone()).header("ETag", "\"y\"").cut(2_500_000),
            ("/whole", _) => Reply::ok(body.clone()).header("ETag", "\"y\""),
            _ => reply,
        }
    });
    for path in ["/ranges", "/whole"] {
        let dockerfile = format!("FROM scratch\nADD --checksum={expected} {} /f\n", server.url(path));
        // The second one has the same checksum, and so is asked for anew.
        build(&kiln, &dockerfile).ok();
        kiln.ok(&["prune", "-a", "-f"]);
    }
    let ranges: Vec<String> = server.seen().iter().map(|asked| asked.header("range").to_owned()).collect();
    assert!(ranges[1].starts_with("bytes=2000000-") && ranges[3].starts_with("bytes=2500000-"), "{ranges:?}");
}

#[test]
fn what_a_server_does_wrong_is_said_plainly() {
    if !needs_root("what_a_server_does_wrong_is_said_plainly") {
        return;
    }
    let kiln = Kiln::empty();
    let server = WebServer::start(|asked| match asked.path.as_str() {
        "/round" => Reply::status(302).header("Location", "/round"),
        "/file" => Reply::status(302).header("Location", "file:///etc/passwd"),
        "/login" => Reply::status(401),
        "/huge" => Reply::ok("x").announce(1 << 60),
        "/there" => Reply::status(307).header("Location", "/here"),
        "/here" => Reply::ok("here"),
        _ => Reply::status(404),
    });
    let add = |url: &str| build(&kiln, &format!("FROM scratch\nADD {url} /f\n"));
    let url = |path: &str| server.url(path);
    add(&url("/no")).fails_with(&["the server answered 404 Not Found", ">>> ADD http"]);
    add(&url("/round")).fails_with(&["it redirects without end"]);
    add(&url("/file")).fails_with(&["it redirects to something else than http"]);
    add(&url("/login")).fails_with(&["401 Unauthorized", "--secret id=HTTP_AUTH_TOKEN_127.0.0.1,env="]);
    add(&url("/huge")).fails_with(&["it has more than 68719476736 bytes"]);
    add(&url("/there")).ok();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    add(&format!("http://127.0.0.1:{port}/x"))
        .fails_with(&["connection refused", "check that the server runs"]);
    add("http://no.such.host.invalid/x").fails_with(&["its name can't be resolved"]);
    let tls =
        add(&format!("https://u:secret@{}/x", server.host())).fails_with(&["TLS failed", "https://u:***@"]);
    let said = tls.error.lines().filter(|line| line.starts_with("error")).collect::<String>();
    assert!(!said.contains("secret"), "{tls}");
    add("http://[::1/x").fails_with(&["is no address"]);
}
