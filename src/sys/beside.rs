//! One system call that is waited for later.

use std::ffi::c_void;
use std::io;
use std::ptr::null_mut;

use rustix::process::{Pid, WaitOptions, waitpid};

use super::checked;

/// Enough for a system call and what leads to it.
const STACK_BYTES: usize = 16 * 1024;

/// What happens beside; it returns an error's number, or 0.
pub type Work = extern "C" fn(*mut c_void) -> i32;

/// A process in this one's memory that ends after its work.
#[derive(Debug)]
pub struct Beside {
    /// `None` once it was waited for.
    pid: Option<Pid>,
    /// It runs on it.
    _stack: Vec<u128>,
}

impl Beside {
    /// Begins `work`, which must not allocate, panic, or use what the C library keeps for each thread.
    ///
    /// It has this process's working directory and root as they are now, whatever becomes of them.
    pub fn begin(work: Work) -> io::Result<Beside> {
        let mut stack = vec![0u128; STACK_BYTES / size_of::<u128>()];
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: the stack is aligned and stays until the process has ended, and by the caller's word `work` touches
        // nothing that this process changes meanwhile.
        let pid = unsafe { libc::clone(work, top, libc::CLONE_VM | libc::SIGCHLD, null_mut()) };
        let pid = Pid::from_raw(checked(pid.into())? as i32);
        Ok(Beside { pid, _stack: stack })
    }

    /// Waits for its end.
    pub fn wait(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(pid) = self.pid.take() else { return Ok(()) };
        let status = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()))?;
        match status.and_then(|(_, status)| status.exit_status()) {
            Some(0) => Ok(()),
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Err(io::Error::other("it was killed")),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // What went wrong has another reason by now.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn succeed(_: *mut c_void) -> i32 {
        0
    }

    extern "C" fn fail(_: *mut c_void) -> i32 {
        libc::EBUSY
    }

    #[test]
    fn the_end_of_the_work_is_told() {
        Beside::begin(succeed).unwrap().wait().unwrap();
        let error = Beside::begin(fail).unwrap().wait().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }
}
