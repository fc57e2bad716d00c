//! Flags of `kiln create` and `run`: what is mounted, and the network.

use crate::api::{CreateRequest, NetworkMode, VolumeRequest};
use crate::cli::commands::pairs;
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--dns",
    "--dns-opt", "--dns-option",
    "--dns-search",
    "--expose",
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
        request.add_hosts = self.add_host.iter().map(|text| pairs::host(text)).collect::<Result<_, _>>()?;
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
}
