//! A word and the value of its variables, separated by a NUL byte: it expands within bounds or says why.

#![no_main]

use kiln_grammar::word;
use libfuzzer_sys::fuzz_target;

/// What one word may become, in bytes.
const MAX_RESULT_BYTES: usize = 1 << 20;

fuzz_target!(|text: &str| {
    let (word, value) = text.split_once('\0').unwrap_or((text, "a/b*c"));
    let vars = |name: &str| match name.len() % 3 {
        0 => None,
        1 => Some(value.to_owned()),
        _ => Some(String::new()),
    };
    for escape in ['\\', '`'] {
        let list = word::expand_list(word, escape, &vars).map(|words| words.concat());
        let results =
            [word::expand(word, escape, &vars), word::expand_body(word, escape, &vars), list];
        for result in results {
            match result {
                Ok(text) => bounded(word, value, &text),
                Err(error) => assert!(word.is_char_boundary(error.at) && !error.message.is_empty()),
            }
        }
        if word::check(word, escape).is_err() {
            assert!(word.contains(['$', '\'', '"']), "a plain word is right");
        }
        assert!(word::unquote(word, escape).len() <= word.len());
        assert!(word::variables(word, escape).iter().all(|name| word.contains(name.as_str())));
    }
});

/// Without replacements a result is at most the word and one value for each `$`.
fn bounded(word: &str, value: &str, result: &str) {
    assert!(result.len() <= MAX_RESULT_BYTES);
    if !word.contains('/') {
        let dollars = word.matches('$').count();
        assert!(result.len() <= word.len() + dollars * value.len(), "{} bytes", result.len());
    }
}
