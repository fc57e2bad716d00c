//! Flags of `kiln create` and `run`: the networks.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::api::{CreateRequest, NetworkMode, NetworkWish};
use crate::cli::error::Error;

/// Flags of docker that are still to come.
pub(super) const NOT_YET: &[&str] = &["--link-local-ip"];

/// The networks.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Network {
    /// Its IPv4 address in the first network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Its IPv6 address in the first network
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// The MAC of its link in the first network
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// Networks: names, bridge, none, host or container:NAME; also as name=NET,ip=ADDRESS,alias=NAME,mac-address=MAC
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(super) network: Vec<String>,
    /// Another name of the container in the first network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
}

/// What isn't a network of its own.
const MODES: [(&str, NetworkMode); 2] = [("none", NetworkMode::None), ("host", NetworkMode::Host)];

impl Network {
    /// Puts them into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        let mut wishes = self.network.iter().map(|text| wish(text)).collect::<Result<Vec<_>, _>>()?;
        if wishes.is_empty() && self.wants_something() {
            wishes.push(named("bridge"));
        }
        if let Some(first) = wishes.first_mut() {
            self.add_to(first)?;
        }
        let alone = wishes.iter().find(|wish| mode(&wish.network).is_some());
        if let Some(mode_of) = alone.and_then(|wish| mode(&wish.network)) {
            let [only] = wishes.as_slice() else {
                let text = alone.map_or("", |wish| wish.network.as_str());
                return Err(Error::usage(format!(
                    "conflicting options: `--network {text}` and other networks"
                ))
                .hint("leave one of them out"));
            };
            if *only != named(&only.network) {
                let text =
                    format!("conflicting options: `--network {}` and an address or alias", only.network);
                return Err(Error::usage(text).hint("they can be chosen in networks of your own"));
            }
            request.network = mode_of;
            request.isolation.network = match only.network.strip_prefix("container:") {
                Some("") => {
                    return Err(Error::usage("`--network container:` names no container")
                        .hint("write it as `container:NAME`"));
                }
                Some(_) => Some(only.network.clone()),
                None => None,
            };
            return Ok(());
        }
        request.network = NetworkMode::Bridge;
        let is_default = |wishes: &[NetworkWish]| matches!(wishes, [only] if *only == named("bridge"));
        request.networks = if is_default(&wishes) { Vec::new() } else { wishes };
        Ok(())
    }

    fn wants_something(&self) -> bool {
        self.ip.is_some()
            || self.ip6.is_some()
            || self.mac_address.is_some()
            || !self.network_alias.is_empty()
    }

    fn add_to(&self, first: &mut NetworkWish) -> Result<(), Error> {
        if let Some(text) = &self.ip {
            first.ip = Some(ip(text)?);
        }
        if let Some(text) = &self.ip6 {
            first.ip6 = Some(ip6(text)?);
        }
        if let Some(text) = &self.mac_address {
            first.mac = Some(mac(text)?);
        }
        first.aliases.extend(self.network_alias.iter().cloned());
        Ok(())
    }
}

fn mode(text: &str) -> Option<NetworkMode> {
    // Whose network it is says another field.
    let is_shared = text.starts_with("container:").then_some(NetworkMode::None);
    is_shared.or_else(|| MODES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode))
}

fn named(name: &str) -> NetworkWish {
    let network = if name == "default" { "bridge" } else { name };
    NetworkWish { network: network.to_owned(), ..NetworkWish::default() }
}

/// Reads a name, or `name=NET,ip=…,ip6=…,alias=…,mac-address=…,gw-priority=…`.
fn wish(text: &str) -> Result<NetworkWish, Error> {
    if !text.contains('=') {
        return match text {
            "" => Err(Error::usage("`--network` is empty").hint("see all networks with `kiln network ls`")),
            name => Ok(named(name)),
        };
    }
    let mut wish = NetworkWish::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key {
            "name" => wish.network = named(value).network,
            "ip" => wish.ip = Some(ip(value)?),
            "ip6" => wish.ip6 = Some(ip6(value)?),
            "alias" => wish.aliases.push(value.to_owned()),
            "mac-address" => wish.mac = Some(mac(value)?),
            "gw-priority" => {
                wish.priority = value.parse().map_err(|_| {
                    Error::usage(format!("invalid `gw-priority` in `{text}`: it must be a number"))
                        .hint("the network with the highest one is the way out: `gw-priority=1`")
                })?;
            }
            _ => {
                return Err(Error::usage(format!("unknown key `{key}` in `--network {text}`"))
                    .hint("it may be name, ip, ip6, alias, mac-address or gw-priority"));
            }
        }
    }
    match wish.network.is_empty() {
        true => Err(Error::usage(format!("`--network {text}` has no name"))
            .hint("write it as `name=NETWORK,ip=ADDRESS`")),
        false => Ok(wish),
    }
}

fn ip(text: &str) -> Result<Ipv4Addr, Error> {
    text.parse().map_err(|_| {
        Error::usage(format!("invalid value `{text}` for `--ip`: it must be an IPv4 address"))
            .hint("write it as `172.38.0.5`")
    })
}

fn ip6(text: &str) -> Result<Ipv6Addr, Error> {
    text.parse().map_err(|_| {
        Error::usage(format!("invalid value `{text}` for `--ip6`: it must be an IPv6 address"))
            .hint("write it as `fd00:38::5`")
    })
}

/// Reads `02:42:ac:26:00:0b`.
pub(in crate::cli::commands) fn mac(text: &str) -> Result<String, Error> {
    let is_byte = |part: &str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
    let parts: Vec<_> = text.split(':').collect();
    let is_one =
        parts.first().is_some_and(|part| u8::from_str_radix(part, 16).is_ok_and(|byte| byte & 1 == 0));
    match parts.len() == 6 && parts.iter().all(|part| is_byte(part)) && is_one {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(Error::usage(format!("invalid value `{text}` for `--mac-address`"))
            .hint("write it as `02:42:ac:26:00:0b`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(network: &[&str], ip: Option<&str>) -> Option<CreateRequest> {
        let flags = Network {
            network: network.iter().map(|&text| text.to_owned()).collect(),
            ip: ip.map(str::to_owned),
            ..Network::default()
        };
        let mut request = CreateRequest::default();
        flags.fill(&mut request).ok().map(|()| request)
    }

    #[test]
    fn networks_are_read_in_both_forms() {
        for default in [&[][..], &["bridge"], &["default"]] {
            let request = filled(default, None).unwrap();
            assert_eq!((request.network, request.networks), (NetworkMode::Bridge, Vec::new()));
        }
        assert_eq!(filled(&["none"], None).unwrap().network, NetworkMode::None);
        let shared = filled(&["container:web"], None).unwrap().isolation.network;
        assert_eq!(shared.as_deref(), Some("container:web"));
        let two =
            filled(&["one", "name=two,alias=a,alias=b,gw-priority=-1"], Some("10.0.0.2")).unwrap().networks;
        assert_eq!((two[0].network.as_str(), two[0].ip), ("one", Some(Ipv4Addr::new(10, 0, 0, 2))));
        assert_eq!((two[1].aliases.join(" "), two[1].priority), ("a b".to_owned(), -1));
        for bad in [&["none", "one"][..], &["name=one,colour=red"], &["ip=10.0.0.1"], &[""], &["container:"]]
        {
            assert!(filled(bad, None).is_none(), "{bad:?}");
        }
        assert!(filled(&["host"], Some("10.0.0.2")).is_none());
        assert!(filled(&["one"], Some("fd00::1")).is_none());
    }
}
