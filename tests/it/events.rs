//! `kiln events`.
