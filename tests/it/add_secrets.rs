//! Credentials of other machines: they reach their host, no other, and stay nowhere.

use std::path::Path;

use crate::support::binary::{Kiln, run};
use crate::support::git::{Repository, serve_with};
use crate::support::http::{Reply, WebServer};
use crate::support::needs_root;

const TOKEN: &str = "t0ken-that-nobody-may-see";

/// Builds with the token as the secret `id`; gives everything that was said.
fn build(kiln: &Kiln, dockerfile: &str, id: &str) -> String {
    let context = kiln.context(&[("Dockerfile", dockerfile)]);
    let secret = format!("id={id},env=TOKEN");
    let mut command = kiln.build_command(&context, &["-t", "out", "--secret", &secret]);
    let ran = run(command.env("TOKEN", TOKEN)).ok();
    format!("{}{}", ran.out, ran.error)
}

/// Panics when the token (as it is, or as git's header has it) is in any file of the store.
fn is_nowhere(kiln: &Kiln, said: &str) {
    // base64 of `x-access-token:` and the token, without its last digits.
    let encoded = "eC1hY2Nlc3MtdG9rZW46dDBrZW4tdGhhdC1ub2JvZHktbWF5LXNl";
    let has = |bytes: &[u8]| {
        [TOKEN, encoded].iter().any(|text| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    assert!(!has(said.as_bytes()), "{said}");
    // The trash is emptied beside this.
    kiln.settle();
    for entry in walkdir::WalkDir::new(kiln.root()).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!has(&bytes), "{}", entry.path().display());
        }
    }
}

#[test]
fn a_download_gets_the_token_of_its_host_and_a_redirect_does_not() {
    if !needs_root("a_download_gets_the_token_of_its_host_and_a_redirect_does_not") {
        return;
    }
    let kiln = Kiln::empty();
    let other = WebServer::start(|_| Reply::ok("there"));
    let there = other.url("/there");
    let server = WebServer::start(move |asked| match (asked.path.as_str(), asked.header("authorization")) {
        (_, "") => Reply::status(401),
        ("/away", _) => Reply::status(302).header("Location", &there),
        ("/round", _) => Reply::status(302).header("Location", "/file"),
        _ => Reply::ok("here"),
    });
    for path in ["/file", "/away", "/round"] {
        for host in [server.host(), "127.0.0.1".to_owned()] {
            let dockerfile = format!("FROM scratch\nADD {} /f\n", server.url(path));
            let said = build(&kiln, &dockerfile, &format!("HTTP_AUTH_TOKEN_{host}"));
            is_nowhere(&kiln, &said);
        }
    }
    assert!(server.seen().iter().all(|asked| asked.header("authorization") == format!("Bearer {TOKEN}")));
    assert!(!other.seen().is_empty());
    assert!(other.seen().iter().all(|asked| asked.header("authorization").is_empty()));

    let raw = format!("FROM scratch\nADD {} /raw\n", server.url("/raw"));
    build(&kiln, &raw, &format!("HTTP_AUTH_HEADER_{}", server.host()));
    assert_eq!(server.seen().last().unwrap().header("authorization"), TOKEN);
}

#[test]
fn a_repository_gets_the_token_of_its_host_and_a_redirect_does_not() {
    if !needs_root("a_repository_gets_the_token_of_its_host_and_a_redirect_does_not") {
        return;
    }
    let kiln = Kiln::empty();
    let repository = Repository::new(&[("a", "one"), ("Dockerfile", "FROM scratch\nCOPY a /\n")]);
    let other = serve_with(&[("r", &repository)], |_| None);
    let there = other.url("");
    let server = serve_with(&[("r", &repository)], move |asked| match asked.header("authorization") {
        "" => Some(Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")),
        _ if asked.path.contains("away") => {
            Some(Reply::status(301).header("Location", format!("{there}{}", asked.path.replace("away", "r"))))
        }
        _ => None,
    });
    let dockerfile = format!("FROM scratch\nADD --keep-git-dir {} /\n", server.url("/r.git"));
    for id in [format!("GIT_AUTH_TOKEN.{}", server.host()), "GIT_AUTH_TOKEN".to_owned()] {
        let said = build(&kiln, &dockerfile, &id);
        is_nowhere(&kiln, &said);
    }
    let mut main =
        kiln.build_command(Path::new(&server.url("/r.git")), &["--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"]);
    run(main.env("TOKEN", TOKEN)).ok();

    let away = kiln.context(&[("Dockerfile", &format!("FROM scratch\nADD {} /\n", server.url("/away.git")))]);
    let mut command = kiln.build_command(&away, &["--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"]);
    let ran = run(command.env("TOKEN", TOKEN)).fails_with(&["the repository has moved"]);
    is_nowhere(&kiln, &ran.error);
    assert!(other.seen().iter().all(|asked| asked.header("authorization").is_empty()), "{:?}", other.seen());
}
