//! `kiln build` as its user meets it: what an image has after each kind of Dockerfile and flag.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::json;

use crate::support::binary::{Kiln, Step, read, run};
use crate::support::needs_root;

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn only_the_stages_that_the_target_needs_are_built() {
    if !needs_root("only_the_stages_that_the_target_needs_are_built") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox AS used\nRUN echo used > /file\nFROM busybox AS unused\nRUN false\n\
         FROM busybox\nCOPY --from=used /file /one\nCOPY --from=0 /file /two\nCOPY --from=busybox /etc/group /three\n\
         FROM busybox AS later\nRUN exit 7\n",
    )]);
    let files = kiln.build_files(&context, &["--target", "2"]);
    assert_eq!(read(&files, "one"), "used\n");
    assert_eq!(read(&files, "two"), "used\n");
    assert!(read(&files, "three").contains("staff:x:50:"));
    let named = kiln.build(&context, &["--target", "USED"]).ok();
    assert_eq!(named.ended(Step::Cached), ["RUN echo used > /file"]);
    kiln.build(&context, &[]).fails_with(&["exit code: 7"]);
}

#[test]
fn arguments_and_variables_have_their_scopes() {
    if !needs_root("arguments_and_variables_have_their_scopes") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "ARG BASE=busybox\nARG GLOBAL=global\nFROM ${BASE} AS first\nARG LATE\nRUN echo \"[$GLOBAL][$LATE]\" > /a\n\
         ARG GLOBAL\nARG OWN=own\nENV KEPT=${OWN:-x}-${GLOBAL}\nRUN echo \"[$GLOBAL][$OWN][$KEPT]\" > /b\n\
         ENV OWN=env\nRUN echo \"[$OWN]\" > /c\n\
         FROM first AS second\nRUN echo \"[$OWN][$KEPT][$GLOBAL]\" > /d\n\
         FROM busybox AS third\nCOPY --from=second /a /b /c /d /\nRUN echo \"[$KEPT]\" > /e\n",
    )]);
    let files = kiln.build_files(&context, &["--build-arg", "GLOBAL=given", "--build-arg", "LATE=late"]);
    assert_eq!(read(&files, "a"), "[][late]\n");
    assert_eq!(read(&files, "b"), "[given][own][own-given]\n");
    assert_eq!(read(&files, "c"), "[env]\n");
    // BuildKit passes the ARGs of a stage on to stages made FROM it, as it does the ENVs.
    assert!(read(&files, "d").starts_with("[env][own-given]"), "{}", read(&files, "d"));
    assert_eq!(read(&files, "e"), "[]\n");
}

#[test]
fn heredocs_become_scripts_and_files() {
    if !needs_root("heredocs_become_scripts_and_files") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        r##"FROM busybox
ENV NAME=world
RUN <<EOF
x=1
echo "$x $NAME" > /shell
set -e
cd /tmp
pwd >> /shell
EOF
RUN <<'EOF'
#!/bin/busybox sh
echo "script $0" | grep -c script > /script
EOF
RUN cat <<EOF > /piped
one
EOF
COPY <<one <<'two' /docs/
hello $NAME
one
hello $NAME
two
COPY --chmod=0750 <<-EOF /single
	indented
	EOF
"##,
    )]);
    let files = kiln.build_files(&context, &[]);
    assert_eq!(read(&files, "shell"), "1 world\n/tmp\n");
    assert_eq!(read(&files, "script"), "1\n");
    assert_eq!(read(&files, "piped"), "one\n");
    assert_eq!(read(&files, "docs/one"), "hello world\n");
    assert_eq!(read(&files, "docs/two"), "hello $NAME\n");
    assert_eq!(read(&files, "single"), "indented\n");
    assert_eq!(mode(&files.path().join("single")), 0o750);
    assert_eq!(mode(&files.path().join("docs/one")), 0o644);
}

#[test]
fn shell_user_and_folder_hold_for_the_steps_below() {
    if !needs_root("shell_user_and_folder_hold_for_the_steps_below") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN mkdir -m 777 /out\nRUN [\"/bin/sh\", \"-c\", \"echo exec $0 > /out/exec\", \"zero\"]\n\
         SHELL [\"/bin/busybox\", \"sh\", \"-ec\"]\nRUN false || true; echo $- > /out/flags\n\
         WORKDIR /work/deep\nWORKDIR sub\nRUN pwd > /out/pwd\n\
         USER user\nRUN id -u > /out/user; id -g >> /out/user; echo $HOME >> /out/user\n\
         WORKDIR /home/mine\nUSER 7:50\nRUN id -u > /out/ids; id -g >> /out/ids\n\
         USER user:staff\nRUN id -g > /out/group\n",
    )]);
    let files = kiln.build_files(&context, &[]);
    assert_eq!(read(&files, "out/exec"), "exec zero\n");
    assert!(read(&files, "out/flags").contains('e'));
    assert_eq!(read(&files, "out/pwd"), "/work/deep/sub\n");
    assert_eq!(read(&files, "out/user"), "1000\n1000\n/home\n");
    assert_eq!(read(&files, "out/ids"), "7\n50\n");
    assert_eq!(read(&files, "out/group"), "50\n");
    assert_eq!(owner(&files.path().join("out/user")), (1000, 1000));
    assert_eq!(owner(&files.path().join("work/deep")), (0, 0));
}

#[test]
fn triggers_run_in_the_next_build() {
    if !needs_root("triggers_run_in_the_next_build") {
        return;
    }
    let kiln = Kiln::busybox();
    let base = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nONBUILD ARG WHO=nobody\nONBUILD COPY greeting /greeting\nONBUILD RUN echo $WHO >> /greeting\n",
    )]);
    let built = kiln.build(&base, &["-t", "base"]).ok();
    assert_eq!(built.steps().len(), 0, "{built}");
    assert_eq!(
        kiln.config("base")["OnBuild"],
        json!(["ARG WHO=nobody", "COPY greeting /greeting", "RUN echo $WHO >> /greeting"])
    );
    let child =
        kiln.context(&[("Dockerfile", "FROM base\nRUN echo last >> /greeting\n"), ("greeting", "hello\n")]);
    let files = kiln.build_files(&child, &["--build-arg", "WHO=you", "-t", "child"]);
    assert_eq!(read(&files, "greeting"), "hello\nyou\nlast\n");
    kiln.build(&child, &["-t", "child"]).ok();
    assert!(kiln.config("child")["OnBuild"].as_array().is_none_or(Vec::is_empty));
}

#[test]
fn copies_take_wildcards_folders_owners_and_modes() {
    if !needs_root("copies_take_wildcards_folders_owners_and_modes") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        (
            "Dockerfile",
            "FROM busybox\nCOPY *.txt /text/\nCOPY tree /tree\nCOPY tree/ tree2/ /merged/\nCOPY a.txt /renamed\n\
             COPY --chown=user:staff --chmod=0640 a.txt /owned/\nCOPY --chown=7 tool /tool\nCOPY link tree/to /links/\n\
             WORKDIR /here\nCOPY a.txt .\nCOPY [\"with blank\", \"/blank/\"]\n",
        ),
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("c.md", "c"),
        ("tool*", "#!/bin/sh\n"),
        ("tree/in/file", "file"),
        ("tree/to", "-> in/file"),
        ("tree2/other", "other"),
        ("link", "-> a.txt"),
        ("with blank", "blank"),
    ]);
    let files = kiln.build_files(&context, &[]);
    let at = |name: &str| files.path().join(name);
    assert!(at("text/a.txt").exists() && at("text/b.txt").exists() && !at("text/c.md").exists());
    assert_eq!(read(&files, "tree/in/file"), "file");
    assert_eq!(std::fs::read_link(at("tree/to")).unwrap(), Path::new("in/file"));
    assert!(at("merged/in/file").exists() && at("merged/other").exists() && !at("merged/tree").exists());
    assert_eq!(read(&files, "renamed"), "a");
    assert_eq!((owner(&at("owned/a.txt")), mode(&at("owned/a.txt"))), ((1000, 50), 0o640));
    assert_eq!((owner(&at("tool")), mode(&at("tool"))), ((7, 7), 0o755));
    assert_eq!(read(&files, "here/a.txt"), "a");
    assert_eq!(read(&files, "blank/with blank"), "blank");
    assert_eq!(owner(&at("renamed")), (0, 0));
}

#[test]
fn ignore_files_hide_what_they_name() {
    if !needs_root("ignore_files_hide_what_they_name") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        ("Dockerfile", "FROM busybox\nCOPY . /c/\n"),
        ("Other", "FROM busybox\nCOPY . /c/\n"),
        (".dockerignore", "# comment\n*.log\n!keep.log\n**/node_modules\nDockerfile\n"),
        ("Other.dockerignore", "keep.log\n"),
        ("a.log", ""),
        ("keep.log", ""),
        ("sub/node_modules/x", ""),
        ("sub/b.log", ""),
    ]);
    let files = kiln.build_files(&context, &[]);
    let at = |name: &str| files.path().join("c").join(name).exists();
    assert!(
        !at("a.log") && at("keep.log") && at("sub/b.log") && !at("sub/node_modules") && !at("Dockerfile")
    );
    let other = context.join("Other");
    let files = kiln.build_files(&context, &["-f", other.to_str().unwrap()]);
    let at = |name: &str| files.path().join("c").join(name).exists();
    assert!(at("a.log") && !at("keep.log") && at("sub/node_modules/x") && at("Dockerfile"));
    let hidden = kiln.context(&[
        ("Dockerfile", "FROM busybox\nCOPY secret /\n"),
        (".dockerignore", "secret\n"),
        ("secret", ""),
    ]);
    kiln.build(&hidden, &[]).fails_with(&["secret", ".dockerignore", ">>> COPY secret /"]);
}

#[test]
fn archives_are_unpacked_by_add() {
    if !needs_root("archives_are_unpacked_by_add") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        ("Dockerfile", "FROM scratch\nADD x.tar.gz /in/\nADD plain /in/\nCOPY x.tar.gz /as/\n"),
        ("plain", "p"),
    ]);
    let content = kiln.context(&[("folder/file", "content")]);
    run(std::process::Command::new("tar")
        .args(["-czf"])
        .arg(context.join("x.tar.gz"))
        .arg("-C")
        .arg(&content)
        .arg("."))
    .ok();
    let files = kiln.build_files(&context, &[]);
    assert_eq!(read(&files, "in/folder/file"), "content");
    assert_eq!(read(&files, "in/plain"), "p");
    assert!(files.path().join("as/x.tar.gz").is_file());
}

#[test]
fn metadata_arrives_in_the_image() {
    if !needs_root("metadata_arrives_in_the_image") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nLABEL a=1 \"b c\"='d e'\nEXPOSE 80 53/udp\nVOLUME /data [\"x\"]\nSTOPSIGNAL SIGINT\n\
         HEALTHCHECK --interval=5s --retries=2 CMD wget localhost\nENV P=q\nWORKDIR /w\nUSER user\n\
         ENTRYPOINT [\"/bin/echo\"]\nCMD [\"hi\"]\nMAINTAINER me\nARG N=1\nRUN true $N\n"
            .replace(" [\"x\"]", "")
            .as_str(),
    )]);
    let words =
        ["-t", "one", "-t", "two:v2", "--label", "b c=given", "--label", "more=x", "--build-arg", "N=5"];
    let built = kiln.build(&context, &words).ok();
    let config = kiln.config("one");
    for (name, expected) in [
        ("Labels", json!({ "a": "1", "b c": "given", "more": "x" })),
        ("ExposedPorts", json!({ "53/udp": {}, "80/tcp": {} })),
        ("Volumes", json!({ "/data": {} })),
        ("StopSignal", json!("SIGINT")),
        ("WorkingDir", json!("/w")),
        ("User", json!("user")),
        ("Entrypoint", json!(["/bin/echo"])),
        ("Cmd", json!(["hi"])),
    ] {
        assert_eq!(config[name], expected, "{name}");
    }
    assert!(config["Env"].as_array().unwrap().contains(&json!("P=q")));
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "wget localhost"]));
    assert_eq!(config["Healthcheck"]["Interval"], json!(5_000_000_000_i64));
    assert_eq!(kiln.config("two:v2"), config);
    assert_eq!(kiln.ok(&["images", "-q", "--no-trunc", "one"]).trim(), built.id());
    let history = kiln.ok(&["history", "--no-trunc", "one"]);
    assert!(history.contains("RUN |1 N=5 /bin/sh -c true $N"), "{history}");
    assert!(
        history.contains("LABEL") && history.contains("HEALTHCHECK") && history.contains("WORKDIR /w"),
        "{history}"
    );
}

#[test]
fn an_image_from_scratch_has_only_its_own_files() {
    if !needs_root("an_image_from_scratch_has_only_its_own_files") {
        return;
    }
    let kiln = Kiln::empty();
    let context =
        kiln.context(&[("Dockerfile", "FROM scratch\nCOPY hello /\nCMD [\"/hello\"]\n"), ("hello*", "x")]);
    let files = kiln.build_files(&context, &[]);
    assert_eq!(crate::support::binary::names(files.path()), ["hello"]);
    let empty = kiln.context(&[("Dockerfile", "FROM scratch\nLABEL a=b\n")]);
    kiln.build(&empty, &["-t", "empty"]).ok();
    assert_eq!(kiln.config("empty")["Labels"], json!({ "a": "b" }));
    let runs = kiln.context(&[("Dockerfile", "FROM scratch\nRUN echo\n")]);
    kiln.build(&runs, &[]).fails_with(&["/bin/sh", ">>> RUN echo"]);
}

#[test]
fn contexts_come_from_standard_input() {
    if !needs_root("contexts_come_from_standard_input") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[
        ("Dockerfile", "FROM busybox\nCOPY f /f\nRUN cat /f\n"),
        ("f", "from a tar"),
        ("d/Other", "FROM busybox\nCOPY f /g\n"),
    ]);
    let words = ["build", "--progress", "plain", "--network", "none", "-t", "tar", "-"];
    let mut ids = Vec::new();
    for flags in ["-cf", "-czf"] {
        let tar = std::process::Command::new("tar")
            .args([flags, "-", "-C"])
            .arg(&context)
            .arg(".")
            .output()
            .unwrap();
        let built = kiln.run_with(&words, &tar.stdout).ok();
        assert!(flags == "-czf" || built.error.contains("from a tar"), "{built}");
        ids.push(built.id());
        kiln.run_with(&["build", "-f", "d/Other", "-"], &tar.stdout).ok();
    }
    assert_eq!(ids[0], ids[1]);
    let text =
        kiln.run_with(&["build", "--network", "none", "-q", "-"], b"FROM busybox\nRUN echo text\n").ok();
    assert_eq!(text.error, "");
    text.id();
    kiln.run_with(&["build", "-"], b"FROM busybox\nCOPY x /\n").fails_with(&["COPY x /", "context"]);
    // The Dockerfile alone from standard input, with a folder as the context.
    let folder = context.to_str().unwrap();
    kiln.run_with(&["build", "-f", "-", folder], b"FROM busybox\nCOPY f /f\n").ok();
    // A Dockerfile outside of the context.
    let outside = kiln.context(&[("Dockerfile.x", "FROM busybox\nCOPY f /outside\n")]);
    let files = kiln.build_files(&context, &["-f", outside.join("Dockerfile.x").to_str().unwrap()]);
    assert_eq!(read(&files, "outside"), "from a tar");
}

#[test]
fn results_go_where_the_output_flag_says() {
    if !needs_root("results_go_where_the_output_flag_says") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nRUN echo x > /made\n")]);
    let at = |name: &str| kiln.scratch().join(name).display().to_string();
    let before = kiln.ok(&["images", "-a"]);
    for (kind, inside) in [("oci", "oci-layout"), ("docker", "manifest.json"), ("tar", "made")] {
        kiln.build(&context, &["-o", &format!("type={kind},dest={}", at(kind)), "-t", "out:1"]).ok();
        let listed = run(std::process::Command::new("tar").arg("-tf").arg(at(kind))).ok().out;
        assert!(listed.lines().any(|line| line.trim_start_matches("./") == inside), "{kind}: {listed}");
    }
    assert_eq!(
        kiln.ok(&["images", "-a"]).lines().filter(|line| line.starts_with("out")).count(),
        0,
        "{before}"
    );
    let other = Kiln::empty();
    for kind in ["oci", "docker"] {
        let loaded = other.ok(&["load", "-i", &at(kind)]);
        assert!(loaded.contains("out:1"), "{loaded}");
    }
    let stdout = kiln.command(&["build", "--network", "none", "-o", "-"]).arg(&context).output().unwrap();
    assert!(stdout.status.success() && stdout.stdout[257..262] == *b"ustar");
    let iid = at("iid");
    let built = kiln.build(&context, &["--iidfile", &iid, "-q"]).ok();
    assert_eq!((std::fs::read_to_string(&iid).unwrap(), built.error.as_str()), (built.id(), ""));
}

#[test]
fn steps_have_the_network_that_was_asked_for() {
    if !needs_root("steps_have_the_network_that_was_asked_for") {
        return;
    }
    let kiln = Kiln::busybox();
    let context =
        kiln.context(&[("Dockerfile", "FROM busybox\nRUN ls /sys/class/net > /links; ip addr > /addr\n")]);
    let links = |mode: &str| {
        let files = kiln.build_files(&context, &["--network", mode]);
        (read(&files, "links"), read(&files, "addr"))
    };
    let (none, addresses) = links("none");
    assert!(!none.contains("eth0") && addresses.contains("127.0.0.1"), "{none}{addresses}");
    let (_, host) = links("host");
    assert!(host.contains("127.0.0.1"));
    let mut own = kiln.command(&["build", "--progress", "plain"]);
    let bridged = run(own.arg(&context)).ok();
    assert_eq!(bridged.ended(Step::Done).len(), 1);
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN ip route | grep default\nRUN --network=none ip addr | grep -c eth0 | grep 0 && test -s /etc/hosts\n",
    )]);
    run(kiln.command(&["build", "--add-host", "db:10.0.0.7"]).arg(&context)).ok();
}

#[test]
fn a_failed_step_tells_what_where_and_its_last_words() {
    if !needs_root("a_failed_step_tells_what_where_and_its_last_words") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo before\nRUN echo last words; \\\n  exit 3\nRUN echo after\n",
    )]);
    let failed = kiln.build(&context, &["-t", "failed"]).fails_with(&[
        "last words",
        "Dockerfile:3",
        "   3 | >>> RUN echo last words; \\\n   4 | >>>   exit 3\n",
        "did not complete successfully: exit code: 3",
        "> [3/4] RUN echo last words",
    ]);
    assert_eq!(failed.out, "");
    assert!(!failed.error.contains("DONE 0.0s\n#4"), "{failed}");
    assert!(!kiln.ok(&["images"]).contains("failed"));
    // What went well before is kept.
    assert_eq!(kiln.build(&context, &[]).ended(Step::Cached), ["RUN echo before"]);
    let missing = kiln.context(&[("Dockerfile", "FROM busybox\nRUN no-such-program\n")]);
    kiln.build(&missing, &[]).fails_with(&["no-such-program: not found", "exit code: 127"]);
    let exec = kiln.context(&[("Dockerfile", "FROM busybox\nRUN [\"/no/such\"]\n")]);
    kiln.build(&exec, &[]).fails_with(&["/no/such", ">>> RUN"]);
    let user = kiln.context(&[("Dockerfile", "FROM busybox\nUSER stranger\nRUN true\n")]);
    kiln.build(&user, &[]).fails_with(&["stranger", ">>> RUN true"]);
}

#[test]
fn long_files_and_long_lines_build() {
    if !needs_root("long_files_and_long_lines_build") {
        return;
    }
    let kiln = Kiln::busybox();
    let mut text = String::from("ARG N=0\n");
    for stage in 0..300 {
        text += &format!(
            "FROM busybox AS s{stage}\nENV A{stage}=v{stage} B=c\nLABEL l{stage}=x\nWORKDIR /w{stage}\n"
        );
        text += &format!("COPY f{} /w{stage}/f\n", stage % 5);
        text += &match stage {
            0 => "COPY f0 /w0/prev\n".to_owned(),
            _ => format!("COPY --from=s{0} /w{0}/prev /w{stage}/prev\n", stage - 1),
        };
        text += &format!("ENV C{stage}=$A{stage}-x\n");
    }
    text += "FROM busybox\n";
    for stage in (9..300).step_by(30) {
        text += &format!("COPY --from=s{stage} /w{stage} /r/{stage}\n");
    }
    let names: Vec<String> = (0..5).map(|file| format!("f{file}")).collect();
    let mut contents: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "content")).collect();
    contents.push(("Dockerfile", &text));
    let context = kiln.context(&contents);
    let first = kiln.build(&context, &["-t", "stages"]).ok();
    let second = kiln.build(&context, &["-t", "stages"]).ok();
    assert_eq!((first.id(), second.ended(Step::Done).len()), (second.id(), 0));
    let long = "x".repeat(60_000);
    let context =
        kiln.context(&[("Dockerfile", &format!("FROM busybox\nRUN echo {long} | wc -c > /size\n"))]);
    assert_eq!(read(&kiln.build_files(&context, &[]), "size"), "60001\n");
}

#[test]
fn what_a_step_leaves_is_what_the_next_one_finds() {
    if !needs_root("what_a_step_leaves_is_what_the_next_one_finds") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\nRUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b && ln -s a /d/l\nRUN rm /d/a && chmod 4755 /d/b\n\
         RUN rm -rf /d && mkdir /d && echo 3 > /d/c && chown 7:7 /d/c\nRUN test ! -e /d/b && test ! -e /etc/.wh.x && cat /d/c\n\
         RUN chmod 1777 /d && touch /dev/x /tmp/y; test -e /etc/resolv.conf\n",
    )]);
    let files = kiln.build_files(&context, &[]);
    assert_eq!(crate::support::binary::names(&files.path().join("d")), ["c"]);
    assert_eq!(owner(&files.path().join("d/c")), (7, 7));
    assert_eq!(files.path().join("d").metadata().unwrap().permissions().mode() & 0o7777, 0o1777);
    // kiln's own files of the step are not in the image.
    assert!(!files.path().join("etc/resolv.conf").exists() && !files.path().join("etc/hosts").exists());
}
