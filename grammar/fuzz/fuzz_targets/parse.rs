//! Any bytes as a Dockerfile: there is an answer, its places are real, and it can be shown.

#![no_main]

use kiln_grammar::{Diagnostic, Source, Span, parse, parse_trigger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let lossy = String::from_utf8_lossy(bytes);
    match parse("Dockerfile", bytes) {
        Ok(file) => {
            assert!(!file.stages.is_empty(), "a Dockerfile has a stage");
            for stage in &file.stages {
                real(stage.span, &lossy);
                for instruction in &stage.instructions {
                    real(instruction.span, &lossy);
                }
            }
            shown(&file.warnings, &lossy);
        }
        Err(found) => {
            assert!(!found.is_empty(), "a refusal has a reason");
            shown(&found, &lossy);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(found) = parse_trigger(text, '\\')
    {
        shown(&found, text);
    }
});

fn real(span: Span, text: &str) {
    assert!(span.start <= span.end && span.end <= text.len(), "{span:?}");
    assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?}");
}

fn shown(found: &[Diagnostic], text: &str) {
    assert!(found.len() <= 101, "the list has an end");
    for diagnostic in found {
        real(diagnostic.span, text);
        let shown = diagnostic.render(&Source { name: "Dockerfile", text });
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "a terminal is safe");
    }
}
