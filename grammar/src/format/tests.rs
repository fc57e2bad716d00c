//! The canonical form, and that it is reached in one step without a change of meaning.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::format;

fn formatted(text: &str) -> String {
    let once = format("Dockerfile", text.as_bytes()).unwrap_or_else(|found| panic!("{found:?}\n{text}"));
    let twice = format("Dockerfile", once.as_bytes()).unwrap_or_else(|found| panic!("{found:?}\n{once}"));
    assert_eq!(once, twice, "formatting twice is formatting once");
    once
}

fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(formatted(text), *expected, "{text}");
    }
}

#[test]
fn words_have_one_blank_between_them() {
    check(&[
        ("from  a   as  b", "FROM a AS b\n"),
        ("FROM a\n  copy   a  b\t/c/  \n", "FROM a\nCOPY a b /c/\n"),
        (
            "FROM a\nCOPY  --from=b   --link=TRUE --chown=1:2  x  y\n",
            "FROM a\nCOPY --from=b --link --chown=1:2 x y\n",
        ),
        ("FROM a\nADD --unpack=false x y\n", "FROM a\nADD --unpack=false x y\n"),
        ("FROM a\nenv A=\"x  y\"   B='  ' C=\\  D=1\n", "FROM a\nENV A=\"x  y\" B='  ' C=\\  D=1\n"),
        ("FROM a\nhealthcheck  --interval=5s   cmd  a  b\n", "FROM a\nHEALTHCHECK --interval=5s CMD a  b\n"),
        ("FROM a\nhealthcheck none\n", "FROM a\nHEALTHCHECK NONE\n"),
        ("FROM a\nexpose 80  443/tcp\nvolume  /a   /b\n", "FROM a\nEXPOSE 80 443/tcp\nVOLUME /a /b\n"),
        ("FROM a\nonbuild   run  a  b\n", "FROM a\nONBUILD run  a  b\n"),
        ("FROM a\nENV old  the   rest \n", "FROM a\nENV old  the   rest\n"),
    ]);
}

#[test]
fn arrays_have_one_blank_after_each_comma() {
    check(&[
        ("FROM a\ncmd [ \"a\",\"b c\" , \"d\\\"  e\" ]\n", "FROM a\nCMD [\"a\", \"b c\", \"d\\\"  e\"]\n"),
        ("FROM a\nCMD [\"a\", \\\n \"b\"]\n", "FROM a\nCMD [\"a\", \\\n    \"b\"]\n"),
        ("FROM a\nRUN --network=none  [\"a\",\"b\"]\n", "FROM a\nRUN --network=none [\"a\", \"b\"]\n"),
        ("FROM a\nHEALTHCHECK CMD [\"a\",\"b\"]\n", "FROM a\nHEALTHCHECK CMD [\"a\", \"b\"]\n"),
        ("FROM a\nRUN [ -f x ]  &&  y\n", "FROM a\nRUN [ -f x ]  &&  y\n"),
        ("FROM a\nCOPY [\"a b\",\"/c\"]\n", "FROM a\nCOPY [\"a b\", \"/c\"]\n"),
        ("FROM a\nLABEL a=\"[1,2]\" b=[1,2]\n", "FROM a\nLABEL a=\"[1,2]\" b=[1,2]\n"),
    ]);
}

#[test]
fn continued_lines_are_indented() {
    check(&[
        (
            "FROM a\nENV a=1 \\\n  b=2\\\n\n# why\n \t c=3\n",
            "FROM a\nENV a=1 \\\n    b=2 \\\n    # why\n    c=3\n",
        ),
        ("FROM a\nENV a=\"x \\\n   y\"\n", "FROM a\nENV a=\"x \\\n   y\"\n"),
        ("FROM a\nCOPY a \\\n   \\\n b\n", "FROM a\nCOPY a \\\n    b\n"),
        ("FROM a\nCOPY a b \\\n\n", "FROM a\nCOPY a b\n"),
        ("FROM a\nCOPY a b \\\n# swallowed\n", "FROM a\nCOPY a b\n# swallowed\n"),
        ("# escape=`\nFROM a\nCOPY a `  \n b\n", "# escape=`\nFROM a\nCOPY a `\n    b\n"),
    ]);
}

#[test]
fn scripts_keep_every_byte() {
    let script = "RUN a  &&  \\\n  # why  \n\tb 'x \\\n  y'";
    check(&[
        (&format!("FROM a\n{script}\n"), &format!("FROM a\n{}\n", script.replace("why  ", "why"))),
        (
            "FROM a\nrun   --mount=type=cache,target=/c   a  b\n",
            "FROM a\nRUN --mount=type=cache,target=/c a  b\n",
        ),
        (
            "FROM a\nrun --mount=type=cache,target=/c \\\n  --network=none \\\n # c\n a  b \\\n  c\n",
            "FROM a\nRUN --mount=type=cache,target=/c \\\n    --network=none \\\n    # c\n    a  b \\\n  c\n",
        ),
        ("FROM a\nrun <<EOF\n  x  y\t\n\nEOF\nCMD  x  y\n", "FROM a\nRUN <<EOF\n  x  y\t\n\nEOF\nCMD x  y\n"),
        (
            "FROM a\ncopy  <<A   <<-B  /d/\r\nx\r\nA\r\n\ty\r\n\tB\r\n",
            "FROM a\nCOPY <<A <<-B /d/\nx\r\nA\n\ty\r\n\tB\n",
        ),
        ("FROM a\nRUN a \\ # no\n", "FROM a\nRUN a \\ # no\n"),
    ]);
}

#[test]
fn blank_lines_and_comments_keep_their_place() {
    check(&[
        ("\n\n\nFROM a\n\n\n\nRUN b\n\n\n", "FROM a\n\nRUN b\n"),
        ("FROM a\nRUN b\nFROM c\nRUN d\n\n\nFROM e\n", "FROM a\nRUN b\n\nFROM c\nRUN d\n\nFROM e\n"),
        ("ARG a\nFROM b\n", "ARG a\nFROM b\n"),
        ("FROM a AS x\n# y it is\nFROM a AS y\n", "FROM a AS x\n\n# y it is\nFROM a AS y\n"),
        ("  # one\n\n\n#two  \nFROM a\n", "# one\n\n#two\nFROM a\n"),
        ("FROM a\n   # c\n\n   # d\nRUN b\n# e", "FROM a\n# c\n\n# d\nRUN b\n# e\n"),
        ("\u{feff}FROM a\r\nRUN b\r\n", "FROM a\nRUN b\n"),
    ]);
}

#[test]
fn directives_stay_directives_and_comments_comments() {
    check(&[
        (
            "#Syntax = docker/dockerfile:1  \n#  CHECK=skip=all\nFROM a\n",
            "# syntax=docker/dockerfile:1\n# check=skip=all\nFROM a\n",
        ),
        ("\n\n# escape=`\nFROM a\nRUN b `\nRUN c\n", "\n# escape=`\nFROM a\nRUN b `\nRUN c\n"),
        ("# x\n# escape=`\nFROM a\nRUN b `\n", "# x\n# escape=`\nFROM a\nRUN b `\n"),
        (
            "# syntax=docker/dockerfile:1\n\n\n# escape=`\nFROM a\n",
            "# syntax=docker/dockerfile:1\n\n# escape=`\nFROM a\n",
        ),
        ("\n# x\n# escape=`\nFROM a\n", "# x\n# escape=`\nFROM a\n"),
    ]);
}

#[test]
fn a_file_with_mistakes_is_left_alone() {
    let found = format("Dockerfile", b"FORM a\nRUN b\n").expect_err("a mistake");
    assert_eq!(found[0].code, "unknown-instruction");
    assert!(format("Dockerfile", b"").is_err());
    assert!(format("Dockerfile", b"FROM a\xff\n").is_err());
}

/// All Dockerfiles of the tests, those that can be parsed: the comparison inside `format` must hold.
#[test]
fn the_dockerfiles_of_the_tests_are_formatted_in_one_step() {
    let mut count = 0;
    for folder in ["dockerfiles", "messages", "real", "conformance"] {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata")).join(folder);
        for entry in fs::read_dir(root).into_iter().flatten() {
            let Ok(text) = fs::read(entry.expect("readable").path().join("Dockerfile")) else { continue };
            if crate::parse_checked("Dockerfile", &text, Some("")).is_ok() {
                formatted(&String::from_utf8(text).expect("it was parsed"));
                count += 1;
            }
        }
    }
    assert!(count > 10, "{count} files");
}

/// Pieces that meet in ways which nobody writes.
fn piece() -> impl Strategy<Value = String> {
    let fixed = [
        "FROM a",
        "from b as c",
        "RUN",
        "run",
        "COPY",
        "ENV",
        "CMD",
        "LABEL",
        "ARG",
        "HEALTHCHECK",
        "cmd",
        "ONBUILD",
        "EXPOSE",
        "SHELL",
        "VOLUME",
        " ",
        "  ",
        "\t",
        "\n",
        "\n\n",
        " \\\n",
        "\\\n",
        "\\\n\n",
        "\\",
        "#",
        "# c\n",
        " # c \\\n",
        "\r\n",
        "'",
        "\"",
        "`",
        "a",
        "b=c",
        "$x",
        "--link=true",
        "--mount=type=tmpfs,target=/x",
        "--from=b",
        "[",
        "]",
        "\"a\"",
        "[\"a\",\"b\"]",
        ",",
        "&&",
        "<<E",
        "<<-'F'",
        "\nE\n",
        "\n\tF\n",
        "# escape=`\n",
        "# syntax=docker/dockerfile:1\n",
        "80/tcp",
        "/x",
        "=",
    ];
    prop_oneof![8 => proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => "[ -~]{0,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_file_is_formatted_in_one_step(pieces in prop::collection::vec(piece(), 0..24), first in any::<bool>()) {
        let text = if first { format!("FROM a\n{}", pieces.concat()) } else { pieces.concat() };
        if crate::parse_checked("Dockerfile", text.as_bytes(), Some("")).is_ok() {
            formatted(&text);
        }
    }
}
