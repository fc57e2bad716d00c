//! Files of ten megabytes: an answer each, in bounded memory.
//!
//! Each file is parsed in a process of its own, which tells its peak (`VmHWM`).

use std::fmt::Write as _;
use std::process::Command;

use kiln_grammar::{Source, parse};

/// The variable that names the file to a child.
const CASE: &str = "KILN_HOSTILE_FILE";

const SIZE: usize = 10 << 20;

/// What a file of this size, or one instruction of a mebibyte, may take at most, in KiB. The text alone is
/// there twice.
const MAX_PEAK_KIB: usize = 144 << 10;

/// Names of hostile files and what they are made of: what comes first, what is repeated, the code of
/// the first error.
const FILES: &[(&str, &str, &str, Option<&str>)] = &[
    ("one line", "FROM a\nRUN ", "x", Some("line-too-long")),
    ("comments", "FROM a\n", "# a comment\n", None),
    ("blank lines", "FROM a\n", "\n", None),
    ("instructions", "FROM a\n", "RUN true\n", Some("too-many-instructions")),
    ("mistakes", "FROM a\n", "RUNN true\n", Some("unknown-instruction")),
    ("continuations", "FROM a\nRUN x", "xxxx \\\n", Some("instruction-too-long")),
    ("comments in a continuation", "FROM a\nRUN x \\\n", "# c\n", None),
    ("variables", "FROM a\nENV a=", "${a:-\\\n", Some("instruction-too-long")),
    ("brackets", "FROM a\nCMD ", "[[[[[[\\\n", Some("instruction-too-long")),
    ("pairs", "FROM a\nENV ", "a=b \\\n", Some("instruction-too-long")),
    ("heredocs", "FROM a\n", "RUN <<E\nx\nE\n", Some("too-many-instructions")),
    ("a body", "FROM a\nRUN <<E\n", "a line of the body\n", Some("unterminated-heredoc")),
    ("open heredocs", "FROM a\n", "RUN <<E\n", Some("unterminated-heredoc")),
    ("a mebibyte of pairs", "FROM a\nENV ", "", None),
    ("a mebibyte of JSON", "FROM a\nCMD [", "", None),
    ("a mebibyte of words", "FROM a\nCOPY ", "", None),
    ("a mebibyte of mount keys", "FROM a\nRUN --mount=type=bind", "", Some("mount")),
    ("a mebibyte of variables", "FROM a\nENV a=", "", None),
    ("a mebibyte of heredocs", "FROM a\nRUN x", "", Some("unterminated-heredoc")),
];

/// The largest instruction that is looked at.
const INSTRUCTION: usize = (1 << 20) - 64;

fn text(name: &str) -> String {
    let (_, start, unit, _) = FILES.iter().find(|(known, ..)| *known == name).expect("a known file");
    if !unit.is_empty() {
        return format!("{start}{}", unit.repeat(SIZE / unit.len()));
    }
    let (unit, end) = match name {
        "a mebibyte of pairs" => ("a=b ", ""),
        "a mebibyte of JSON" => ("\"a\",", "\"b\"]"),
        "a mebibyte of words" => ("a ", "b"),
        "a mebibyte of mount keys" => (",a=1", " true"),
        "a mebibyte of variables" => ("${a}", ""),
        _ => (" <<a", ""),
    };
    // Lines have a longest length: a continuation every thousand units.
    let mut text = (*start).to_owned();
    for part in 0..INSTRUCTION / unit.len() / 1000 {
        let _ = write!(text, "{}{}", if part == 0 { "" } else { "\\\n" }, unit.repeat(1000));
    }
    text + end + "\n"
}

/// What the child does: nothing, unless it is told a file.
#[test]
fn child() {
    #[expect(clippy::disallowed_methods, reason = "the parent names the file")]
    let Ok(name) = std::env::var(CASE) else { return };
    let text = text(&name);
    let started = std::time::Instant::now();
    let code = match parse("Dockerfile", text.as_bytes()) {
        Ok(_) => None,
        Err(found) => {
            let source = Source { name: "Dockerfile", text: &text };
            assert!(found.iter().all(|found| !found.render(&source).is_empty()));
            found.iter().find(|found| found.severity.as_str() == "error").map(|found| found.code)
        }
    };
    let millis = started.elapsed().as_millis();
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux");
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let peak: usize = peak.split_whitespace().nth(1).unwrap_or_default().parse().expect("a number");
    println!("\nanswer {} {peak} {millis} {}", code.unwrap_or("-"), text.len());
}

#[test]
fn ten_megabytes_have_an_answer_in_bounded_memory() {
    let me = std::env::current_exe().expect("a program");
    let mut wrong = Vec::new();
    for (name, .., code) in FILES {
        let run = Command::new(&me).args(["child", "--exact", "--nocapture"]).env(CASE, name).output();
        let output = String::from_utf8(run.expect("runs").stdout).expect("text");
        let Some(answer) = output.lines().find_map(|line| line.strip_prefix("answer ")) else {
            wrong.push(format!("{name}: no answer\n{output}"));
            continue;
        };
        println!("{name}: {answer}");
        let words: Vec<&str> = answer.split(' ').collect();
        let peak: usize = words[1].parse().expect("KiB");
        if words[0] != code.unwrap_or("-") || peak > MAX_PEAK_KIB {
            wrong.push(format!("{name}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "code, peak in KiB, milliseconds, bytes:\n{}", wrong.join("\n"));
}
