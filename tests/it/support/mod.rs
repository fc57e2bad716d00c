//! What the integration tests share.

pub(crate) mod binary;
pub(crate) mod git;
pub(crate) mod http;
pub(crate) mod kiln;
pub(crate) mod ledger;
pub(crate) mod moments;
pub(crate) mod pty;
pub(crate) mod registry;
mod server;

/// Tells whether this test may run as root; prints that `name` is skipped when it may not.
///
/// With `KILN_TEST_NO_SKIP=1`, as in `.ci/run`, a skip is a failure.
pub(crate) fn needs_root(name: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let strict = std::env::var_os("KILN_TEST_NO_SKIP").is_some();
    assert!(root || !strict, "{name} needs root");
    if !root {
        println!("skipped {name}: needs root");
    }
    root
}
