//! Any text as the values of RUN's flags: what is read keeps its promises, what isn't says why.

#![no_main]

use kiln_grammar::ast::{Span, Word};
use kiln_grammar::mount::MountKind;
use kiln_grammar::{mount, run_flags};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let word = Word { text: text.to_owned(), span: Span { start: 7, end: 7 + text.len() } };
    let vars = |name: &str| (name.len() % 2 == 1).then(|| "x".to_owned());
    for found in mount::check(&word, '\\') {
        inside(found.span, &word);
    }
    match mount::parse(&word, '\\', &vars) {
        Ok(mount) => {
            if let Ok(Some(place)) = mount.destination("/work", 0) {
                assert!(place.len() > 1 && place.starts_with('/'), "{place}");
                assert!(place.split('/').all(|part| part != ".." && part != "."), "{place}");
            }
            if let MountKind::Bind { source, .. } | MountKind::Cache { source, .. } = &mount.kind {
                assert!(source.starts_with('/') && source.split('/').all(|part| part != ".."), "{source}");
            }
        }
        Err(found) => inside(found.span, &word),
    }
    let _ = run_flags::network(&word, '\\', &vars);
    let _ = run_flags::security(&word, '\\', &vars);
    if let Ok(device) = run_flags::device(&word, '\\', &vars) {
        assert!(device.name.contains('/'));
    }
});

fn inside(span: Span, word: &Word) {
    assert!(word.span.start <= span.start && span.start <= span.end && span.end <= word.span.end);
    let text = &word.text;
    assert!(text.is_char_boundary(span.start - 7) && text.is_char_boundary(span.end - 7));
}
