//! A limit as a file and what is written to it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::runtime::error::StartError;
use crate::runtime::spec::DeviceLimit;

/// One value for one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// What the user calls it.
    pub(super) flag: &'static str,
    /// In the controller's folder.
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Nobody asked for it: fine when the kernel hasn't got it.
    pub(super) is_default: bool,
}

impl Setting {
    pub(super) fn new(flag: &'static str, file: &'static str, value: impl ToString) -> Self {
        Self { flag, file, value: value.to_string(), is_default: false }
    }

    /// One for each of `limits`, the value after `key`.
    pub(super) fn of_devices(
        flag: &'static str,
        file: &'static str,
        key: &str,
        limits: &[DeviceLimit],
    ) -> Vec<Self> {
        let setting =
            |limit: &DeviceLimit| Self::new(flag, file, format!("{} {key}{}", limit.device, limit.value));
        limits.iter().map(setting).collect()
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        // No O_CREAT: a file that the kernel hasn't got is to be missed.
        let result = OpenOptions::new().write(true).truncate(true).open(folder.join(self.file));
        match result.and_then(|mut file| file.write_all(self.value.as_bytes())) {
            Err(error) if self.is_default && error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn failure(&self, folder: &Path, error: &io::Error) -> StartError {
        let (flag, file, value) = (self.flag, self.file, &self.value);
        let text = match error.kind() {
            io::ErrorKind::NotFound => format!("`{flag}` is not possible here: this kernel has no `{file}`"),
            _ => format!(
                "cannot set `{flag}`: cannot write `{value}` to `{}`: {error}",
                folder.join(file).display()
            ),
        };
        StartError::new("cgroup", text)
    }
}

/// Writes `settings` to the files in `folder`.
///
/// Some values are bound by others (memory by memory and swap, a runtime by its period): what is refused is tried again
/// after the rest.
pub(super) fn write(folder: &Path, settings: &[Setting]) -> Result<(), StartError> {
    let refused: Vec<&Setting> = settings.iter().filter(|setting| setting.write(folder).is_err()).collect();
    for setting in refused {
        setting.write(folder).map_err(|error| setting.failure(folder, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_kernel_lacks_is_missed_by_the_flags_name() {
        let folder = tempfile::tempdir().unwrap();
        let setting = Setting::new("--memory-swap", "memory.swap.max", 5);
        let error = write(folder.path(), std::slice::from_ref(&setting)).unwrap_err();
        assert_eq!(
            error.message,
            "`--memory-swap` is not possible here: this kernel has no `memory.swap.max`"
        );
        assert!(write(folder.path(), &[Setting { is_default: true, ..setting.clone() }]).is_ok());
        std::fs::write(folder.path().join("memory.swap.max"), "max").unwrap();
        assert!(write(folder.path(), &[setting]).is_ok());
        assert_eq!(std::fs::read_to_string(folder.path().join("memory.swap.max")).unwrap(), "5");
    }
}
