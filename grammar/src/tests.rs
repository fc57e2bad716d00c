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
