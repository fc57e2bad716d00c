//! `RUN --mount`: what a step sees, what stays, and which steps run again.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::binary::{Kiln, Step, finish, names, read, start};
use crate::support::needs_root;

/// The names of the instances of caches in a store.
fn caches(kiln: &Kiln) -> Vec<String> {
    names(&kiln.root().join("cache-mounts"))
}

#[test]
fn a_cache_outlives_its_build_and_is_in_no_layer() {
    if !needs_root("a_cache_outlives_its_build_and_is_in_no_layer") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nARG N\nRUN --mount=type=cache,target=/root/.cache/tool \
         echo $N >> /root/.cache/tool/seen; cat /root/.cache/tool/seen > /seen; stat -c '%a %u:%g' /root/.cache/tool > /mode\n\
         RUN test ! -e /root/.cache && echo gone > /gone\n",
    )]);
    let files = kiln.build_files(&context, &["--build-arg", "N=1"]);
    assert_eq!((read(&files, "seen"), read(&files, "mode")), ("1\n".into(), "755 0:0\n".into()));
    assert!(!files.path().join("root/.cache").exists(), "the mount point is no part of the layer");
    let files = kiln.build_files(&context, &["--build-arg", "N=2", "--no-cache"]);
    assert_eq!(read(&files, "seen"), "1\n2\n");
    // What a cache holds is in no key.
    let again = kiln.build(&context, &["--build-arg", "N=2"]).ok();
    assert_eq!(again.ended(Step::Done), Vec::<String>::new());
    assert_eq!(caches(&kiln).len(), 1);
    let pruned = kiln.ok(&["builder", "prune", "-f"]);
    assert!(pruned.contains("Deleted cache mounts:\n/root/.cache/tool\n"), "{pruned}");
    assert_eq!(caches(&kiln), Vec::<String>::new());
    let files = kiln.build_files(&context, &["--build-arg", "N=3"]);
    assert_eq!(read(&files, "seen"), "3\n");
}

#[test]
fn caches_differ_by_name_namespace_and_owner_and_begin_with_files() {
    if !needs_root("caches_differ_by_name_namespace_and_owner_and_begin_with_files") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox AS seed\nRUN mkdir -p -m 750 /seed/in && echo seed > /seed/in/file && chown -R 5:6 /seed\n\
             FROM busybox\nARG N\n\
             RUN --mount=type=cache,id=x,target=/c --mount=type=cache,id=x,target=/d touch /c/a$N && ls /d > /same\n\
             RUN --mount=type=cache,id=x,uid=7,gid=8,mode=0700,target=/c stat -c '%a %u:%g' /c > /own; ls /c > /own-list\n\
             RUN --mount=type=cache,id=x,from=seed,source=/seed,target=/c cat /c/in/file > /seeded; \
             stat -c '%a %u:%g' /c /c/in >> /seeded; echo more >> /c/in/file\n\
             RUN --mount=type=cache,target=/r,id=ro,ro touch /r/x || echo refused > /refused\n",
        ),
    ]);
    let files = kiln.build_files(&context, &["--build-arg", "N=1"]);
    assert_eq!(read(&files, "same"), "a1\n");
    assert_eq!((read(&files, "own"), read(&files, "own-list")), ("700 7:8\n".into(), String::new()));
    assert_eq!(read(&files, "seeded"), "seed\n755 5:6\n750 5:6\n");
    assert_eq!(read(&files, "refused"), "refused\n");
    let files = kiln.build_files(&context, &["--build-arg", "N=2"]);
    assert_eq!(read(&files, "same"), "a1\na2\n");
    assert!(read(&files, "seeded").starts_with("seed\nmore\n"));
    let other = ["--build-arg", "N=3", "--build-arg", "BUILDKIT_CACHE_MOUNT_NS=other"];
    assert_eq!(read(&kiln.build_files(&context, &other), "same"), "a3\n");
}

/// A step that notes when it has the cache and when it gives it back.
fn holding(sharing: &str, name: &str) -> String {
    format!(
        "FROM busybox\nRUN --mount=type=cache,id=c,target=/c,sharing={sharing} \
         echo {name} begins >> /c/log; sleep 1; echo {name} ends >> /c/log; cat /c/log > /log\n"
    )
}

#[test]
fn sharing_holds_between_builds_at_the_same_time() {
    if !needs_root("sharing_holds_between_builds_at_the_same_time") {
        return;
    }
    for (sharing, alone) in [("locked", true), ("shared", false), ("private", true)] {
        let kiln = Kiln::busybox();
        let contexts = ["a", "b"].map(|name| kiln.context(&[("Dockerfile", &holding(sharing, name))]));
        let started = Instant::now();
        let children = contexts.each_ref().map(|context| start(&mut kiln.build_command(context, &[])));
        let ran = children.map(|child| finish(child).ok());
        let waited = started.elapsed() >= Duration::from_secs(2);
        assert!(waited || sharing != "locked", "{:?}", started.elapsed());
        let told = ran
            .iter()
            .filter(|ran| ran.error.contains("waiting for another step to be done with the cache `c`"));
        assert!(sharing == "locked" || told.count() == 0);
        for context in &contexts {
            let log = read(&kiln.build_files(context, &[]), "log");
            let lines: Vec<&str> = log.lines().collect();
            // Nobody else begins between a beginning and its end.
            let apart = lines.chunks(2).all(|pair| pair[0].split(' ').next() == pair[1].split(' ').next());
            assert!(apart || !alone, "{sharing}: {log}");
        }
        assert_eq!(caches(&kiln).len(), if sharing == "private" { 2 } else { 1 }, "{sharing}");
    }
}

#[test]
fn a_killed_build_frees_its_cache_when_its_step_is_dead_and_a_prune_waits_for_neither() {
    if !needs_root("a_killed_build_frees_its_cache_when_its_step_is_dead_and_a_prune_waits_for_neither") {
        return;
    }
    let kiln = Kiln::busybox();
    let slow = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=c,target=/c,sharing=locked touch /c/used; sleep 600\n",
    )]);
    let quick = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=c,target=/c,sharing=locked ls /c > /list\n",
    )]);
    let mut child = start(&mut kiln.build_command(&slow, &[]));
    let used = || {
        caches(&kiln).iter().any(|name| kiln.root().join("cache-mounts").join(name).join("fs/used").exists())
    };
    while !used() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let pruned = kiln.ok(&["prune", "-f", "-a"]);
    assert!(!pruned.contains("cache mounts") && used(), "{pruned}");
    kiln.run_with(&["import", "-", "busybox:latest"], &crate::support::binary::busybox_tar()).ok();
    child.kill().unwrap();
    finish(child);
    assert_eq!(read(&kiln.build_files(&quick, &[]), "list"), "used\n");
    assert!(kiln.ok(&["prune", "-f"]).contains("Deleted cache mounts:\nc\n"));
}

#[test]
fn memory_is_mounted_and_gone() {
    if !needs_root("memory_is_mounted_and_gone") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nWORKDIR /w\nRUN --mount=type=tmpfs,target=t,size=1m cp /bin/busybox t/x && t/x true; \
         grep ' /w/t ' /proc/mounts > /mounted; dd if=/dev/zero of=t/big bs=1M count=2 2>/dev/null || echo full > /full\n",
    )]);
    let files = kiln.build_files(&context, &[]);
    assert!(read(&files, "mounted").contains("tmpfs") && read(&files, "mounted").contains("size=1024k"));
    assert_eq!(read(&files, "full"), "full\n");
    assert_eq!(names(&files.path().join("w")), Vec::<String>::new());
}

#[test]
fn files_of_the_context_and_of_stages_are_mounted_without_a_copy_in_the_layer() {
    if !needs_root("files_of_the_context_and_of_stages_are_mounted_without_a_copy_in_the_layer") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox AS tools\nRUN mkdir -p /opt/bin && echo tool > /opt/bin/tool && ln -s /opt/bin /link\n\
             FROM busybox\nWORKDIR /src\n\
             RUN --mount=target=. find . | sort > /list; touch x 2>/dev/null || echo refused > /refused\n\
             RUN --mount=target=/src,rw touch made && echo changed > sub/file && ls > /rw-list\n\
             RUN --mount=from=tools,source=link,target=/t --mount=from=tools,source=/opt/bin/tool,target=/t2/tool \
             cat /t/tool /t2/tool > /tools\n\
             RUN --mount=source=sub/file,target=/etc/conf.d/file cat /etc/conf.d/file > /one\n\
             RUN --mount=target=/a --mount=type=tmpfs,target=/a/sub ls /a/sub | wc -l > /nested\n\
             RUN --mount=from=busybox,source=/etc,target=/e cat /e/group > /image\n",
        ),
        (".dockerignore", "secret*\n"),
        ("secret.txt", "hidden"),
        ("sub/file", "file\n"),
        ("sub/secret", "x"),
        ("we*ird", "y"),
    ]);
    let files = kiln.build_files(&context, &[]);
    assert_eq!(
        read(&files, "list"),
        ".\n./.dockerignore\n./Dockerfile\n./sub\n./sub/file\n./sub/secret\n./we*ird\n"
    );
    assert_eq!(read(&files, "refused"), "refused\n");
    assert_eq!(
        read(&files, "rw-list"),
        ".dockerignore\nDockerfile\nmade\nsub\nwe*ird\n".replace(".dockerignore\n", "")
    );
    assert_eq!(read(&files, "tools"), "tool\ntool\n");
    assert_eq!(read(&files, "one"), "file\n");
    assert_eq!(read(&files, "nested"), "0\n");
    assert!(read(&files, "image").contains("staff"));
    assert_eq!(std::fs::read_to_string(context.join("sub/file")).unwrap(), "file\n");
    assert!(!context.join("made").exists());
    for name in ["src", "t", "t2", "a", "e", "etc/conf.d"] {
        let left = names(&files.path().join(name));
        assert_eq!(left, Vec::<String>::new(), "{name}");
        assert_eq!(files.path().join(name).exists(), name == "src", "{name}");
    }
    assert_eq!(names(&kiln.root().join("tmp")), Vec::<String>::new());
}

#[test]
fn only_a_change_of_what_is_mounted_runs_a_step_again() {
    if !needs_root("only_a_change_of_what_is_mounted_runs_a_step_again") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox AS made\nARG N\nRUN mkdir /out && echo same > /out/file && echo $N > /other\n\
             FROM busybox\nRUN --mount=from=made,source=/out,target=/m cat /m/file > /stage\n\
             RUN --mount=source=used,target=/u cat /u/file > /context\n",
        ),
        ("used/file", "one"),
        ("unused", "1"),
    ]);
    let build = |number: &str| kiln.build(&context, &["--build-arg", &format!("N={number}")]).ok();
    build("1");
    std::fs::write(context.join("unused"), "2").unwrap();
    let ran = build("2");
    // The stage ran again and gave the same files where they are mounted.
    let reran: Vec<String> =
        ran.ended(Step::Done).into_iter().filter(|name| name.starts_with("RUN")).collect();
    assert_eq!(reran, ["RUN mkdir /out && echo same > /out/file && echo 2 > /other"], "{ran}");
    std::fs::write(context.join("used/file"), "two").unwrap();
    let files = kiln.build_files(&context, &["--build-arg", "N=2"]);
    assert_eq!(read(&files, "context"), "two");
    let reran = build("1").ended(Step::Done);
    assert_eq!(reran, Vec::<String>::new());
}

#[test]
fn a_mount_of_nothing_says_what_is_missing() {
    if !needs_root("a_mount_of_nothing_says_what_is_missing") {
        return;
    }
    let kiln = Kiln::busybox();
    let cases: [(&str, &[&str]); 5] = [
        ("--mount=source=none,target=/x", &["`/none`: not found"]),
        ("--mount=from=busybox,source=none,target=/x", &["`/none`: not found"]),
        ("--mount=target=/proc/x", &["cannot mount `/proc/x`"]),
        ("--mount=target=/etc/passwd", &["cannot mount a directory on `/etc/passwd`, which is a file"]),
        ("--mount=target=/", &["invalid mount target `/`"]),
    ];
    for (flag, words) in cases {
        let context = kiln.context(&[("Dockerfile", &format!("FROM busybox\nRUN {flag} true\n"))]);
        kiln.build(Path::new(&context), &[]).fails_with(words);
    }
}
