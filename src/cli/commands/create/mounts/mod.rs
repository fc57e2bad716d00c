//! Flags of `kiln create` and `run`: what is mounted.

mod long;
mod short;

use crate::api::{CreateRequest, MountKind, MountRequest};
use crate::cli::error::Error;
use crate::cli::tell;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--storage-opt",
];

/// What is mounted.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Mounts {
    /// Mount something (type=bind|volume|tmpfs|image,src=SOURCE,dst=TARGET,readonly,...)
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Mount a folder in memory (PATH[:size=64m,mode=1770,exec])
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Mount a host path or a volume ([SOURCE:]TARGET[:ro])
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<String>,
    /// The driver of volumes that are made for this container: local
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Mount what another container has mounted (CONTAINER[:ro])
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
}

/// A mount as it was read, and what is to be said about it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    mount: MountRequest,
    notes: Vec<&'static str>,
}

const NO_SELINUX: &str = "note: SELinux labels of mounts are not set: `z` and `Z` change nothing";
const NO_CACHES: &str =
    "note: `consistent`, `cached` and `delegated` are for other systems, and change nothing";

impl Mounts {
    /// Puts them into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        let short = self.volume.iter().map(|text| short::volume(text));
        let long = self.mount.iter().map(|text| long::mount(text));
        let mut notes = Vec::new();
        for read in short.chain(long) {
            let Read { mut mount, notes: more } = read?;
            if let MountKind::Volume { driver: driver @ None, .. } = &mut mount.kind {
                driver.clone_from(&self.volume_driver);
            }
            request.mounts.push(mount);
            notes.extend(more);
        }
        request.isolation.tmpfs = self.tmpfs.iter().map(|text| tmpfs(text)).collect();
        for text in &self.volumes_from {
            let (from, labelled) = volumes_from(text)?;
            notes.extend(labelled.then_some(NO_SELINUX));
            request.volumes_from.push(from);
        }
        notes.sort_unstable();
        notes.dedup();
        notes.iter().for_each(|note| tell(&format!("{note}\n")));
        Ok(())
    }
}

/// Splits the options off.
fn tmpfs(text: &str) -> (String, String) {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    (path.to_owned(), options.to_owned())
}

/// Reads `CONTAINER[:ro|rw]`; tells also whether SELinux's labels are asked for.
fn volumes_from(text: &str) -> Result<((String, Option<bool>), bool), Error> {
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    let (mut readonly, mut labelled) = (None, false);
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" => readonly = Some(true),
            "rw" => readonly = Some(false),
            "z" | "Z" => labelled = true,
            _ => {
                return Err(Error::usage(format!("invalid mode `{word}` in `--volumes-from {text}`"))
                    .hint("it may be ro or rw"));
            }
        }
    }
    match container.is_empty() {
        true => Err(Error::usage(format!("`--volumes-from {text}` names no container"))
            .hint("write it as `CONTAINER` or `CONTAINER:ro`")),
        false => Ok(((container.to_owned(), readonly), labelled)),
    }
}

/// A path of the host, made absolute.
fn absolute(source: &str) -> Result<String, Error> {
    let path = std::path::absolute(source)
        .map_err(|error| Error::usage(format!("cannot use `{source}`: {error}")))?;
    let path = path.to_str().map(str::to_owned);
    path.ok_or_else(|| Error::usage(format!("the path of `{source}` is not UTF-8")))
}

/// Refuses a place in the container that is none, for what was given as `text`.
fn check_target(flag: &str, text: &str, target: &str) -> Result<(), Error> {
    let why = if !target.starts_with('/') {
        "the path in the container must be absolute"
    } else if target.trim_end_matches('/').is_empty() {
        "it can't be the root directory"
    } else {
        return Ok(());
    };
    Err(Error::usage(format!("invalid {flag} `{text}`: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_others_are_read() {
        let read = |text| volumes_from(text).ok().map(|(from, _)| from);
        assert_eq!(read("db"), Some(("db".into(), None)));
        assert_eq!(read("db:ro"), Some(("db".into(), Some(true))));
        assert_eq!(read("db:rw,z"), Some(("db".into(), Some(false))));
        assert!(volumes_from("db:z").unwrap().1);
        assert_eq!((read(""), read(":ro"), read("db:x")), (None, None, None));
    }
}
