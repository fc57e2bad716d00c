//! Every form of the language against docker: `testdata/forms.txt` has one-line Dockerfiles and whether
//! docker's own engine took or refused them. `testdata/forms.py` records it and tells the format.

use std::fs;
use std::path::Path;

use super::{lower_on, parameters};
use crate::oci::RunConfig;

/// What docker refuses and kiln takes, and why.
const BEYOND: &[(&str, &str)] = &[
    ("COPY <<\"a b\" /x\\nhi\\na b", "a quoted name may have blanks, as in RUN and in the shell"),
    ("RUN echo $((1 << 3))", "a shift is no heredoc"),
    ("RUN --network=$x x", "the mode may come from an ARG"),
    ("%FROM scratch AS a\\nFROM A", "names of stages have no case"),
];

fn text(form: &str) -> String {
    let whole = form.starts_with('%');
    let body = form.trim_start_matches('%');
    let body = body.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t");
    if whole { body } else { format!("FROM scratch\n{body}\n") }
}

#[test]
fn each_form_is_taken_or_refused_as_by_docker() {
    let recorded =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/forms.txt")).unwrap();
    let mut wrong = Vec::new();
    let mut forms = 0;
    for line in recorded.lines() {
        let (Some(form), taken) =
            (line.strip_prefix("+ ").or(line.strip_prefix("- ")), line.starts_with('+'))
        else {
            continue;
        };
        forms += 1;
        let answer = lower_on(&text(form), &RunConfig::default(), &parameters());
        let beyond = BEYOND.iter().any(|(known, _)| *known == form);
        match (taken, answer) {
            (true, Err(messages)) => {
                wrong.push(format!("docker takes {form:?}\n    {}", messages.join("\n    ")))
            }
            (false, Ok(_)) if !beyond => wrong.push(format!("docker refuses {form:?}")),
            (false, Err(_)) if beyond => wrong.push(format!("is refused again: {form:?}")),
            _ => {}
        }
    }
    assert!(forms > 400, "the recording is there");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
