//! Writing entries to files that are rotated.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::entry::{Entry, Form};
use super::settings::Settings;
use super::{COMPRESS_DOOR, Stream};
use crate::rotated::{self, begin};

/// Takes entries.
pub(super) trait Output: std::fmt::Debug {
    fn put(&mut self, stream: Stream, text: &[u8]) -> io::Result<()>;
    /// At the end of a run.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes entries of one form to one file after another.
#[derive(Debug)]
pub(super) struct Writer {
    base: PathBuf,
    form: Form,
    attributes: BTreeMap<String, String>,
    limit: Option<u64>,
    files: usize,
    compress: bool,
    file: Option<File>,
    /// Where the file begins in all that was written.
    begin: u64,
    written: u64,
    /// What compresses the file before the newest one.
    compressor: Option<Child>,
}

impl Writer {
    /// Returns a writer that goes on in the file at `base`, which is made with the first entry.
    pub(super) fn new(
        base: &Path,
        form: Form,
        settings: &Settings,
        attributes: BTreeMap<String, String>,
    ) -> Self {
        Self {
            base: base.to_owned(),
            form,
            attributes,
            limit: settings.limit,
            files: settings.files,
            compress: settings.compress && settings.files > 1,
            file: None,
            begin: 0,
            written: 0,
            compressor: None,
        }
    }

    fn open(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).create(true).open(&self.base)?;
                self.written = file.metadata()?.len();
                match self.begin {
                    0 => self.begin = begin::of(&file).unwrap_or(0),
                    begin => begin::set(&file, begin),
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn rotate(&mut self) -> io::Result<()> {
        // It must not find its file under another name; it has had a whole file's time.
        self.await_compressor();
        self.file = None;
        rotated::rotate(&self.base, self.files)?;
        self.begin += std::mem::take(&mut self.written);
        if self.compress {
            // In a process of its own: the program's output doesn't wait for it. Without one the file stays as it is.
            let mut command = Command::new("/proc/self/exe");
            command.arg(COMPRESS_DOOR).arg(&self.base).env_clear();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.compressor = command.spawn().ok();
        }
        Ok(())
    }

    fn await_compressor(&mut self) {
        if let Some(mut compressor) = self.compressor.take() {
            let _ = compressor.wait();
        }
    }
}

impl Output for Writer {
    fn put(&mut self, stream: Stream, text: &[u8]) -> io::Result<()> {
        let time = crate::container::now();
        let attributes = Cow::Borrowed(&self.attributes);
        let bytes = self.form.encode(&Entry { stream, time, attributes, text: text.into() });
        let length = bytes.len() as u64;
        self.open()?;
        if self.written > 0 && self.limit.is_some_and(|limit| self.written + length > limit) {
            self.rotate()?;
        }
        // A part of an entry, on a full disk, would spoil the next one too.
        let before = self.written;
        let file = self.open()?;
        if let Err(error) = file.write_all(&bytes) {
            let _ = file.set_len(before);
            return Err(error);
        }
        self.written += length;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.await_compressor();
        Ok(())
    }
}

/// Compresses the file before the newest one of `base`: the door `_compress`.
pub(super) fn compress(base: &Path) -> io::Result<()> {
    let (plain, packed) = (rotated::file(base, 1), rotated::compressed(base, 1));
    let unfinished = packed.with_added_extension("new");
    let mut source = File::open(&plain)?;
    let mut make = || {
        let target = File::create(&unfinished)?;
        let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::fast());
        io::copy(&mut source, &mut encoder)?;
        let target = encoder.finish()?;
        if let Some(begin) = begin::of(&source) {
            begin::set(&target, begin);
        }
        // By this a reader that had the plain file open knows it again.
        target.set_modified(source.metadata()?.modified()?)?;
        // A monitor that took over from a killed one didn't wait: the name may be another file's by now.
        if std::fs::metadata(&plain)?.ino() != source.metadata()?.ino() {
            return Err(io::ErrorKind::NotFound.into());
        }
        std::fs::rename(&unfinished, &packed)
    };
    make().inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
    std::fs::remove_file(&plain)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;
    use crate::api::LogConfig;

    #[test]
    fn full_files_are_rotated_and_the_oldest_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("x-json.log");
        let options = [("max-size".to_owned(), "300".to_owned())].into();
        let settings = Settings::parse(&LogConfig { options, ..LogConfig::default() }).unwrap();
        let mut writer = Writer::new(&base, Form::Json, &settings, BTreeMap::new());
        for number in 0..20 {
            writer.put(Stream::Stdout, format!("{number}\n").as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
        let newest = std::fs::read(&base).unwrap();
        let last = newest.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
        assert_eq!(Form::Json.decode(last).unwrap().text, &b"19\n"[..]);
        compress(&base).unwrap();
        let files: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(files.contains(&"x-json.log.1.gz".into()) && files.len() == 3, "{files:?}");
    }
}
