//! Files from other machines: a download by http, a tree out of a git repository.
//!
//! What comes is bounded, checked where the user said what it must be, and written where the caller says. Nothing
//! here knows a store or a cache: the caller keeps what it learnt ([`Validators`], a commit) and asks again with it.
//!
//! 1. [`Downloads::get`] sends one GET, redirects included; 304 means that what the caller has still holds.
//!    [`Download::save`] streams the body into a file and hashes it, and goes on after a break.
//! 2. [`Git`] runs the `git` program with nothing of the caller's configuration: [`Git::resolve`] asks which
//!    commit a name stands for, [`Git::checkout`] brings its files.
//!
//! A credential goes to the host that it was given for and to no other, in a header or in the environment of a child,
//! never on a command line.

mod error;
mod git;
mod http;

pub use error::{Error, Result};
pub use git::{Checkout, Git, GitAccess, Resolved};
pub use http::{Answer, Download, Downloads, Saved, Validators, Wanted};
