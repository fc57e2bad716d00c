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
mod attach;
mod attacks;
mod bases;
mod build;
mod build_cache;
mod cache_verbs;
mod cli;
mod commit;
mod container;
mod contexts;
mod copy;
mod cost;
mod cp;
mod crash;
mod crash_moments;
mod debug;
mod deep;
mod events;
mod firewalls;
mod fmt;
mod foreign_runtime;
mod guard;
mod health;
mod hostile;
mod image;
mod isolation;
mod layers;
mod lifecycle;
mod limits;
mod lint;
mod lint_peer;
mod logs;
mod lost;
mod mounts;
mod mounts_attacks;
mod names;
mod names_resolver;
mod network;
mod network_check;
mod network_moments;
mod network_spoof;
mod network_stress;
mod networks;
mod oci;
mod oci_userns;
mod peer;
mod podman;
mod ports;
mod ports_crash;
mod reference;
mod registry;
mod reproducible;
mod restart_policy;
mod run_allow;
mod run_failures;
mod run_mounts;
mod runtime;
mod scale;
mod secrets;
mod stats;
mod stop;
mod stress;
mod support;
mod system_check;
mod tree;
mod tutorials;
mod tutorials_cluster;
mod tutorials_volumes;
mod tutorials_web;
mod userns;
mod views;
mod volume_drivers;
mod volumes;
mod volumes_copies;
mod volumes_from;
mod why;
