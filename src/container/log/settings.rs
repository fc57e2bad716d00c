//! `--log-driver` and `--log-opt`, as they are meant.

use std::collections::BTreeMap;

use regex::Regex;

use crate::api::LogConfig;
use crate::container::record::Record;

/// Docker's size of the buffer of `mode=non-blocking`.
const BUFFER_BYTES: u64 = 1_000_000;

/// What keeps the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// JSON objects, a line each.
    JsonFile,
    /// The same in fewer bytes; old files are compressed.
    Local,
    /// The machine's journal; a copy as `Local` has it is for `kiln logs`.
    Journald,
    /// Nothing.
    None,
}

/// How a container's output is kept.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) driver: Driver,
    /// When a file is full; `None` is never.
    pub(super) limit: Option<u64>,
    /// How many files there are at most.
    pub(super) files: usize,
    /// Whether all but the newest are compressed.
    pub(super) compress: bool,
    /// What waits for the disk at most, when the program mustn't.
    pub(super) buffer: Option<usize>,
    tag: Option<String>,
    labels: Chosen,
    env: Chosen,
}

/// Which labels or variables go with each line.
#[derive(Debug, Clone, Default)]
struct Chosen {
    names: Vec<String>,
    pattern: Option<Regex>,
}

impl Chosen {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
            || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
    }
}

/// A mistake in the flags.
pub(in crate::container) type Mistake = String;

impl Settings {
    /// Reads the flags.
    pub(super) fn parse(config: &LogConfig) -> Result<Self, Mistake> {
        let driver = match config.driver.as_str() {
            "json-file" | "" => Driver::JsonFile,
            "local" => Driver::Local,
            "journald" => Driver::Journald,
            "none" => Driver::None,
            other => {
                return Err(format!(
                    "unknown log driver `{other}` for `--log-driver`: it may be json-file, local, journald or none"
                ));
            }
        };
        let (limit, files) = match driver {
            Driver::JsonFile => (10_000_000, 3),
            _ => (20_000_000, 5),
        };
        let mut settings = Self {
            driver,
            limit: Some(limit),
            files,
            compress: driver != Driver::JsonFile,
            buffer: None,
            tag: None,
            labels: Chosen::default(),
            env: Chosen::default(),
        };
        let mut buffer = None;
        for (key, value) in &config.options {
            if !settings.takes(key) {
                return Err(format!("unknown log option `{key}` of the log driver `{}`", config.driver));
            }
            let bad = |why: &str| format!("invalid value `{value}` for `--log-opt {key}`: {why}");
            match key.as_str() {
                "max-size" if value == "-1" => settings.limit = None,
                "max-size" => {
                    settings.limit = Some(size(value).ok_or_else(|| bad("a size is written as 10m"))?)
                }
                "max-file" => {
                    let files = value.parse().ok().filter(|files| *files >= 1);
                    settings.files = files.ok_or_else(|| bad("it must be a number, at least 1"))?;
                }
                "compress" => {
                    settings.compress = value.parse().map_err(|_| bad("it must be true or false"))?;
                }
                "mode" if value == "blocking" => settings.buffer = None,
                "mode" if value == "non-blocking" => settings.buffer = Some(0),
                "mode" => return Err(bad("it may be blocking or non-blocking")),
                "max-buffer-size" => {
                    buffer = Some(size(value).ok_or_else(|| bad("a size is written as 4m"))?)
                }
                "tag" => {
                    settings.tag = Some(value.clone());
                    unknown_field(value)
                        .map_or(Ok(()), |field| Err(bad(&format!("unknown field `{field}`"))))?;
                }
                "labels" => settings.labels.names = names(value),
                "env" => settings.env.names = names(value),
                "labels-regex" => {
                    settings.labels.pattern = Some(pattern(value).ok_or_else(|| bad(NO_PATTERN))?)
                }
                _ => settings.env.pattern = Some(pattern(value).ok_or_else(|| bad(NO_PATTERN))?),
            }
        }
        match (&mut settings.buffer, buffer) {
            (Some(bytes), _) => {
                *bytes = usize::try_from(buffer.unwrap_or(BUFFER_BYTES)).unwrap_or(usize::MAX)
            }
            (None, Some(_)) => return Err("`--log-opt max-buffer-size` needs `mode=non-blocking`".to_owned()),
            (None, None) => {}
        }
        Ok(settings)
    }

    fn takes(&self, key: &str) -> bool {
        let of_files = ["max-size", "max-file", "compress"];
        let of_all = ["mode", "max-buffer-size", "tag", "labels", "labels-regex", "env", "env-regex"];
        self.driver != Driver::None
            && (of_all.contains(&key) || (self.driver != Driver::Journald && of_files.contains(&key)))
    }

    /// What goes with each line of `record`.
    pub(super) fn attributes(&self, record: &Record) -> BTreeMap<String, String> {
        let labels = record.config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let env = record.config.env.iter().filter_map(|line| line.split_once('='));
        let mut attributes: BTreeMap<String, String> = labels
            .filter(|(key, _)| self.labels.has(key))
            .chain(env.filter(|(key, _)| self.env.has(key)))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if let Some(tag) = &self.tag {
            attributes.insert("tag".to_owned(), filled(tag, record));
        }
        attributes
    }
}

const NO_PATTERN: &str = "it is no regular expression";
/// What a tag may name.
const FIELDS: [&str; 6] = ["ID", "FullID", "Name", "ImageName", "ImageID", "ImageFullID"];

/// The first field of a tag that there is not.
fn unknown_field(tag: &str) -> Option<String> {
    let parts = tag.split("{{").skip(1).map(|part| part.split("}}").next().unwrap_or_default().trim());
    let mut unknown =
        parts.filter(|field| field.strip_prefix('.').is_none_or(|name| !FIELDS.contains(&name)));
    unknown.next().map(str::to_owned)
}

fn filled(tag: &str, record: &Record) -> String {
    let image = record.image_id.strip_prefix("sha256:").unwrap_or(&record.image_id);
    let mut parts = tag.split("{{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (field, rest) = part.split_once("}}").unwrap_or((part, ""));
        text += match field.trim() {
            ".ID" => record.short_id(),
            ".FullID" => &record.id,
            ".Name" => &record.name,
            ".ImageName" => &record.image,
            ".ImageID" => image.get(..12).unwrap_or(image),
            _ => image,
        };
        text += rest;
    }
    text
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn pattern(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

/// Reads `10m`: docker's units of logs are powers of 1000.
fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let power = match unit.trim().strip_suffix('b').unwrap_or(unit.trim()) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * 1000_f64.powi(power);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (1.0..1e18).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(driver: &str, options: &[(&str, &str)]) -> Result<Settings, Mistake> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Settings::parse(&LogConfig { driver: driver.to_owned(), options })
    }

    #[test]
    fn options_are_read_with_dockers_units() {
        let plain = parse("json-file", &[]).unwrap();
        assert_eq!((plain.limit, plain.files, plain.compress), (Some(10_000_000), 3, false));
        let small =
            parse("local", &[("max-size", "1.5k"), ("max-file", "2"), ("compress", "false")]).unwrap();
        assert_eq!((small.limit, small.files, small.compress), (Some(1500), 2, false));
        assert_eq!(parse("json-file", &[("max-size", "-1")]).unwrap().limit, None);
        let fast = parse("json-file", &[("mode", "non-blocking"), ("max-buffer-size", "4m")]).unwrap();
        assert_eq!(fast.buffer, Some(4_000_000));
        assert_eq!(parse("json-file", &[("mode", "non-blocking")]).unwrap().buffer, Some(1_000_000));
        assert_eq!(parse("json-file", &[("mode", "blocking")]).unwrap().buffer, None);
    }

    #[test]
    fn mistakes_name_the_option() {
        for (driver, options, word) in [
            ("syslog", &[][..], "syslog"),
            ("none", &[("max-size", "1m")], "max-size"),
            ("json-file", &[("colour", "red")], "colour"),
            ("json-file", &[("max-size", "big")], "max-size"),
            ("json-file", &[("max-size", "0")], "max-size"),
            ("json-file", &[("max-file", "0")], "max-file"),
            ("json-file", &[("compress", "perhaps")], "compress"),
            ("json-file", &[("mode", "fast")], "mode"),
            ("json-file", &[("max-buffer-size", "1m")], "max-buffer-size"),
            ("json-file", &[("tag", "{{.Colour}}")], ".Colour"),
            ("json-file", &[("env-regex", "(")], "env-regex"),
            ("journald", &[("max-file", "2")], "max-file"),
        ] {
            let mistake = parse(driver, options).unwrap_err();
            assert!(mistake.contains(word), "{mistake}");
        }
    }
}
