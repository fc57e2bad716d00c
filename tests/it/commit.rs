//! `kiln commit`.
