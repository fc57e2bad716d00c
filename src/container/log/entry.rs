//! One entry of a log, in its two forms.
//!
//! - `json-file`: `{"log":"text\n","stream":"stdout","attrs":{…},"time":"2006-01-02T15:04:05.999999999Z"}` and a
//!   newline, as docker writes it. Bytes that are no UTF-8 are replaced in `log`, as docker does, and are whole in
//!   `raw`, in base64, which kiln reads.
//! - `local`: four bytes with the size of what follows (big-endian), a byte for the stream (1, 2), eight bytes with
//!   the time in unix nanoseconds, two with the size of the attributes, the attributes as JSON, the text.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Stream, base64};
use crate::rotated::Framing;

/// What was written at one time: a line, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) stream: Stream,
    /// Unix nanoseconds.
    pub(super) time: i64,
    pub(super) attributes: Cow<'a, BTreeMap<String, String>>,
    /// With the newline, when it has one.
    pub(super) text: Cow<'a, [u8]>,
}

/// How entries stand in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Sized,
}

#[derive(Serialize, Deserialize)]
struct Json<'a> {
    log: Cow<'a, str>,
    stream: Stream,
    #[serde(default, skip_serializing_if = "is_empty")]
    attrs: Cow<'a, BTreeMap<String, String>>,
    time: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

fn is_empty(attributes: &BTreeMap<String, String>) -> bool {
    attributes.is_empty()
}

impl Form {
    /// Where an entry ends in its file.
    pub(super) fn framing(self) -> Framing {
        match self {
            Self::Json => Framing::Lines,
            Self::Sized => Framing::Sized,
        }
    }

    /// Gives the bytes of `entry` in a file.
    pub(super) fn encode(self, entry: &Entry<'_>) -> Vec<u8> {
        match self {
            Self::Json => json(entry),
            Self::Sized => sized(entry),
        }
    }

    /// Reads what stands within a frame; `None` for what can't be read.
    pub(super) fn decode(self, record: &[u8]) -> Option<Entry<'_>> {
        match self {
            Self::Json => {
                let json: Json<'_> = serde_json::from_slice(record).ok()?;
                let time: jiff::Timestamp = json.time.parse().ok()?;
                let text = match json.raw {
                    Some(raw) => base64::decode(&raw)?,
                    None => json.log.into_owned().into_bytes(),
                };
                let time = i64::try_from(time.as_nanosecond()).ok()?;
                Some(Entry { stream: json.stream, time, attributes: json.attrs, text: text.into() })
            }
            Self::Sized => {
                let (stream, rest) = record.split_first()?;
                let (time, rest) = rest.split_first_chunk()?;
                let (length, rest) = rest.split_first_chunk()?;
                let (attributes, text) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
                let attributes = match attributes {
                    [] => BTreeMap::new(),
                    json => serde_json::from_slice(json).ok()?,
                };
                let stream = if *stream == 2 { Stream::Stderr } else { Stream::Stdout };
                let attributes = Cow::Owned(attributes);
                Some(Entry { stream, time: i64::from_be_bytes(*time), attributes, text: text.into() })
            }
        }
    }
}

fn json(entry: &Entry<'_>) -> Vec<u8> {
    let log = String::from_utf8_lossy(&entry.text);
    let raw = matches!(log, Cow::Owned(_)).then(|| base64::encode(&entry.text));
    let time = jiff::Timestamp::from_nanosecond(entry.time.into()).unwrap_or_default();
    let attrs = Cow::Borrowed(&*entry.attributes);
    let json = Json { log, stream: entry.stream, attrs, time: format!("{time:.9}").into(), raw };
    // Strings and maps of strings always are JSON.
    let mut line = serde_json::to_vec(&json).unwrap_or_default();
    line.push(b'\n');
    line
}

fn sized(entry: &Entry<'_>) -> Vec<u8> {
    let attributes = match entry.attributes.is_empty() {
        true => Vec::new(),
        false => serde_json::to_vec(&*entry.attributes).unwrap_or_default(),
    };
    // Attributes of 64 KiB are nobody's wish.
    let attributes = if attributes.len() > usize::from(u16::MAX) { Vec::new() } else { attributes };
    let mut record = vec![0; 4];
    record.push(if entry.stream == Stream::Stderr { 2 } else { 1 });
    record.extend(entry.time.to_be_bytes());
    record.extend(u16::try_from(attributes.len()).unwrap_or(0).to_be_bytes());
    record.extend(attributes);
    record.extend(&*entry.text);
    let length = u32::try_from(record.len() - 4).unwrap_or(u32::MAX);
    record.splice(..4, length.to_be_bytes());
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(text: &'a [u8], attributes: &[(&str, &str)]) -> Entry<'a> {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let attributes = Cow::Owned(attributes.collect());
        Entry { stream: Stream::Stderr, time: 1_700_000_000_000_000_001, attributes, text: text.into() }
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        for form in [Form::Json, Form::Sized] {
            for text in [&b"line\n"[..], b"", b"\xff\0\n", "ü".as_bytes(), b"open"] {
                for attributes in [&[][..], &[("tag", "web")]] {
                    let written = entry(text, attributes);
                    let bytes = form.encode(&written);
                    let record = if form == Form::Sized { &bytes[4..] } else { &bytes[..] };
                    assert_eq!(form.decode(record), Some(written), "{form:?} {text:?}");
                }
            }
            assert_eq!(form.decode(b"{"), None);
        }
    }

    #[test]
    fn docker_reads_what_is_written() {
        let line = |entry: &Entry<'_>| String::from_utf8(Form::Json.encode(entry)).unwrap();
        assert_eq!(
            line(&entry(b"a\n", &[("tag", "web")])),
            "{\"log\":\"a\\n\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"web\"},\
             \"time\":\"2023-11-14T22:13:20.000000001Z\"}\n"
        );
        let raw = line(&entry(b"\xff\n", &[]));
        assert!(raw.contains("\"log\":\"\u{fffd}\\n\"") && raw.contains("\"raw\":\"/wo=\""), "{raw}");
    }
}
