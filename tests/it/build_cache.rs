//! Which steps of a build run again, alone and beside others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use crate::support::binary::{Kiln, Ran, Step, busybox_tar, finish, read, start};
use crate::support::needs_root;
use crate::support::registry::FakeRegistry;

/// The steps of a build that ran.
fn ran(build: &Ran) -> Vec<String> {
    assert_eq!(build.code, 0, "{build}");
    build.ended(Step::Done)
}

const TWELVE: &str = "FROM busybox\nARG A=1\nENV E=$A\nWORKDIR /w\nCOPY a /w/\nRUN cat a\nCOPY tree /tree\nRUN echo two\n\
    COPY b /w/\nUSER user\nRUN true\nCMD [\"x\"]\n";

#[test]
fn an_unchanged_build_runs_nothing_and_writes_nothing() {
    if !needs_root("an_unchanged_build_runs_nothing_and_writes_nothing") {
        return;
    }
    let kiln = Kiln::busybox();
    let files = [("Dockerfile", TWELVE), ("a", "a"), ("b", "b"), ("tree/x/y", "y"), ("tree/l", "-> x")];
    let context = kiln.context(&files);
    let first = kiln.build(&context, &["-t", "twelve"]).ok();
    assert_eq!(ran(&first).len(), 7, "{first}");
    // The second one may still write down what the first could not know for sure (files too young to trust).
    kiln.build(&context, &["-t", "twelve"]).ok();
    kiln.settle();
    let before = kiln.files();
    let second = kiln.build(&context, &["-t", "twelve"]).ok();
    assert_eq!((ran(&second), second.id()), (Vec::new(), first.id()));
    assert_eq!(second.ended(Step::Cached).len(), 7, "{second}");
    let after = kiln.files();
    let changed: Vec<_> = after.iter().filter(|(path, of)| before.get(*path) != Some(of)).collect();
    assert!(changed.is_empty() && after.len() == before.len(), "{changed:?}");
    // The same content elsewhere, with other times.
    let copy = kiln.context(&files);
    assert_eq!(ran(&kiln.build(&copy, &[])), Vec::<String>::new());
}

#[test]
fn a_file_that_was_written_again_as_it_was_is_read_once_only() {
    if !needs_root("a_file_that_was_written_again_as_it_was_is_read_once_only") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nCOPY a /a\n"), ("a", "a")]);
    kiln.build(&context, &[]).ok();
    fs::write(context.join("a"), "a").unwrap();
    // Until the clock of the files has moved on, what was read may change unseen, and is not kept.
    std::thread::sleep(Duration::from_millis(100));
    let known = || -> BTreeMap<_, _> {
        kiln.files().into_iter().filter(|(path, _)| path.starts_with(kiln.root().join("stat"))).collect()
    };
    let before = known();
    assert_eq!(ran(&kiln.build(&context, &[])), Vec::<String>::new());
    let learnt = known();
    assert_ne!(before, learnt, "what was read is kept");
    assert_eq!(ran(&kiln.build(&context, &[])), Vec::<String>::new());
    assert_eq!(known(), learnt, "nothing was read");
}

#[test]
fn only_what_changed_and_what_stands_above_runs_again() {
    if !needs_root("only_what_changed_and_what_stands_above_runs_again") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        ("Dockerfile", "FROM busybox\nCOPY a /a\nRUN echo 1\nCOPY b /b\nRUN echo 2\nCOPY d /d\n"),
        ("a", "a"),
        ("b", "b"),
        ("d/hidden", "1"),
        ("d/seen", "1"),
        (".dockerignore", "d/hidden\n"),
    ]);
    let first = kiln.build(&context, &[]).ok();
    assert_eq!(ran(&first).len(), 5);
    let again = || kiln.build(&context, &[]).ok();
    let nothing = Vec::<String>::new();

    let file = File::options().write(true).open(context.join("a")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(1000)).unwrap();
    assert_eq!(ran(&again()), nothing, "another time");

    fs::write(context.join("d/hidden"), "2").unwrap();
    fs::write(context.join("not-copied"), "2").unwrap();
    assert_eq!(ran(&again()), nothing, "a hidden file, and one that no step reads");

    fs::write(context.join("b"), "B").unwrap();
    assert_eq!(ran(&again()), ["COPY b /b", "COPY d /d", "RUN echo 2"]);

    fs::write(context.join("b"), "b").unwrap();
    let back = again();
    assert_eq!((ran(&back), back.id()), (nothing.clone(), first.id()), "back to what it was");

    fs::set_permissions(context.join("d/seen"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ran(&again()), ["COPY d /d"], "another mode");

    fs::rename(context.join("d/seen"), context.join("d/other")).unwrap();
    assert_eq!(ran(&again()), ["COPY d /d"], "another name");

    assert_eq!(ran(&kiln.build(&context, &["--no-cache"])).len(), 5);
    assert_eq!(ran(&again()), nothing);
}

#[test]
fn arguments_miss_only_where_they_are_seen() {
    if !needs_root("arguments_miss_only_where_they_are_seen") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo 1\nARG A\nRUN echo unseen\nRUN echo 2 $A\nENV B=x\nRUN echo 3\nLABEL l=1\n",
    )]);
    assert_eq!(ran(&kiln.build(&context, &["--build-arg", "A=1"])).len(), 4);
    assert_eq!(ran(&kiln.build(&context, &["--build-arg", "A=2"])), ["RUN echo 2 2", "RUN echo 3"]);
    assert_eq!(ran(&kiln.build(&context, &["--build-arg", "A=1"])).len(), 0);
    assert_eq!(ran(&kiln.build(&context, &["--build-arg", "A=1", "--label", "x=y"])).len(), 0);
    assert_eq!(
        ran(&kiln.build(&context, &["--build-arg", "A=1", "--build-arg", "http_proxy=http://p"])).len(),
        0
    );
}

#[test]
fn a_file_edited_during_the_build_cannot_poison_the_cache() {
    if !needs_root("a_file_edited_during_the_build_cannot_poison_the_cache") {
        return;
    }
    let kiln = Kiln::busybox();
    // The COPY reads the file after the first step has run, and so after the edit.
    let context =
        kiln.context(&[("Dockerfile", "FROM busybox\nRUN echo started; sleep 1\nCOPY f /f\n"), ("f", "old")]);
    kiln.build(&context, &["-t", "old"]).ok();
    // A base that misses, so that everything above it is looked up late.
    let file = context.join("Dockerfile");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("echo started", "echo started again")).unwrap();
    let mut child = start(&mut kiln.build_command(&context, &["-t", "new"]));
    assert!(wait_for_output(&mut child, "started again"));
    fs::write(context.join("f"), "new").unwrap();
    finish(child);
    assert_eq!(read(&kiln.build_files(&context, &[]), "f"), "new");
    fs::write(context.join("f"), "old").unwrap();
    assert_eq!(read(&kiln.build_files(&context, &[]), "f"), "old");
}

/// Reads standard error until a line ends with `text`, false when none did; the rest goes nowhere.
fn wait_for_output(child: &mut std::process::Child, text: &str) -> bool {
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = lines.any(|line| line.unwrap().ends_with(text));
    std::thread::spawn(move || lines.for_each(drop));
    said
}

#[test]
fn equal_builds_at_one_moment_run_each_step_once() {
    if !needs_root("equal_builds_at_one_moment_run_each_step_once") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox AS a\nRUN sleep 0.2; cat /proc/sys/kernel/random/uuid > /a\nFROM busybox\nCOPY f /f\nRUN sleep 0.1\n\
             COPY --from=a /a /a\nRUN cat /proc/sys/kernel/random/uuid > /b; sleep 0.2\nWORKDIR /w\n",
        ),
        ("f", "f"),
    ]);
    let children: Vec<_> =
        (0..4).map(|_| start(&mut kiln.build_command(&context, &["-t", "same"]))).collect();
    let builds: Vec<Ran> = children.into_iter().map(|child| finish(child).ok()).collect();
    let done: usize = builds.iter().map(|build| build.ended(Step::Done).len()).sum();
    assert_eq!(done, 6, "{}", builds.iter().map(Ran::to_string).collect::<String>());
    assert!(builds.iter().all(|build| build.id() == builds[0].id()));
    // One layer per step and the base's: nothing was made twice.
    assert_eq!(crate::support::binary::names(&kiln.root().join("snapshots")).len(), 7);
}

#[test]
fn a_failing_step_fails_every_build_that_waits_for_it() {
    if !needs_root("a_failing_step_fails_every_build_that_waits_for_it") {
        return;
    }
    let kiln = Kiln::busybox();
    const COUNTED: &str = "RUN --mount=type=cache,id=count,target=/count echo x >> /count/x; ";
    let wrong = format!("FROM busybox\n{COUNTED}echo said; sleep 3; exit 4\n");
    let context = kiln.context(&[("Dockerfile", &wrong)]);
    let children: Vec<_> = (0..4).map(|_| start(&mut kiln.build_command(&context, &[]))).collect();
    for child in children {
        let build = finish(child).fails_with(&["exit code: 4"]);
        // Who only waited shows the same.
        assert!(build.error.lines().any(|line| line.ends_with("said") && line.starts_with('#')), "{build}");
    }
    // One that comes later makes its own attempt.
    kiln.build(&context, &[]).fails_with(&["exit code: 4"]);
    let count = kiln.context(&[("Dockerfile", &format!("FROM busybox\n{COUNTED}cp /count/x /x\n"))]);
    assert_eq!(read(&kiln.build_files(&count, &[]), "x"), "x\nx\nx\n");
}

#[test]
fn no_more_steps_run_at_once_than_jobs_allow() {
    if !needs_root("no_more_steps_run_at_once_than_jobs_allow") {
        return;
    }
    let kiln = Kiln::busybox();
    // Each stage says when it begins and ends, in a file that all of them share.
    let stages: String = (0..4)
        .map(|stage| {
            format!(
                "FROM busybox AS s{stage}\nARG N\nRUN --mount=type=cache,id=said,target=/said \
                 echo $N in >> /said/x; sleep 0.5; echo $N out >> /said/x; touch /s{stage}\n"
            )
        })
        .collect();
    let copies: String = (0..4).map(|stage| format!("COPY --from=s{stage} /s{stage} /\n")).collect();
    let last = "ARG N\nRUN --mount=type=cache,id=said,target=/said grep \"^$N \" /said/x > /x\n";
    let context = kiln.context(&[("Dockerfile", &format!("{stages}FROM busybox\n{copies}{last}"))]);
    let most_at_once = |name: &str, words: &[&str]| -> i32 {
        let name = format!("N={name}");
        let said = read(&kiln.build_files(&context, &[&["--build-arg", &name], words].concat()), "x");
        assert_eq!(said.lines().count(), 8, "{said}");
        let depths = said.lines().scan(0, |depth, line| {
            *depth += if line.ends_with(" in") { 1 } else { -1 };
            Some(*depth)
        });
        depths.max().unwrap_or_default()
    };
    assert_eq!(most_at_once("one", &["--jobs", "1"]), 1);
    assert!(most_at_once("two", &["--jobs", "2"]) <= 2);
    // With room for all, they have been seen together: the two above were held back by the flag.
    assert!(most_at_once("many", &["--jobs", "8"]) > 2);
}

#[test]
fn different_builds_and_prunes_do_not_disturb_each_other() {
    if !needs_root("different_builds_and_prunes_do_not_disturb_each_other") {
        return;
    }
    let kiln = Kiln::busybox();
    let contexts: Vec<_> = (0..3)
        .map(|number| {
            let text = format!(
                "FROM busybox AS x\nRUN echo {number} > /n; sleep 0.1\nCOPY f /f\nRUN sleep 0.1\nFROM busybox\n\
                 COPY --from=x /n /f /\nRUN cat /n /f; sleep 0.1\nWORKDIR /w\nRUN test -e /n\n"
            );
            kiln.context(&[("Dockerfile", &text), ("f", "f")])
        })
        .collect();
    for round in 0..3 {
        let children: Vec<_> = (contexts.iter().enumerate())
            .map(|(number, context)| {
                let tag = format!("n{number}:r{round}");
                start(&mut kiln.build_command(context, &["--no-cache", "-t", &tag]))
            })
            .collect();
        for _ in 0..4 {
            kiln.ok(&["prune", "-f"]);
        }
        for child in children {
            finish(child).ok();
        }
    }
    for (number, context) in contexts.iter().enumerate() {
        assert_eq!(read(&kiln.build_files(context, &[]), "n"), format!("{number}\n"));
        assert_eq!(kiln.ok(&["images", "--format", "{{.Tag}}", &format!("n{number}")]).lines().count(), 3);
    }
}

#[test]
fn a_prune_of_everything_beside_a_build_leaves_it_whole_or_says_so() {
    if !needs_root("a_prune_of_everything_beside_a_build_leaves_it_whole_or_says_so") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox AS x\nRUN echo x > /x; sleep 0.1\nRUN sleep 0.1\nFROM busybox\nRUN sleep 0.05\nCOPY f /f\n\
             COPY --from=x /x /x\nRUN cat /x /f\n",
        ),
        ("f", "f"),
    ]);
    for round in 0..4 {
        let mut child = start(&mut kiln.build_command(&context, &["-t", "kept"]));
        if round > 0 {
            assert!(wait_for_output(&mut child, "RUN sleep 0.1"));
        }
        kiln.ok(&["prune", "-f", "-a"]);
        let built = finish(child);
        // In the first round the prune may be there before the build has looked at its base.
        assert!(built.code == 0 || round == 0, "its layers were held: {built}");
        kiln.run_with(&["import", "-", "busybox:latest"], &busybox_tar()).ok();
        assert_eq!(read(&kiln.build_files(&context, &[]), "x"), "x\n");
        kiln.ok(&["prune", "-f", "-a"]);
        kiln.run_with(&["import", "-", "busybox:latest"], &busybox_tar()).ok();
    }
}

#[test]
fn a_waiting_build_takes_over_from_a_killed_one() {
    if !needs_root("a_waiting_build_takes_over_from_a_killed_one") {
        return;
    }
    let kiln = Kiln::busybox();
    for round in 0..3 {
        // What the first one made and the second one found is taken by no prune.
        let text = format!(
            "FROM busybox\nRUN echo {round} of three; sleep 0.2\nRUN echo y > /y\nRUN echo begun; sleep 0.5; echo x > /x\n"
        );
        let context = kiln.context(&[("Dockerfile", &text)]);
        let mut first = start(&mut kiln.build_command(&context, &[]));
        assert!(wait_for_output(&mut first, " of three; sleep 0.2"));
        let second = start(&mut kiln.build_command(&context, &["-t", "second"]));
        std::thread::sleep(Duration::from_millis(400));
        first.kill().unwrap();
        first.wait().unwrap();
        kiln.ok(&["prune", "-f"]);
        finish(second).ok();
        assert_eq!(read(&kiln.build_files(&context, &[]), "x"), "x\n");
    }
}

#[test]
fn equal_builds_that_pull_both_succeed() {
    if !needs_root("equal_builds_that_pull_both_succeed") {
        return;
    }
    let registry = FakeRegistry::start();
    let layer = busybox_tar();
    let config = serde_json::json!({
        "architecture": kiln::oci::Platform::host().architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [kiln_cache::Digest::of(&layer).to_string()] },
    });
    registry.put_image("base", "latest", &[(kiln::oci::media_type::OCI_LAYER, &layer)], &config);
    let kiln = Kiln::empty();
    let text = format!("FROM {}/base\nRUN cat /proc/sys/kernel/random/uuid > /id\n", registry.host());
    let context = kiln.context(&[("Dockerfile", &text)]);
    let children: Vec<_> = (0..3).map(|_| start(&mut kiln.build_command(&context, &[]))).collect();
    let builds: Vec<Ran> = children.into_iter().map(|child| finish(child).ok()).collect();
    assert!(builds.iter().all(|build| build.id() == builds[0].id()));
    assert_eq!(builds.iter().map(|build| build.ended(Step::Done).len()).sum::<usize>(), 1);
    assert_eq!(kiln.ok(&["images", "-q"]).lines().count(), 2);
}

#[test]
fn odd_files_of_a_context_are_copied_or_named() {
    if !needs_root("odd_files_of_a_context_are_copied_or_named") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        ("Dockerfile", "FROM busybox\nCOPY d /d\n"),
        ("d/loop", "-> loop"),
        ("d/line\nbreak", "x"),
        ("d/empty/", ""),
    ]);
    let socket = std::os::unix::net::UnixListener::bind(context.join("d/socket")).unwrap();
    let pipe = rustix::fs::mknodat(
        rustix::fs::CWD,
        context.join("d/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    );
    pipe.unwrap();
    let files = kiln.build_files(&context, &[]);
    assert_eq!(
        crate::support::binary::names(&files.path().join("d")),
        ["empty", "line\nbreak", "loop", "pipe"]
    );
    assert_eq!(ran(&kiln.build(&context, &[])), Vec::<String>::new());
    drop(socket);
    fs::write(context.join("d/.wh.x"), "").unwrap();
    kiln.build(&context, &[]).fails_with(&["/d/.wh.x", ">>> COPY d /d"]);
}
