//! Any bytes through `kiln fmt`: what comes out parses, and formatting it again changes nothing.

#![no_main]

use kiln_grammar::format::format;
use kiln_grammar::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(formatted) = format("Dockerfile", bytes) else { return };
    assert!(parse("Dockerfile", bytes).is_err() || parse("Dockerfile", formatted.as_bytes()).is_ok());
    assert_eq!(format("Dockerfile", formatted.as_bytes()).as_ref(), Ok(&formatted), "once is enough");
});
