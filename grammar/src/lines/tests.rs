//! Physical lines to instructions.

use super::*;

fn texts(text: &str) -> Vec<String> {
    scan(text).lines.iter().map(|line| line.text.to_string()).collect()
}

fn messages(text: &str) -> Vec<String> {
    scan(text).diagnostics.iter().map(|found| format!("{}: {}", found.code, found.message)).collect()
}

#[test]
fn lines_are_joined_and_comments_dropped() {
    let table: &[(&str, &[&str])] = &[
        ("", &[]),
        ("# only\n\n  # comments\n", &[]),
        ("RUN a", &["RUN a"]),
        ("  RUN a  \r\n\tRUN b\r\n", &["RUN a", "RUN b"]),
        ("RUN a \\\n  b", &["RUN a   b"]),
        ("RUN a\\\nb", &["RUN ab"]),
        ("RUN a \\  \t\n b", &["RUN a  b"]),
        ("RUN a \\\r\n b\r\n", &["RUN a  b"]),
        ("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]),
        ("RUN a \\\n# comment \\\n  # more\n b\nRUN c", &["RUN a  b", "RUN c"]),
        ("RUN a \\\n\n b", &["RUN a  b"]),
        ("RUN a # no comment \\\n b", &["RUN a # no comment  b"]),
        ("RUN a \\", &["RUN a"]),
        ("\\\nRUN a", &["RUN a"]),
        ("\\\n\\\n", &[]),
        ("\u{feff}FROM a", &["FROM a"]),
        ("\u{feff}# comment\nFROM a", &["FROM a"]),
        ("# escape=`\nRUN a `\n b\nRUN c:\\\nRUN d", &["RUN a  b", "RUN c:\\", "RUN d"]),
    ];
    for (text, expected) in table {
        assert_eq!(texts(text), *expected, "{text:?}");
    }
}

#[test]
fn offsets_lead_back_to_the_source() {
    let text = "\u{feff}  RUN one \\\n # x\n\n  twö \\\r\n three\n";
    let scanned = scan(text);
    let line = &scanned.lines[0];
    assert_eq!(line.text, "RUN one   twö  three");
    for word in ["RUN", "one", "twö", "three"] {
        let at = line.text.find(word).expect("is there");
        let span = line.span(at, at + word.len());
        assert_eq!(&text[span.start..span.end], word);
    }
    let span = line.span(4, line.text.len());
    assert_eq!((span.start, &text[span.end..]), (9, "\n"), "a span over the continuation");
    assert_eq!(&text[line.span.start..line.span.end], "RUN one \\\n # x\n\n  twö \\\r\n three");
}

#[test]
fn an_instruction_after_a_lone_escape_is_found_in_its_place() {
    let text = "\\\n  \\\n RUN a";
    let scanned = scan(text);
    let line = &scanned.lines[0];
    let span = line.span(0, 3);
    assert_eq!(&text[span.start..span.end], "RUN");
}

#[test]
fn blank_continuation_lines_are_warned_about() {
    let found = messages("RUN a \\\n\n\n b");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("no-empty-continuation"), "{found:?}");
}

#[test]
fn directives_end_at_the_first_other_line() {
    let read = |text: &str| {
        let found = scan(text).directives;
        (found.syntax.map(|word| word.text), found.escape, found.check.map(|word| word.text))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(read("# syntax=docker/dockerfile:1\nFROM a"), (some("docker/dockerfile:1"), '\\', None));
    assert_eq!(
        read(" #  Syntax = a b \r\n#ESCAPE=`\n#check=skip=all\n"),
        (some("a b"), '`', some("skip=all")),
        "any case, any blanks"
    );
    assert_eq!(read("# comment\n# escape=`\n").1, '\\');
    assert_eq!(read("\n# escape=`\n").1, '\\');
    assert_eq!(read("# unknown=x\n# escape=`\n").1, '\\');
    assert_eq!(read("FROM a\n# escape=`\n").1, '\\');
    assert_eq!(read("# escape=\n# syntax=x\n"), (None, '\\', None), "a value is needed");
    assert_eq!(read("\u{feff}# escape=`\n").1, '`');
    assert_eq!(read("#!/usr/bin/env x\n# syntax=a\n# escape=`\n"), (some("a"), '\\', None));
}

#[test]
fn wrong_directives_are_errors() {
    assert_eq!(
        messages("# escape=`\n# escape=\\\nFROM a"),
        ["duplicate-directive: only one escape parser directive can be used"]
    );
    assert_eq!(messages("# escape=ab\nFROM a"), ["invalid-escape: invalid escape token `ab`"]);
}

#[test]
fn a_file_for_another_frontend_is_known_by_its_comment_or_by_json() {
    let name =
        |text: &str| foreign_frontend(text).map(|found| text[found.span.start..found.span.end].to_owned());
    for text in [
        "// syntax=example/llb\nx",
        "//  SYNTAX = example/llb \r\n",
        "// check=skip=all\n//syntax=example/llb",
        "\u{feff}// syntax=example/llb",
        "#!/usr/bin/x\n// syntax=example/llb\n",
        "{\"a\": 1, \"syntax\" : \"example/llb\"}",
        " \n{\"syntax\":\"example/llb\"}",
    ] {
        assert_eq!(name(text).as_deref(), Some("example/llb"), "{text}");
    }
    for text in [
        "# syntax=example/llb\nFROM a",
        "// a comment\n// syntax=x",
        "\n// syntax=x",
        "// syntax=\n",
        "// syntax=docker/dockerfile:1\nFROM a",
        "{\"syntax\":\"docker.io/docker/dockerfile:1\"}",
        "{\"syntax\": 1}",
        "{}",
        "FROM a\nCMD {\"syntax\":\"x\"}",
        "",
    ] {
        assert_eq!(name(text), None, "{text}");
    }
}

#[test]
fn heredoc_bodies_are_cut_in_order() {
    let text = "COPY <<a <<-'b' /x\nA\r\nb\na\n\tB\n\t b\n\tb\nRUN x";
    let scanned = scan(text);
    assert_eq!(scanned.lines.len(), 2);
    let line = &scanned.lines[0];
    let docs: Vec<(&str, &str, bool)> = line
        .heredocs
        .iter()
        .map(|cut| (cut.heredoc.name.as_str(), cut.heredoc.body.as_str(), cut.heredoc.expand))
        .collect();
    assert_eq!(docs, [("a", "A\r\nb\n", true), ("b", "B\n b\n", false)]);
    assert_eq!(line.heredocs[1].heredoc.raw, "\tB\n\t b\n");
    assert_eq!(line.heredocs[1].heredoc.token, "<<-'b'");
    assert_eq!(&text[line.span.start..line.span.end], &text[..text.len() - "\nRUN x".len()]);
    let span = line.heredocs[0].heredoc.span;
    assert_eq!(&text[span.start..span.end], "A\r\nb\na");
}

#[test]
fn an_unterminated_heredoc_says_what_would_end_it() {
    let scanned = scan("RUN <<EOF\necho\n EOF\nRUN x\n");
    assert_eq!(scanned.lines.len(), 2, "goes on after the line that should have ended it");
    let found = &scanned.diagnostics[0];
    assert_eq!(found.message, "unterminated heredoc: no line `EOF` follows");
    assert!(found.hint.as_deref().is_some_and(|hint| hint.starts_with("line 3 has blanks")), "{found:?}");
    assert_eq!(found.span, Span { start: 4, end: 9 });
    assert_eq!(scan("RUN <<EOF\necho\nRUN x\n").lines.len(), 1, "else it takes the rest of the file");
}

#[test]
fn lines_have_a_longest_length() {
    let fits = format!("RUN {}", "a".repeat(65_531));
    assert!(messages(&fits).is_empty());
    let long = format!("{fits}a");
    assert_eq!(messages(&long), ["line-too-long: dockerfile line greater than max allowed size of 65535"]);
    let joined = format!("RUN {}", "aaaaaaaa \\\n".repeat(200_000));
    assert_eq!(
        messages(&joined),
        ["instruction-too-long: instruction greater than max allowed size of 1048576"]
    );
}
