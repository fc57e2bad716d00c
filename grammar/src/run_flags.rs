//! The values of RUN's `--network=`, `--security=` and `--device=`. (`--mount=` is [`crate::mount`].)
//!
//! While a file is parsed no variable is known: then values without a `$` are judged alone.

use crate::ast::{Span, Word};
use crate::csv;
use crate::diagnostic::{Diagnostic, quote};
use crate::mount::{boolean, one_of};
use crate::suggest::closest;
use crate::word::{self, Lookup};

/// `--network=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// What the build as a whole has.
    #[default]
    Default,
    /// Loopback alone.
    None,
    /// The host's own; the user has to allow it.
    Host,
}

/// `--security=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// As every container.
    #[default]
    Sandbox,
    /// All capabilities and devices; the user has to allow it.
    Insecure,
}

/// `--device=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device's CDI name `vendor/class=device`, or `vendor/class` for all of them.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// Reads `--network=`; an empty value is the default.
///
/// # Errors
/// When the value can't be expanded or is no mode.
pub fn network(word: &Word, escape: char, vars: &dyn Lookup) -> Result<Network, Diagnostic> {
    let value = expanded(&word.text, word.span, escape, vars)?;
    match value.as_str() {
        "" | "default" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => {
            let message = format!("invalid network mode {}", quote(other));
            let hint = one_of(other, &["default", "none", "host"]);
            Err(Diagnostic::error("network-mode", word.span, message).hint(hint))
        }
    }
}

/// Reads `--security=`; an empty value is the default.
///
/// # Errors
/// When the value can't be expanded or is no mode.
pub fn security(word: &Word, escape: char, vars: &dyn Lookup) -> Result<Security, Diagnostic> {
    let value = expanded(&word.text, word.span, escape, vars)?;
    match value.as_str() {
        "" | "sandbox" => Ok(Security::Sandbox),
        "insecure" => Ok(Security::Insecure),
        other => {
            let message = format!("security {} is not valid", quote(other));
            let hint = one_of(other, &["sandbox", "insecure"]);
            Err(Diagnostic::error("security-mode", word.span, message).hint(hint))
        }
    }
}

/// Reads `--device=name[,required]`; each value is expanded by itself.
///
/// # Errors
/// The first mistake.
pub fn device(word: &Word, escape: char, vars: &dyn Lookup) -> Result<Device, Diagnostic> {
    let wrong = |message: String| Diagnostic::error("device", word.span, message);
    let fields = csv::fields(&word.text).map_err(|found| wrong(found.why.to_owned()))?;
    let mut device = Device { name: String::new(), required: false };
    for field in &fields {
        let text = expanded(&field.text, word.span, escape, vars)?;
        let (key, value) =
            text.split_once('=').map_or((text.as_str(), None), |(key, value)| (key, Some(value)));
        match (key.to_ascii_lowercase().as_str(), value) {
            ("name", Some(_)) if !device.name.is_empty() => {
                return Err(wrong(format!("device name already set to {}", quote(&device.name))));
            }
            ("name", Some(value)) => value.clone_into(&mut device.name),
            ("required", None) if fields.len() > 1 => device.required = true,
            ("required", Some(value)) => {
                device.required = boolean(value).ok_or_else(|| {
                    wrong(format!("invalid value for {key}: {}", quote(value))).hint("write true or false")
                })?;
            }
            (_, None) if fields.len() == 1 => device.name = text,
            (lower, None) => {
                let near = closest(lower, ["required"]).map(|near| format!("did you mean {near}?"));
                let message = format!("invalid field {} must be a key=value pair", quote(&text));
                return Err(wrong(message).maybe_hint(near));
            }
            (_, Some(_)) if device.name.is_empty() => device.name = text,
            (lower, Some(_)) => {
                let near = closest(lower, ["name", "required"]).map(|near| format!("did you mean {near}?"));
                let message = format!("unexpected key {} in {}", quote(key), quote(&text));
                return Err(wrong(message).maybe_hint(near));
            }
        }
    }
    if qualified(&device.name) {
        return Ok(device);
    }
    let message = format!("invalid device name {}", quote(&device.name));
    Err(wrong(message).hint("write a CDI name: vendor.example/class=device"))
}

/// True for `vendor/class` and `vendor/class=device` with the characters that CDI allows.
fn qualified(name: &str) -> bool {
    let (kind, device) = name.split_once('=').unwrap_or((name, "all"));
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let inner = |more: &'static str| move |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    let outer = |part: &str| part.ends_with(|c: char| c.is_ascii_alphanumeric());
    let begins = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic());
    begins(vendor)
        && outer(vendor)
        && vendor.chars().all(inner("_-."))
        && begins(class)
        && outer(class)
        && class.chars().all(inner("_-"))
        && device.starts_with(|c: char| c.is_ascii_alphanumeric())
        && outer(device)
        && device.chars().all(inner("_-.:"))
}

fn expanded(text: &str, span: Span, escape: char, vars: &dyn Lookup) -> Result<String, Diagnostic> {
    word::expand(text, escape, vars)
        .map_err(|error| Diagnostic::error("bad-substitution", span, error.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        Word { text: text.to_owned(), span: Span { start: 0, end: text.len() } }
    }

    fn vars(name: &str) -> Option<String> {
        (name == "x").then(|| "none".to_owned())
    }

    #[test]
    fn modes_are_named() {
        let mode = |text: &str| network(&word(text), '\\', &vars).map_err(|found| found.message);
        assert_eq!(mode("default"), Ok(Network::Default));
        assert_eq!(mode("$y"), Ok(Network::Default));
        assert_eq!(mode("$x"), Ok(Network::None));
        assert_eq!(mode("host"), Ok(Network::Host));
        assert_eq!(mode("bridge"), Err("invalid network mode `bridge`".to_owned()));
        assert_eq!(mode("Host"), Err("invalid network mode `Host`".to_owned()), "they are lower case");
        let mode = |text: &str| security(&word(text), '\\', &vars).map_err(|found| found.hint);
        assert_eq!(mode("sandbox"), Ok(Security::Sandbox));
        assert_eq!(mode("insecure"), Ok(Security::Insecure));
        assert_eq!(mode("insecur"), Err(Some("did you mean insecure?".to_owned())));
        assert_eq!(mode("none"), Err(Some("write one of sandbox, insecure".to_owned())));
    }

    #[test]
    fn devices_are_named_as_cdi_names_them() {
        let read = |text: &str| device(&word(text), '\\', &vars).map_err(|found| found.message);
        let device = |name: &str, required| Ok(Device { name: name.to_owned(), required });
        assert_eq!(read("vendor1.com/device=foo"), device("vendor1.com/device=foo", false));
        assert_eq!(read("vendor1.com/device"), device("vendor1.com/device", false));
        assert_eq!(read("vendor1.com/device=foo,required"), device("vendor1.com/device=foo", true));
        assert_eq!(
            read("name=vendor1.com/device=foo,required=false"),
            device("vendor1.com/device=foo", false)
        );
        assert_eq!(read("required,vendor.com/gpu=$x"), device("vendor.com/gpu=none", true));
        let table = [
            ("", "invalid device name ``"),
            ("gpu", "invalid device name `gpu`"),
            ("required", "invalid device name `required`"),
            ("a/b=c,requird", "invalid field `requird` must be a key=value pair"),
            ("a/b=c,required=maybe", "invalid value for required: `maybe`"),
            ("a/b=c,nam=d", "unexpected key `nam` in `nam=d`"),
            ("name=a/b,name=c/d", "device name already set to `a/b`"),
            ("1a/b=c", "invalid device name `1a/b=c`"),
            ("a/b=", "invalid device name `a/b=`"),
            ("a/b=c d", "invalid device name `a/b=c d`"),
            ("\"a", "a quote is not closed"),
        ];
        for (text, message) in table {
            assert_eq!(read(text), Err(message.to_owned()), "{text}");
        }
    }
}
