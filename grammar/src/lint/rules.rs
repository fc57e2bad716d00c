//! The rules that a Dockerfile is checked against: docker's build checks under docker's names, and kiln's own.
//!
//! This is the list alone. Rules that need nothing but the file are looked at here in `lint`; those
//! that need scopes, bases or the context are looked at where these are known.

/// Whose rule it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// One of docker's build checks; `error=true` turns it into an error.
    Docker,
    /// kiln's own; always a warning, so that what docker builds is built.
    Kiln,
}

/// When a rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Wherever in the file it is broken.
    File,
    /// In the stages that the target needs.
    Stage,
}

/// Whether docker calls a rule experimental.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It doesn't.
    Over,
    /// It does, and the rule speaks only where `experimental=` names it.
    Silent,
    /// It does, and the rule is a warning all the same; `error=true` counts it only where it is named.
    Heard,
}

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The code of its diagnostics: `stage-name-casing`.
    pub code: &'static str,
    /// The name that users see and write: `StageNameCasing`.
    pub name: &'static str,
    /// What it asks for, in one sentence.
    pub about: &'static str,
    /// Whose it is.
    pub origin: Origin,
    /// When it speaks.
    pub reach: Reach,
    /// Whether docker still tries it out.
    pub trial: Trial,
}

impl Rule {
    /// The page that explains it.
    pub fn url(&self) -> Option<String> {
        (self.origin == Origin::Docker)
            .then(|| format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.code))
    }
}

/// A rule of docker's.
const fn docker(code: &'static str, name: &'static str, reach: Reach, about: &'static str) -> Rule {
    Rule { code, name, about, origin: Origin::Docker, reach, trial: Trial::Over }
}

/// A rule of kiln's.
const fn kiln(code: &'static str, name: &'static str, reach: Reach, about: &'static str) -> Rule {
    Rule { code, name, about, origin: Origin::Kiln, reach, trial: Trial::Over }
}

use Reach::{File, Stage};

/// All rules, docker's first, in docker's order.
#[rustfmt::skip]
pub static RULES: &[Rule] = &[
    docker("stage-name-casing", "StageNameCasing", File, "a stage's name is written in lower case"),
    docker("from-as-casing", "FromAsCasing", File, "`AS` is written in the case of its `FROM`"),
    docker("no-empty-continuation", "NoEmptyContinuation", File, "no blank line stands inside an instruction"),
    docker("consistent-instruction-casing", "ConsistentInstructionCasing", File,
        "all instructions are written in the same case"),
    docker("duplicate-stage-name", "DuplicateStageName", File, "each stage has a name of its own"),
    docker("reserved-stage-name", "ReservedStageName", File, "no stage is named `scratch` or `context`"),
    docker("json-args-recommended", "JSONArgsRecommended", Stage,
        "CMD and ENTRYPOINT are JSON arrays, so that the program itself gets the signals"),
    docker("maintainer-deprecated", "MaintainerDeprecated", File, "authors stand in a label, not in MAINTAINER"),
    docker("undefined-arg-in-from", "UndefinedArgInFrom", File, "FROM uses only variables that an ARG declares"),
    docker("workdir-relative-path", "WorkdirRelativePath", Stage,
        "a relative WORKDIR follows an absolute one of this file"),
    docker("undefined-var", "UndefinedVar", Stage, "a variable is defined before it is used"),
    docker("multiple-instructions-disallowed", "MultipleInstructionsDisallowed", Stage,
        "a stage has one CMD, one ENTRYPOINT and one HEALTHCHECK: only the last one counts"),
    docker("legacy-key-value-format", "LegacyKeyValueFormat", Stage, "ENV and LABEL are written key=value"),
    docker("invalid-base-image-platform", "InvalidBaseImagePlatform", Stage,
        "a base image is for the platform that was asked for"),
    docker("redundant-target-platform", "RedundantTargetPlatform", File,
        "FROM doesn't ask for $TARGETPLATFORM, which is what it takes anyway"),
    docker("secrets-used-in-arg-or-env", "SecretsUsedInArgOrEnv", Stage, "secrets don't travel in ARG or ENV"),
    docker("invalid-default-arg-in-from", "InvalidDefaultArgInFrom", File,
        "the defaults of the ARGs make valid image names"),
    docker("from-platform-flag-const-disallowed", "FromPlatformFlagConstDisallowed", File,
        "FROM --platform is no constant"),
    Rule { trial: Trial::Heard, ..docker("copy-ignored-file", "CopyIgnoredFile", Stage,
        "what is copied is not hidden by .dockerignore") },
    Rule { trial: Trial::Silent, ..docker("invalid-definition-description", "InvalidDefinitionDescription", File,
        "a comment right above an ARG or a stage begins with its name") },
    docker("expose-proto-casing", "ExposeProtoCasing", Stage, "the protocol in EXPOSE is written in lower case"),
    docker("expose-invalid-format", "ExposeInvalidFormat", Stage,
        "EXPOSE names ports of the container, not addresses or ports of the host"),
    kiln("invalid-json-form", "InvalidJsonForm", File, "what looks like a JSON array is valid JSON"),
    kiln("inline-comment", "InlineComment", File, "a comment has a line of its own"),
    kiln("copy-several-to-file", "CopySeveralToFile", Stage,
        "several sources are copied to a destination that ends with a slash"),
    kiln("heredoc-ignores-failures", "HeredocIgnoresFailures", Stage,
        "a RUN heredoc with several commands stops at the first that fails"),
    kiln("useless-flags", "UselessFlags", File, "no flag stands where it means nothing"),
    kiln("useless-mount-key", "UselessMountKey", File, "no key of --mount stands where it means nothing"),
    kiln("empty-command", "EmptyCommand", File, "RUN, CMD and ENTRYPOINT have a command"),
    kiln("blank-name", "BlankName", Stage, "the names of ENV and LABEL expand to something"),
    kiln("misplaced-flag", "MisplacedFlag", File, "flags stand right after the instruction's name"),
    kiln("broken-trigger", "BrokenTrigger", File, "what ONBUILD stores is an instruction that can be run"),
    kiln("unknown-check", "UnknownCheck", File, "`# check=` names checks that there are"),
    kiln("unused-build-arg", "UnusedBuildArg", File, "each --build-arg is asked for by an ARG"),
    kiln("unused-secret", "UnusedSecret", File, "each --secret is asked for by a RUN"),
    kiln("unused-ssh", "UnusedSsh", File, "each --ssh is asked for by a RUN"),
    kiln("unused-build-context", "UnusedBuildContext", File, "each --build-context is read by an instruction"),
];

/// The rule whose diagnostics have this code.
pub fn by_code(code: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_names_in_kebab_case() {
        for rule in RULES {
            let plain = |text: &str| text.replace('-', "").to_ascii_lowercase();
            assert_eq!(plain(rule.code), plain(rule.name));
            assert!(rule.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.code);
        }
        assert_eq!(RULES.iter().filter(|rule| rule.origin == Origin::Docker).count(), 22);
    }

    #[test]
    fn docker_explains_its_own_rules() {
        let url = |code| by_code(code).and_then(Rule::url);
        let expected = "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/";
        assert_eq!(url("json-args-recommended").as_deref(), Some(expected));
        assert_eq!(url("inline-comment"), None);
        assert_eq!(url("nothing"), None);
    }
}
