//! The store as its users see it: alone, damaged, killed, and shared by several processes.
#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]
#![expect(clippy::disallowed_methods, reason = "a test's child process learns its task from its environment")]

mod basics;
mod crash;
mod races;
mod refusals;
mod space;
mod support;
