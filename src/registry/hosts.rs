//! Where a registry's content is to be had: mirrors and settings of `hosts.toml` files.
//!
//! The convention is containerd's (docs/hosts.md): a folder per registry with a `hosts.toml`
//!
//! ```toml
//! server = "https://registry-1.docker.io"   # the registry itself, asked last
//! [host."http://127.0.0.1:5000"]            # mirrors, asked in the file's order
//! capabilities = ["pull", "resolve"]
//! ```
//!
//! or, without that file, docker's: `*.crt` are trusted CAs, `*.cert` and `*.key` the client's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::error::{Error, Result};

/// One address that answers for a registry.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Who it is in messages.
    pub(super) label: String,
    /// What repository names are appended to; no slash at its end: `https://host/v2`.
    pub(super) base: Url,
    /// What it may be asked for.
    pub(super) can: Capabilities,
    /// How its TLS is checked.
    pub(super) tls: Tls,
    /// How long a connection to it may take, if not as long as any.
    pub(super) dial_timeout: Option<Duration>,
    /// Sent with each request to it.
    pub(super) headers: HeaderMap,
    /// The registry that it mirrors, told in the query `ns`; `None` for the registry itself.
    pub(super) mirrors: Option<String>,
}

/// What an endpoint may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) pull: bool,
    pub(super) resolve: bool,
    pub(super) push: bool,
}

impl Capabilities {
    const ALL: Self = Self { pull: true, resolve: true, push: true };
}

/// How TLS is checked; equal settings share a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Tls {
    pub(super) skip_verify: bool,
    /// PEM files of more trusted authorities.
    pub(super) ca: Vec<PathBuf>,
    /// PEM files of the client's certificate, and of its key if that is apart.
    pub(super) client: Option<(PathBuf, Option<PathBuf>)>,
}

/// Returns the endpoints of `registry`, in the order in which they are to be asked.
///
/// `folders` are searched in order; a folder of the registry's own wins over any `_default`.
pub(super) fn endpoints(registry: &str, folders: &[PathBuf]) -> Result<Vec<Endpoint>> {
    match find_folder(registry, folders) {
        Some(folder) => match read(&folder.join("hosts.toml"))? {
            Some(text) => from_file(registry, &folder, &text),
            None => Ok(vec![upstream(registry, docker_certs(&folder)?)?]),
        },
        None => Ok(vec![upstream(registry, Tls::default())?]),
    }
}

fn find_folder(registry: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let underscored = match registry.rsplit_once(':') {
        Some((host, port)) => format!("{host}_{port}_"),
        None => registry.to_owned(),
    };
    let own = folders.iter().flat_map(|folder| [folder.join(registry), folder.join(&underscored)]);
    let default = folders.iter().map(|folder| folder.join("_default"));
    own.chain(default).find(|folder| folder.is_dir())
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::ReadConfig { path: path.to_owned(), source }),
    }
}

/// Returns the registry itself.
fn upstream(registry: &str, tls: Tls) -> Result<Endpoint> {
    let base = address(default_server(registry), false)
        .map_err(|reason| Error::Setup { registry: registry.to_owned(), reason })?;
    Ok(Endpoint {
        label: registry.to_owned(),
        base,
        can: Capabilities::ALL,
        tls,
        dial_timeout: None,
        headers: HeaderMap::new(),
        mirrors: None,
    })
}

fn default_server(registry: &str) -> &str {
    match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// Reads `host`, `host:port` or an address with a scheme as the base of an API.
///
/// Without a scheme it is https, but http for loopback (other than port 443), where a registry is
/// on the same machine and rarely has a certificate.
fn address(text: &str, override_path: bool) -> Result<Url, String> {
    let with_scheme = match text.contains("://") {
        true => text.to_owned(),
        false => {
            let https = Url::parse(&format!("https://{text}")).map_err(|error| error.to_string())?;
            // The URL parser drops a scheme's own port, so that https on port 443 reads as none.
            let plain = is_loopback(&https) && !text.ends_with(":443");
            format!("{}://{text}", if plain { "http" } else { "https" })
        }
    };
    let mut url = Url::parse(&with_scheme).map_err(|error| format!("`{text}` is no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!("`{text}` is no http or https address"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if override_path || path.ends_with("/v2") {
        url.set_path(&path);
    } else {
        url.set_path(&format!("{path}/v2"));
    }
    Ok(url)
}

/// Tells whether `url` stays on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => bare == "localhost" || bare.ends_with(".localhost"),
    }
}

#[derive(Debug, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<toml::Spanned<String>, HostTable>,
    #[serde(flatten)]
    root: HostTable,
}

#[derive(Debug, Default, Deserialize)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    dial_timeout: Option<String>,
    /// What containerd of another version may know.
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn list(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    Both(String),
    Files(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

impl Client {
    /// Returns the first certificate and its key, if that is in another file.
    fn first(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Both(file) => Some((file, None)),
            Self::Files(files) => Some((files.first()?, None)),
            Self::Pairs(pairs) => {
                let pair = pairs.first()?;
                Some((pair.first()?, pair.get(1).map(String::as_str).filter(|key| !key.is_empty())))
            }
        }
    }
}

fn from_file(registry: &str, folder: &Path, text: &str) -> Result<Vec<Endpoint>> {
    let path = folder.join("hosts.toml");
    let invalid = |reason: String| Error::Config { path: path.clone(), reason };
    let file: HostsFile = toml::from_str(text).map_err(|error| invalid(error.message().to_owned()))?;
    let mut hosts: Vec<_> = file.host.iter().collect();
    hosts.sort_by_key(|(name, _)| name.span().start);

    let mut endpoints = Vec::new();
    for (name, table) in hosts {
        let mut endpoint = endpoint(name.get_ref(), table, folder).map_err(invalid)?;
        endpoint.label =
            format!("{registry} through mirror {}", endpoint.base.origin().ascii_serialization());
        endpoint.mirrors = Some(registry.to_owned());
        endpoints.push(endpoint);
    }
    let server = file.server.as_deref().filter(|server| !server.is_empty());
    let mut own =
        endpoint(server.unwrap_or(default_server(registry)), &file.root, folder).map_err(invalid)?;
    registry.clone_into(&mut own.label);
    // A mirror that is named as the server too would only fail twice.
    if endpoints.iter().all(|other| (&other.base, other.can) != (&own.base, own.can)) {
        endpoints.push(own);
    }
    Ok(endpoints)
}

fn endpoint(server: &str, table: &HostTable, folder: &Path) -> Result<Endpoint, String> {
    for key in table.unknown.keys() {
        tracing::warn!(key, folder = %folder.display(), "unknown key in hosts.toml");
    }
    let files = |list: &OneOrMany| list.list().iter().map(|file| folder.join(file)).collect();
    Ok(Endpoint {
        label: String::new(),
        base: address(server, table.override_path)?,
        can: capabilities(table.capabilities.as_deref())?,
        tls: Tls {
            skip_verify: table.skip_verify,
            ca: table.ca.as_ref().map(files).unwrap_or_default(),
            client: table
                .client
                .as_ref()
                .and_then(Client::first)
                .map(|(certificate, key)| (folder.join(certificate), key.map(|key| folder.join(key)))),
        },
        dial_timeout: table.dial_timeout.as_deref().map(duration).transpose()?,
        headers: headers(&table.header)?,
        mirrors: None,
    })
}

fn capabilities(names: Option<&[String]>) -> Result<Capabilities, String> {
    let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(Capabilities::ALL) };
    let mut can = Capabilities { pull: false, resolve: false, push: false };
    for name in names {
        match name.as_str() {
            "pull" => can.pull = true,
            "resolve" => can.resolve = true,
            "push" => can.push = true,
            // containerd has it for artefacts that refer to images; kiln asks for none.
            "referrers" => {}
            other => return Err(format!("unknown capability `{other}`")),
        }
    }
    Ok(can)
}

fn headers(table: &BTreeMap<String, OneOrMany>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in table {
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a header's name"))?;
        for value in values.list() {
            let mut value: HeaderValue =
                value.parse().map_err(|_| format!("header `{name}` has a wrong value"))?;
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

/// Reads a duration of one unit in Go's spelling: `500ms`, `3s`, `1m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().map_err(|_| format!("`{text}` is not a duration such as `3s`"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(count.saturating_mul(60))),
        _ => Err(format!("`{text}` is not a duration such as `3s`")),
    }
}

/// Reads a folder of docker's convention.
fn docker_certs(folder: &Path) -> Result<Tls> {
    let read_error = |source| Error::ReadConfig { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        files.push(entry.map_err(read_error)?.path());
    }
    files.sort();
    let with =
        |extension: &'static str| files.iter().filter(move |f| f.extension().is_some_and(|e| e == extension));
    let client = with("cert").next().map(|certificate| {
        let key = certificate.with_extension("key");
        (certificate.clone(), files.contains(&key).then_some(key))
    });
    Ok(Tls { ca: with("crt").cloned().collect(), client, ..Tls::default() })
}

#[cfg(test)]
mod tests;
