//! The integration tests: whole commands and real parts.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests talk to their reader and read their own environment"
)]

mod add_git;
mod add_remote;
mod add_secrets;
mod args;
mod bases;
mod build;
mod build_cache;
mod cache_verbs;
mod cli;
mod container;
mod contexts;
mod copy;
mod cost;
mod crash;
mod crash_moments;
mod deep;
mod fmt;
mod guard;
mod hostile;
mod image;
mod layers;
mod lint;
mod lint_peer;
mod network;
mod peer;
mod registry;
mod reproducible;
mod run_allow;
mod run_failures;
mod run_mounts;
mod runtime;
mod secrets;
mod stop;
mod stress;
mod support;
mod system_check;
mod tree;
mod why;
