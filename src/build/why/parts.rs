//! Two keys of one step compared, part by part.

use std::collections::{BTreeMap, BTreeSet};

/// Parts that say what a step was made from: its inputs and what it read, which are compared by themselves.
const INPUTS: [&str; 9] =
    ["op", "rootfs", "from", "layers", "content", "time", "commit", "mounted", "mounted result"];

/// How an instruction's text may set a part, by the kind of op: its flag, or the instruction that says it.
const SETTINGS: [(&str, &str, &str); 17] = [
    ("exec", "args", "SHELL"),
    ("exec", "cwd", "WORKDIR"),
    ("exec", "user", "USER"),
    ("exec", "network", "--network"),
    ("exec", "security", "--security"),
    ("exec", "device", "--device"),
    ("exec", "mount", "--mount"),
    ("exec", "platform", "--platform"),
    ("copy", "destination", "WORKDIR"),
    ("copy", "chown", "--chown"),
    ("copy", "owner", "--chown"),
    ("copy", "chmod", "--chmod"),
    ("copy", "exclude", "--exclude"),
    ("copy", "parents", "--parents"),
    ("copy", "reset owner", "--from"),
    ("mkdir", "path", "WORKDIR"),
    ("mkdir", "owner", "USER"),
];

/// A build-arg without an ARG.
pub(super) const HOSTNAME_ARG: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// The parts of a key.
pub(super) type Parts = [(String, String)];

/// What differs between two keys of ops of the same kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// The variables of the environment.
    pub(super) variables: BTreeSet<String>,
    /// What others say of the step, as its user would write it.
    pub(super) settings: BTreeSet<String>,
    /// Whether kiln does such a step in another way.
    pub(super) upgraded: bool,
}

/// Compares two keys; `None` when they are of different kinds of ops.
pub(super) fn compare(before: &Parts, now: &Parts) -> Option<Difference> {
    let (kind, version) = op(now)?;
    let (kind_before, version_before) = op(before)?;
    if kind != kind_before {
        return None;
    }
    let mut difference = Difference { upgraded: version != version_before, ..Difference::default() };
    let (before, now) = (grouped(before), grouped(now));
    let names: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
    for name in names.into_iter().filter(|name| before.get(name) != now.get(name)) {
        if let Some(variable) = name.strip_prefix("env ") {
            difference.variables.insert(variable.to_owned());
        } else if name == "hostname" {
            difference.variables.insert(HOSTNAME_ARG.to_owned());
        } else if name.starts_with("host ") {
            difference.settings.insert("--add-host".to_owned());
        } else if !INPUTS.contains(&name) {
            let known = SETTINGS.iter().find(|(op, part, _)| *op == kind && *part == name);
            difference.settings.insert(known.map_or(name, |(_, _, setting)| setting).to_owned());
        }
    }
    Some(difference)
}

/// What a part says, if there is just one of the name.
pub(super) fn value<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    parts.iter().find(|(part, _)| part == name).map(|(_, value)| value.as_str())
}

/// The kind of op and its version.
fn op(parts: &Parts) -> Option<(&str, &str)> {
    value(parts, "op")?.rsplit_once(' ')
}

/// All values of each name, in their order.
fn grouped(parts: &Parts) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in parts {
        groups.entry(name).or_default().push(value);
    }
    groups
}

#[cfg(test)]
mod tests {
    use kiln_cache::key::KeyBuilder;

    use super::*;

    fn difference(before: KeyBuilder, now: KeyBuilder) -> Option<(String, String, bool)> {
        let words = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
        let difference = compare(&before.parts().texts(), &now.parts().texts())?;
        Some((words(difference.variables), words(difference.settings), difference.upgraded))
    }

    #[test]
    fn each_part_has_a_name_that_its_user_knows() {
        let empty = |kind| KeyBuilder::new(kind, 1);
        for (kind, part, variables, settings) in [
            ("exec", "env A", "A", ""),
            ("exec", "hostname", HOSTNAME_ARG, ""),
            ("exec", "host h", "", "--add-host"),
            ("exec", "cwd", "", "WORKDIR"),
            ("exec", "user", "", "USER"),
            ("exec", "args", "", "SHELL"),
            ("exec", "network", "", "--network"),
            ("exec", "security", "", "--security"),
            ("exec", "device", "", "--device"),
            ("exec", "mount", "", "--mount"),
            ("exec", "platform", "", "--platform"),
            ("exec", "rootfs", "", ""),
            ("exec", "mounted", "", ""),
            ("copy", "destination", "", "WORKDIR"),
            ("copy", "chown", "", "--chown"),
            ("copy", "owner", "", "--chown"),
            ("copy", "chmod", "", "--chmod"),
            ("copy", "content", "", ""),
            ("mkdir", "path", "", "WORKDIR"),
            ("mkdir", "owner", "", "USER"),
            // One that nobody thought of shows itself.
            ("exec", "ulimit", "", "ulimit"),
        ] {
            let expected = Some((variables.to_owned(), settings.to_owned(), false));
            let (one, other) = (empty(kind).field(part, "1"), empty(kind).field(part, "2"));
            assert_eq!(difference(one.clone(), other), expected, "{kind} {part}");
            assert_eq!(difference(one.clone(), empty(kind)), expected, "{kind} without {part}");
            assert_eq!(difference(empty(kind), one.clone()), expected, "{kind} with {part}");
            assert_eq!(difference(one.clone(), one), Some(Default::default()), "{kind} {part}");
        }
    }

    #[test]
    fn the_order_of_equal_parts_counts_and_versions_are_told() {
        let key = |version, mounts: [&str; 2]| {
            KeyBuilder::new("exec", version).field("mount", mounts[0]).field("mount", mounts[1])
        };
        let expected = |settings: &str, upgraded| Some((String::new(), settings.to_owned(), upgraded));
        assert_eq!(difference(key(1, ["a", "b"]), key(1, ["b", "a"])), expected("--mount", false));
        assert_eq!(difference(key(1, ["a", "b"]), key(2, ["a", "b"])), expected("", true));
        assert_eq!(difference(key(1, ["a", "b"]), KeyBuilder::new("copy", 1)), None);
    }
}
