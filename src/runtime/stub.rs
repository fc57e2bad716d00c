//! A program of some hundred bytes that runs another one.
//!
//! A container can reach the file of the last program before its own: `#!/proc/self/exe` runs it, and `/proc/PID/exe`
//! opens it. A process that was started from a read-only clone of kiln's file may become the container's program
//! directly. One that was forked, which is faster, becomes this program first, whose file is in memory and sealed.
//!
//! It tells a failure by the error's number, eight bytes, through the channel, and waits; its parent looks at the reason
//! from outside ([`super::Program`]).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::sys;

/// This process runs from the installed file.
static IS_NEEDED: AtomicBool = AtomicBool::new(false);

/// Tells whether a process on this machine may be forked that starts containers.
pub fn is_possible() -> bool {
    cfg!(target_arch = "x86_64") && file(0).is_ok()
}

/// From now on this process, and those forked from it, become programs by way of this one.
pub fn use_always() {
    IS_NEEDED.store(true, Ordering::Relaxed);
}

/// Tells whether [`use_always`] was called.
pub(super) fn is_needed() -> bool {
    IS_NEEDED.load(Ordering::Relaxed)
}

/// The program, in a file that nobody can change, for whoever reports through `channel`.
#[derive(Debug)]
pub(super) struct Stub(OwnedFd);

impl Stub {
    /// Makes the file, and lets the channel stay open until the program has begun.
    pub(super) fn make(channel: BorrowedFd<'_>) -> io::Result<Stub> {
        let file = file(channel.as_raw_fd())?;
        rustix::io::fcntl_setfd(channel, rustix::io::FdFlags::empty())?;
        Ok(Stub(file))
    }

    /// Becomes the program `path` by way of this one; returns only when not even that runs.
    pub(super) fn run(&self, path: CString, args: &[CString], env: &[CString]) -> io::Error {
        let words: Vec<CString> = std::iter::once(path).chain(args.iter().cloned()).collect();
        sys::exec::execute_file(&self.0, &words, env)
    }
}

fn file(channel: i32) -> io::Result<OwnedFd> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match memfd_create(c"run", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every file in memory may be run.
        Err(Errno::INVAL) => memfd_create(c"run", flags),
        made => made,
    }?;
    let mut file = File::from(made);
    file.write_all(&image(channel))?;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Where the file is in memory, and where its instructions begin after the headers.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 2 * 56;

/// Returns the file: an ELF header, two program headers (what is loaded; a stack without execution), the instructions.
fn image(channel: i32) -> Vec<u8> {
    let code = code(channel);
    let length = HEADERS + code.len() as u64;
    let mut image = Vec::with_capacity(length as usize);
    image.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // Executable, x86-64, version 1.
    image.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BASE + HEADERS, 64, 0] {
        image.extend(u64::to_le_bytes(word));
    }
    // Flags; the sizes of this header and of a program header, how many of those there are; no sections.
    image.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    // Load, read and execute.
    image.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, length, length, 0x1000] {
        image.extend(u64::to_le_bytes(word));
    }
    // The stack (PT_GNU_STACK), read and write.
    image.extend([0x51, 0xe5, 0x74, 0x64, 6, 0, 0, 0]);
    image.extend([0; 48]);
    image.extend(code);
    image
}

/// Returns the instructions. The first word of the arguments is the path to run, the rest are its own.
fn code(channel: i32) -> Vec<u8> {
    let channel = channel.to_le_bytes();
    let mut code = Vec::new();
    // fcntl(channel, F_SETFD, FD_CLOEXEC); a filter that refuses it refuses the start: `jne failed`.
    code.extend([0xb8, 72, 0, 0, 0, 0xbf]);
    code.extend(channel);
    code.extend([0xbe, 2, 0, 0, 0, 0xba, 1, 0, 0, 0, 0x0f, 0x05, 0x85, 0xc0, 0x75, 26]);
    // execve(argv[0], argv + 1, envp)
    code.extend([0x48, 0x8b, 0x7c, 0x24, 0x08]); // mov rdi, [rsp + 8]
    code.extend([0x48, 0x8d, 0x74, 0x24, 0x10]); // lea rsi, [rsp + 16]
    code.extend([0x48, 0x8b, 0x04, 0x24]); // mov rax, [rsp]
    code.extend([0x48, 0x8d, 0x54, 0xc4, 0x10]); // lea rdx, [rsp + rax * 8 + 16]
    code.extend([0xb8, 59, 0, 0, 0, 0x0f, 0x05]);
    // failed: write(channel, &errno, 8)
    code.extend([0x50, 0x48, 0x89, 0xe6, 0xbf]); // push rax; mov rsi, rsp; mov edi, channel
    code.extend(channel);
    code.extend([0xba, 8, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0x0f, 0x05]);
    // read(channel, rsp, 8): until the parent has looked.
    code.extend([0xbf]);
    code.extend(channel);
    code.extend([0x48, 0x89, 0xe6, 0xba, 8, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05]);
    // exit_group(125)
    code.extend([0xbf, 125, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_refuses_writes() {
        let stub = file(3).unwrap();
        let path = format!("/proc/self/fd/{}", stub.as_raw_fd());
        let opened = std::fs::OpenOptions::new().write(true).open(path);
        assert!(opened.is_err() || opened.unwrap().write(b"x").is_err());
    }
}
