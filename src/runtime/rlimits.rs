//! Resource limits of a process: the ones asked for, and for the rest what a machine gives at its start, so that
//! those of whoever calls kiln don't matter.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit as Values, getrlimit, setrlimit};

use super::error::StartError;
use super::spec::Rlimit;

/// Docker's names.
const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// The kernel's own values, but for open files and locked memory, whose kernel values are too small for today's
/// programs: those are systemd's. The number of pending signals goes by the machine's memory and stays.
const DEFAULTS: [(Resource, Option<u64>, Option<u64>); 15] = [
    (Resource::Core, Some(0), None),
    (Resource::Cpu, None, None),
    (Resource::Data, None, None),
    (Resource::Fsize, None, None),
    (Resource::Locks, None, None),
    (Resource::Memlock, Some(8 << 20), Some(8 << 20)),
    (Resource::Msgqueue, Some(819_200), Some(819_200)),
    (Resource::Nice, Some(0), Some(0)),
    (Resource::Nofile, Some(1024), Some(524_288)),
    (Resource::Nproc, None, None),
    (Resource::Rss, None, None),
    (Resource::Rtprio, Some(0), Some(0)),
    (Resource::Rttime, None, None),
    (Resource::Stack, Some(8 << 20), None),
    (Resource::As, None, None),
];

/// Tells whether `name` is one of a limit.
pub(super) fn is_name(name: &str) -> bool {
    resource(name).is_some()
}

fn resource(name: &str) -> Option<Resource> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
}

/// Sets them for this process and what it becomes.
pub(super) fn apply(limits: &[Rlimit]) -> Result<(), StartError> {
    for (resource, soft, hard) in DEFAULTS {
        if limits.iter().all(|limit| self::resource(&limit.name) != Some(resource)) {
            reset(resource, Values { current: soft, maximum: hard });
        }
    }
    for limit in limits {
        let unknown = || StartError::new("ulimit", format!("`{}` is no resource limit", limit.name));
        let resource = resource(&limit.name).ok_or_else(unknown)?;
        setrlimit(resource, Values { current: limit.soft, maximum: limit.hard }).map_err(|errno| {
            let text = format!("cannot set the limit `{}` to {}", limit.name, text(limit));
            let most = getrlimit(resource).maximum.map_or(String::new(), |most| {
                format!(" (only the right to raise limits, CAP_SYS_RESOURCE, gets beyond {most})")
            });
            let text = if errno == Errno::PERM { text + &most } else { text };
            StartError::new("ulimit", format!("{text}: {}", std::io::Error::from(errno)))
        })?;
    }
    Ok(())
}

fn text(limit: &Rlimit) -> String {
    let number = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
    format!("{}:{}", number(limit.soft), number(limit.hard))
}

/// Comes as near to `wanted` as this process may.
fn reset(resource: Resource, wanted: Values) {
    let own = getrlimit(resource);
    let least = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.min(b)).or(a).or(b);
    if (own.current, own.maximum) == (wanted.current, wanted.maximum) || setrlimit(resource, wanted).is_ok() {
        return;
    }
    let maximum = least(wanted.maximum, own.maximum);
    // Lowering is never refused.
    let _ = setrlimit(resource, Values { current: least(wanted.current, maximum), maximum });
}
