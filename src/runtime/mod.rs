//! Runs process trees: mounts a root filesystem, isolates, starts, joins, kills. Knows no images.
//!
//! 1. The parent mounts the overlay as a detached mount, makes the cgroup, and clones
//!    ([`start`]). Only a process with one thread may do that.
//! 2. The child leaves everything behind, mounts what a container expects, changes its root, drops its rights,
//!    says READY and becomes the program (`child.rs`).
//! 3. The first process is pid 1 of its namespace: when it ends the kernel kills the rest, and only then the
//!    parent hears of it. The mount, the cgroup and the stubs go before the end is told.
//!
//! A process with threads, such as the engine, has a [`Launcher`] do all that: a copy of the running program
//! without threads or secrets, run from a read-only clone of its file, which ends with its parent.

mod ahead;
mod cgroup;
mod child;
mod credentials;
mod error;
mod exec;
mod explain;
mod init;
mod inroot;
mod launcher;
mod leftovers;
mod mounts;
mod outside;
mod process;
mod program;
mod pty;
mod rlimits;
mod rootfs;
mod sealed;
mod seccomp;
mod spec;
mod stage;
pub mod stub;
mod sysctl;
mod tools;
mod tree;
mod user;
mod userns;
pub mod wire;

pub use ahead::Waiting;
pub use cgroup::{Cgroup, OomWatch, Usage};
pub use child::{connect_stdio, die_with_parent, end_with, enter_cwd, forget_caller};
pub use credentials::{own_stdio, shrink_bounding_set};
pub use error::{At, Exit, StartError, StartErrorKind};
pub use exec::{clone_into, exec, report, reported};
pub use explain::{HEAD_BYTES, Looks, defect, hint, interpreter};
pub use inroot::{Kind, Made, Root};
pub use launcher::{Ahead, Killer, Launcher, MOST_KEPT, Step, StepIo, launcher_main};
pub use leftovers::{remove_stale, stale_cgroups, stale_mounts};
pub use mounts::{attach, clone_tree, new_filesystem};
pub use process::{Ended, Process, Stdio, start};
pub use program::{DEFAULT_PATH, Program};
pub use pty::{open as open_pty, resize};
pub use rootfs::view;
pub use sealed::sealed_program;
pub use seccomp::{BadProfile, compile_profile, default_document, profile_document};
pub use spec::{
    Below, Capabilities, CgroupPlace, DeviceLimit, DeviceRule, ExecSpec, Filter, How, IdRange, Limits, Mount,
    Namespaces, Net, Ns, Propagation, Rights, Rlimit, Spec, Target,
};
pub use stage::{masked_paths, readonly_paths};
pub use sysctl::{SysctlOwner, sysctl_owner, sysctl_path};
pub use tools::PLACE as TOOLS_PLACE;
pub use tree::{Tree, is_mount};
pub use user::{User, look_up};
pub use userns::{Assumed, assume, enter as enter_userns, make_mapped as make_userns};
