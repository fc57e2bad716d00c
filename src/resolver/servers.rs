//! The machine's own name servers.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::SystemTime;

/// The port of name servers.
pub(super) const PORT: u16 = 53;
const FILE: &str = "/etc/resolv.conf";
/// No more of them are asked, as everywhere.
const MOST: usize = 3;

/// The servers of the machine's `resolv.conf`, read again when that has changed.
///
/// The resolver runs on the machine, so that servers on its loopback are as good as others.
#[derive(Debug, Default)]
pub(super) struct Servers {
    changed: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

impl Servers {
    /// Returns the servers.
    pub(super) fn get(&mut self) -> &[SocketAddr] {
        self.get_from(Path::new(FILE))
    }

    fn get_from(&mut self, file: &Path) -> &[SocketAddr] {
        let changed = std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
        if changed.is_none() || changed != self.changed {
            self.servers = parse(&std::fs::read_to_string(file).unwrap_or_default());
            self.changed = changed;
        }
        &self.servers
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address: IpAddr =
            words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        Some(SocketAddr::new(address, PORT))
    };
    text.lines().filter_map(server).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_follow_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let mut servers = Servers::default();
        assert!(servers.get_from(&file).is_empty());
        std::fs::write(
            &file,
            "# stub\nnameserver 127.0.0.53\nsearch x\nnameserver fd00::1\nnameserver bad\n",
        )
        .unwrap();
        let expected: Vec<SocketAddr> =
            vec!["127.0.0.53:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()];
        assert_eq!(servers.get_from(&file), expected);
        std::fs::remove_file(&file).unwrap();
        assert!(servers.get_from(&file).is_empty());
    }
}
