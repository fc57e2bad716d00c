//! The process's own memory.

use std::io;

use rustix::mm::{Advice, madvise};

/// What nearly every command comes to use; more of the heap would be given back at once.
const HEAP_BYTES: usize = 120 << 10;
const STACK_BYTES: usize = 96 << 10;
/// Where the kernel's pages are larger, it refuses, and they come one by one. To ask would take as long.
const PAGE_BYTES: usize = 4096;

/// Has the memory that a start is going to use made at once: page by page it takes ten times as long.
pub fn warm() {
    let piece = std::hint::black_box(Vec::<u8>::with_capacity(HEAP_BYTES));
    let here = &raw const piece as usize;
    // What can't be had now comes later, as it always did.
    let _ = populate(piece.as_ptr() as usize, HEAP_BYTES);
    let _ = populate(here.saturating_sub(STACK_BYTES), STACK_BYTES);
}

fn populate(start: usize, bytes: usize) -> io::Result<()> {
    let start = start - start % PAGE_BYTES;
    // SAFETY: pages that aren't there yet are made, as by a write to each; those that are stay as they are, and what isn't
    // this process's is refused.
    Ok(unsafe { madvise(start as *mut _, bytes, Advice::LinuxPopulateWrite) }?)
}
