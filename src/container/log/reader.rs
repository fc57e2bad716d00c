//! The reader's side of a log.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::Stream;
use super::entry::{Entry, Form};
use crate::rotated::{Reader, Watch};

/// Which entries are wanted, and how.
#[derive(Debug, Clone, Default)]
pub(in crate::container) struct Wanted {
    /// Only so many of the last ones.
    pub(in crate::container) tail: Option<usize>,
    /// Unix nanoseconds; none before.
    pub(in crate::container) since: Option<i64>,
    /// Unix nanoseconds; none after.
    pub(in crate::container) until: Option<i64>,
    /// Each with its time.
    pub(in crate::container) timestamps: bool,
    /// Each with its attributes.
    pub(in crate::container) details: bool,
    /// Also those that are still to come.
    pub(in crate::container) follow: bool,
}

/// Changes that the watch can't see, such as the end of a killed monitor, are found this much later.
const WAIT: Duration = Duration::from_millis(200);

/// Where a log is, and in which form.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The container's.
    pub(super) name: &'a str,
    pub(super) base: &'a Path,
    pub(super) files: usize,
    pub(super) form: Form,
}

/// Writes the wanted entries of the log at `place` to `out` and `err`; a missing log has none.
///
/// When entries to come are wanted, it ends once `is_running` says no and all was written.
pub(super) fn read(
    place: &Place<'_>,
    wanted: &Wanted,
    is_running: &mut dyn FnMut() -> bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    // Watched before the first read, so that no entry falls in between.
    let watch = match (wanted.follow, place.base.parent()) {
        (true, Some(folder)) => Some(Watch::new(folder)?),
        _ => None,
    };
    let framing = place.form.framing();
    let mut reader = match wanted.tail {
        // What comes after the wanted end counts for nothing: all has to be looked at.
        Some(count) if wanted.until.is_none() => Reader::last(place.base, place.files, framing, count)?,
        _ => Reader::oldest(place.base, place.files, framing)?,
    };
    if !wanted.follow {
        reader = reader.end_here();
    }
    let mut shown = Shown { wanted, out, err, open: [false; 2], past: false };
    match wanted.tail.filter(|_| wanted.until.is_some()) {
        Some(count) => shown.last(place, &mut reader, count)?,
        None => drop(shown.rest(place, &mut reader)?),
    }
    shown.flush()?;
    let Some(watch) = watch else { return Ok(()) };
    loop {
        // Asked before reading: what is written until the end is then surely read.
        let running = is_running();
        if shown.rest(place, &mut reader)? {
            shown.flush()?;
        }
        let past = wanted.until.is_some_and(|until| crate::container::now() > until);
        if !running || past || shown.past {
            return Ok(());
        }
        watch.wait(WAIT)?;
    }
}

impl Wanted {
    fn has(&self, entry: &Entry<'_>) -> bool {
        self.since.is_none_or(|since| entry.time >= since) && !self.is_past(entry)
    }

    /// The entry and all after it are too new.
    fn is_past(&self, entry: &Entry<'_>) -> bool {
        self.until.is_some_and(|until| entry.time > until)
    }
}

struct Shown<'a> {
    wanted: &'a Wanted,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// The last entry of the stream had no newline: the next one goes on with its line.
    open: [bool; 2],
    /// One came that is too new.
    past: bool,
}

impl Shown<'_> {
    /// Shows all that is there; tells whether that was anything.
    fn rest(&mut self, place: &Place<'_>, reader: &mut Reader) -> io::Result<bool> {
        let mut any = false;
        while !self.past {
            if let Some(record) = reader.next_record()? {
                any |= self.show(place.form, record)?;
            } else if self.lost(place, reader)? {
                any = true;
            } else {
                break;
            }
        }
        Ok(any)
    }

    /// Shows the last `count` of those that are old enough.
    fn last(&mut self, place: &Place<'_>, reader: &mut Reader, count: usize) -> io::Result<()> {
        let mut last: VecDeque<Vec<u8>> = VecDeque::new();
        loop {
            let Some(record) = reader.next_record()? else {
                if self.lost(place, reader)? {
                    continue;
                }
                break;
            };
            let Some(entry) = place.form.decode(record) else { continue };
            if self.wanted.is_past(&entry) {
                self.past = true;
                break;
            }
            if self.wanted.has(&entry) {
                last.push_back(record.to_vec());
                if last.len() > count {
                    last.pop_front();
                }
            }
        }
        for record in &last {
            self.show(place.form, record)?;
        }
        Ok(())
    }

    /// Tells of entries that were rotated away meanwhile, if there were any.
    fn lost(&mut self, place: &Place<'_>, reader: &mut Reader) -> io::Result<bool> {
        let bytes = reader.take_lost();
        if bytes == 0 {
            return Ok(false);
        }
        // Both may be the same terminal, and a line may be open there.
        self.out.flush()?;
        let line_end = if std::mem::take(&mut self.open).contains(&true) { "\n" } else { "" };
        writeln!(
            self.err,
            "{line_end}kiln: logs of {}: {bytes} bytes were rotated away before they could be read",
            place.name
        )?;
        Ok(true)
    }

    /// Shows an entry, if it is wanted. One that can't be read is skipped, as docker does.
    fn show(&mut self, form: Form, record: &[u8]) -> io::Result<bool> {
        let Some(entry) = form.decode(record) else { return Ok(false) };
        self.past = self.wanted.is_past(&entry);
        if !self.wanted.has(&entry) {
            return Ok(false);
        }
        // Writers may be buffered, and both may be the same terminal.
        let (writer, open) = match entry.stream {
            Stream::Stdout => {
                self.err.flush()?;
                (&mut *self.out, &mut self.open[0])
            }
            Stream::Stderr => {
                self.out.flush()?;
                (&mut *self.err, &mut self.open[1])
            }
        };
        if !*open {
            if self.wanted.timestamps {
                let time = jiff::Timestamp::from_nanosecond(entry.time.into()).unwrap_or_default();
                write!(writer, "{time:.9} ")?;
            }
            // Docker's blank stands also behind none.
            if self.wanted.details {
                let pairs: Vec<String> =
                    entry.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(writer, "{} ", pairs.join(","))?;
            }
        }
        writer.write_all(&entry.text)?;
        *open = !entry.text.ends_with(b"\n");
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::settings::Settings;
    use super::super::writer::{Output, Writer};
    use super::*;
    use crate::api::LogConfig;

    fn writer(base: &Path, form: Form) -> Writer {
        let settings = Settings::parse(&LogConfig::default()).unwrap();
        Writer::new(base, form, &settings, BTreeMap::from([("tag".to_owned(), "web".to_owned())]))
    }

    fn shown(base: &Path, form: Form, wanted: &Wanted) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        read(&Place { name: "box", base, files: 3, form }, wanted, &mut || false, &mut out, &mut err)
            .unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn streams_are_apart_and_tail_counts_both() {
        for form in [Form::Json, Form::Sized] {
            let folder = tempfile::tempdir().unwrap();
            let base = folder.path().join("x.log");
            assert_eq!(shown(&base, form, &Wanted::default()), (String::new(), String::new()), "no log yet");
            let mut writer = writer(&base, form);
            writer.put(Stream::Stdout, b"one\n").unwrap();
            writer.put(Stream::Stdout, b"two\n").unwrap();
            writer.put(Stream::Stderr, b"three\n").unwrap();
            let all = ("one\ntwo\n".to_owned(), "three\n".to_owned());
            assert_eq!(shown(&base, form, &Wanted::default()), all);
            for until in [None, Some(i64::MAX)] {
                let tail = |count| Wanted { tail: Some(count), until, ..Wanted::default() };
                assert_eq!(shown(&base, form, &tail(2)), ("two\n".into(), "three\n".into()));
                assert_eq!(shown(&base, form, &tail(0)), (String::new(), String::new()));
            }
            let details = Wanted { tail: Some(1), details: true, ..Wanted::default() };
            assert_eq!(shown(&base, form, &details).1, "tag=web three\n");
            let mut plain =
                Writer::new(&base, form, &Settings::parse(&LogConfig::default()).unwrap(), BTreeMap::new());
            plain.put(Stream::Stderr, b"four\n").unwrap();
            assert_eq!(shown(&base, form, &details).1, " four\n");
        }
    }

    #[test]
    fn times_bound_and_prefix_lines() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("x-json.log");
        let line = |text, time| format!("{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n");
        let text = line("a\\n", "2024-01-01T00:00:00.000000001Z")
            + &line("b", "2024-01-01T00:00:01.5Z")
            + &line("c\\n", "2024-01-01T00:00:02Z");
        std::fs::write(&base, text).unwrap();
        let second = 1_704_067_201_000_000_000;
        let since = Wanted { since: Some(second), timestamps: true, ..Wanted::default() };
        let expected = "2024-01-01T00:00:01.500000000Z bc\n";
        assert_eq!(shown(&base, Form::Json, &since).0, expected, "a line has one time");
        let until = Wanted { until: Some(second), ..Wanted::default() };
        assert_eq!(shown(&base, Form::Json, &until).0, "a\n");
    }

    #[test]
    fn following_reads_over_rotations_until_the_end() {
        for form in [Form::Json, Form::Sized] {
            let folder = tempfile::tempdir().unwrap();
            let base = folder.path().join("x.log");
            let put = |text: &str| writer(&base, form).put(Stream::Stdout, text.as_bytes()).unwrap();
            put("one\n");
            let mut asked = 0;
            let mut is_running = || {
                asked += 1;
                match asked {
                    1 => put("two\n"),
                    2 => {
                        crate::rotated::rotate(&base, 3).unwrap();
                        put("three\n");
                        crate::rotated::rotate(&base, 3).unwrap();
                        put("four\n");
                    }
                    _ => {}
                }
                asked < 3
            };
            let (mut out, wanted) = (Vec::new(), Wanted { follow: true, ..Wanted::default() });
            let place = Place { name: "box", base: &base, files: 3, form };
            read(&place, &wanted, &mut is_running, &mut out, &mut Vec::new()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), "one\ntwo\nthree\nfour\n");
        }
    }

    #[test]
    fn what_was_rotated_away_before_it_was_read_is_told_with_its_size() {
        for form in [Form::Json, Form::Sized] {
            let folder = tempfile::tempdir().unwrap();
            let base = folder.path().join("x.log");
            let options = [("max-size".to_owned(), "400".to_owned())].into();
            let settings = Settings::parse(&LogConfig { options, ..LogConfig::default() }).unwrap();
            let mut writer = Writer::new(&base, form, &settings, BTreeMap::new());
            let mut written = 0;
            let mut put = |numbers: std::ops::Range<u32>| {
                for number in numbers {
                    let text = format!("{number:03}\n");
                    let entry = Entry {
                        stream: Stream::Stdout,
                        time: 0,
                        attributes: Default::default(),
                        text: text.as_bytes().into(),
                    };
                    written += form.encode(&entry).len();
                    writer.put(Stream::Stdout, text.as_bytes()).unwrap();
                }
            };
            put(0..2);
            let mut asked = 0;
            let mut is_running = || {
                asked += 1;
                match asked {
                    // As fast as it is read, and then too fast.
                    1..5 => put(asked * 2..asked * 2 + 2),
                    5 => put(10..100),
                    _ => {}
                }
                asked < 6
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let wanted = Wanted { follow: true, ..Wanted::default() };
            let place = Place { name: "box", base: &base, files: 3, form };
            read(&place, &wanted, &mut is_running, &mut out, &mut err).unwrap();
            let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
            let shown: Vec<u32> = out.lines().map(|line| line.parse().unwrap()).collect();
            let missing: Vec<u32> = (0..100).filter(|number| !shown.contains(number)).collect();
            assert_eq!((shown.len() + missing.len(), shown.is_sorted()), (100, true), "{shown:?}");
            assert!(missing[0] >= 10 && missing.windows(2).all(|two| two[1] == two[0] + 1), "{missing:?}");
            let told = err.strip_prefix("kiln: logs of box: ").unwrap_or_else(|| panic!("{err}"));
            let bytes: usize = told
                .strip_suffix(" bytes were rotated away before they could be read\n")
                .unwrap()
                .parse()
                .unwrap();
            // Measured with a time of fewer digits.
            let expected = missing.len() * (written / 100);
            assert!(bytes >= expected && bytes <= expected * 2, "{bytes} of {expected}");
        }
    }
}
