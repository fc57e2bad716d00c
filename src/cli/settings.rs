//! The environment and the global flags, read once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::{config_file, time, units};
use crate::api::{CacheBounds, Settings, Share};

/// Variables that RUN steps and downloads get from the caller, in both cases as people write them.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Variables that helper programs need to work as they do in the caller's shell; nothing that configures git or ssh.
const PROGRAMS: [&str; 4] = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR"];

/// The caller's environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads this process's; variables that aren't UTF-8 are left out.
    pub(crate) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// Returns a variable's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns a variable's value unless it is empty.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

/// The flags before the command's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Globals {
    /// `--root`
    pub(crate) root: Option<PathBuf>,
    /// `--config`
    pub(crate) config: Option<PathBuf>,
}

/// Joins flags and environment; a flag wins.
pub(crate) fn settings(
    globals: &Globals,
    environment: &Environment,
    euid_root: bool,
) -> Result<Settings, Error> {
    let variable = |name: &str| environment.filled(name).map(PathBuf::from);
    let named_root = globals.root.clone().or_else(|| variable("KILN_ROOT"));
    let root = absolute(&named_root.clone().unwrap_or_else(|| default_root(environment, euid_root)))?;
    let run = match variable("KILN_RUN") {
        Some(run) => absolute(&run)?,
        // Two stores must not share their sockets.
        None if named_root.is_some() => root.join("run"),
        None if euid_root => PathBuf::from("/run/kiln"),
        None => variable("XDG_RUNTIME_DIR").map_or_else(|| root.join("run"), |dir| dir.join("kiln")),
    };
    let mut certs = Vec::new();
    let config = globals.config.clone().or_else(|| variable("KILN_CONFIG"));
    let config = config.as_deref().map(absolute).transpose()?;
    certs.extend(config.as_ref().map(|config| config.join("certs.d")));
    certs.extend(["/etc/kiln", "/etc/containerd", "/etc/docker"].map(|dir| Path::new(dir).join("certs.d")));
    let known_hosts = environment.filled("HOME").map(|home| Path::new(home).join(".ssh/known_hosts"));
    Ok(Settings {
        root,
        run,
        certs,
        source_date_epoch: epoch(environment)?,
        proxies: proxies(environment),
        programs: set(environment, &PROGRAMS),
        known_hosts,
        cdi: match environment.filled("KILN_CDI") {
            Some(folders) => std::env::split_paths(folders).collect(),
            None => ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
        },
        cache: cache_bounds(environment)?,
        publish: config_file::publish_policy(config.as_deref().unwrap_or(Path::new("/etc/kiln")))?,
    })
}

/// What the build cache is kept to after builds.
fn cache_bounds(environment: &Environment) -> Result<CacheBounds, Error> {
    let off = match environment.filled("KILN_CACHE_GC") {
        None | Some("on" | "1" | "true") => false,
        Some("off" | "0" | "false") => true,
        Some(other) => {
            return Err(Error::usage(format!("KILN_CACHE_GC is `{other}`; it must be on or off")));
        }
    };
    let share = |name: &str| match environment.filled(name) {
        None => Ok(None),
        Some(text) => parse_share(text).map(Some).ok_or_else(|| {
            Error::usage(format!(
                "{name} is `{text}`; it must be bytes, such as 20gb, or a part of the disk, such as 10%"
            ))
        }),
    };
    let unused_for = match environment.filled("KILN_CACHE_UNUSED_FOR") {
        None => None,
        Some(text) => Some(time::parse_age(text).ok_or_else(|| {
            Error::usage(format!("KILN_CACHE_UNUSED_FOR is `{text}`; it must be a time, such as 12h or 30d"))
        })?),
    };
    Ok(CacheBounds {
        off,
        max_used: share("KILN_CACHE_MAX")?,
        reserved: share("KILN_CACHE_RESERVED")?,
        min_free: share("KILN_CACHE_MIN_FREE")?,
        unused_for,
    })
}

fn parse_share(text: &str) -> Option<Share> {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Share::Percent),
        None => units::parse_size(text).map(Share::Bytes),
    }
}

fn default_root(environment: &Environment, euid_root: bool) -> PathBuf {
    if euid_root {
        return PathBuf::from("/var/lib/kiln");
    }
    match (environment.filled("XDG_DATA_HOME"), environment.filled("HOME")) {
        (Some(data), _) => Path::new(data).join("kiln"),
        (None, Some(home)) => Path::new(home).join(".local/share/kiln"),
        (None, None) => PathBuf::from("/var/lib/kiln"),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path)
        .map_err(|error| Error::usage(format!("cannot use the path `{}`: {error}", path.display())))
}

fn epoch(environment: &Environment) -> Result<Option<i64>, Error> {
    let Some(text) = environment.filled("SOURCE_DATE_EPOCH") else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(seconds) if seconds >= 0 => Ok(Some(seconds)),
        _ => Err(Error::usage(format!("SOURCE_DATE_EPOCH is `{text}`; it must be unix seconds"))),
    }
}

fn set(environment: &Environment, names: &[&str]) -> Vec<(String, String)> {
    let filled = |name: &&str| Some(((*name).to_owned(), environment.filled(name)?.to_owned()));
    names.iter().filter_map(filled).collect()
}

fn proxies(environment: &Environment) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in PROXIES {
        for name in [name.to_owned(), name.to_ascii_lowercase()] {
            if let Some(value) = environment.filled(&name) {
                found.push((name, value.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_variables_and_variables_over_defaults() {
        let none = Globals::default();
        let plain = settings(&none, &Environment::default(), true).expect("defaults are good");
        assert_eq!((plain.root, plain.run), ("/var/lib/kiln".into(), "/run/kiln".into()));

        let environment =
            Environment::from([("KILN_ROOT", "/a"), ("KILN_CONFIG", "/c"), ("http_proxy", "http://p")]);
        let from_environment = settings(&none, &environment, true).expect("variables are good");
        assert_eq!((from_environment.root, from_environment.run), ("/a".into(), "/a/run".into()));
        assert_eq!(from_environment.certs[0], PathBuf::from("/c/certs.d"));
        assert_eq!(from_environment.proxies, [("http_proxy".to_owned(), "http://p".to_owned())]);

        let flags = Globals { root: Some("/b".into()), config: None };
        assert_eq!(settings(&flags, &environment, true).expect("flags are good").root, PathBuf::from("/b"));
    }

    #[test]
    fn bounds_of_the_cache_are_bytes_or_percents() {
        let bounds = |variable: (&str, &str)| cache_bounds(&Environment::from([variable])).ok();
        let max_used = Some(Share::Bytes(20 << 30));
        assert_eq!(
            bounds(("KILN_CACHE_MAX", "20gb")),
            Some(CacheBounds { max_used, ..CacheBounds::default() })
        );
        let min_free = Some(Share::Percent(10));
        assert_eq!(
            bounds(("KILN_CACHE_MIN_FREE", "10%")),
            Some(CacheBounds { min_free, ..CacheBounds::default() })
        );
        assert!(bounds(("KILN_CACHE_GC", "off")).is_some_and(|bounds| bounds.off));
        for wrong in [("KILN_CACHE_MAX", "much"), ("KILN_CACHE_RESERVED", "101%"), ("KILN_CACHE_GC", "maybe")]
        {
            assert_eq!(bounds(wrong), None, "{wrong:?}");
        }
        assert_eq!(bounds(("KILN_CACHE_UNUSED_FOR", "soon")), None);
    }

    #[test]
    fn a_bad_source_date_epoch_is_refused() {
        for value in ["x", "-1", "1.5"] {
            let environment = Environment::from([("SOURCE_DATE_EPOCH", value)]);
            assert!(settings(&Globals::default(), &environment, true).is_err(), "{value}");
        }
    }
}
