//! What a file tells without being built.

use super::super::tests::parameters;
use super::{Outline, check, outline, unasked};

fn tree(text: &str) -> kiln_grammar::Dockerfile {
    kiln_grammar::parse("Dockerfile", text.as_bytes()).unwrap()
}

fn outlined(text: &str, target: Option<&str>, build_args: &[(&str, &str)]) -> Outline {
    let mut parameters = parameters();
    parameters.target = target.map(str::to_owned);
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    parameters.build_args = build_args.iter().map(pair).collect();
    outline(&tree(text), &parameters, &mut |_| None).unwrap()
}

fn args(outline: &Outline) -> Vec<String> {
    outline.args.iter().map(|arg| format!("{}={}", arg.name, arg.value)).collect()
}

const FILE: &str = "\
ARG REGISTRY=docker.io
ARG IMAGE=$REGISTRY/base UNUSED=1
# build makes it
FROM $IMAGE AS build
ARG TARGETARCH FLAGS=-O2
RUN --mount=type=secret,id=token --mount=type=cache,target=/c true
FROM scratch AS lint
ARG LEVEL
RUN --mount=type=secret,id=token,required --mount=type=ssh true
FROM scratch AS last
ARG REGISTRY
COPY --from=build /x /
";

#[test]
fn an_outline_has_what_the_targets_stages_take() {
    let all = outlined(FILE, None, &[("FLAGS", "-g")]);
    assert_eq!((all.name.as_str(), all.description.as_deref()), ("last", None));
    assert_eq!(args(&all), ["REGISTRY=docker.io", "IMAGE=docker.io/base", "FLAGS=-g"]);
    assert_eq!(
        all.secrets.iter().map(|one| (one.id.as_str(), one.required)).collect::<Vec<_>>(),
        [("token", false)]
    );
    assert_eq!(all.caches[0].id, "/c");
    assert!(all.agents.is_empty());
    let lint = outlined(FILE, Some("lint"), &[]);
    assert_eq!(args(&lint), ["LEVEL="]);
    assert!(lint.secrets[0].required);
    assert_eq!(lint.agents[0].id, "default");
    assert_eq!(outlined(FILE, Some("build"), &[]).description.as_deref(), Some("makes it"));
}

#[test]
fn a_check_looks_at_every_stage_unless_there_is_a_target() {
    let text = "FROM scratch AS one\nCOPY $x .\nFROM scratch\nCOPY $y .\n";
    let mut parameters = parameters();
    let found = |parameters: &_| check(&tree(text), parameters, &mut |_| None).found.len();
    assert_eq!(found(&parameters), 2);
    parameters.target = Some("one".to_owned());
    assert_eq!(found(&parameters), 1);
    parameters.target = Some("tow".to_owned());
    assert_eq!(found(&parameters), 1, "the target is told");
}

#[test]
fn variables_of_an_unknown_base_are_not_missed() {
    let checked =
        check(&tree("FROM debian\nENV A=$SOMETHING\nFROM scratch\nENV A=$x\n"), &parameters(), &mut |_| None);
    assert_eq!(checked.found.len(), 1, "{:?}", checked.found);
    assert_eq!(checked.unknown.into_iter().collect::<Vec<_>>(), ["debian:latest"]);
}

#[test]
fn what_no_step_asks_for_is_told() {
    let codes = |text: &str, secrets: &[&str], agents: &[&str]| -> Vec<String> {
        unasked(&tree(text), secrets, agents)
            .iter()
            .map(|one| format!("{} {}", one.code, one.hint.as_deref().unwrap()))
            .collect()
    };
    let text = "FROM a\nRUN --mount=type=secret,id=token x\nFROM a\nRUN --mount=type=ssh x\n";
    assert_eq!(codes(text, &["token"], &["default"]), [""; 0]);
    assert_eq!(
        codes(text, &["tokn"], &["defualt"]),
        ["unused-secret did you mean token?", "unused-ssh did you mean default?"]
    );
    assert_eq!(codes(text, &["GIT_AUTH_TOKEN", "HTTP_AUTH_TOKEN_example.org"], &[]), [""; 0]);
    assert_eq!(codes("FROM a\nADD git@example.org:x.git /\n", &[], &["default"]), [""; 0]);
    assert_eq!(codes("FROM a\nARG id\nRUN --mount=type=secret,id=$id x\n", &["any"], &[]), [""; 0]);
    assert_eq!(codes("FROM a\nONBUILD RUN --mount=type=secret,id=token x\n", &["token"], &[]), [""; 0]);
    assert_eq!(codes("# check=skip=UnusedSecret\nFROM a\n", &["any"], &[]), [""; 0]);
}
