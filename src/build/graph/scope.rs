//! Which variables a word sees: global ARGs, a stage's ARGs, its environment.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kiln_grammar::word::{self, Lookup};

use super::Variable;
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
    /// Declared ARGs in order of their first declaration; `None` for one without a value.
    pub(super) args: Vec<(String, Option<String>)>,
    /// True for a stage on a known base: there is no variable that isn't here.
    pub(super) complete: bool,
    /// ARGs that got a value after the environment variable of their name: the later one wins, as in BuildKit.
    pub(super) newer_args: BTreeSet<String>,
}

impl Scope {
    /// Sets an environment variable, keeping the place of one that is there.
    pub(super) fn set_env(&mut self, key: &str, value: String) {
        self.newer_args.remove(key);
        match self.env.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.env.push((key.to_owned(), value)),
        }
    }

    /// Declares an ARG; declared again it keeps its place, and without a value the one that it has.
    pub(super) fn declare(&mut self, name: &str, value: Option<String>) {
        if value.is_some() && self.env_value(name).is_some() {
            self.newer_args.insert(name.to_owned());
        }
        match self.args.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.or(old.take()),
            None => self.args.push((name.to_owned(), value)),
        }
    }

    /// The environment of a RUN step: the image's, with the ARGs that are newer, then those of other names.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let newer = |(key, value): &(String, String)| {
            let arg = self.newer_args.get(key).and_then(|name| self.arg(name));
            (key.clone(), arg.unwrap_or(value).to_owned())
        };
        let mut all: Vec<(String, String)> = self.env.iter().map(newer).collect();
        let own: HashSet<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        let others = self.args.iter().filter(|(name, _)| !own.contains(name.as_str()));
        all.extend(others.filter_map(|(name, value)| Some((name.clone(), value.clone()?))));
        all
    }

    fn env_value(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn arg(&self, name: &str) -> Option<&str> {
        self.args.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref())
    }

    /// Tells whether an ARG of this name is declared, with a value or without.
    pub(super) fn declares(&self, name: &str) -> bool {
        self.args.iter().any(|(known, _)| known == name)
    }

    /// Tells whether the value of this name is an ARG's.
    pub(super) fn is_arg(&self, name: &str) -> bool {
        self.env_value(name).is_none() || self.newer_args.contains(name)
    }

    /// The variables that an instruction's `text` has filled in.
    pub(super) fn used(&self, text: &str, escape: char) -> Vec<Variable> {
        if !text.contains('$') {
            return Vec::new();
        }
        let used = word::variables(text, escape).into_iter();
        used.map(|name| Variable { value: self.get(&name), is_arg: self.is_arg(&name), name }).collect()
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
        let env: HashMap<&str, &str> =
            self.env.iter().rev().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let shown = self.args.iter().map(|(name, arg)| {
            let (env, arg) = (env.get(name.as_str()).copied(), arg.as_deref());
            let value = if self.newer_args.contains(name) { arg.or(env) } else { env.or(arg) };
            (name.clone(), value.unwrap_or_default().to_owned())
        });
        shown.collect()
    }
}

impl Lookup for Scope {
    fn get(&self, name: &str) -> Option<String> {
        let (env, arg) = (self.env_value(name), self.arg(name));
        let value = if self.newer_args.contains(name) { arg.or(env) } else { env.or(arg) };
        value.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(String, String)]) -> Vec<String> {
        all.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// As docker.io 28.5.2 does: see the recordings `arg-order-with-env` and `arg-order-in-history`.
    #[test]
    fn of_an_arg_and_a_variable_of_one_name_the_later_one_wins() {
        let mut scope = Scope::default();
        scope.set_env("A", "env".to_owned());
        scope.set_env("B", "env".to_owned());
        scope.declare("A", Some("arg".to_owned()));
        scope.declare("B", None);
        scope.declare("C", Some("arg".to_owned()));
        scope.declare("A", None);
        assert_eq!(pairs(&scope.environment()), ["A=arg", "B=env", "C=arg"]);
        scope.set_env("A", "again".to_owned());
        scope.declare("C", Some("new".to_owned()));
        assert_eq!(pairs(&scope.environment()), ["A=again", "B=env", "C=new"]);
        assert_eq!(pairs(&scope.declared()), ["A=again", "B=env", "C=new"]);
        assert_eq!(pairs(&scope.env), ["A=again", "B=env"]);
    }
}
