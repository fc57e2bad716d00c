//! One layer's bytes: archive to folder, folder to archive.
//!
//! Knows files and tar, gzip and zstd; knows no store, no registry and no image. Blocking, with bounded memory.

mod compress;
mod entries;
mod error;
mod marks;
mod pack;
mod times;
mod unpack;
mod walk;
mod write;

pub use compress::{Compressed, GzipWriter, decompress, decompress_any, without_rare};
pub(crate) use entries::{Entries, Entry, Kind};
pub use error::LayerError;
pub use marks::{Marks, diff_id_after};
pub use pack::{TAR_VERSION, diff_id, tar, tar_live, tar_merged, tar_merged_live};
pub use times::Times;
pub(super) use unpack::clean;
pub use unpack::{Unpacked, Whiteouts, unpack, unpack_with};
pub use walk::{Node, flatten, visit, visit_live};
pub(crate) use walk::{Xattrs, is_gone, kept_xattrs};
pub(crate) use write::{Header, TarWriter};

#[cfg(test)]
mod tests;
