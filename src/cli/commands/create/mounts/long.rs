//! The long form of a mount: `--mount type=bind,src=/host,dst=/path,readonly`.

use super::{NO_CACHES, Read, absolute, check_target};
use crate::api::{MountKind, MountRequest, Propagation, Recursion};
use crate::cli::error::Error;
use crate::cli::{suggest, units};

/// Every key, and the type that it is for; without one for all.
const KEYS: [(&str, &str); 22] = [
    ("type", ""),
    ("src", ""),
    ("source", ""),
    ("dst", ""),
    ("destination", ""),
    ("target", ""),
    ("ro", ""),
    ("readonly", ""),
    ("consistency", ""),
    ("bind-propagation", "bind"),
    ("bind-recursive", "bind"),
    ("bind-nonrecursive", "bind"),
    ("bind-create-src", "bind"),
    ("volume-nocopy", "volume"),
    ("volume-subpath", "volume"),
    ("volume-driver", "volume"),
    ("volume-label", "volume"),
    ("volume-opt", "volume"),
    ("tmpfs-size", "tmpfs"),
    ("tmpfs-mode", "tmpfs"),
    ("tmpfs-options", "tmpfs"),
    ("image-subpath", "image"),
];
const FORM: &str = "write it as `type=bind,src=/host,dst=/path` or `src=VOLUME,dst=/path`";
const TYPES: [&str; 4] = ["bind", "volume", "tmpfs", "image"];

/// The fields of one mount.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    readonly: bool,
    propagation: Option<Propagation>,
    recursion: Option<Recursion>,
    create: bool,
    nocopy: bool,
    subpath: Option<String>,
    driver: Option<String>,
    labels: Vec<(String, String)>,
    options: Vec<(String, String)>,
    /// Of a folder in memory.
    memory: Vec<String>,
    /// The keys of one type that were given.
    special: Vec<(&'static str, &'static str)>,
    notes: Vec<&'static str>,
}

/// Reads `type=…,src=…,dst=…`.
pub(super) fn mount(text: &str) -> Result<Read, Error> {
    let mut fields = Fields::default();
    for field in split(text).map_err(|why| invalid(text, &why).hint(FORM))? {
        fields.take(&field).map_err(|error| match error {
            Bad::Text(why) => invalid(text, &why).hint(FORM),
            Bad::Value { key, value } => {
                invalid(text, &format!("`{value}` is no value for `{key}`")).hint(values(key))
            }
            Bad::Key { key, near } => {
                let told = invalid(text, &format!("unknown key `{key}`"));
                match near {
                    Some(near) => told.hint(format!("did you mean `{near}`?")),
                    None => told.hint(format!("it may be {}", KEYS.map(|(known, _)| known).join(", "))),
                }
            }
        })?;
    }
    fields.finish(text)
}

/// What is wrong with a field.
enum Bad {
    Text(String),
    Value { key: &'static str, value: String },
    Key { key: String, near: Option<&'static str> },
}

/// What a key takes.
fn values(key: &str) -> &'static str {
    match key {
        "bind-propagation" => "it may be private, rprivate, shared, rshared, slave or rslave",
        "bind-recursive" => "it may be enabled, disabled, writable or readonly",
        "tmpfs-size" => "write it as `64m`",
        "tmpfs-mode" => "write it in octal digits, as `1777`",
        _ => "it may be true or false",
    }
}

fn invalid(text: &str, why: &str) -> Error {
    Error::usage(format!("invalid mount `{text}`: {why}"))
}

impl Fields {
    fn take(&mut self, field: &str) -> Result<(), Bad> {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        let lower = key.to_ascii_lowercase();
        let Some((key, kind)) = KEYS.into_iter().find(|(known, _)| *known == lower) else {
            let known = KEYS.iter().map(|(known, _)| *known);
            return Err(Bad::Key { near: suggest::closest(&lower, known), key: key.to_owned() });
        };
        if !kind.is_empty() {
            self.special.push((key, kind));
        }
        let word = || match value {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(Bad::Text(format!("`{key}` needs a value"))),
        };
        let bad = |value: &str| Bad::Value { key, value: value.to_owned() };
        match key {
            "type" => self.kind = Some(word()?),
            "src" | "source" => self.source = Some(word()?),
            "dst" | "destination" | "target" => self.target = Some(word()?),
            "ro" | "readonly" => self.readonly = truth(value).ok_or_else(|| bad(value.unwrap_or("")))?,
            "consistency" => self.notes.push(NO_CACHES),
            "bind-propagation" => {
                let word = word()?;
                self.propagation = Some(Propagation::parse(&word).ok_or_else(|| bad(&word))?);
            }
            "bind-recursive" => {
                let word = word()?;
                self.recursion = Some(Recursion::parse(&word).ok_or_else(|| bad(&word))?);
            }
            "bind-nonrecursive" => {
                let is_set = truth(value).ok_or_else(|| bad(value.unwrap_or("")))?;
                self.recursion = is_set.then_some(Recursion::Disabled);
            }
            "bind-create-src" => self.create = truth(value).ok_or_else(|| bad(value.unwrap_or("")))?,
            "volume-nocopy" => self.nocopy = truth(value).ok_or_else(|| bad(value.unwrap_or("")))?,
            "volume-subpath" | "image-subpath" => self.subpath = Some(word()?),
            "volume-driver" => self.driver = Some(word()?),
            "volume-label" => self.labels.push(pair(&word()?)),
            "volume-opt" => self.options.push(pair(&word()?)),
            "tmpfs-size" => {
                let word = word()?;
                let bytes = units::parse_size(&word).ok_or_else(|| bad(&word))?;
                self.memory.push(format!("size={bytes}"));
            }
            "tmpfs-mode" => {
                let word = word()?;
                u32::from_str_radix(&word, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| bad(&word))?;
                self.memory.push(format!("mode={word}"));
            }
            _ => self.memory.push(word()?),
        }
        Ok(())
    }

    fn finish(self, text: &str) -> Result<Read, Error> {
        let kind = self.kind.clone().unwrap_or_else(|| "volume".to_owned());
        if !TYPES.contains(&kind.as_str()) {
            let told = invalid(text, &format!("there are no mounts of type `{kind}`"));
            return Err(told.hint(format!("it may be {}", TYPES.join(", "))));
        }
        if let Some((key, of)) = self.special.iter().find(|(_, of)| *of != kind) {
            let why = format!("`{key}` is for mounts of type `{of}`, and this one is a {kind}");
            return Err(invalid(text, &why).hint(format!("leave it out, or say `type={of}`")));
        }
        let target =
            self.target.clone().ok_or_else(|| invalid(text, "it has no target").hint("add `dst=/path`"))?;
        check_target("mount", text, &target).map_err(|error| error.hint("write it as `dst=/path`"))?;
        let (readonly, notes) = (self.readonly, self.notes.clone());
        let mount = MountRequest { kind: self.kind_of(&kind, text)?, target, readonly, is_long: true };
        Ok(Read { mount, notes })
    }

    fn kind_of(self, kind: &str, text: &str) -> Result<MountKind, Error> {
        let source = |source: Option<String>| {
            source.ok_or_else(|| invalid(text, "it has no source").hint("add `src=`"))
        };
        Ok(match kind {
            "bind" => {
                let source = source(self.source)?;
                let recursion = self.recursion.unwrap_or_default();
                let propagation = self.propagation.unwrap_or_default();
                let is_private = matches!(propagation, Propagation::Rprivate | Propagation::Private);
                if matches!(recursion, Recursion::Readonly | Recursion::Writable) && !self.readonly {
                    return Err(
                        invalid(text, "this `bind-recursive` needs `readonly`").hint("add `readonly`")
                    );
                }
                if recursion == Recursion::Readonly && !is_private {
                    let why = "`bind-recursive=readonly` needs `bind-propagation=rprivate`";
                    return Err(invalid(text, why).hint("leave `bind-propagation` out"));
                }
                MountKind::Bind { source: bind_source(&source)?, create: self.create, recursion, propagation }
            }
            "tmpfs" if self.source.is_some() => {
                return Err(invalid(text, "memory has no source").hint("leave `src` out"));
            }
            "tmpfs" => {
                let mut options = self.memory;
                options.extend(self.readonly.then(|| "ro".to_owned()));
                MountKind::Tmpfs { options: options.join(",") }
            }
            "image" => MountKind::Image { image: source(self.source)?, subpath: self.subpath },
            _ => {
                if let Some(path) = self.source.as_ref().filter(|source| source.contains('/')) {
                    return Err(invalid(text, &format!("`{path}` is not a volume name"))
                        .hint("a path of the host is mounted by `type=bind`"));
                }
                if self.source.is_none() && self.subpath.is_some() {
                    return Err(
                        invalid(text, "`volume-subpath` needs a volume with a name").hint("add `src=NAME`")
                    );
                }
                MountKind::Volume {
                    name: self.source,
                    nocopy: self.nocopy,
                    subpath: self.subpath,
                    driver: self.driver,
                    labels: self.labels,
                    options: self.options,
                }
            }
        })
    }
}

/// A path is one wherever it begins with a dot or a slash; a bare word may be a mistake for a volume's name.
fn bind_source(source: &str) -> Result<String, Error> {
    if source.starts_with('/') {
        return Ok(source.to_owned());
    }
    if source == "." || source == ".." || source.starts_with("./") || source.starts_with("../") {
        return absolute(source);
    }
    Err(Error::usage(format!("the bind source `{source}` is not an absolute path"))
        .hint(format!("a path relative to this directory is written `./{source}`")))
}

fn truth(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(_) => None,
    }
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// Splits at commas, as CSV does it: a field in quotes may have some, `""` stands for a quote in it.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if field.is_empty() {
            return Err("it has an empty field".to_owned());
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(fields),
            None => return Err("something follows a closing quote".to_owned()),
        }
    }
}

fn unquote(text: &str) -> Result<(String, &str), String> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<(MountKind, String, bool)> {
        mount(text).ok().map(|Read { mount, .. }| (mount.kind, mount.target, mount.readonly))
    }

    fn refused(text: &str) -> String {
        let Err(Error::Failure(failure)) = mount(text) else { panic!("`{text}` is taken") };
        format!("{} {}", failure.message, failure.hints.join(" "))
    }

    #[test]
    fn binds_are_read() {
        let bind = |recursion, propagation, create| MountKind::Bind {
            source: "/srv".into(),
            create,
            recursion,
            propagation,
        };
        let plain = bind(Recursion::Enabled, Propagation::Rprivate, false);
        assert_eq!(kind("type=bind,src=/srv,dst=/x"), Some((plain.clone(), "/x".into(), false)));
        assert_eq!(kind("TYPE=bind,source=/srv,target=/x,ro=0"), Some((plain.clone(), "/x".into(), false)));
        for word in ["ro", "readonly", "readonly=true", "ro=1"] {
            let text = format!("type=bind,source=/srv,destination=/x,{word}");
            assert_eq!(kind(&text), Some((plain.clone(), "/x".into(), true)), "{word}");
        }
        assert_eq!(
            kind("type=bind,src=/srv,dst=/x,ro,bind-recursive=writable,bind-propagation=rslave"),
            Some((bind(Recursion::Writable, Propagation::Rslave, false), "/x".into(), true))
        );
        assert_eq!(
            kind("type=bind,src=/srv,dst=/x,bind-nonrecursive,bind-create-src"),
            Some((bind(Recursion::Disabled, Propagation::Rprivate, true), "/x".into(), false))
        );
    }

    #[test]
    fn volumes_memory_and_images_are_read() {
        let volume = MountKind::Volume {
            name: Some("db".into()),
            nocopy: true,
            subpath: Some("a/b".into()),
            driver: Some("local".into()),
            labels: vec![("tier".into(), "db".into())],
            options: vec![("type".into(), "tmpfs".into()), ("o".into(), "size=1m,uid=5".into())],
        };
        let text = "src=db,dst=/x,volume-nocopy,volume-subpath=a/b,volume-driver=local,volume-label=tier=db,\
                    volume-opt=type=tmpfs,\"volume-opt=o=size=1m,uid=5\"";
        assert_eq!(kind(text), Some((volume, "/x".into(), false)));
        let memory = |options: &str| MountKind::Tmpfs { options: options.into() };
        assert_eq!(
            kind("type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1770"),
            Some((memory("size=1048576,mode=1770"), "/x".into(), false))
        );
        assert_eq!(kind("type=tmpfs,dst=/x,ro"), Some((memory("ro"), "/x".into(), true)));
        let image = MountKind::Image { image: "busybox".into(), subpath: Some("bin".into()) };
        assert_eq!(
            kind("type=image,src=busybox,dst=/x,image-subpath=bin"),
            Some((image, "/x".into(), false))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("type=bind,src=/srv", "no target"),
            ("type=bind,dst=/x", "no source"),
            ("type=bind,src=srv,dst=/x", "`./srv`"),
            ("type=bind,src=/srv,dst=x", "absolute"),
            ("type=bind,src=/srv,dst=/", "root directory"),
            ("type=bind,src=/srv,dst=/x,raedonly", "did you mean `readonly`?"),
            ("type=bind,src=/srv,dst=/x,colour=red", "it may be type, src"),
            ("type=bind,src=/srv,dst=/x,volume-nocopy", "is for mounts of type `volume`"),
            (
                "type=bind,src=/srv,dst=/x,bind-propagation=up",
                "it may be private, rprivate, shared, rshared, slave or rslave",
            ),
            ("type=bind,src=/srv,dst=/x,bind-recursive=readonly", "needs `readonly`"),
            ("type=bind,src=/srv,dst=/x,ro,bind-recursive=readonly,bind-propagation=rslave", "rprivate"),
            ("type=bind,src=/srv,dst=/x,ro=maybe", "true or false"),
            ("type=volume,src=/srv,dst=/x", "type=bind"),
            ("type=npipe,src=/srv,dst=/x", "bind, volume, tmpfs, image"),
            ("type=tmpfs,src=/srv,dst=/x", "no source"),
            ("type=tmpfs,dst=/x,tmpfs-size=much", "`much` is no value"),
            ("type=tmpfs,dst=/x,tmpfs-mode=9", "in octal digits"),
            ("type=image,dst=/x", "no source"),
            ("type=bind,,dst=/x", "empty field"),
            ("\"type=bind", "not closed"),
            ("src,dst=/x", "`src` needs a value"),
            ("dst=/x,volume-subpath=a", "with a name"),
        ] {
            let told = refused(text);
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
