//! Each rule that needs nothing but the file: where it speaks and where it doesn't.

use crate::lint::rules::{self, Origin};
use crate::{Diagnostic, Source, parse, parse_checked};

/// `line Rule` of each warning.
fn found(text: &str) -> Vec<String> {
    shown(text, parse("Dockerfile", text.as_bytes()).map(|file| file.warnings))
}

fn shown(text: &str, result: Result<Vec<Diagnostic>, Vec<Diagnostic>>) -> Vec<String> {
    let source = Source { name: "Dockerfile", text };
    let name = |one: &Diagnostic| one.rule().map_or(one.code, |rule| rule.name);
    let line = |one: &Diagnostic| format!("{} {}", source.line_column(one.span.start).0, name(one));
    result.unwrap_or_else(|errors| errors).iter().map(line).collect()
}

fn check(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(found(text), *expected, "{text}");
    }
}

/// Cases after BuildKit's own tests of its checks.
#[test]
fn stages_and_casing() {
    check(&[
        ("FROM scratch AS BadStageName\n", &["1 StageNameCasing"]),
        ("FROM scratch AS good-name\n", &[]),
        ("FROM scratch as base2\n", &["1 FromAsCasing"]),
        ("from scratch AS base\n\nfrom scratch as base2\n", &["1 FromAsCasing"]),
        ("FROM scratch AS b\nFROM scratch AS b\n", &["2 DuplicateStageName"]),
        ("FROM scratch AS b1\nFROM scratch AS b2\n", &[]),
        (
            "FROM scratch AS scratch\nFROM scratch AS context\n",
            &["1 ReservedStageName", "2 ReservedStageName"],
        ),
        ("FROM scratch\nFROM scratch AS a\n", &[]),
        ("From scratch as base\nFROM scratch AS base2\n", &["1 ConsistentInstructionCasing"]),
        ("FROM scratch\ncopy a /foo\nCOPY a /bar\n", &["2 ConsistentInstructionCasing"]),
        ("from scratch\nCOPY a /foo\ncopy a /bar\n", &["2 ConsistentInstructionCasing"]),
        ("FROM scratch\ncopy a /b\ncopy a /c\ncopy a /d\n", &["1 ConsistentInstructionCasing"]),
        ("from scratch\ncopy a /foo\ncopy a /bar\n", &[]),
        ("FROM scratch\nCOPY a \\\n\nb\nCOPY a \\\nb\n", &["3 NoEmptyContinuation"]),
        ("FROM scratch\nMAINTAINER me@example.org\n", &["2 MaintainerDeprecated"]),
        ("FROM scratch\nLABEL org.opencontainers.image.authors=\"me@example.org\"\n", &[]),
    ]);
}

#[test]
fn arguments_and_platforms_of_from() {
    check(&[
        ("ARG base=scratch\nFROM $base\n", &[]),
        ("ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\n", &[]),
        ("FROM --platform=$BUILDPLATFORM scratch\n", &[]),
        ("ARG DEBUG\nFROM scratch${DEBUG}\n", &[]),
        ("ARG DEBUG\nFROM scra${DEBUG:-tch}\n", &[]),
        ("FROM --platform=$BULIDPLATFORM scratch\n", &["1 UndefinedArgInFrom"]),
        ("ARG tag=latest\nFROM a:${tag}${version} AS b\n", &["2 UndefinedArgInFrom"]),
        ("FROM --platform=$TARGETPLATFORM scratch\n", &["1 RedundantTargetPlatform"]),
        ("FROM --platform=${TARGETPLATFORM} scratch\n", &["1 RedundantTargetPlatform"]),
        ("FROM --platform=linux/$TARGETARCH scratch\n", &[]),
        ("FROM --platform=linux/amd64 scratch\n", &["1 FromPlatformFlagConstDisallowed"]),
        ("FROM --platform=linux/amd64 scratch AS my_amd64_stage\n", &[]),
        ("FROM --platform=x86_64 scratch AS amd64\n", &[]),
        ("FROM --platform=linux/amd64 scratch AS linux\n", &[]),
        ("FROM --platform=linux/arm/v7 scratch AS v7\n", &["1 FromPlatformFlagConstDisallowed"]),
    ]);
}

#[test]
fn instructions() {
    let commands = "FROM scratch\nENTRYPOINT [\"/a\"]\nCMD [\"/a\"]\nHEALTHCHECK CMD [\"/a\"]\n";
    let again = format!("{commands}ENTRYPOINT [\"/b\"]\nCMD [\"/b\"]\nHEALTHCHECK NONE\n");
    let dead = ["2", "3", "4"].map(|line| format!("{line} MultipleInstructionsDisallowed"));
    assert_eq!(found(&again), dead);
    check(&[
        (commands, &[]),
        (&commands.replace("FROM scratch", "FROM scratch AS a\nCMD [\"/b\"]\nFROM a"), &[]),
        (
            "FROM scratch\nENV testkey value\nLABEL key value\n",
            &["2 LegacyKeyValueFormat", "3 LegacyKeyValueFormat"],
        ),
        ("FROM scratch\nENV testkey=value\nLABEL key=value\n", &[]),
        ("FROM scratch\nARG SECRET_PASSPHRASE\n", &["2 SecretsUsedInArgOrEnv"]),
        ("FROM scratch\nENV SUPER_Secret=foo\n", &["2 SecretsUsedInArgOrEnv"]),
        (
            "FROM scratch\nENV password=bar secret=baz\n",
            &["2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv"],
        ),
        (
            "FROM scratch\nENV apikey=bar sunflower=foo git_key=\n",
            &["2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv"],
        ),
        ("FROM scratch\nENV PUBLIC_KEY= KEY_FILE=a\nARG public_token TOKEN_VERSION KEYBOARD\n", &[]),
        ("ARG TOKEN\nFROM scratch\n", &[]),
        ("FROM scratch\nEXPOSE 80/TcP 8080/tcp\n", &["2 ExposeProtoCasing"]),
        ("FROM scratch\nEXPOSE 80 8080-8090/udp $PORT/TCP\n", &["2 ExposeProtoCasing"]),
        (
            "FROM scratch\nEXPOSE 127.0.0.1:80:80/tcp 8080:80\n",
            &["2 ExposeInvalidFormat", "2 ExposeInvalidFormat"],
        ),
    ]);
}

#[test]
fn what_docker_takes_without_a_word() {
    check(&[
        ("FROM scratch\nCMD ['a', 'b']\n", &["2 InvalidJsonForm"]),
        ("FROM scratch\nENTRYPOINT [\"a\",]\n", &["2 InvalidJsonForm"]),
        ("FROM scratch\nCOPY [\"a\", \"b\" \"c\"]\n", &["2 InvalidJsonForm"]),
        ("FROM scratch\nRUN [ -f x ] && y\nRUN [[ -f x ]]\nCMD [\"a\"]\n", &[]),
        ("FROM scratch\nUSER me # not root\n", &["2 InlineComment"]),
        ("FROM scratch\nENV a=b #c=d\n", &["2 InlineComment"]),
        ("FROM scratch\nRUN a && \\ # then\n", &["2 InlineComment"]),
        ("FROM scratch\nRUN a # a comment of the shell\nENV a=b#c COLOR='#fff'\n", &[]),
        ("FROM scratch\nHEALTHCHECK --interval=5s NONE\n", &["2 UselessFlags"]),
    ]);
}

/// Cases after BuildKit's own tests.
#[test]
fn descriptions_are_checked_where_that_is_asked_for() {
    let good = "# foo this is the foo\nARG foo=bar\n\n# base this is the base image\nFROM scratch AS base\n\n\
                # baz this is the baz\nARG foo=baz bar=qux baz=quux\n#\nARG bit=bat\n\n# of something else\nCOPY a .\n";
    let bad = "# bar this is the bar\nARG foo=bar\n# BasE this is the BasE image\nFROM scratch AS base\n\
               # definitely a bad comment\nARG version=latest\n# definitely a bad comment\nARG foo=baz bar=qux\n";
    let on = "# check=experimental=InvalidDefinitionDescription\n";
    assert_eq!(found(&format!("{on}{good}")), [""; 0]);
    assert_eq!(found(bad), [""; 0], "it is experimental");
    let lines = ["2", "4", "6", "8"].map(|line| format!("{line} InvalidDefinitionDescription"));
    assert_eq!(found(&format!("{on}{bad}")), lines);
    assert_eq!(found(&format!("# check=skip=all;experimental=all\n{bad}")), lines, "skip=all leaves it on");
}

#[test]
fn descriptions_reach_the_tree() {
    let text = "# A the first\n# B  the second\nARG A B C\n# build makes it\nFROM scratch AS Build\n# no\n\nFROM x AS no\n";
    let file = parse("Dockerfile", text.as_bytes()).expect("parses");
    let texts = |index: usize| file.globals[index].description.as_deref();
    assert_eq!([texts(0), texts(1), texts(2)], [Some("the first"), Some("the second"), None]);
    assert_eq!(file.stages[0].description.as_deref(), Some("makes it"));
    assert_eq!(file.stages[1].description, None);
}

const BODY: &str = "FROM scratch as base\ncopy a .\n";

/// Cases after BuildKit's own tests of the directive.
#[test]
fn rules_are_skipped_for_the_file() {
    let table: &[(&str, &[&str])] = &[
        ("#check=skip=all\n", &[]),
        ("#check=skip=ConsistentInstructionCasing,FromAsCasing\n", &[]),
        ("# check = skip=ConsistentInstructionCasing ; error=false\n", &["2 FromAsCasing"]),
        ("# check=skip=consistent-instruction-casing\n", &["2 FromAsCasing"]),
        ("# a comment\n# check=skip=all\n\n", &["4 FromAsCasing", "5 ConsistentInstructionCasing"]),
        (
            "# check=skip=StageNameCaseing\n",
            &["1 UnknownCheck", "2 FromAsCasing", "3 ConsistentInstructionCasing"],
        ),
    ];
    for (directive, expected) in table {
        assert_eq!(found(&format!("{directive}{BODY}")), *expected, "{directive}");
    }
    for wrong in ["# check=bogus=1\n", "# check=error=yes\n", "# check=skip\n# check=skip=all\n"] {
        assert!(parse("Dockerfile", format!("{wrong}{BODY}").as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn the_build_arg_takes_the_place_of_the_directive() {
    let text = format!("# check=skip=all\n{BODY}");
    let checked = |checks| {
        shown(&text, parse_checked("Dockerfile", text.as_bytes(), Some(checks)).map(|file| file.warnings))
    };
    assert_eq!(checked("skip=ConsistentInstructionCasing"), ["2 FromAsCasing"]);
    assert_eq!(checked("error=true").len(), 2);
    assert_eq!(checked("bogus"), ["4 check-directive"]);
}

#[test]
fn a_rule_is_skipped_for_one_instruction() {
    let table: &[(&str, &[&str])] = &[
        (
            "FROM a\n# check=skip=MaintainerDeprecated it is old\nMAINTAINER x\nMAINTAINER y\n",
            &["4 MaintainerDeprecated"],
        ),
        ("FROM a\n#check=skip=all\n# why\nMAINTAINER x\n", &[]),
        ("FROM a\n# check=skip=all\n\nMAINTAINER x\n", &["4 MaintainerDeprecated"]),
        ("FROM a\n# check=skip=UndefinedVar\nMAINTAINER x\n", &["3 MaintainerDeprecated"]),
        ("FROM a\n# check=skip=Undefined\nMAINTAINER x\n", &["2 UnknownCheck", "3 MaintainerDeprecated"]),
        ("FROM a\n# check=what\nMAINTAINER x\n", &["2 UnknownCheck", "3 MaintainerDeprecated"]),
        ("# check=skip=FromAsCasing\nFROM a as b\nFROM a as c\n", &[]),
        ("#\n# check=skip=FromAsCasing\nFROM a as b\nFROM a as c\n", &["4 FromAsCasing"]),
    ];
    check(table);
}

#[test]
fn error_true_counts_the_rules_of_docker() {
    let verdict = |text: &str| {
        let file = parse("Dockerfile", text.as_bytes()).expect("parses");
        file.checks.verdict(&file.warnings).map(|error| error.message)
    };
    let all = "lint violation found for rules: ConsistentInstructionCasing, FromAsCasing";
    assert_eq!(verdict(&format!("# check=error=true\n{BODY}")).as_deref(), Some(all));
    assert_eq!(verdict(BODY), None);
    assert_eq!(verdict(&format!("# check=skip=all;error=true\n{BODY}")), None);
    assert_eq!(verdict("# check=error=true\nFROM a\nCMD ['x']\n"), None, "docker has no such rule");
}

#[test]
fn advice_on_a_long_file_takes_no_time() {
    let mut text = String::from("FROM scratch AS s0\n");
    for index in 0..2000 {
        text += &format!("ENV KEY_{index}=a\nEXPOSE {}/TCP\n", index + 1);
    }
    for index in 1..20_000 {
        text += &format!("FROM $A{index} AS s{index}\n");
    }
    let file = parse("Dockerfile", text.as_bytes()).expect("parses");
    assert_eq!(file.warnings.len(), 101, "100 and a summary");
    assert!(file.warnings.iter().filter_map(Diagnostic::rule).all(|rule| rule.origin == Origin::Docker));
    assert!(rules::by_code("too-many").is_none());
}

/// docker has CopyIgnoredFile on trial: a file that says `error=true` builds there.
#[test]
fn a_rule_on_trial_is_no_error_unless_it_is_named() {
    let verdict = |check: &str| {
        let text = format!("# check={check}\nFROM a\nCOPY x /\n");
        let file = parse("Dockerfile", text.as_bytes()).expect("parses");
        let span = file.stages[0].instructions[0].span;
        let found = [Diagnostic::warning("copy-ignored-file", span, "x")];
        (file.checks.wants("copy-ignored-file", span), file.checks.verdict(&found).is_some())
    };
    assert_eq!(verdict("error=true"), (true, false));
    assert_eq!(verdict("error=true;experimental=CopyIgnoredFile"), (true, true));
    assert!(!verdict("skip=CopyIgnoredFile").0);
    assert_eq!(verdict("skip=all;experimental=all;error=true"), (true, true));
}
