//! What can go wrong with a layer's bytes.

use std::io;

use rustix::io::Errno;

/// What can go wrong with a layer's bytes.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive ends in the middle of an entry.
    #[error("the archive is truncated{}", in_entry(entry))]
    Truncated {
        /// The entry, when its name was known.
        entry: Option<String>,
    },
    /// A header makes no sense.
    #[error("damaged tar header at byte {offset}: {reason}")]
    Header {
        /// Where it stands in the uncompressed archive.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry asks for something that would leave the root or forge a marker of the store.
    #[error("archive entry `{entry}` {reason}")]
    Refused {
        /// The entry's name as written in the archive.
        entry: String,
        /// Why it is refused.
        reason: String,
    },
    /// The archive's bytes can't be read, or not decompressed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// An entry can't be written.
    #[error("cannot write `{entry}`")]
    Write {
        /// Its name in the archive.
        entry: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file of a snapshot can't be read.
    #[error("cannot read `{path}` of a layer")]
    Walk {
        /// Its name inside the layer.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A name that a layer can't hold.
    #[error("`{path}` can't be stored in a layer: {reason}")]
    Name {
        /// Its name inside the layer.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// The archive that is being made can't be written.
    #[error("cannot write the archive")]
    Output(#[source] io::Error),
}

impl LayerError {
    /// Tells whether the input is damaged or hostile, rather than the machine at fault.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Truncated { .. } | Self::Header { .. } | Self::Refused { .. } | Self::Name { .. } => true,
            Self::Read(error) => {
                matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
                )
            }
            _ => false,
        }
    }

    /// Whether a file disappeared while it was looked at.
    pub(super) fn is_gone(&self) -> bool {
        let Self::Walk { source, .. } = self else { return false };
        source.raw_os_error().is_some_and(|errno| super::walk::is_gone(Errno::from_raw_os_error(errno)))
    }

    pub(super) fn write(entry: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Write { entry: shown(entry), source: source.into() }
    }

    pub(super) fn walk(path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Walk { path: shown(path), source: source.into() }
    }

    pub(super) fn refused(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::Refused { entry: shown(entry), reason: reason.into() }
    }
}

/// Returns a name for a message: control characters escaped, cut at a sane length.
pub(super) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if name.len() > LONGEST {
        out.push('…');
    }
    out
}

fn in_entry(entry: &Option<String>) -> String {
    entry.as_ref().map(|entry| format!(" in `{entry}`")).unwrap_or_default()
}
