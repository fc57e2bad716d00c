//! `kiln cp`.

use std::io::{Read, Write};

use super::Engine;
use super::containers::failure;
use crate::api::{Copied, CopyOptions, Failure};

impl Engine {
    /// Copies a file or folder of a container to a path of the machine.
    pub fn copy_out(
        &self,
        (container, source): (&str, &str),
        target: &str,
        options: CopyOptions,
    ) -> Result<Copied, Failure> {
        let record = self.container(container)?;
        let copied = self.containers().copy_out(self.store()?, &record, (source, target), options);
        self.copied(&record, copied)
    }

    /// Copies a file or folder of the machine to a path of a container.
    pub fn copy_in(
        &self,
        source: &str,
        (container, target): (&str, &str),
        options: CopyOptions,
    ) -> Result<Copied, Failure> {
        let record = self.container(container)?;
        let copied = self.containers().copy_in(self.store()?, &record, (source, target), options);
        self.copied(&record, copied)
    }

    /// Writes a file or folder of a container as a tar.
    pub fn tar_out(
        &self,
        (container, source): (&str, &str),
        options: CopyOptions,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let record = self.container(container)?;
        let copied = self.containers().tar_out(self.store()?, &record, source, options, out);
        self.copied(&record, copied)
    }

    /// Unpacks a tar into a folder of a container.
    pub fn tar_in(
        &self,
        input: &mut (dyn Read + Send),
        (container, target): (&str, &str),
    ) -> Result<(), Failure> {
        let record = self.container(container)?;
        let copied = self.containers().tar_in(self.store()?, &record, input, target);
        self.copied(&record, copied)
    }

    fn copied<T>(
        &self,
        record: &crate::container::Record,
        result: crate::container::Result<T>,
    ) -> Result<T, Failure> {
        let copied = result.map_err(failure)?;
        self.containers().tell(record, "copy", &[]);
        Ok(copied)
    }
}
