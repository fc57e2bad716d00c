//! Settings of the whole host: forwarding, and the lock that all kilns of a host have in common.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::error::{Result, file};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const FORWARDING6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const LINKS6: &str = "/proc/sys/net/ipv6/conf";
/// How long the host-wide lock is waited for; any local user could hold it, so it is never waited for longer.
const LOCK_ATTEMPTS: u32 = 400;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Tells whether the host forwards packets, of IPv6 too if asked.
pub(super) fn is_on(ipv6: bool) -> Result<bool> {
    Ok(reads_one(FORWARDING)? && (!ipv6 || reads_one(FORWARDING6)?))
}

/// Lets the host forward packets.
pub(super) fn switch_on(ipv6: bool) -> Result<()> {
    if !reads_one(FORWARDING)? {
        write(FORWARDING, "1\n")?;
    }
    if ipv6 && !reads_one(FORWARDING6)? {
        keep_advertised_routes();
        write(FORWARDING6, "1\n")?;
    }
    Ok(())
}

/// A router doesn't listen to routers: a host that has its way out from one would lose it.
fn keep_advertised_routes() {
    let Ok(links) = std::fs::read_dir(LINKS6) else { return };
    for link in links.flatten() {
        let setting = link.path().join("accept_ra");
        if std::fs::read_to_string(&setting).is_ok_and(|text| text.trim() == "1") {
            // "Even when forwarding"; for a link that is going nothing is lost.
            let _ = std::fs::write(&setting, "2\n");
        }
    }
}

fn reads_one(path: &str) -> Result<bool> {
    std::fs::read_to_string(path).map(|text| text.trim() == "1").map_err(file("read", path))
}

fn write(path: &str, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source: io::Error| file("switch on forwarding in", path)(source))
}

/// Locks the choice of subnets among all kilns of this network namespace, if that is possible in short time.
pub(super) fn host_lock() -> Option<File> {
    // A setting of the network namespace is a file that all of its processes have in common.
    let file = File::open(FORWARDING).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(file);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    None
}
