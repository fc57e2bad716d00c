//! ADD of git repositories.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::support::binary::{Kiln, Ran, Step, read, run};
use crate::support::git::{Repository, serve, serve_with};
use crate::support::http::Reply;
use crate::support::needs_root;

fn build(kiln: &Kiln, dockerfile: &str) -> Ran {
    kiln.build(&kiln.context(&[("Dockerfile", dockerfile)]), &["-t", "out"])
}

fn files(kiln: &Kiln, add: &str) -> tempfile::TempDir {
    let dockerfile = format!("FROM scratch\nADD {add}\n");
    kiln.build_files(&kiln.context(&[("Dockerfile", &dockerfile)]), &[])
}

#[test]
fn a_branch_a_tag_a_commit_and_a_folder_of_a_repository_can_be_added() {
    if !needs_root("a_branch_a_tag_a_commit_and_a_folder_of_a_repository_can_be_added") {
        return;
    }
    let kiln = Kiln::empty();
    let repository = Repository::new(&[("a", "one"), ("deep/b", "b"), ("link", "-> a")]);
    let first = repository.head();
    repository.git(&["tag", "-m", "x", "v1"]);
    let program = repository.path().join("run");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    repository.commit(&[("a", "two")]);
    repository.git(&["branch", "side/way"]);
    let server = serve(&[("r", &repository)]);
    let url = server.url("/r.git");

    let out = files(&kiln, &format!("{url} /src/"));
    assert_eq!(read(&out, "src/a"), "two");
    assert_eq!(std::fs::read_link(out.path().join("src/link")).unwrap().to_str(), Some("a"));
    let stat = |name: &str| std::fs::metadata(out.path().join(name)).unwrap();
    assert_eq!(
        (stat("src/a").mode() & 0o777, stat("src/run").mode() & 0o777, stat("src/a").uid()),
        (0o644, 0o755, 0)
    );
    assert!(!out.path().join("src/.git").exists());

    for (text, content) in [
        (format!("{url}#v1"), "one"),
        (format!("{url}?tag=v1"), "one"),
        (format!("{url}#side/way"), "two"),
        (format!("{url}?branch=main"), "two"),
        (format!("{url}#{first}"), "one"),
        (format!("{url}?commit={first}"), "one"),
        (format!("{url}?ref=v1&checksum={}", &first[..10]), "one"),
    ] {
        assert_eq!(read(&files(&kiln, &format!("{text} /")), "a"), content, "{text}");
    }
    assert_eq!(read(&files(&kiln, &format!("{url}#:deep /x")), "x/b"), "b");
    let some = files(&kiln, &format!("--exclude=deep --exclude=*n {url} /some/"));
    assert!(some.path().join("some/a").exists() && !some.path().join("some/deep").exists());
    assert!(!some.path().join("some/run").exists());
    let times = files(&kiln, &format!("{url}?mtime=commit /timed/"));
    assert_eq!(std::fs::metadata(times.path().join("timed/a")).unwrap().mtime(), 1_700_000_000);

    let fails = |add: &str, words: &[&str]| {
        drop(build(&kiln, &format!("FROM scratch\nADD {add}\n")).fails_with(words))
    };
    fails(&format!("{url}#no /"), &["has no branch, tag or commit `no`", ">>> ADD"]);
    fails(&format!("{url}#:no /"), &["has no folder `no`"]);
    fails(&format!("{url}#:link /"), &["has no folder `link`: `link` is a symbolic link"]);
    fails(&format!("{url}#:a /"), &["has no folder `a`: `a` is a file"]);
    fails(
        &format!("--checksum={first} {url}#main /"),
        &["checksum of", &format!("expected commit `{first}`")],
    );
    fails(&format!("{} /", server.url("/none.git")), &["cannot reach", "not found"]);
}

#[test]
fn an_unchanged_branch_is_not_fetched_again() {
    if !needs_root("an_unchanged_branch_is_not_fetched_again") {
        return;
    }
    let kiln = Kiln::busybox();
    let repository = Repository::new(&[("a", "one")]);
    let server = serve(&[("r", &repository)]);
    let dockerfile = format!("FROM busybox\nADD {}#main /src\nRUN cat /src/a\n", server.url("/r.git"));
    let posts = || server.seen().iter().filter(|asked| asked.method == "POST").count();
    let first = build(&kiln, &dockerfile).ok();
    let fetched = posts();
    let second = build(&kiln, &dockerfile).ok();
    assert_eq!((second.id(), second.ended(Step::Done)), (first.id(), Vec::new()), "{second}");
    assert_eq!(posts(), fetched + 1, "one question, no fetch");
    let commit = repository.commit(&[("a", "two")]);
    assert!(build(&kiln, &dockerfile).ok().error.contains("two"));

    let fixed = format!("FROM scratch\nADD {}#{commit} /\n", server.url("/r.git"));
    build(&kiln, &fixed).ok();
    let asked = server.seen().len();
    build(&kiln, &fixed).ok();
    assert_eq!(server.seen().len(), asked, "a commit that is there needs no network");
}

#[test]
fn the_git_folder_comes_only_when_it_is_kept() {
    if !needs_root("the_git_folder_comes_only_when_it_is_kept") {
        return;
    }
    let kiln = Kiln::empty();
    let repository = Repository::new(&[("a", "one")]);
    let server = serve(&[("r", &repository)]);
    let url = format!("http://me:hunter2@{}/r.git", server.host());
    for add in [format!("--keep-git-dir {url} /src"), format!("{url}?keep-git-dir=1 /src")] {
        let out = files(&kiln, &add);
        let mut git = Command::new("git");
        git.args(["-c", "safe.directory=*", "log", "-1", "--format=%H"]).current_dir(out.path().join("src"));
        assert_eq!(run(&mut git).ok().out.trim(), repository.head());
        let config = read(&out, "src/.git/config");
        assert!(config.contains("me:***@") && !config.contains("hunter2"), "{config}");
        assert!(!out.path().join("src/.git/FETCH_HEAD").exists());
    }
    kiln.settle();
    for entry in walkdir::WalkDir::new(kiln.root()).into_iter().map(Result::unwrap) {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        // The history of an image has the instruction as it was written.
        let is_config = bytes.starts_with(b"{") && entry.path().starts_with(kiln.root().join("blobs"));
        let found = bytes.windows(7).any(|part| part == b"hunter2");
        assert!(is_config || !found, "{}", entry.path().display());
    }
}

#[test]
fn submodules_come_along_but_none_from_this_machines_files() {
    if !needs_root("submodules_come_along_but_none_from_this_machines_files") {
        return;
    }
    let kiln = Kiln::empty();
    let inner = Repository::new(&[("inner", "in")]);
    let outer = Repository::new(&[("outer", "out")]);
    let evil = Repository::new(&[("evil", "e")]);
    let server = serve(&[("inner", &inner), ("outer", &outer), ("evil", &evil)]);
    outer.git(&["submodule", "--quiet", "add", &server.url("/inner.git"), "sub"]);
    outer.git(&["config", "-f", ".gitmodules", "submodule.sub.url", "../inner.git"]);
    outer.commit(&[]);
    let out = files(&kiln, &format!("{} /", server.url("/outer.git")));
    assert_eq!(read(&out, "sub/inner"), "in");
    assert!(!out.path().join("sub/.git").exists());
    let without = files(&kiln, &format!("{}?submodules=0 /", server.url("/outer.git")));
    assert!(!without.path().join("sub/inner").exists());

    evil.git(&["submodule", "--quiet", "add", &inner.path().display().to_string(), "sub"]);
    evil.commit(&[]);
    build(&kiln, &format!("FROM scratch\nADD {} /\n", server.url("/evil.git")))
        .fails_with(&["transport 'file' not allowed", "`?submodules=false` leaves them out"]);
}

#[test]
fn a_repository_that_asks_for_a_password_says_which_secret_to_give() {
    if !needs_root("a_repository_that_asks_for_a_password_says_which_secret_to_give") {
        return;
    }
    let kiln = Kiln::empty();
    let repository = Repository::new(&[("a", "one")]);
    let server = serve_with(&[("r", &repository)], |asked| {
        asked
            .header("authorization")
            .is_empty()
            .then(|| Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""))
    });
    build(&kiln, &format!("FROM scratch\nADD {} /\n", server.url("/r.git"))).fails_with(&[
        "Authentication failed",
        &format!("--secret id=GIT_AUTH_TOKEN.{},env=", server.host()),
    ]);
}

#[test]
fn a_hostile_configuration_of_the_user_and_of_the_repository_is_not_read() {
    if !needs_root("a_hostile_configuration_of_the_user_and_of_the_repository_is_not_read") {
        return;
    }
    let kiln = Kiln::empty();
    let repository = Repository::new(&[("a", "one"), (".gitattributes", "* filter=evil\n")]);
    let server = serve(&[("r", &repository)]);
    let home = kiln.context(&[(
        ".gitconfig",
        "[filter \"evil\"]\n\tsmudge = touch EVIL; cat\n[core]\n\thooksPath = /nowhere\n[url \"http://0.0.0.0:1/\"]\n\tinsteadOf = http://\n",
    )]);
    let context = kiln.context(&[("Dockerfile", &format!("FROM scratch\nADD {} /\n", server.url("/r.git")))]);
    let mut command = kiln.build_command(&context, &[]);
    command.env("HOME", &home).env("GIT_CONFIG_GLOBAL", home.join(".gitconfig")).env("GIT_DIR", "/nowhere");
    run(&mut command).ok();
}

#[test]
fn a_missing_git_is_named() {
    if !needs_root("a_missing_git_is_named") {
        return;
    }
    let kiln = Kiln::empty();
    let context = kiln.context(&[("Dockerfile", "FROM scratch\nADD git://127.0.0.1:1/x.git /\n")]);
    let mut command = kiln.build_command(&context, &[]);
    run(command.env("PATH", "/nowhere"))
        .fails_with(&["the program `git` is not installed", "hint: install the package `git`"]);
}

/// A `git daemon` on loopback; killed when dropped.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_repository_comes_by_gits_own_protocol_by_ssh_and_from_a_plain_file_server() {
    if !needs_root("a_repository_comes_by_gits_own_protocol_by_ssh_and_from_a_plain_file_server") {
        return;
    }
    let kiln = Kiln::empty();
    let repository = Repository::new(&[("a", "one")]);
    repository.commit(&[("a", "two")]);
    repository.git(&["update-server-info"]);

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = format!("{}/git-daemon", repository.git(&["--exec-path"]));
    let mut command = Command::new(program);
    command.args(["--export-all", "--listen=127.0.0.1", &format!("--port={port}")]).arg("--reuseaddr");
    command.arg(format!("--base-path={}", repository.path().display())).arg(repository.path());
    let _daemon = Daemon(command.stderr(std::process::Stdio::null()).spawn().unwrap());
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < patience, "git daemon doesn't start");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let path = repository.path().display();
    assert_eq!(read(&files(&kiln, &format!("git://127.0.0.1:{port}/.git#main /")), "a"), "two");

    let folder = repository.path().join(".git");
    let server = crate::support::http::WebServer::start(move |asked| {
        let path = asked.path.split('?').next().unwrap().trim_start_matches("/dumb.git/").to_owned();
        std::fs::read(folder.join(path)).map_or(Reply::status(404), Reply::ok)
    });
    assert_eq!(read(&files(&kiln, &format!("{}#main /dumb/", server.url("/dumb.git"))), "dumb/a"), "two");

    // Stands for ssh: notes how it was called and runs what the other side would.
    let bin = kiln.context(&[(
        "ssh*",
        "#!/bin/sh\necho \"$SSH_AUTH_SOCK|$*\" >> \"${0%/*}/log\"\nfor last; do :; done\neval \"exec git ${last#git-}\"\n",
    )]);
    let add = format!("FROM scratch\nADD git@example.org:{path} /ssh/\n");
    let context = kiln.context(&[("Dockerfile", &add)]);
    let mut command = kiln.build_command(&context, &[]);
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("SSH_AUTH_SOCK", "/not/lent");
    command.env("HOME", "/the/users home");
    run(&mut command).ok();
    let log = std::fs::read_to_string(bin.join("log")).unwrap();
    let first = log.lines().next().unwrap();
    assert!(first.starts_with("|-F /dev/null") && first.contains("StrictHostKeyChecking=yes"), "{log}");
    assert!(first.contains("UserKnownHostsFile=/the/users home/.ssh/known_hosts"), "{log}");
    assert!(first.contains("git@example.org"), "{log}");

    let agent = kiln.scratch().join("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let lent = format!("default={}", agent.display());
    let context = kiln.context(&[("Dockerfile", &add.replace("/ssh/", "/lent/"))]);
    repository.commit(&[("a", "three")]);
    let mut command = kiln.build_command(&context, &["--ssh", &lent]);
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    run(&mut command).ok();
    let log = std::fs::read_to_string(bin.join("log")).unwrap();
    assert!(log.lines().last().unwrap().starts_with('/'), "the agent was lent: {log}");
}
