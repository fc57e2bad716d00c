//! The kernel's face: every raw syscall, typed.
#![allow(unsafe_code, reason = "this is the one module that may")]

pub mod netns;
