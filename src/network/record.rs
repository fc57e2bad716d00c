//! What is known of a network, in its `network.json`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Error, Result, file};

/// The format of `network.json`.
const VERSION: u32 = 2;
const NAME: &str = "network.json";
/// The same of a network that is being made or removed.
const HALF: &str = "network.json.new";

/// The option that keeps a network's containers from each other.
pub(super) const ICC: [&str; 2] = ["com.docker.network.bridge.enable_icc", "icc"];
/// The option that shows the world the containers' own addresses.
pub(super) const MASQUERADE: [&str; 2] = ["com.docker.network.bridge.enable_ip_masquerade", "masquerade"];
/// The longest packet.
pub(super) const MTU: [&str; 2] = ["com.docker.network.driver.mtu", "mtu"];
/// The bridge's name.
pub(super) const BRIDGE: [&str; 2] = ["com.docker.network.bridge.name", "name"];

/// The addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet<N, A> {
    /// All of them.
    pub net: N,
    /// The bridge's.
    pub gateway: A,
    /// Those that are given out; none is all.
    pub range: Option<N>,
    /// Those that others have, and their names.
    pub aux: BTreeMap<String, A>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format; another one is refused.
    pub version: u32,
    /// 64 hex digits.
    pub id: String,
    /// Unique among the store's networks.
    pub name: String,
    /// Unix nanoseconds.
    pub created: i64,
    /// The bridge's link.
    pub bridge: String,
    /// Its IPv4 addresses; the default network has none before its first use.
    pub subnet: Option<Subnet<Ipv4Net, Ipv4Addr>>,
    /// Its IPv6 addresses.
    pub subnet6: Option<Subnet<Ipv6Net, Ipv6Addr>>,
    /// It has no way out.
    pub internal: bool,
    /// `--attachable`; it means nothing here.
    pub attachable: bool,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--opt`
    pub options: BTreeMap<String, String>,
}

/// The id that tools know a container's place in a network by: 64 hex digits, the same after a restart.
pub fn endpoint_id(network: &str, container: &str) -> String {
    let digest = Sha256::new().chain_update(network).chain_update(container).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Record {
    /// Returns a network without addresses.
    pub(super) fn new(id: String, name: &str, bridge: String, created: i64) -> Self {
        Self {
            version: VERSION,
            id,
            name: name.to_owned(),
            created,
            bridge,
            subnet: None,
            subnet6: None,
            internal: false,
            attachable: false,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }

    /// Reads the record in `folder`, if there is one.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(file("read", &path))?,
        };
        // One of another version, or that a full disk cut short, is made anew by who can.
        let record: Option<Self> = serde_json::from_slice(&bytes).ok();
        Ok(record.filter(|record| record.version == VERSION))
    }

    /// Reads what a network had in the kernel that was being made or removed.
    pub(super) fn read_half(folder: &Path) -> Option<Self> {
        let bytes = std::fs::read(folder.join(HALF)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes it by one rename.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        self.begin(folder)?;
        Self::complete(folder)
    }

    /// Writes it beside its place: what it says is about to be made.
    pub(super) fn begin(&self, folder: &Path) -> Result<()> {
        let path = folder.join(HALF);
        let write = || File::create(&path)?.write_all(&serde_json::to_vec(self)?);
        write().map_err(file("write", &path))
    }

    /// Puts it into its place: from now on there is the network.
    pub(super) fn complete(folder: &Path) -> Result<()> {
        let path = folder.join(NAME);
        std::fs::rename(folder.join(HALF), &path).map_err(file("write", &path))
    }

    /// Takes it out of its place: what it says is about to be removed.
    pub(super) fn undo(folder: &Path) -> Result<()> {
        let path = folder.join(NAME);
        std::fs::rename(&path, folder.join(HALF)).map_err(file("remove", &path))
    }

    /// Tells whether it is the one that containers have without a wish.
    pub fn is_default(&self) -> bool {
        self.name == super::DEFAULT
    }

    /// Returns the first 12 digits of the id.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Its containers reach each other.
    pub fn icc(&self) -> bool {
        self.option(&ICC) != Some("false")
    }

    /// The world sees the host's address instead of its containers' ones.
    pub fn masquerades(&self) -> bool {
        self.option(&MASQUERADE) != Some("false")
    }

    /// The longest packet, when it isn't the way out's.
    pub fn mtu(&self) -> Option<u32> {
        self.option(&MTU)?.parse().ok()
    }

    /// Its options as they are shown; those of the default network, which nobody gave, are what it does.
    pub fn shown_options(&self) -> BTreeMap<String, String> {
        if !self.is_default() {
            return self.options.clone();
        }
        let word = |yes: bool| yes.to_string();
        let shown = [
            ("com.docker.network.bridge.default_bridge", word(true)),
            (ICC[0], word(self.icc())),
            (MASQUERADE[0], word(self.masquerades())),
            (BRIDGE[0], self.bridge.clone()),
        ];
        shown.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The value of the option with one of these names.
    pub(super) fn option(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.options.get(*name)).map(String::as_str)
    }

    /// Gives its IPv4 addresses.
    pub(super) fn addresses(&self) -> Result<&Subnet<Ipv4Net, Ipv4Addr>> {
        self.subnet.as_ref().ok_or_else(|| Error::NotFound { text: self.name.clone() })
    }
}
