//! Lowering, as a user would see it.

mod forms;
mod messages;

use std::collections::BTreeMap;

use kiln_cache::Digest;
use kiln_grammar::{Diagnostic, Severity};

use super::{
    Base, Bases, CopySource, Graph, Hidden, HistoryPlan, Lowered, OpSpec, Parameters, VertexId, lower,
};
use crate::api::NetworkMode;
use crate::oci::{ImageConfig, Platform, RunConfig};

pub(in crate::build) fn parameters() -> Parameters {
    Parameters {
        anew: Vec::new(),
        build_args: Vec::new(),
        labels: Vec::new(),
        target: None,
        platform: Platform::new("linux", "amd64", None),
        build_platform: Platform::new("linux", "amd64", None),
        network: NetworkMode::Bridge,
        add_hosts: Vec::new(),
        allow: crate::api::Allow::default(),
        proxies: Vec::new(),
        hidden: Hidden::default(),
        contexts: Vec::new(),
    }
}

/// Lowers `text`, answering every request for a base with `config`.
fn lower_on(text: &str, config: &RunConfig, parameters: &Parameters) -> Result<Graph, Vec<String>> {
    let config = ImageConfig { config: config.clone(), ..ImageConfig::default() };
    let messages = |found: Vec<Diagnostic>| {
        let errors = found.into_iter().filter(|one| one.severity == Severity::Error);
        errors.map(|error| error.message).collect()
    };
    lower_with(text, &config, parameters).map_err(messages)
}

/// Lowers `text`, answering every request for a base with `config`.
pub(super) fn lower_with(
    text: &str,
    config: &ImageConfig,
    parameters: &Parameters,
) -> Result<Graph, Vec<Diagnostic>> {
    let tree = kiln_grammar::parse("Dockerfile", text.as_bytes())?;
    let mut bases = Bases::new();
    loop {
        match lower(&tree, &bases, parameters)? {
            Lowered::Ready(graph) => return Ok(*graph),
            Lowered::Missing(requests) => {
                for super::Wanted { request, .. } in requests {
                    let image = Digest::of(request.reference.to_string());
                    let base = Base { image, config: config.clone() };
                    assert!(bases.insert(request, base).is_none(), "asked for once");
                }
            }
        }
    }
}

fn graph(text: &str) -> Graph {
    lower_on(text, &RunConfig::default(), &parameters()).unwrap()
}

fn errors(text: &str) -> Vec<String> {
    lower_on(text, &RunConfig::default(), &parameters()).unwrap_err()
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.vertices.iter().map(|vertex| vertex.name.as_str()).collect()
}

fn exec(graph: &Graph, vertex: VertexId) -> &super::ExecSpec {
    match &graph.vertices[vertex].op {
        OpSpec::Exec(spec) => spec,
        other => panic!("{other:?}"),
    }
}

fn env(spec: &super::ExecSpec) -> BTreeMap<&str, &str> {
    let all = spec.env.iter().chain(&spec.unread_env);
    all.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

#[test]
fn only_the_stages_that_the_target_needs_are_lowered() {
    let graph =
        graph("FROM a AS one\nRUN one\nFROM b AS unused\nRUN unused\nFROM c\nCOPY --from=one /x /y\n");
    let names = names(&graph);
    assert_eq!(
        names,
        [
            "[one 1/2] FROM docker.io/library/a:latest",
            "[one 2/2] RUN one",
            "[stage-2 1/2] FROM docker.io/library/c:latest",
            "[stage-2 2/2] COPY --from=one /x /y",
        ]
    );
    assert_eq!(graph.vertices[3].reads, [super::Input::Vertex(1)]);
    assert_eq!(graph.vertices[3].rootfs, Some(2));
}

#[test]
fn a_chain_of_thousands_of_stages_is_lowered() {
    let mut text = "FROM a AS s0\n".to_owned();
    for stage in 1..3000 {
        text += &format!("FROM s{} AS s{stage}\n", stage - 1);
    }
    assert_eq!(names(&graph(&text)), ["[s0 1/1] FROM docker.io/library/a:latest"]);
}

#[test]
fn a_target_is_found_by_name_in_any_case_and_by_index() {
    let text = "FROM a AS One\nRUN 1\nFROM b AS two\nRUN 2\n";
    for target in ["one", "ONE", "0"] {
        let parameters = Parameters { target: Some(target.into()), ..parameters() };
        let graph = lower_on(text, &RunConfig::default(), &parameters).unwrap();
        assert_eq!(graph.vertices.len(), 2, "{target}");
    }
    let parameters = Parameters { target: Some("tow".into()), ..parameters() };
    let errors = lower_on(text, &RunConfig::default(), &parameters).unwrap_err();
    assert_eq!(errors, ["target stage `tow` could not be found"]);
}

#[test]
fn env_beats_arg_and_one_env_sees_the_values_from_before_it() {
    let graph = graph("FROM a\nARG x=arg y=1\nENV x=env\nENV abc=hello\nENV abc=bye def=$abc\nRUN true\n");
    let spec = exec(&graph, graph.target);
    let env = env(spec);
    assert_eq!((env["x"], env["y"], env["abc"], env["def"]), ("env", "1", "bye", "hello"));
}

#[test]
fn a_global_arg_is_seen_by_from_and_only_when_declared_again_by_a_stage() {
    let text = "ARG tag=1 name=base\nFROM $name:${tag}\nRUN a\nARG tag\nRUN b\n";
    let graph = graph(text);
    assert_eq!(names(&graph)[0], "[1/3] FROM docker.io/library/base:1");
    assert!(!env(exec(&graph, 1)).contains_key("tag"));
    assert_eq!(env(exec(&graph, 2))["tag"], "1");
    let parameters = Parameters { build_args: vec![("tag".into(), "9".into())], ..parameters() };
    let graph = lower_on(text, &RunConfig::default(), &parameters).unwrap();
    assert_eq!(names(&graph)[0], "[1/3] FROM docker.io/library/base:9");
    assert_eq!(env(exec(&graph, 2))["tag"], "9");
}

#[test]
fn a_build_arg_beats_a_stages_default_and_a_misspelt_one_is_told() {
    let parameters = Parameters {
        build_args: vec![("VERSION".into(), "2".into()), ("VERSON".into(), "3".into())],
        ..parameters()
    };
    let graph = lower_on("FROM a\nARG VERSION=1\nRUN true\n", &RunConfig::default(), &parameters).unwrap();
    assert_eq!(env(exec(&graph, 1))["VERSION"], "2");
    assert_eq!(graph.warnings.len(), 1);
    assert_eq!(graph.warnings[0].hint.as_deref(), Some("did you mean VERSION?"));
}

#[test]
fn proxies_reach_the_program_but_neither_its_env_nor_its_history() {
    let parameters = Parameters { proxies: vec![("HTTP_PROXY".into(), "http://p".into())], ..parameters() };
    let graph = lower_on("FROM a\nRUN true\n", &RunConfig::default(), &parameters).unwrap();
    let spec = exec(&graph, 1);
    assert!(!env(spec).contains_key("HTTP_PROXY"));
    assert_eq!(spec.hidden_env[0], ("HTTP_PROXY".to_owned(), "http://p".to_owned()));
}

#[test]
fn history_names_the_args_that_a_run_saw() {
    let graph = graph("FROM a\nARG N=5\nRUN echo $N\nLABEL k=v\nCMD [\"sh\", \"-c\", \"x\"]\n");
    let made: Vec<_> = graph
        .plan
        .history
        .iter()
        .map(|line| match line {
            HistoryPlan::Made { created_by, vertex } => (created_by.as_str(), vertex.is_some()),
            HistoryPlan::Kept(_) => panic!("the base has no history"),
        })
        .collect();
    assert_eq!(
        made,
        [
            ("ARG N=5", false),
            ("RUN |1 N=5 /bin/sh -c echo $N # buildkit", true),
            ("LABEL k=v", false),
            ("CMD [\"sh\" \"-c\" \"x\"]", false),
        ]
    );
}

/// As docker.io 20.10.24 with BuildKit: programs read one of the two spellings, and either must do.
#[test]
fn a_proxy_given_in_one_case_is_given_in_both() {
    let build_args = vec![("HTTP_PROXY".into(), "http://p".into()), ("no_proxy".into(), "x".into())];
    let parameters = Parameters { build_args, ..parameters() };
    let graph = lower_on("FROM a\nRUN true\n", &RunConfig::default(), &parameters).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        exec(&graph, 1).hidden_env,
        [
            pair("HTTP_PROXY", "http://p"),
            pair("http_proxy", "http://p"),
            pair("NO_PROXY", "x"),
            pair("no_proxy", "x")
        ]
    );
}

/// The numbers are aligned, the keyword is upper case and variables are filled in: docker.io 20.10.24's names.
#[test]
fn steps_are_named_as_people_know_them() {
    let text =
        format!("FROM a\nENV D=/dest\nARG N=v\ncopy f $D/\nWORKDIR ${{D}}\n{}", "RUN echo $N $i\n".repeat(8));
    let graph = graph(&text);
    let names = names(&graph);
    assert_eq!(names[1], "[ 2/11] COPY f /dest/");
    assert_eq!(names[2], "[ 3/11] WORKDIR /dest");
    assert_eq!(names[10], "[11/11] RUN echo v $i");
}

/// As docker.io 20.10.24 with BuildKit: /x of this build says `1 2 3`.
#[test]
fn an_arg_declared_again_without_a_value_keeps_the_one_it_has() {
    let text = "FROM a AS b\nARG A=1\nARG B=2\nARG B\nFROM b\nARG A\nARG C=3\nRUN echo $A $B $C > /x\n";
    let graph = graph(text);
    let env = env(exec(&graph, 1));
    assert_eq!([env["A"], env["B"], env["C"]], ["1", "2", "3"]);
}

/// As docker.io 20.10.24 with BuildKit lists them.
#[test]
fn history_names_args_without_a_value_and_with_the_environments() {
    let graph = graph("FROM a\nARG N\nARG A=1\nENV A=2\nRUN x\n");
    let Some(HistoryPlan::Made { created_by, .. }) = graph.plan.history.last() else { panic!() };
    assert_eq!(created_by, "RUN |2 N= A=2 /bin/sh -c x # buildkit");
}

/// As docker.io 20.10.24 with BuildKit.
#[test]
fn onbuild_leaves_no_history_and_chmod_is_shown_as_written() {
    let graph = graph("FROM a\nONBUILD RUN x\nCOPY --chmod=0640 f /\n");
    let HistoryPlan::Made { created_by, .. } = &graph.plan.history[0] else { panic!() };
    assert_eq!(graph.plan.history.len(), 1);
    assert_eq!(created_by, "COPY --chmod=0640 f / # buildkit");
}

#[test]
fn an_entrypoint_clears_the_bases_cmd_but_not_the_stages_own() {
    let base = RunConfig { cmd: Some(vec!["base".into()]), ..RunConfig::default() };
    let graph = lower_on("FROM a\nENTRYPOINT [\"x\"]\n", &base, &parameters()).unwrap();
    assert_eq!(graph.plan.config.config.cmd, None);
    let graph = lower_on("FROM a\nCMD [\"own\"]\nENTRYPOINT [\"x\"]\n", &base, &parameters()).unwrap();
    assert_eq!(graph.plan.config.config.cmd, Some(vec!["own".to_owned()]));
}

#[test]
fn triggers_of_a_base_run_right_after_from_and_are_not_inherited() {
    let base = RunConfig { on_build: vec!["RUN trigger".into(), "COPY a /b".into()], ..RunConfig::default() };
    let graph = lower_on("FROM a\nRUN own\n", &base, &parameters()).unwrap();
    assert_eq!(
        names(&graph),
        ["[1/4] FROM docker.io/library/a:latest", "[2/4] RUN trigger", "[3/4] COPY a /b", "[4/4] RUN own"]
    );
    assert!(graph.plan.config.config.on_build.is_empty());
}

#[test]
fn a_stages_own_triggers_run_in_the_stage_built_on_it() {
    let graph = graph("FROM a AS base\nONBUILD RUN later\nFROM base\nRUN own\n");
    assert_eq!(names(&graph)[1..], ["[stage-1 1/2] RUN later", "[stage-1 2/2] RUN own"]);
    assert!(graph.plan.config.config.on_build.is_empty());
}

#[test]
fn workdir_is_relative_to_the_one_before_and_stays_inside_the_root() {
    let graph = graph("FROM a\nWORKDIR /x\nWORKDIR y/../../..\nWORKDIR z\nCOPY f ./\n");
    assert_eq!(graph.plan.config.config.working_dir, "/z");
    match &graph.vertices[graph.target].op {
        OpSpec::Copy(spec) => assert_eq!(spec.destination, "/z/./"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn heredocs_become_the_shells_argument_a_script_or_a_file() {
    let graph = graph(
        "FROM a\nRUN <<EOF\necho 1\nEOF\nRUN <<EOF\n#!/bin/python\nx\nEOF\nRUN cat <<A <<B\n1\nA\n2\nB\nCOPY <<f /d/\nv=$PATH\nf\n",
    );
    assert_eq!(exec(&graph, 1).args, ["/bin/sh", "-c", "echo 1\n"]);
    let script = exec(&graph, 2);
    assert_eq!(script.args, ["/bin/sh", "-c", "/dev/pipes/EOF"]);
    assert_eq!(script.script.as_ref().unwrap().body, "#!/bin/python\nx\n");
    assert_eq!(exec(&graph, 3).args[2], "cat <<A <<B\n1\nA\n2\nB");
    match &graph.vertices[4].op {
        OpSpec::Copy(spec) => match &spec.sources[0] {
            CopySource::Inline { name, body } => {
                assert_eq!((name.as_str(), body.starts_with("v=/usr/")), ("f", true));
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_needs_consent_is_refused_by_name() {
    for (text, message) in [
        ("RUN --security=insecure true", "RUN --security=insecure needs the user's consent"),
        ("RUN --network=host true", "RUN --network=host needs the user's consent"),
        ("RUN --device=a.b/c=d true", "RUN --device needs the user's consent"),
    ] {
        assert_eq!(errors(&format!("FROM a\n{text}\n")), [message]);
    }
}

#[test]
fn mistakes_of_several_stages_are_told_at_once() {
    let errors = errors("FROM a AS x\nSTOPSIGNAL nonsense\nFROM a\nCOPY --from=x / /\nEXPOSE 99999\n");
    assert_eq!(errors, ["invalid signal: `nonsense`", "invalid containerPort: `99999`"]);
}

#[test]
fn a_blank_base_and_a_later_stage_are_mistakes() {
    assert_eq!(errors("FROM ${x}\n"), ["base name (${x}) should not be blank"]);
    assert_eq!(
        errors("FROM a AS one\nCOPY --from=two / /\nFROM a AS two\nFROM one\n"),
        ["cannot copy from stage `two`, it needs to be defined before current stage"]
    );
}

#[test]
fn a_chain_of_many_stages_is_lowered_without_deep_recursion() {
    let mut text = String::from("FROM scratch AS s0\n");
    for stage in 1..5000 {
        text.push_str(&format!("FROM s{} AS s{stage}\n", stage - 1));
    }
    assert_eq!(graph(&text).vertices.len(), 1);
}

#[test]
fn labels_of_the_command_line_beat_those_of_the_file() {
    let parameters = Parameters { labels: vec![("a".into(), "cli".into())], ..parameters() };
    let graph = lower_on("FROM a\nLABEL a=file b=file\n", &RunConfig::default(), &parameters).unwrap();
    let labels = &graph.plan.config.config.labels;
    assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("cli", "file"));
}

#[test]
fn flags_of_a_copy_are_expanded_and_shown_as_docker_shows_them() {
    let graph = graph(
        "FROM a\nARG M=go=\nARG E=.git\nARG NONE\nCOPY --exclude=**/$E --chmod=u+rwX,$M --parents --chown=$NONE a/./b /c\n\
         COPY --chmod=$NONE --chown=1 x y\n",
    );
    let [OpSpec::Copy(first), OpSpec::Copy(second)] = [&graph.vertices[1].op, &graph.vertices[2].op] else {
        panic!("{:?}", graph.vertices)
    };
    assert!(first.parents && !second.parents);
    assert_eq!((first.excludes.as_slice(), &first.chown), (["**/.git".to_owned()].as_slice(), &None));
    assert_eq!((first.mode(0o640, false), first.mode(0o640, true)), (0o600, 0o700));
    assert_eq!(second.chmod, None);
    let shown: Vec<_> = (graph.plan.history.iter())
        .filter_map(|line| match line {
            HistoryPlan::Made { created_by, vertex: Some(_) } => Some(created_by.as_str()),
            _ => None,
        })
        .collect();
    let first = "COPY --parents --chmod=u+rwX,go= a/./b /c # buildkit";
    assert_eq!(shown, [first, "COPY --chown=1 x y # buildkit"]);
}

#[test]
fn a_from_may_be_a_variable() {
    let text = "ARG GLOBAL=no\nFROM a AS one\nRUN one\nFROM b AS two\nRUN two\nFROM c AS three\nRUN three\n\
                FROM d\nARG WHICH=one\nENV N=1\nCOPY --from=${WHICH%-x} a a\nARG WHICH=img\nCOPY --from=$N$GLOBAL b b\n\
                COPY --link --from=$WHICH:9 c c\n";
    let with = |args: &[(&str, &str)]| {
        let build_args = args.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let graph =
            lower_on(text, &RunConfig::default(), &Parameters { build_args, ..parameters() }).unwrap();
        let sources = graph.vertices.iter().filter_map(|vertex| match &vertex.op {
            OpSpec::Source(spec) => Some(spec.name.trim_start_matches("docker.io/library/").to_owned()),
            _ => None,
        });
        sources.collect::<Vec<_>>()
    };
    assert_eq!(with(&[]), ["d:latest", "a:latest", "b:latest", "img:9"]);
    assert_eq!(with(&[("WHICH", "three-x")]), ["d:latest", "c:latest", "b:latest", "three-x:9"]);
}

#[test]
fn stages_that_need_each_other_through_variables_end_somewhere() {
    let chain = |length: usize| {
        let first = "FROM scratch AS s0\nCOPY f /\n".to_owned();
        (1..length).fold(first, |text, stage| {
            text + &format!("FROM scratch AS s{stage}\nARG X={}\nCOPY --from=$X / /\n", stage - 1)
        })
    };
    assert_eq!(graph(&chain(100)).vertices.len(), 200);
    assert_eq!(errors(&chain(5000)), ["more than 100 stages need each other through variables and triggers"]);
}

#[test]
fn a_linked_copy_stands_on_nothing_or_the_way_to_its_place_and_is_put_on_the_stage() {
    let graph = graph("FROM a\nCOPY --link --chown=app:7 --chmod=640 x /y\nADD --link --chown=7 z /\n");
    let shape: Vec<_> = graph.vertices.iter().map(|vertex| (vertex.rootfs, vertex.reads.len())).collect();
    let shown: Vec<_> = graph.vertices.iter().map(|vertex| vertex.op.is_shown()).collect();
    // FROM; owner, way, copy, merge; nothing, copy, merge.
    let none = (None, 0);
    assert_eq!(
        shape,
        [none, (Some(0), 0), (Some(0), 0), (Some(2), 2), (Some(0), 1), none, (Some(5), 1), (Some(4), 1)]
    );
    assert_eq!(shown, [true, false, false, true, false, false, true, false]);
    assert_eq!(names(&graph)[3], "[2/3] COPY --link --chown=app:7 --chmod=640 x /y");
    assert_eq!(graph.target, 7);
    let made: Vec<_> = (graph.plan.history.iter())
        .map(|line| match line {
            HistoryPlan::Made { created_by, vertex } => (created_by.as_str(), *vertex),
            HistoryPlan::Kept(_) => unreachable!("the base has no history"),
        })
        .collect();
    assert_eq!(
        made,
        [
            ("COPY --chown=app:7 --chmod=640 x /y # buildkit", Some(4)),
            ("ADD --chown=7 z / # buildkit", Some(7))
        ]
    );
}

#[test]
fn docker_s_own_frontend_of_any_version_is_served_and_no_other() {
    let digest = "0".repeat(64);
    let refused = |syntax: &str, args: &[(&str, &str)]| {
        let build_args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let parameters = Parameters { build_args, ..parameters() };
        let text = format!("# syntax={syntax}\nFROM scratch\n");
        lower_on(&text, &RunConfig::default(), &parameters).err().map(|errors| errors.join("|"))
    };
    for own in [
        "docker/dockerfile",
        "docker/dockerfile:1",
        "docker/dockerfile:1.7-labs",
        "docker.io/docker/dockerfile:1",
        "index.docker.io/docker/dockerfile:master-labs",
        "docker/dockerfile-upstream:master",
        &format!("docker/dockerfile:1@sha256:{digest}"),
        "dockerfile.v0",
    ] {
        assert_eq!(refused(own, &[]), None, "{own}");
        assert_eq!(refused("example.org/x", &[("BUILDKIT_SYNTAX", own)]), None, "{own}");
    }
    for other in ["docker/dockerfile-evil", "docker/dockerfiles:1", "ghcr.io/docker/dockerfile", "A B"] {
        let name = other.split(' ').next().unwrap();
        assert_eq!(refused(other, &[]), Some(format!("frontend image `{name}` is not supported")));
        assert!(refused("docker/dockerfile:1", &[("BUILDKIT_SYNTAX", other)]).is_some());
    }
}
