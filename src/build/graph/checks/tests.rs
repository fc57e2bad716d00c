//! Each rule that needs scopes or bases: where it speaks and where it doesn't.

use kiln_grammar::{Diagnostic, Severity, Source, Span};

use super::super::tests::{lower_with, parameters};
use crate::oci::{ImageConfig, RunConfig};

/// `line Rule hint` of each warning; every base is `config`.
fn found_on(text: &str, config: &ImageConfig, build_args: &[(&str, &str)]) -> Vec<String> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut parameters = parameters();
    parameters.build_args = build_args.iter().map(pair).collect();
    let found = match lower_with(text, config, &parameters) {
        Ok(graph) => graph.warnings,
        Err(found) => found,
    };
    found.iter().map(|one| shown(one, text)).collect()
}

fn shown(one: &Diagnostic, text: &str) -> String {
    let line = Source { name: "", text }.line_column(one.span.start).0.to_string();
    let line = if one.span == Span::NOWHERE { "-" } else { &line };
    let name = if one.severity == Severity::Error { one.code } else { one.rule().expect("a rule").name };
    let hint = one.hint.as_deref().filter(|hint| hint.starts_with("did") || hint.starts_with("decl"));
    format!("{line} {name} {}", hint.unwrap_or("")).trim_end().to_owned()
}

fn found(text: &str) -> Vec<String> {
    found_on(text, &ImageConfig::default(), &[])
}

fn check(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(found(text), *expected, "{text}");
    }
}

/// Cases after BuildKit's own tests.
#[test]
fn undefined_variables() {
    check(&[
        ("FROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n", &[]),
        ("FROM alpine AS base\nARG foo=Dockerfile\nFROM base\nCOPY $foo .\n", &[]),
        ("FROM alpine\nRUN echo $PATH $nothing\n", &[]),
        ("FROM alpine\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n", &["2 UndefinedVar"]),
        (
            "FROM alpine\nARG DIR_BINARIES=b/\nARG DIR_ASSETS=a/\nCOPY $DIR_ASSET .\n",
            &["4 UndefinedVar did you mean $DIR_ASSETS?"],
        ),
        ("FROM alpine\nENV PATH=$PAHT:/tmp/bin\n", &["2 UndefinedVar did you mean $PATH?"]),
        ("FROM scratch AS first\nCOPY $foo .\nFROM scratch AS second\nCOPY $bar .\n", &["4 UndefinedVar"]),
        ("FROM a\nUSER $TARGETARCH\n", &["2 UndefinedVar declare it in the stage, too: ARG TARGETARCH"]),
        ("ARG v=1\nFROM a:$v\nLABEL v=$v\n", &["3 UndefinedVar declare it in the stage, too: ARG v"]),
        ("ARG v=1\nFROM a:$v\nARG v\nLABEL v=$v\n", &[]),
        ("FROM a\nENV a=${x:-1} b=${y-2} c=${z:+3} d='$q' e=\\$r\n", &[]),
        ("FROM a\nEXPOSE $PORT\n", &[]),
        ("FROM a AS b\nONBUILD ENV T=$A\nFROM b\n", &["3 UndefinedVar"]),
        ("FROM a\nCOPY <<E /f\n$x\nE\nCOPY <<'E' /f\n$y\nE\n", &["3 UndefinedVar"]),
        ("FROM a\nENV a=${x#y}$x\n", &["2 UndefinedVar"]),
    ]);
    let base = RunConfig { env: vec!["BASE=1".into()], ..RunConfig::default() };
    let base = ImageConfig { config: base, ..ImageConfig::default() };
    assert_eq!(found_on("FROM a\nENV x=$BASE y=$BASS\n", &base, &[]), ["2 UndefinedVar did you mean $BASE?"]);
}

/// Cases after BuildKit's own tests.
#[test]
fn defaults_that_make_no_image_name() {
    let table: &[(&str, (&str, &str), &[&str])] = &[
        ("ARG VERSION\nFROM busybox:$VERSION\n", ("VERSION", "latest"), &["2 InvalidDefaultArgInFrom"]),
        ("ARG IMAGE\nFROM $IMAGE\n", ("IMAGE", "busybox"), &["2 InvalidDefaultArgInFrom"]),
        ("ARG SFX=\"box:\"\nFROM busy${SFX}\n", ("SFX", "box:latest"), &["2 InvalidDefaultArgInFrom"]),
        ("ARG VERSION=\"latest\"\nFROM busybox:${VERSION}\n", ("VERSION", "1"), &[]),
        ("ARG VARIANT=\"\"\nFROM busybox:stable${VARIANT}\n", ("VARIANT", "-musl"), &[]),
        ("ARG VARIANT\nFROM busybox:stable${VARIANT}\n", ("VARIANT", "-musl"), &[]),
    ];
    for (text, arg, expected) in table {
        assert_eq!(found_on(text, &ImageConfig::default(), &[*arg]), *expected, "{text}");
    }
}

#[test]
fn secrets_whose_names_are_variables() {
    let two = ["3 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"];
    check(&[
        ("FROM a\nARG K=KEY\nENV ${K}_X=1 $K=2\nLABEL $K=1\n", &two),
        ("FROM a\nARG K=PUBLIC\nENV ${K}_KEY=1\n", &[]),
    ]);
}

/// Cases after BuildKit's own tests.
#[test]
fn commands_workdirs_and_bases() {
    check(&[
        ("FROM scratch\nCMD mycommand\n", &["2 JSONArgsRecommended"]),
        ("FROM scratch\nENTRYPOINT mycommand\n", &["2 JSONArgsRecommended"]),
        ("FROM scratch\nCMD [\"a\"]\nENTRYPOINT []\n", &[]),
        ("FROM scratch\nSHELL [\"/usr/bin/customshell\"]\nCMD mycommand\nENTRYPOINT x\n", &[]),
        ("FROM scratch AS base\nSHELL [\"/usr/bin/customshell\"]\nFROM base\nCMD mycommand\n", &[]),
        ("FROM scratch\nCMD mycommand\nSHELL [\"/usr/bin/customshell\"]\n", &["2 JSONArgsRecommended"]),
        ("FROM scratch\nWORKDIR app/\n", &["2 WorkdirRelativePath"]),
        ("FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR subdir/\n", &[]),
        ("FROM scratch AS a\nFROM a AS b\nWORKDIR subdir/\nWORKDIR other\n", &["3 WorkdirRelativePath"]),
        ("FROM scratch\nARG d=/x\nWORKDIR $d\nWORKDIR app\n", &[]),
        ("FROM scratch\nARG d=x\nWORKDIR $d\n", &["3 WorkdirRelativePath"]),
        ("FROM scratch AS a\nENV b c\nCMD x\nFROM scratch\n", &[]),
    ]);
    let shell = RunConfig { shell: Some(vec!["/bin/bash".into()]), ..RunConfig::default() };
    let shell = ImageConfig { config: shell, ..ImageConfig::default() };
    assert_eq!(found_on("FROM a\nCMD x\n", &shell, &[]), [""; 0]);
    let arm = ImageConfig { os: "linux".into(), architecture: "arm64".into(), ..ImageConfig::default() };
    assert_eq!(found_on("FROM a\n", &arm, &[]), ["1 InvalidBaseImagePlatform"]);
    assert_eq!(found_on("FROM --platform=linux/arm64 a AS arm64\n", &arm, &[]), [""; 0]);
    let trigger = RunConfig { on_build: vec!["CMD x".into()], ..RunConfig::default() };
    let trigger = ImageConfig { config: trigger, ..ImageConfig::default() };
    assert_eq!(found_on("FROM a\n", &trigger, &[]), ["1 JSONArgsRecommended"]);
}

#[test]
fn several_files_for_one_name() {
    check(&[
        ("FROM a\nCOPY a b /dst\n", &["2 CopySeveralToFile"]),
        ("FROM a\nADD *.c /dst\n", &["2 CopySeveralToFile"]),
        ("FROM a\nARG d=dst\nCOPY a b $d\n", &["3 CopySeveralToFile"]),
        ("FROM a\nARG d=dst/\nCOPY a b $d\nCOPY a b .\nCOPY a b ./\nCOPY a /dst\nCOPY a b /\n", &[]),
        (
            "FROM a\nWORKDIR /app\nCOPY a b /app\nCOPY c* .\nCOPY a b /app/x/\nCOPY a b x\nCOPY a b /app/x\n",
            &[],
        ),
        ("FROM a AS one\nWORKDIR /app/x\nFROM one\nCOPY a b /app\nCOPY a b /ap\n", &["5 CopySeveralToFile"]),
        ("FROM a\nWORKDIR /app.d\nWORKDIR /app/x\nCOPY a b /app\n", &[]),
    ]);
}

#[test]
fn scripts_that_go_on() {
    check(&[
        ("FROM a\nRUN <<E\na\nb\nE\n", &["2 HeredocIgnoresFailures"]),
        ("FROM a\nRUN <<E\nset -e\na\nb\nE\n", &[]),
        ("FROM a\nRUN <<E\n#!/bin/sh\na\nb\nE\n", &[]),
        ("FROM a\nRUN <<E\na\nE\nRUN python3 <<E\na\nb\nE\n", &[]),
        ("FROM a\nSHELL [\"/bin/bash\", \"-euo\", \"pipefail\", \"-c\"]\nRUN <<E\na\nb\nE\n", &[]),
        ("FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nRUN <<E\na\nb\nE\n", &["3 HeredocIgnoresFailures"]),
        ("FROM a\nSHELL [\"pwsh\", \"-Command\"]\nRUN <<E\na\nb\nE\n", &[]),
    ]);
}

#[test]
fn warnings_are_skipped_and_made_errors_as_the_file_says() {
    check(&[
        ("# check=skip=UndefinedVar\nFROM a\nCOPY $x .\nCMD x\n", &["4 JSONArgsRecommended"]),
        ("FROM a\n# check=skip=UndefinedVar\nCOPY $x .\nCOPY $x .\n", &["4 UndefinedVar"]),
        ("# check=error=true\nFROM a\nCMD x\n", &["1 check-failed", "3 JSONArgsRecommended"]),
        ("# check=error=true\nFROM a\nCOPY a b /x\n", &["3 CopySeveralToFile"]),
        ("# check=error=true\nFROM a AS b\nENV x y\nFROM a\n", &[]),
        ("FROM a\nCMD x\nARG p=x-y\nEXPOSE $p\n", &["2 JSONArgsRecommended", "4 bad-port"]),
        ("ARG x\nFROM ${x}\n", &["2 blank-base"]),
    ]);
}

#[test]
fn unused_build_args() {
    let on = |text: &str, name: &str| found_on(text, &ImageConfig::default(), &[(name, "x")]);
    let text = "ARG TAG=1\nFROM a\nARG VERSION PRODUCTION\n";
    assert_eq!(on(text, "VERSON"), ["- UnusedBuildArg did you mean VERSION?"]);
    assert_eq!(on(text, "PROD"), ["- UnusedBuildArg did you mean PRODUCTION?"]);
    assert_eq!(on(text, "OTHER"), ["- UnusedBuildArg"]);
    for name in ["TAG", "VERSION", "http_proxy", "TARGETARCH", "BUILDKIT_INLINE_CACHE", "SOURCE_DATE_EPOCH"] {
        assert_eq!(on(text, name), [""; 0], "{name}");
    }
    assert_eq!(on(&format!("# check=skip=UnusedBuildArg\n{text}"), "OTHER"), [""; 0]);
}
