//! `kiln cp`, `diff` and `export`.
