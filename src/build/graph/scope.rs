//! Which variables a word sees: global ARGs, a stage's ARGs, its environment.

use std::collections::BTreeMap;

use kiln_grammar::word::Lookup;

use crate::oci::Platform;

/// Proxy variables, in both cases: usable without ARG, in no key and no history.
pub(super) const PROXY_NAMES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// `PATH` of a rootfs whose image doesn't say; BuildKit's and docker's.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The platform ARGs of the global scope.
pub(super) fn platform_args(
    target: &Platform,
    build: &Platform,
    stage: Option<&str>,
) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target), ("BUILD", build)] {
        args.insert(format!("{prefix}PLATFORM"), platform.to_string());
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}OSVERSION"), String::new());
        args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        args.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
    }
    args.insert("TARGETSTAGE".to_owned(), stage.unwrap_or("default").to_owned());
    args
}

/// The variables of a stage: its environment, then its declared ARGs.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// `KEY=value` of the config, in order.
    pub(super) env: Vec<(String, String)>,
    /// Declared ARGs in order of declaration; `None` for one without a value.
    pub(super) args: Vec<(String, Option<String>)>,
    /// True for a stage on a known base: there is no variable that isn't here.
    pub(super) complete: bool,
}

impl Scope {
    /// Sets an environment variable, keeping the place of one that is there.
    pub(super) fn set_env(&mut self, key: &str, value: String) {
        match self.env.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.env.push((key.to_owned(), value)),
        }
    }

    /// Declares an ARG; declared again without a value, it keeps the one that it has.
    pub(super) fn declare(&mut self, name: &str, value: Option<String>) {
        let old = self.args.iter().position(|(old, _)| old == name).map(|index| self.args.remove(index));
        let value = value.or_else(|| old.and_then(|(_, value)| value));
        self.args.push((name.to_owned(), value));
    }

    /// Tells whether an ARG of this name is declared, with a value or without.
    pub(super) fn declares(&self, name: &str) -> bool {
        self.args.iter().any(|(known, _)| known == name)
    }

    /// The names of all variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.env
            .iter()
            .map(|(name, _)| name)
            .chain(self.args.iter().map(|(name, _)| name))
            .map(String::as_str)
    }

    /// All declared ARGs with what their name stands for, as a RUN's history lists them.
    ///
    /// BuildKit lists those without a value too, and those that an environment variable hides with its value.
    pub(super) fn declared(&self) -> Vec<(String, String)> {
        let value = |name: &str| self.get(name).unwrap_or_default();
        self.args.iter().map(|(name, _)| (name.clone(), value(name))).collect()
    }

    /// The ARGs that a RUN step sees: those with a value that no environment variable hides.
    pub(super) fn visible_args(&self) -> Vec<(String, String)> {
        self.args
            .iter()
            .filter(|(name, _)| !self.env.iter().any(|(key, _)| key == name))
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect()
    }
}

impl Lookup for Scope {
    fn get(&self, name: &str) -> Option<String> {
        let env = self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        env.or_else(|| self.args.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.clone()))
    }
}
