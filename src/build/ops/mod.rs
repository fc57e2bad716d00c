//! The ops of a build: each one's key beside its execution.

pub mod copy;
pub mod mkdir;
