//! The machine's journal, by its native protocol: a datagram of `FIELD=value` lines for each entry.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::Stream;
use super::settings::Settings;
use super::writer::{Output, Writer};
use crate::container::record::Record;

/// Where systemd listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// syslog's `err` and `info`, as docker has them.
const PRIORITIES: [(Stream, &str); 2] = [(Stream::Stderr, "3"), (Stream::Stdout, "6")];

/// Sends entries to the journal, and keeps a copy that `kiln logs` reads.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    fields: Vec<u8>,
    copy: Writer,
}

impl Journal {
    /// Connects to the journal that listens at `socket`.
    pub(super) fn new(socket: &Path, record: &Record, settings: &Settings, copy: Writer) -> io::Result<Self> {
        let journal = UnixDatagram::unbound()?;
        journal.connect(socket)?;
        // A journal that hangs must not hold the program.
        journal.set_nonblocking(true)?;
        let attributes = settings.attributes(record);
        let tag = attributes.get("tag").map_or(record.short_id(), String::as_str);
        let mut fields = Vec::new();
        for (name, value) in [
            ("CONTAINER_ID", record.short_id()),
            ("CONTAINER_ID_FULL", &record.id),
            ("CONTAINER_NAME", &record.name),
            ("CONTAINER_TAG", tag),
            ("SYSLOG_IDENTIFIER", tag),
            ("IMAGE_NAME", &record.image),
        ] {
            field(&mut fields, name, value.as_bytes());
        }
        for (key, value) in attributes.iter().filter(|(key, _)| *key != "tag") {
            field(&mut fields, &field_name(key), value.as_bytes());
        }
        Ok(Self { socket: journal, fields, copy })
    }
}

impl Output for Journal {
    fn put(&mut self, stream: Stream, text: &[u8]) -> io::Result<()> {
        let mut datagram = self.fields.clone();
        let priority =
            PRIORITIES.iter().find(|(known, _)| *known == stream).map_or("6", |(_, priority)| priority);
        field(&mut datagram, "PRIORITY", priority.as_bytes());
        if !text.ends_with(b"\n") {
            field(&mut datagram, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        field(&mut datagram, "MESSAGE", text.strip_suffix(b"\n").unwrap_or(text));
        let sent = self.socket.send(&datagram);
        self.copy.put(stream, text)?;
        sent.map(drop)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.copy.finish()
    }
}

/// Adds a field: a value with a newline in it has its size before it (64 bits, little-endian).
fn field(datagram: &mut Vec<u8>, name: &str, value: &[u8]) {
    datagram.extend(name.as_bytes());
    if value.contains(&b'\n') {
        datagram.push(b'\n');
        datagram.extend((value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend(value);
    datagram.push(b'\n');
}

/// Field names are upper case letters, digits and underscores, and begin with a letter.
fn field_name(key: &str) -> String {
    let name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    name.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_reach_the_journal_and_their_copy() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let journal = UnixDatagram::bind(&socket).unwrap();
        let mut record: Record = serde_json::from_value(crate::container::record::tests::record()).unwrap();
        record.config.log.options = [("tag".to_owned(), "{{.Name}}".to_owned())].into();
        let settings = Settings::parse(&record.config.log).unwrap();
        let base = folder.path().join("copy");
        let copy = Writer::new(&base, super::super::Form::Sized, &settings, settings.attributes(&record));
        let mut output = Journal::new(&socket, &record, &settings, copy).unwrap();
        output.put(Stream::Stderr, b"went wrong\n").unwrap();
        let mut datagram = vec![0; 4096];
        let length = journal.recv(&mut datagram).unwrap();
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        for line in ["CONTAINER_NAME=box", "CONTAINER_TAG=box", "PRIORITY=3", "MESSAGE=went wrong"] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
        assert!(!text.contains("PARTIAL") && std::fs::metadata(base).unwrap().len() > 10);
    }

    #[test]
    fn fields_have_the_journals_form() {
        let mut datagram = Vec::new();
        field(&mut datagram, "MESSAGE", b"plain");
        field(&mut datagram, "MESSAGE", b"a\nb");
        assert_eq!(datagram, b"MESSAGE=plain\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
        assert_eq!(field_name("_com.example-1"), "COM_EXAMPLE_1");
    }
}
