//! `kiln stats` and `kiln top`.
