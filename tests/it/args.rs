//! Which ARGs make a RUN step run again: those that it could read.

use crate::support::binary::{Kiln, Step, read};
use crate::support::needs_root;

/// Builds twice with `VERSION` 1 and 2; gives the steps of the second build that ran.
fn ran_again(kiln: &Kiln, files: &[(&str, &str)]) -> Vec<String> {
    let context = kiln.context(files);
    let build = |version: &str| kiln.build(&context, &["--build-arg", &format!("VERSION={version}")]).ok();
    build("1");
    let second = build("2");
    let ran = second.ended(Step::Done);
    // What was found is what the other build left: nothing runs when its value comes back.
    assert_eq!(build("1").ended(Step::Done), Vec::<String>::new());
    ran
}

#[test]
fn steps_that_cannot_read_an_arg_stay_cached_when_it_changes() {
    if !needs_root("steps_that_cannot_read_an_arg_stay_cached_when_it_changes") {
        return;
    }
    let kiln = Kiln::busybox();
    let text = "FROM busybox\nARG VERSION\nRUN echo hi\nRUN [\"mkdir\", \"/x\"]\nRUN mkdir -p /a/b && touch /a/b/c; ln -s /a /l\n\
                RUN <<EOF\nset -e\nif test -d /a; then rm -r /x; fi\nEOF\nCOPY f /f\nWORKDIR /w\nRUN cat > /g <<'END'\n$(env)\nEND\n";
    assert_eq!(ran_again(&kiln, &[("Dockerfile", text), ("f", "f")]), Vec::<String>::new());
}

#[test]
fn steps_that_might_read_an_arg_run_again_when_it_changes() {
    if !needs_root("steps_that_might_read_an_arg_run_again_when_it_changes") {
        return;
    }
    let kiln = Kiln::busybox();
    for step in [
        "echo $VERSION",
        "env",
        "sh -c set",
        "/script",
        ". /script",
        "cat /proc/self/environ",
        "cat /way",
        "echo $(env)",
        "for name in RSION; do eval echo \"\\$VE$name\"; done",
    ] {
        let text = format!(
            "FROM busybox\nCOPY script /\nRUN ln -s /proc/self/environ /way\nARG VERSION\nRUN {step}\n"
        );
        let files = [("Dockerfile", text.as_str()), ("script*", "#!/bin/sh\nenv\n")];
        assert_eq!(ran_again(&kiln, &files).len(), 1, "{step}");
    }
}

/// A script of the image that has the name of a program reads what it likes; the ARG is there for it.
#[test]
fn a_script_in_the_place_of_a_program_sees_the_arg_and_runs_again() {
    if !needs_root("a_script_in_the_place_of_a_program_sees_the_arg_and_runs_again") {
        return;
    }
    let kiln = Kiln::busybox();
    for place in ["usr/local/bin/mkdir", "bin/mkdir"] {
        let text = format!(
            "FROM busybox\nRUN rm /bin/mkdir\nCOPY script /{place}\nARG VERSION=0\nRUN mkdir /x\nRUN [\"mkdir\", \"/y\"]\n"
        );
        let context =
            kiln.context(&[("Dockerfile", &text), ("script*", "#!/bin/sh\necho $VERSION >> /seen\n")]);
        for version in ["1", "2"] {
            let files = kiln.build_files(&context, &["--build-arg", &format!("VERSION={version}")]);
            // busybox's shell may have a mkdir of its own; the second step looks for one.
            let seen = read(&files, "seen");
            assert!(!seen.is_empty() && seen.lines().all(|line| line == version), "{place}: {seen}");
        }
    }
}

#[test]
fn a_cached_step_has_the_new_value_in_its_history() {
    if !needs_root("a_cached_step_has_the_new_value_in_its_history") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", "FROM busybox\nARG VERSION\nRUN echo hi\n")]);
    let history = |version: &str| {
        kiln.build(&context, &["-t", "x", "--build-arg", &format!("VERSION={version}")]).ok();
        kiln.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "x"])
    };
    assert!(history("1").starts_with("RUN |1 VERSION=1 /bin/sh -c echo hi # buildkit\n"));
    assert!(history("2").starts_with("RUN |1 VERSION=2 /bin/sh -c echo hi # buildkit\n"));
}
