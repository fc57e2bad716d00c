//! Kills a program before it changes something: before its first such call, its second one, and so on.
//!
//! The program and its threads are traced; processes that it starts are not, and live on when it dies.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use libc::{c_int, c_long, c_void, pid_t};

/// Calls that change what others can see.
const CHANGES: &[(c_long, &str)] = &[
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fork, "fork"),
    (libc::SYS_vfork, "vfork"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_mount, "mount"),
    (libc::SYS_move_mount, "move_mount"),
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_exit_group, "exit_group"),
];

/// How a run ended.
pub(crate) enum Ended {
    /// Before this call.
    Killed(&'static str),
    /// By itself, after so many moments.
    Alone(usize),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Killed(call) => write!(f, "killed before {call}"),
            Self::Alone(count) => write!(f, "not killed at {count} moments"),
        }
    }
}

/// Runs `command` and kills it at this moment, counted from 0.
pub(crate) fn kill_at(command: &mut Command, moment: usize) -> Ended {
    let pid = spawn(command);
    let mut moments = 0;
    let mut killed = None;
    while let Some((thread, status)) = wait(pid) {
        if !libc::WIFSTOPPED(status) {
            if thread == pid {
                break;
            }
            continue;
        }
        let signal = libc::WSTOPSIG(status);
        if !is_of(thread, pid) {
            // A process that it has just started.
            trace(libc::PTRACE_DETACH, thread, 0);
            continue;
        }
        let mut passed_on = 0;
        if signal == libc::SIGTRAP | 0x80 {
            if let Some(name) = change(thread) {
                if moments == moment {
                    killed = Some(name);
                    kill(pid);
                    continue;
                }
                moments += 1;
            }
        } else if signal != libc::SIGTRAP && signal != libc::SIGSTOP {
            passed_on = signal;
        }
        trace(libc::PTRACE_SYSCALL, thread, passed_on);
    }
    killed.map_or(Ended::Alone(moments), Ended::Killed)
}

/// Starts it in a group of its own, stopped before its first call.
fn spawn(command: &mut Command) -> pid_t {
    let ask = || {
        #[expect(unsafe_code, reason = "a tracer is asked for between fork and exec")]
        // SAFETY: the call takes numbers and null.
        let asked = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        if asked == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[expect(unsafe_code, reason = "a tracer is asked for between fork and exec")]
    // SAFETY: one system call, which allocates nothing.
    #[expect(clippy::zombie_processes, reason = "the tracer waits for its threads one by one")]
    let child = unsafe { command.pre_exec(ask) }.spawn().unwrap();
    let pid = pid_t::try_from(child.id()).unwrap();
    let (_, status) = wait(pid).unwrap();
    assert!(libc::WIFSTOPPED(status), "it stops at its exec");
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
    trace(libc::PTRACE_SETOPTIONS, pid, options);
    trace(libc::PTRACE_SYSCALL, pid, 0);
    pid
}

/// The next thread of the group that has something to tell; `None` when there is none.
fn wait(group: pid_t) -> Option<(pid_t, c_int)> {
    let mut status = 0;
    loop {
        #[expect(unsafe_code, reason = "threads are waited for by their tracer")]
        // SAFETY: `status` is written during the call.
        let thread = unsafe { libc::waitpid(-group, &raw mut status, libc::__WALL) };
        match thread {
            -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            -1 => return None,
            thread => return Some((thread, status)),
        }
    }
}

/// A request about a stopped thread; one that has just been killed has none.
fn trace(request: libc::c_uint, thread: pid_t, value: c_int) {
    #[expect(unsafe_code, reason = "the program is traced")]
    // SAFETY: these requests take a number.
    let _ = unsafe { libc::ptrace(request, thread, 0, value as c_long) };
}

fn kill(pid: pid_t) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The name of the changing call that a thread is about to make.
fn change(thread: pid_t) -> Option<&'static str> {
    // SAFETY: the type is made of numbers.
    #[expect(unsafe_code, reason = "the kernel fills it")]
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let info_at: *mut c_void = (&raw mut info).cast();
    #[expect(unsafe_code, reason = "the program is traced")]
    // SAFETY: the kernel writes at most as many bytes as it is told there are.
    let read = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size_of_val(&info), info_at) };
    if read <= 0 || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    #[expect(unsafe_code, reason = "a union")]
    // SAFETY: `op` says that it is an entry.
    let entry = unsafe { info.u.entry };
    let number = c_long::try_from(entry.nr).ok()?;
    let creates = number == libc::SYS_openat && entry.args[2] & libc::O_CREAT as u64 != 0;
    if creates {
        return Some("openat");
    }
    CHANGES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// Tells whether a thread is one of the program's.
fn is_of(thread: pid_t, pid: pid_t) -> bool {
    thread == pid || std::path::Path::new(&format!("/proc/{pid}/task/{thread}")).exists()
}
