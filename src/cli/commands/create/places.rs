//! Flags of `kiln create` and `run`: what is mounted, and the network.

use crate::api::{CreateRequest, NetworkMode, VolumeRequest};
use crate::cli::commands::pairs;
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--ip",
    "--ip6",
    "--link",
    "--link-local-ip",
    "--mac-address",
    "--mount",
    "--net-alias", "--network-alias",
    "-p", "--publish",
    "-P", "--publish-all",
    "--storage-opt",
    "--volume-driver",
    "--volumes-from",
];

/// What is mounted, and the network.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Places {
    /// Add an entry to /etc/hosts (NAME:ADDRESS)
    #[arg(long, value_name = "HOST")]
    add_host: Vec<String>,
    /// Ask this name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Set an option of name look-ups (ndots:2)
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Look up short names in this domain (.: in none)
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Name a port that the program listens on (80, 53/udp, 8000-8010)
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Network: bridge, none, host or container:NAME
    #[arg(
        long,
        visible_alias = "net",
        value_name = "MODE",
        default_value = "bridge",
        hide_default_value = true
    )]
    pub(super) network: String,
    /// Mount a folder in memory (PATH[:size=64m,mode=1770,exec])
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Mount a host path or a volume ([SOURCE:]TARGET[:ro])
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<String>,
}

impl Places {
    /// Puts them into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.volumes = self.volume.iter().map(|text| volume(text)).collect::<Result<_, _>>()?;
        request.isolation.tmpfs = self.tmpfs.iter().map(|text| tmpfs(text)).collect();
        request.network = network(&self.network)?;
        let is_shared = self.network.starts_with("container:");
        request.isolation.network = is_shared.then(|| self.network.clone());
        request.add_hosts = self.add_host.iter().map(|text| host(text)).collect::<Result<_, _>>()?;
        request.dns = self.dns.iter().map(|text| server(text)).collect::<Result<_, _>>()?;
        request.dns_options =
            self.dns_option.iter().map(|text| word("--dns-option", text)).collect::<Result<_, _>>()?;
        request.dns_search =
            self.dns_search.iter().map(|text| word("--dns-search", text)).collect::<Result<_, _>>()?;
        for text in &self.expose {
            request.expose.extend(ports(text)?);
        }
        Ok(())
    }
}

/// Splits the options off.
fn tmpfs(text: &str) -> (String, String) {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    (path.to_owned(), options.to_owned())
}

fn network(text: &str) -> Result<NetworkMode, Error> {
    // Whose network it is says another field.
    if text.starts_with("container:") {
        return Ok(NetworkMode::None);
    }
    pairs::network(text)
}

/// Reads `--add-host`; `host-gateway` stands for the machine, by its address in the container's network.
fn host(text: &str) -> Result<(String, String), Error> {
    match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((name, "host-gateway")) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok((name.to_owned(), "host-gateway".to_owned()))
        }
        _ => pairs::host(text),
    }
}

fn server(text: &str) -> Result<String, Error> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(Error::usage(format!("invalid value `{text}` for `--dns`: it must be an address"))),
    }
}

/// Reads a word of `/etc/resolv.conf`.
fn word(flag: &str, text: &str) -> Result<String, Error> {
    match text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        true => Err(Error::usage(format!("invalid value `{text}` for `{flag}`"))),
        false => Ok(text.to_owned()),
    }
}

/// Reads `--expose`: `80`, `53/udp`, `8000-8010/tcp`; gives every port with its protocol.
fn ports(text: &str) -> Result<Vec<String>, Error> {
    let bad = || {
        Error::usage(format!("invalid value `{text}` for `--expose`"))
            .hint("write it as `80`, `53/udp` or `8000-8010`")
    };
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first == 0 || first > last || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Reads `[SOURCE:]TARGET[:OPTIONS]`.
fn volume(text: &str) -> Result<VolumeRequest, Error> {
    let bad = |why: &str| {
        Error::usage(format!("invalid volume `{text}`: {why}"))
            .hint("write it as `/host/path:/path`, `name:/path` or `/path`")
    };
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match fields[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(bad("too many colons")),
    };
    if !target.starts_with('/') {
        return Err(bad("the path in the container must be absolute"));
    }
    if target.trim_end_matches('/').is_empty() {
        return Err(bad("it can't be the root directory"));
    }
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            "rw" => readonly = false,
            other => {
                return Err(Error::usage(format!(
                    "the volume option `{other}` in `{text}` is not supported yet"
                )));
            }
        }
    }
    Ok(VolumeRequest { source: source.map(host_path).transpose()?, target: target.to_owned(), readonly })
}

/// A relative path is one from the working directory; a word without a slash is a volume's name.
fn host_path(source: &str) -> Result<String, Error> {
    if source.is_empty() {
        return Err(Error::usage("a volume's source is empty"));
    }
    if !(source == "." || source == ".." || source.starts_with("./") || source.starts_with("../")) {
        return Ok(source.to_owned());
    }
    let path = std::path::absolute(source)
        .map_err(|error| Error::usage(format!("cannot use `{source}`: {error}")))?;
    let path = path.to_str().map(str::to_owned);
    path.ok_or_else(|| Error::usage(format!("the path of `{source}` is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        let bind = |text| volume(text).ok().map(|volume| (volume.source, volume.target, volume.readonly));
        assert_eq!(bind("/data"), Some((None, "/data".into(), false)));
        assert_eq!(bind("name:/data"), Some((Some("name".into()), "/data".into(), false)));
        assert_eq!(bind("/host:/data:ro"), Some((Some("/host".into()), "/data".into(), true)));
        let here = std::env::current_dir().unwrap().join("x");
        assert_eq!(bind("./x:/data"), Some((here.to_str().map(str::to_owned), "/data".into(), false)));
        for text in ["", "data", "/a:b", "/a:/", "/a:/b:zz", "/a:/b:ro:x", ":/b"] {
            assert_eq!(bind(text), None, "{text}");
        }
    }

    #[test]
    fn ports_are_exposed_one_by_one() {
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("8000-8002/udp").unwrap(), ["8000/udp", "8001/udp", "8002/udp"]);
        for bad in ["", "0", "9-8", "80/icmp", "x", "70000"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
