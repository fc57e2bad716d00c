//! Dockerfile text in, typed tree or diagnostics out.

pub mod ast;
pub mod diagnostic;
