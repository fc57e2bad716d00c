//! Whole files.

use super::*;

fn diagnostics(text: &str) -> Vec<String> {
    let found = match parse("Dockerfile", text.as_bytes()) {
        Ok(file) => file.warnings,
        Err(found) => found,
    };
    let source = Source { name: "Dockerfile", text };
    found.iter().map(|diagnostic| diagnostic.render(&source)).collect()
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "FORM alpine\nWORK /x\nCOPY --form=a b c\nEXPOSE\n";
    let expected = "\
Dockerfile:1:1: error: unknown instruction: `FORM`
   1 | FORM alpine
     | ^^^^
hint: did you mean FROM?
Dockerfile:2:1: error: unknown instruction: `WORK`
   2 | WORK /x
     | ^^^^
hint: did you mean WORKDIR?
Dockerfile:3:6: error: unknown flag: `--form`
   3 | COPY --form=a b c
     |      ^^^^^^
hint: did you mean --from?
Dockerfile:4:1: error: EXPOSE requires at least one argument
   4 | EXPOSE
     | ^^^^^^";
    assert_eq!(diagnostics(text).join("\n"), expected);
}

fn codes(text: &str) -> Vec<&'static str> {
    let found = match parse("Dockerfile", text.as_bytes()) {
        Ok(file) => file.warnings,
        Err(found) => found,
    };
    found.iter().map(|found| found.code).collect()
}

#[test]
fn a_mistyped_from_begins_a_stage() {
    assert_eq!(codes("FORM a\nRUN x\nCOPY a b"), ["unknown-instruction"]);
    assert_eq!(codes("FROM a b\nRUN x"), ["argument-count"]);
    assert_eq!(codes("RUN x\nCOPY a b"), ["instruction-before-from"]);
    assert_eq!(codes("# c\nARG a\n"), ["no-stages"]);
}

#[test]
fn advice_waits_until_there_are_no_errors() {
    assert_eq!(codes("FROM a\nMAINTAINER me\n"), ["maintainer-deprecated"]);
    assert_eq!(codes("FROM a\nMAINTAINER me\nRUNN x\n"), ["unknown-instruction"]);
}

#[test]
fn many_warnings_hide_no_instruction() {
    let text = format!("FROM a\n{}", "RUN a \\\n\n b\n".repeat(3000));
    let file = parse("Dockerfile", text.as_bytes()).expect("only warnings");
    assert_eq!(file.stages[0].instructions.len(), 3000);
    assert_eq!(file.warnings.len(), 101, "100 and a summary");
}

#[test]
fn a_trigger_comes_back_as_it_was_stored() {
    let file =
        parse("Dockerfile", b"FROM a\nONBUILD COPY --chown=a <<-X b /dst/\n\tone\n\tX\n").expect("parses");
    let ast::Kind::Onbuild(onbuild) = &file.stages[0].instructions[0].kind else { panic!("an ONBUILD") };
    assert_eq!(onbuild.text, "COPY --chown=a <<-X b /dst/\n\tone\nX");
    let trigger = parse_trigger(&onbuild.text, '\\').expect("parses");
    let own = onbuild.trigger.as_ref().expect("a right one");
    assert_eq!(trigger.original, own.original);
    let (ast::Kind::Copy(stored), ast::Kind::Copy(written)) = (&trigger.kind, &own.kind) else {
        panic!("a COPY")
    };
    let body = |copy: &ast::Copy| match &copy.sources[0] {
        ast::CopySource::Heredoc(heredoc) => heredoc.body.clone(),
        ast::CopySource::Path(word) => panic!("{word:?} is no heredoc"),
    };
    assert_eq!(body(stored), "one\n");
    assert_eq!(body(stored), body(written));
}

#[test]
fn what_may_not_be_a_trigger_is_refused() {
    let table = [
        ("FROM a", "onbuild-trigger"),
        ("ONBUILD RUN x", "onbuild-trigger"),
        ("MAINTAINER x", "onbuild-trigger"),
        ("RUN a\nRUN b", "trigger-count"),
        ("# nothing", "trigger-count"),
        ("", "empty-file"),
        ("RUNN x", "unknown-instruction"),
        ("RUN <<EOF\nx", "unterminated-heredoc"),
    ];
    for (text, code) in table {
        let found = parse_trigger(text, '\\').expect_err(text);
        assert_eq!(found.iter().map(|found| found.code).collect::<Vec<_>>(), [code], "{text}");
    }
    assert!(parse_trigger("RUN a `\n b", '`').is_ok());
}

#[test]
fn a_flag_keeps_the_order_of_its_values() {
    let file =
        parse("Dockerfile", b"FROM a\nCOPY --exclude=1 --chmod=1 --exclude=2 --from=x --exclude=3 a b");
    let file = file.expect("parses");
    let ast::Kind::Copy(copy) = &file.stages[0].instructions[0].kind else { panic!("a COPY") };
    let excludes: Vec<&str> = copy.flags.excludes.iter().map(|word| word.text.as_str()).collect();
    assert_eq!(excludes, ["1", "2", "3"]);
}
