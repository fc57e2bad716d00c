//! Hostile input: whatever the bytes are, there is an answer, its places are real, and it can be shown.

use kiln_grammar::ast::{CopySource, Kind, Word};
use kiln_grammar::{Diagnostic, Dockerfile, Instruction, Source, Span, parse, parse_trigger, word};
use proptest::prelude::*;

/// Pieces that Dockerfiles are made of, and pieces that break them.
const FRAGMENTS: &[&str] = &[
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "CMD ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "SHELL ",
    "LABEL ",
    "VOLUME ",
    "EXPOSE ",
    "WORKDIR ",
    "USER ",
    "STOPSIGNAL ",
    "MAINTAINER ",
    "ENTRYPOINT ",
    "NONE",
    " AS ",
    "--from=",
    "--mount=",
    "--link",
    "--",
    "--interval=1s ",
    "\n",
    "\r\n",
    "\\\n",
    "\\ \n",
    "`\n",
    "\\",
    "`",
    "# escape=`\n",
    "# syntax=x\n",
    "# check=skip=all\n",
    "#",
    "<<EOF",
    "<<-'E F'",
    "3<<",
    "EOF\n",
    "\tE F\n",
    "[\"a\", \"b\"]",
    "['a']",
    "[",
    "]",
    "[[",
    "{\"a\":1}",
    "\"",
    "'",
    "${",
    "}",
    "$a",
    "${a:-",
    "${a##*/}",
    "${a/b/c}",
    "=",
    "a=b ",
    "é",
    "中",
    "\u{feff}",
    "\u{a0}",
    "\t",
    " ",
    "\u{b}",
    "x",
    "\u{1b}[31m",
    "\u{202e}",
];

fn fragment() -> impl Strategy<Value = String> {
    let known = prop::sample::select(FRAGMENTS).prop_map(str::to_owned);
    prop_oneof![8 => known, 1 => any::<char>().prop_map(String::from), 1 => "[a-z ]{0,6}"]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(fragment(), 0..40).prop_map(|parts| parts.concat())
}

fn real(span: Span, text: &str) {
    assert!(span.start <= span.end && span.end <= text.len(), "{span:?} in {} bytes", text.len());
    assert!(
        text.is_char_boundary(span.start) && text.is_char_boundary(span.end),
        "{span:?} cuts a character"
    );
}

fn check_diagnostics(found: &[Diagnostic], text: &str) {
    let source = Source { name: "Dockerfile", text };
    for diagnostic in found {
        real(diagnostic.span, text);
        let shown = diagnostic.render(&source);
        let safe = |c: char| c == '\n' || !c.is_control();
        assert!(shown.chars().all(safe), "{shown:?}");
        assert!(shown.lines().count() >= 3, "{shown}");
    }
}

fn words(instruction: &Instruction) -> Vec<&Word> {
    match &instruction.kind {
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
        }
        Kind::Expose(words) | Kind::Volume(words) => words.iter().collect(),
        Kind::Workdir(word) | Kind::User(word) | Kind::Stopsignal(word) | Kind::Maintainer(word) => {
            vec![word]
        }
        Kind::Run(run) => {
            run.mounts.iter().chain(&run.devices).chain(&run.network).chain(&run.security).collect()
        }
        Kind::Copy(copy) => paths(&copy.sources).chain([&copy.destination]).chain(&copy.from).collect(),
        Kind::Add(add) => paths(&add.sources).chain([&add.destination]).chain(&add.checksum).collect(),
        Kind::Arg(names) => names.iter().map(|declaration| &declaration.name).collect(),
        Kind::Onbuild(onbuild) => onbuild.trigger.iter().flat_map(|trigger| words(trigger)).collect(),
        _ => Vec::new(),
    }
}

fn paths(sources: &[CopySource]) -> impl Iterator<Item = &Word> {
    sources.iter().filter_map(|source| match source {
        CopySource::Path(word) => Some(word),
        CopySource::Heredoc(_) => None,
    })
}

fn check_tree(file: &Dockerfile, text: &str) {
    for stage in &file.stages {
        real(stage.span, text);
        real(stage.base.span, text);
        for instruction in &stage.instructions {
            real(instruction.span, text);
            for word in words(instruction) {
                real(word.span, text);
                assert!(
                    instruction.span.start <= word.span.start && word.span.end <= instruction.span.end,
                    "a word lies in its instruction"
                );
            }
            let continued = text[instruction.span.start..instruction.span.end].contains(['\n', '\r']);
            if !continued && !matches!(instruction.kind, Kind::Volume(_) | Kind::Copy(_) | Kind::Add(_)) {
                for word in words(instruction) {
                    let there = &text[word.span.start..word.span.end];
                    let flag = text[..word.span.start].ends_with('=') && there.contains(['\'', '"', '\\']);
                    assert!(flag || there == word.text, "a word is what stands there");
                }
            }
        }
    }
    check_diagnostics(&file.warnings, text);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_answer_with_real_places(text in text()) {
        match parse("Dockerfile", text.as_bytes()) {
            Ok(file) => check_tree(&file, &text),
            Err(found) => {
                prop_assert!(!found.is_empty());
                check_diagnostics(&found, &text);
            }
        }
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(found) = parse("Dockerfile", &bytes) {
            check_diagnostics(&found, &String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn any_trigger_has_an_answer(text in text()) {
        match parse_trigger(&text, '\\') {
            Ok(trigger) => real(trigger.span, &text),
            Err(found) => check_diagnostics(&found, &text),
        }
    }

    #[test]
    fn any_word_expands_or_says_why(text in text(), value in text()) {
        let vars = |name: &str| (name.len() % 2 == 1).then(|| value.clone());
        for escape in ['\\', '`'] {
            for result in [
                word::expand(&text, escape, &vars),
                word::expand_body(&text, escape, &vars),
                word::expand_list(&text, escape, &vars).map(|words| words.join(" ")),
            ] {
                if let Err(error) = result {
                    prop_assert!(error.at <= text.len() && text.is_char_boundary(error.at));
                    prop_assert!(!error.message.is_empty());
                }
            }
            word::variables(&text, escape);
            word::unquote(&text, escape);
        }
    }

    #[test]
    fn a_quoted_word_is_itself(text in "[^']{0,20}") {
        let quoted = format!("'{text}'");
        prop_assert_eq!(word::expand(&quoted, '\\', &|_: &str| None), Ok(text));
    }
}

/// Whatever a file repeats, its work grows with its size.
#[test]
fn large_files_take_linear_time() {
    let line = |text: &str| text.repeat((256 << 10) / text.len());
    let large = |text: &str| text.repeat((10 << 20) / text.len());
    let files = [
        large("x"),
        large("RUN <<EOF\n"),
        format!("FROM a\nRUN <<EOF\n{}", large("a line of the body\n")),
        format!("FROM a\nCMD {}", large("[")),
        large("\u{feff}"),
        line("\n"),
        line("x\n"),
        line("RUN echo hello\n"),
        format!("FROM a\n{}", line("RUN echo hello\n")),
        format!("FROM a\n{}", line("ENV a=b c=\"d e\" f\n")),
        format!("FROM a\nRUN {}", line("x \\\n")),
        format!("FROM a\nRUN {}", line("\\\n")),
        format!("FROM a\nRUN x \\\n{}", line("\n")),
        format!("FROM a\n{}", line("RUN <<EOF\nx\nEOF\n")),
        format!("FROM a\n{}", line("COPY <<a <<b /x\na\nb\n")),
        format!("FROM a\n{}", line("CMD [[[[[[[[[[[[[[[\n")),
        format!("FROM a\nENV a={}", line("${a:-\\\n")),
        format!("FROM a\n{}", line("ENV a='b\" \\\"\n")),
        line("\u{1b}[31m中\n"),
    ];
    for text in files {
        match parse("Dockerfile", text.as_bytes()) {
            Ok(file) => check_diagnostics(&file.warnings, &text),
            Err(found) => {
                assert!(found.len() <= 101);
                check_diagnostics(&found[..found.len().min(5)], &text);
            }
        }
    }
}

#[test]
fn long_words_within_one_instruction_take_linear_time() {
    let line = |text: &str| text.repeat(20_000 / text.len());
    for keyword in
        ["FROM", "RUN", "COPY", "ENV", "ARG", "LABEL", "VOLUME", "EXPOSE", "CMD", "HEALTHCHECK", "ONBUILD"]
    {
        for part in [
            "a ", "a=b ", "\"", "'", "\\\"", "\"'", "<<", "<<a ", "<< ", "3<<", "${", "$", "[", "[\"",
            "[\"a\",", "{\"a\":", "--a ", "--a=\"", "\\", "#", "-", "\t", "$((", "))", "'\\\"", "${a#",
            "${a/",
        ] {
            let text = format!("FROM x\n{keyword} {}", line(part));
            match parse("Dockerfile", text.as_bytes()) {
                Ok(file) => check_tree(&file, &text),
                Err(found) => check_diagnostics(&found, &text),
            }
        }
    }
}

#[test]
fn files_that_are_no_text_say_so() {
    let table: [(&[u8], &str); 5] = [
        (b"", "empty-file"),
        (b"FROM a\nRUN \xff\xfe", "invalid-utf8"),
        (b"\xff\xfeF\0R\0O\0M\0", "invalid-utf8"),
        (b"FROM a\0b\n", "nul-byte"),
        (b"\x7fELF\x02\x01\x01\0\0", "nul-byte"),
    ];
    for (bytes, code) in table {
        let found = parse("Dockerfile", bytes).expect_err("no Dockerfile");
        assert_eq!(found.iter().map(|found| found.code).collect::<Vec<_>>(), [code]);
    }
    let large = vec![b' '; kiln_grammar::MAX_BYTES + 1];
    assert_eq!(parse("Dockerfile", &large).expect_err("too large")[0].code, "file-too-large");
}
