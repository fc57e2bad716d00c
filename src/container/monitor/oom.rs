//! Notices that the kernel killed a process for memory.
