//! Loading a seccomp program.

use std::io;

use super::checked;

/// One instruction of classic BPF; layout as the kernel's `sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it doesn't.
    pub jump_false: u8,
    /// The operand.
    pub k: u32,
}

impl Instruction {
    /// Reads one that a little-endian machine has written.
    pub fn of([code, code2, jump_true, jump_false, k @ ..]: [u8; 8]) -> Self {
        Self { code: u16::from_le_bytes([code, code2]), jump_true, jump_false, k: u32::from_le_bytes(k) }
    }
}

#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

/// Filters the syscalls of this thread from now on, across execve.
///
/// Needs CAP_SYS_ADMIN or `no_new_privs`.
pub fn load(filter: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program { length, filter: filter.as_ptr() };
    // SAFETY: `program` has the kernel's layout of sock_fprog and names `length` instructions that outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    checked(result).map(drop)
}
