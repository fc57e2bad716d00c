//! Why steps run: every cause is provoked, and the line that is shown of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::binary::{Kiln, Ran, busybox_tar};
use crate::support::git::{Repository, serve};
use crate::support::http::{Reply, WebServer};
use crate::support::needs_root;

impl Ran {
    /// `step: why` of each step that ran, in the order of the steps; the brackets and their numbers are left out.
    fn reasons(&self) -> Vec<String> {
        let mut steps: Vec<(u32, String)> = Vec::new();
        let mut reasons = Vec::new();
        for line in self.error.lines() {
            let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' ')) else {
                continue;
            };
            let Ok(number) = number.parse::<u32>() else { continue };
            if let Some(why) = rest.strip_prefix("ran: ") {
                let name = steps.iter().find(|(known, _)| *known == number).map(|(_, name)| name.clone());
                reasons.push((number, format!("{}: {why}", name.unwrap())));
            } else if let Some((_, name)) = rest.split_once("] ").filter(|_| rest.starts_with('[')) {
                steps.push((number, name.to_owned()));
            }
        }
        reasons.sort();
        reasons.into_iter().map(|(_, reason)| reason).collect()
    }
}

/// Builds `context` twice, the second time after `change`, and gives the causes of the second one.
fn after(kiln: &Kiln, context: &Path, change: impl FnOnce(&Path)) -> Vec<String> {
    kiln.build(context, &[]).ok();
    change(context);
    kiln.build(context, &[]).ok().reasons()
}

fn write(path: &str, text: &'static str) -> impl FnOnce(&Path) {
    let path = path.to_owned();
    move |context| fs::write(context.join(path), text).unwrap()
}

#[test]
fn a_first_build_and_an_unchanged_one() {
    if !needs_root("a_first_build_and_an_unchanged_one") {
        return;
    }
    let kiln = Kiln::busybox();
    let context =
        kiln.context(&[("Dockerfile", "FROM busybox\nWORKDIR /w\nCOPY a a\nRUN cat a\n"), ("a", "1")]);
    let first = kiln.build(&context, &[]).ok();
    assert_eq!(
        first.reasons(),
        ["WORKDIR /w: never built before", "COPY a a: never built before", "RUN cat a: never built before"]
    );
    // The line stands between a step's name and its end.
    let lines: Vec<&str> = first.error.lines().filter(|line| line.starts_with("#4 ")).collect();
    assert_eq!(lines[..2], ["#4 [4/4] RUN cat a", "#4 ran: never built before"], "{first}");
    let second = kiln.build(&context, &[]).ok();
    assert!(!second.error.contains("ran:"), "{second}");
}

#[test]
fn files_of_a_context_are_named() {
    if !needs_root("files_of_a_context_are_named") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        ("Dockerfile", "FROM busybox\nCOPY src /src\nRUN true\n"),
        ("src/main.rs", "1"),
        ("src/run.sh", "1"),
        ("src/link", "-> main.rs"),
        ("src/old", "1"),
    ]);
    kiln.build(&context, &[]).ok();
    let again = |expected: &str| {
        let build = kiln.build(&context, &[]).ok();
        let above = "RUN true: earlier step [2/3] COPY src /src ran";
        assert_eq!(build.reasons(), [&format!("COPY src /src: {expected}"), above], "{build}");
    };
    let path = |name: &str| context.join(name);

    fs::write(path("src/main.rs"), "2").unwrap();
    again("src/main.rs changed");
    fs::set_permissions(path("src/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    again("mode of src/run.sh changed");
    fs::write(path("src/new"), "1").unwrap();
    again("src/new added");
    fs::remove_file(path("src/new")).unwrap();
    // What is there again is cached.
    assert_eq!(kiln.build(&context, &[]).ok().reasons(), Vec::<String>::new());
    fs::remove_file(path("src/link")).unwrap();
    symlink("run.sh", path("src/link")).unwrap();
    again("target of src/link changed, src/new removed");
    fs::rename(path("src/old"), path("src/renamed")).unwrap();
    again("src/old removed, src/renamed added");
    fs::remove_file(path("src/renamed")).unwrap();
    fs::create_dir(path("src/renamed")).unwrap();
    fs::write(path("src/renamed/x"), "1").unwrap();
    again("kind of src/renamed changed, src/renamed/x added");
    for number in 10..30 {
        fs::write(path(&format!("src/n{number}")), "1").unwrap();
    }
    again("src/n10 added, src/n11 added, src/n12 added and 17 more");
    fs::write(path("src/a\u{1b}[2J\nb"), "1").unwrap();
    again("src/a [2J b added");
}

#[test]
fn files_of_another_stage_are_named_with_their_owners() {
    if !needs_root("files_of_another_stage_are_named_with_their_owners") {
        return;
    }
    let kiln = Kiln::busybox();
    let text = |owner: &str| {
        format!(
            "FROM busybox AS made\nRUN mkdir /out && echo x > /out/f && chown {owner} /out/f\n\
             FROM busybox\nCOPY --from=made /out /out\n"
        )
    };
    let context = kiln.context(&[("Dockerfile", &text("1:1"))]);
    let change = |context: &Path| fs::write(context.join("Dockerfile"), text("2:2")).unwrap();
    let reasons = after(&kiln, &context, change);
    assert_eq!(reasons[0].rsplit(": ").next(), Some("the instruction changed"));
    assert_eq!(reasons[1..], ["COPY --from=made /out /out: owner of out/f changed"]);
}

#[test]
fn a_builds_notes_are_of_its_dockerfile_and_keep_other_targets() {
    if !needs_root("a_builds_notes_are_of_its_dockerfile_and_keep_other_targets") {
        return;
    }
    let kiln = Kiln::busybox();
    let text = "FROM busybox AS one\nCOPY f /f\nFROM busybox AS two\nCOPY g /g\n";
    let context = kiln.context(&[("Dockerfile", text), ("f", "1"), ("g", "1")]);
    let build = |target: &str| kiln.build(&context, &["--target", target]).ok().reasons();
    build("one");
    build("two");
    fs::write(context.join("f"), "2").unwrap();
    fs::write(context.join("g"), "2").unwrap();
    assert_eq!(build("two"), ["COPY g /g: g changed"]);
    assert_eq!(build("one"), ["COPY f /f: f changed"]);
    // Notes that can't be read are none.
    for entry in fs::read_dir(kiln.root().join("builds")).unwrap() {
        fs::write(entry.unwrap().path(), "{").unwrap();
    }
    fs::write(context.join("f"), "3").unwrap();
    assert_eq!(build("one"), ["COPY f /f: never built before"]);
}

#[test]
fn arguments_and_variables_are_named_without_their_values() {
    if !needs_root("arguments_and_variables_are_named_without_their_values") {
        return;
    }
    let kiln = Kiln::busybox();
    let text = "FROM busybox\nARG A=1\nARG B=1\nENV E=$B\nWORKDIR /w$A\nRUN echo $A\nRUN echo $E\nCOPY --chmod=$A f /f\n";
    let context = kiln.context(&[("Dockerfile", text), ("f", "f")]);
    let build = |arguments: &[&str]| kiln.build(&context, arguments).ok().reasons();
    build(&["--build-arg", "A=700", "--build-arg", "B=secret1"]);
    let first = build(&["--build-arg", "A=755", "--build-arg", "B=secret1"]);
    assert_eq!(first[0], "WORKDIR /w755: ARG A changed");
    assert!(first[1].starts_with("RUN echo 755: ") && first[1].contains("ARG A"), "{first:?}");
    assert_eq!(first[3], "COPY --chmod=755 f /f: ARG A changed");
    let second = kiln.build(&context, &["--build-arg", "A=755", "--build-arg", "B=secret2"]).ok();
    let reasons = second.reasons();
    assert!(reasons.iter().any(|line| line.contains("ARG B") || line.contains("ENV E")), "{second}");
    assert!(second.error.lines().filter(|line| line.contains("ran:")).all(|line| !line.contains("secret")));
    assert_eq!(
        reasons.last().unwrap(),
        "COPY --chmod=755 f /f: earlier step [4/5] RUN echo $E ran",
        "{second}"
    );
    let kept = fs::read_dir(kiln.root().join("builds")).unwrap().map(|entry| entry.unwrap().path());
    for path in kept {
        assert!(!fs::read_to_string(path).unwrap().contains("secret"));
    }

    let context = kiln.context(&[("Dockerfile", "FROM busybox\nENV E=1\nRUN echo a\nRUN echo b\n")]);
    let reasons =
        after(&kiln, &context, write("Dockerfile", "FROM busybox\nENV E=2\nRUN echo a\nRUN echo b\n"));
    assert_eq!(reasons, ["RUN echo a: ENV E changed", "RUN echo b: ENV E changed"]);
}

#[test]
fn what_other_instructions_say_is_named() {
    if !needs_root("what_other_instructions_say_is_named") {
        return;
    }
    let kiln = Kiln::busybox();
    for (before, now, expected) in [
        ("USER user", "USER root", "RUN true: USER changed"),
        ("WORKDIR /a\nWORKDIR /b", "WORKDIR /b\nWORKDIR /a", "RUN true: WORKDIR changed"),
        ("SHELL [\"/bin/sh\", \"-c\"]", "SHELL [\"/bin/sh\", \"-ec\"]", "RUN true: SHELL changed"),
    ] {
        let text = |line: &str| format!("FROM busybox\n{line}\nRUN true\n");
        let context = kiln.context(&[("Dockerfile", &text(before))]);
        let now = text(now);
        let reasons = after(&kiln, &context, |context| fs::write(context.join("Dockerfile"), now).unwrap());
        assert_eq!(reasons.last().unwrap(), expected);
    }
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nRUN echo flags\n")]);
    kiln.build(&context, &[]).ok();
    let hosts = kiln.build(&context, &["--add-host", "h:10.0.0.1"]).ok();
    assert_eq!(hosts.reasons(), ["RUN echo flags: --add-host changed"]);
    let network = kiln.build(&context, &["--network", "host"]).ok();
    assert_eq!(network.reasons(), ["RUN echo flags: --add-host, --network changed"]);
}

#[test]
fn edited_new_and_removed_instructions_are_told_apart() {
    if !needs_root("edited_new_and_removed_instructions_are_told_apart") {
        return;
    }
    let kiln = Kiln::busybox();
    for (before, now, expected) in [
        (
            "RUN echo a\nRUN true",
            "RUN echo b\nRUN true",
            vec!["RUN echo b: the instruction changed", "RUN true: earlier step [2/3] RUN echo b ran"],
        ),
        (
            "RUN echo c\nRUN true",
            "RUN echo c\nRUN echo new\nRUN true",
            vec!["RUN echo new: new step", "RUN true: earlier step [3/4] RUN echo new ran"],
        ),
        (
            "RUN echo d\nRUN echo e\nRUN true",
            "RUN echo d\nRUN true",
            vec!["RUN true: earlier step [3/4] RUN echo e is gone"],
        ),
        (
            "RUN echo f\nRUN echo g\nRUN true",
            "RUN echo g\nRUN echo f\nRUN true",
            vec![
                "RUN echo g: the steps before it changed",
                "RUN echo f: the steps before it changed",
                "RUN true: the steps before it changed",
            ],
        ),
        ("RUN <<EOF\necho h\nEOF", "RUN <<EOF\necho i\nEOF", vec!["RUN <<EOF (echo i): its heredoc changed"]),
        ("COPY <<a /a\none\na", "COPY <<a /a\ntwo\na", vec!["COPY <<a /a: its heredoc changed"]),
        (
            "COPY --chown=1 f /f",
            "COPY --chown=2 f /f",
            vec!["COPY --chown=2 f /f: the instruction changed: --chown"],
        ),
    ] {
        let text = |lines: &str| format!("FROM busybox\n{lines}\n");
        let context = kiln.context(&[("Dockerfile", &text(before)), ("f", "f")]);
        let now = text(now);
        let reasons = after(&kiln, &context, |context| fs::write(context.join("Dockerfile"), now).unwrap());
        assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
        for (reason, expected) in reasons.iter().zip(expected) {
            // How a heredoc is shown is no matter of this test.
            let (_, why) = expected.rsplit_once(": ").unwrap();
            assert!(reason == expected || expected.contains("<<") && reason.ends_with(why), "{reason}");
        }
    }
}

#[test]
fn another_base_is_told_by_its_digests() {
    if !needs_root("another_base_is_told_by_its_digests") {
        return;
    }
    let kiln = Kiln::busybox();
    let context =
        kiln.context(&[("Dockerfile", "ARG B=busybox\nFROM $B\nRUN true\nRUN echo 2\n"), ("f", "f")]);
    kiln.build(&context, &[]).ok();
    let before = kiln.ok(&["images", "-q", "busybox"]);
    // The same files and one more.
    let tar = busybox_tar();
    let mut other = tar[..tar.len() - 1024].to_vec();
    let mut header = tar::Header::new_gnu();
    header.set_path("etc/new").unwrap();
    header.set_size(0);
    header.set_cksum();
    other.extend_from_slice(header.as_bytes());
    other.extend_from_slice(&[0; 1024]);
    kiln.run_with(&["import", "-", "busybox:latest"], &other).ok();
    kiln.run_with(&["import", "-", "other:latest"], &tar).ok();
    let now = kiln.ok(&["images", "-q", "busybox"]);
    let why =
        format!("base docker.io/library/busybox:latest changed from {} to {}", before.trim(), now.trim());
    let reasons = kiln.build(&context, &[]).ok().reasons();
    assert_eq!(reasons, [format!("RUN true: {why}"), format!("RUN echo 2: {why}")]);
    // Another name for what it was is no other base.
    assert_eq!(kiln.build(&context, &["--build-arg", "B=other"]).ok().reasons(), Vec::<String>::new());
}

#[test]
fn mounted_files_are_named() {
    if !needs_root("mounted_files_are_named") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        ("Dockerfile", "FROM busybox\nRUN --mount=type=bind,source=src,target=/src cat /src/f\n"),
        ("src/f", "1"),
    ]);
    let reasons = after(&kiln, &context, write("src/f", "2"));
    assert_eq!(reasons.last().unwrap().rsplit_once(": ").unwrap().1, "src/f changed", "{reasons:?}");

    let text = |what: &str| {
        format!(
            "FROM busybox AS made\nRUN echo {what} > /f\nFROM busybox\n\
             RUN --mount=type=bind,from=made,source=/f,target=/f cat /f\n"
        )
    };
    let context = kiln.context(&[("Dockerfile", &text("1"))]);
    let now = text("2");
    let reasons = after(&kiln, &context, |context| fs::write(context.join("Dockerfile"), now).unwrap());
    assert!(reasons[1].ends_with("earlier step [made 2/2] RUN echo 2 > /f ran"), "{reasons:?}");
}

#[test]
fn what_the_user_wanted_or_the_store_lost_is_told() {
    if !needs_root("what_the_user_wanted_or_the_store_lost_is_told") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nCOPY f /f\nRUN echo 1\n"), ("f", "f")]);
    kiln.build(&context, &[]).ok();
    let all = kiln.build(&context, &["--no-cache"]).ok();
    assert_eq!(all.reasons(), ["COPY f /f: --no-cache", "RUN echo 1: --no-cache"]);
    let text = "FROM busybox AS one\nRUN echo f1\nFROM one\nRUN echo f2\n";
    let filtered = kiln.context(&[("Dockerfile", text)]);
    kiln.build(&filtered, &[]).ok();
    let some = kiln.build(&filtered, &["--no-cache-filter", "one"]).ok();
    let above = "RUN echo f2: earlier step [one 2/2] RUN echo f1 ran";
    assert_eq!(some.reasons(), ["RUN echo f1: --no-cache-filter", above]);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let old = kiln.build(&filtered, &["--cache-ttl", "1s"]).ok().reasons();
    assert!(
        old[0].starts_with("RUN echo f1: its result of 20") && old[0].ends_with(" is older than --cache-ttl"),
        "{old:?}"
    );
    assert_eq!(old[1], above);
    // Images keep what they are made of.
    kiln.ok(&["image", "prune", "-f"]);
    kiln.ok(&["builder", "prune", "-a", "-f"]);
    let reasons = kiln.build(&context, &[]).ok().reasons();
    assert!(reasons[0].starts_with("COPY f /f: its result was collected"), "{reasons:?}");
    assert_eq!(reasons.len(), 2);

    let text = "FROM busybox\nRUN echo 1\nRUN test -e /never\nRUN echo 3\n";
    let context = kiln.context(&[("Dockerfile", text)]);
    assert_eq!(kiln.build(&context, &[]).code, 1);
    let again = kiln.build(&context, &[]);
    assert_eq!(again.reasons(), ["RUN test -e /never: failed last time"], "{again}");
    fs::write(context.join("Dockerfile"), text.replace("/never", "/bin")).unwrap();
    let reasons = kiln.build(&context, &[]).ok().reasons();
    assert_eq!(reasons[1..], ["RUN echo 3: never built before"]);
}

#[test]
fn kiln_why_shows_the_last_build_that_ran_a_step() {
    if !needs_root("kiln_why_shows_the_last_build_that_ran_a_step") {
        return;
    }
    let kiln = Kiln::busybox();
    let text = "FROM busybox\nRUN echo one\nRUN echo two\nRUN test -e /bin\nRUN true\n";
    let context = kiln.context(&[("Dockerfile", text)]);
    let why = |words: &[&str]| {
        let words: Vec<&str> = ["why"].iter().chain(words).copied().chain(context.to_str()).collect();
        kiln.run(&words)
    };
    let none = why(&[]).fails_with(&["no build of this Dockerfile", "build it first"]);
    assert_eq!(none.out, "");
    kiln.build(&context, &[]).ok();
    let edited = text.replace("two", "2").replace("/bin", "/never");
    fs::write(context.join("Dockerfile"), edited).unwrap();
    assert_eq!(kiln.build(&context, &[]).code, 1);
    let shown = why(&[]).ok().out;
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["STEP", "RESULT", "WHY"],
            vec!["[1/5] FROM busybox", "cached"],
            vec!["[2/5] RUN echo one", "cached"],
            vec!["[3/5] RUN echo 2", "ran", "the instruction changed"],
            vec!["[4/5] RUN test -e /never", "failed", "the instruction changed"],
            vec!["[5/5] RUN true", "not reached"],
        ],
        "{shown}"
    );
    let json = why(&["--format", "json"]).ok().out;
    let third: serde_json::Value = serde_json::from_str(json.lines().nth(2).unwrap()).unwrap();
    assert_eq!(third["Reasons"], serde_json::json!([{ "kind": "instruction", "flags": [] }]), "{json}");
    assert_eq!(why(&["--format", "{{.Result}}"]).ok().out, "cached\ncached\nran\nfailed\nnot reached\n");
    // A build that runs nothing leaves it as it is.
    fs::write(context.join("Dockerfile"), text).unwrap();
    kiln.build(&context, &[]).ok();
    assert_eq!(why(&[]).ok().out, shown);
    assert_eq!(why(&["--platform", "linux/s390x"]).code, 1);
    kiln.run(&["why", "-"]).fails_with(&["standard input names no build"]);
}

#[test]
fn what_an_address_gives_is_told() {
    if !needs_root("what_an_address_gives_is_told") {
        return;
    }
    let kiln = Kiln::busybox();
    let version = Arc::new(AtomicUsize::new(1));
    let server = WebServer::start({
        let version = Arc::clone(&version);
        move |_| Reply::ok(format!("version {}", version.load(Ordering::Relaxed)))
    });
    let text = format!("FROM busybox\nADD {} /f\nRUN cat /f\n", server.url("/f"));
    let context = kiln.context(&[("Dockerfile", &text)]);
    let reasons = after(&kiln, &context, |_| version.store(2, Ordering::Relaxed));
    let url = server.url("/f");
    assert_eq!(
        reasons,
        [
            format!("{url}: the content at its address changed"),
            format!("ADD {url} /f: f changed"),
            format!("RUN cat /f: earlier step [2/3] ADD {url} /f ran"),
        ]
    );
    // Asked again and found the same: nothing ran.
    assert_eq!(kiln.build(&context, &[]).ok().reasons(), Vec::<String>::new());
}

#[test]
fn another_commit_is_told() {
    if !needs_root("another_commit_is_told") {
        return;
    }
    let kiln = Kiln::busybox();
    let repository = Repository::new(&[("f", "1")]);
    let before = repository.head();
    let server = serve(&[("r", &repository)]);
    let url = server.url("/r.git");
    let context = kiln.context(&[("Dockerfile", &format!("FROM busybox\nADD {url} /src\n"))]);
    let mut now = String::new();
    let reasons = after(&kiln, &context, |_| now = repository.commit(&[("f", "2")]));
    let commits = format!("commit changed from {} to {}", &before[..12], &now[..12]);
    assert!(reasons[0].ends_with(&commits), "{reasons:?}");
    assert!(reasons[1].ends_with(": src/f changed"), "{reasons:?}");
}
