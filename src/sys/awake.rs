//! Processors that don't go to sleep for a moment.

use std::fs::File;
use std::io::Write;

/// As long as one lives, processors without work wait awake, so that a process that others wake goes on at once: it
/// takes one that sleeps some 50 us to begin, and what passes from process to process pays that at each step.
///
/// The kernel holds it for an open file (`Documentation/admin-guide/pm/cpuidle.rst`): it ends with the process at the latest.
#[derive(Debug)]
pub struct Awake {
    _held: File,
}

impl Awake {
    /// Asks for it; `None` for who may not, and on machines that have no choice.
    pub fn ask() -> Option<Awake> {
        let mut file = File::options().write(true).open("/dev/cpu_dma_latency").ok()?;
        // The microseconds that a waking processor may take.
        file.write_all(&0i32.to_ne_bytes()).ok()?;
        Some(Awake { _held: file })
    }
}
