//! The reader's side of a log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use super::{Entry, FILES, Stream, file};

/// Which lines are wanted, and how.
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
    /// Also those that are still to come.
    pub(in crate::container) follow: bool,
}

/// Writes the wanted lines of the log at `base` to `out` and `err`; a missing log has none.
///
/// When lines to come are wanted, it ends once `is_running` says no and all was written.
pub(in crate::container) fn read(
    base: &Path,
    wanted: &Wanted,
    is_running: &mut dyn FnMut() -> bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    // Watched before the first read, so that no line falls in between.
    let watch = wanted.follow.then(|| Watch::new(base)).transpose()?;
    let mut newest = Tail::default();
    let mut last = VecDeque::new();
    for age in (0..FILES).rev() {
        let mut tail = Tail::open(&file(base, age))?;
        while let Some(line) = tail.line()? {
            let Some(shown) = show(&line, wanted) else { continue };
            match wanted.tail {
                None => print(&shown, out, err)?,
                Some(limit) => {
                    last.push_back(shown);
                    if last.len() > limit {
                        last.pop_front();
                    }
                }
            }
        }
        newest = tail;
    }
    for shown in last {
        print(&shown, out, err)?;
    }
    out.flush()?;
    err.flush()?;
    match watch {
        Some(watch) => follow(base, &watch, newest, wanted, is_running, out, err),
        None => Ok(()),
    }
}

fn follow(
    base: &Path,
    watch: &Watch,
    mut newest: Tail,
    wanted: &Wanted,
    is_running: &mut dyn FnMut() -> bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    loop {
        // Asked before reading: what is written until the end is then surely read.
        let running = is_running();
        let mut written = false;
        while let Some(line) = newest.line()? {
            if let Some(shown) = show(&line, wanted) {
                print(&shown, out, err)?;
                written = true;
            }
        }
        if newest.was_rotated(base) {
            newest = Tail::open(base)?;
            continue;
        }
        if written {
            out.flush()?;
            err.flush()?;
        }
        let past =
            wanted.until.is_some_and(|until| jiff::Timestamp::now().as_nanosecond() > i128::from(until));
        if !running || past {
            return Ok(());
        }
        watch.wait()?;
    }
}

/// A file that is read up to its last whole line, again and again.
#[derive(Default)]
struct Tail {
    file: Option<BufReader<File>>,
    inode: u64,
    open_line: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Self> {
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Self { file: Some(BufReader::new(file)), inode, open_line: Vec::new() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        file.read_until(b'\n', &mut self.open_line)?;
        Ok(self.open_line.ends_with(b"\n").then(|| std::mem::take(&mut self.open_line)))
    }

    fn was_rotated(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|now| now.ino() != self.inode)
    }
}

struct Shown {
    stream: Stream,
    text: String,
}

/// Gives the line as it is printed, if it is wanted. A line that can't be read is skipped, as docker does.
fn show(line: &[u8], wanted: &Wanted) -> Option<Shown> {
    let entry: Entry<'_> = serde_json::from_slice(line).ok()?;
    if wanted.since.is_some() || wanted.until.is_some() {
        let time: jiff::Timestamp = entry.time.parse().ok()?;
        let time = time.as_nanosecond();
        let early = wanted.since.is_some_and(|since| time < i128::from(since));
        let late = wanted.until.is_some_and(|until| time > i128::from(until));
        if early || late {
            return None;
        }
    }
    let text = match wanted.timestamps {
        true => format!("{} {}", entry.time, entry.log),
        false => entry.log.into_owned(),
    };
    Some(Shown { stream: entry.stream, text })
}

fn print(shown: &Shown, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    match shown.stream {
        // Writers may be buffered, and both may be the same terminal.
        Stream::Stdout => err.flush().and_then(|()| out.write_all(shown.text.as_bytes())),
        Stream::Stderr => out.flush().and_then(|()| err.write_all(shown.text.as_bytes())),
    }
}

/// Waits for changes in the folder of a log.
struct Watch(std::os::fd::OwnedFd);

/// Changes that the watch can't see, such as the end of a killed monitor, are found this much later.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

impl Watch {
    fn new(base: &Path) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags)?;
        let events =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        if let Some(folder) = base.parent() {
            inotify::add_watch(&watch, folder, events)?;
        }
        Ok(Self(watch))
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&WAIT)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok_and(|length| length > 0) {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sink, Writer};
    use super::*;

    fn shown(base: &Path, wanted: &Wanted) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        read(base, wanted, &mut || false, &mut out, &mut err).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn streams_are_apart_and_tail_counts_both() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("x-json.log");
        assert_eq!(shown(&base, &Wanted::default()), (String::new(), String::new()), "no log yet");
        let mut writer = Writer::new(&base);
        writer.write(Stream::Stdout, b"one\ntwo\n").unwrap();
        writer.write(Stream::Stderr, b"three\n").unwrap();
        assert_eq!(shown(&base, &Wanted::default()), ("one\ntwo\n".into(), "three\n".into()));
        let tail = Wanted { tail: Some(2), ..Wanted::default() };
        assert_eq!(shown(&base, &tail), ("two\n".into(), "three\n".into()));
        let none = Wanted { tail: Some(0), ..Wanted::default() };
        assert_eq!(shown(&base, &none), (String::new(), String::new()));
    }

    #[test]
    fn times_bound_and_prefix_lines() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("x-json.log");
        let line =
            |text, time| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}\n");
        let text = line("a", "2024-01-01T00:00:00.000000001Z") + &line("b", "2024-01-01T00:00:01.5Z");
        std::fs::write(&base, text).unwrap();
        let second = 1_704_067_201_000_000_000;
        let since = Wanted { since: Some(second), timestamps: true, ..Wanted::default() };
        assert_eq!(shown(&base, &since).0, "2024-01-01T00:00:01.5Z b\n");
        let until = Wanted { until: Some(second), ..Wanted::default() };
        assert_eq!(shown(&base, &until).0, "a\n");
    }

    #[test]
    fn following_reads_over_a_rotation_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("x-json.log");
        Writer::new(&base).write(Stream::Stdout, b"one\n").unwrap();
        let mut asked = 0;
        let mut is_running = || {
            asked += 1;
            match asked {
                1 => Writer::new(&base).write(Stream::Stdout, b"two\n").unwrap(),
                2 => {
                    std::fs::rename(&base, base.with_added_extension("1")).unwrap();
                    Writer::new(&base).write(Stream::Stdout, b"three\n").unwrap();
                }
                _ => {}
            }
            asked < 3
        };
        let (mut out, wanted) = (Vec::new(), Wanted { follow: true, ..Wanted::default() });
        read(&base, &wanted, &mut is_running, &mut out, &mut Vec::new()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "one\ntwo\nthree\n");
    }
}
