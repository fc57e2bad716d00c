//! One packed layer on its way into the store: every byte is read once.
//!
//! ```text
//! this thread:   source → hash and store the blob → decompress → hash the diffID ─┐ bounded queue
//! second thread:                                                 write the files ←┘
//! ```
//!
//! Both digests are checked before the snapshot is sealed; at an error neither blob nor snapshot stays.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use kiln_cache::{BlobWriter, Diff, Digest, Hasher, LayerBlob, Lease, Snapshot, SnapshotId, Store};

use super::error::{Error, Result};
use super::layer::{self, LayerError};
use crate::oci::media_type;

/// Bytes of one piece of the decompressed stream.
const PIECE: usize = 256 << 10;
/// Pieces between the two threads: 2 MiB for each layer.
const QUEUE: usize = 8;

/// What is known of a layer before it comes.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// What it is called in messages.
    pub(crate) name: String,
    /// The digest of the packed bytes.
    pub(crate) blob: Option<Digest>,
    /// The digest of the unpacked bytes.
    pub(crate) diff_id: Option<Digest>,
    /// What the manifest says that the packed bytes are; found out when absent.
    pub(crate) media_type: Option<String>,
    /// Unix seconds, for the snapshot's row.
    pub(crate) created: i64,
}

/// Reads a packed layer from `source` into a blob and a snapshot; `lease` keeps both.
pub(crate) fn ingest(
    store: &Store,
    lease: &Lease,
    source: &mut (dyn Read + Send),
    expected: &Expected,
) -> Result<SnapshotId> {
    let staged = store.stage(lease)?;
    let folder = staged.fs();
    let mut tee = Tee { source, writer: store.blob_writer(lease)?, failed: None, head: Vec::new() };
    let (pieces, queue) = sync_channel(QUEUE);
    let (read, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| layer::unpack(Queue::new(queue), &folder));
        let read = inflate(&mut tee, pieces);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (read, written)
    });
    let Tee { writer, failed, head, .. } = tee;
    let failure = |source| Error::Layer { action: "unpack", layer: expected.name.clone(), source };
    if let Some(error) = failed {
        // The disk, not the layer.
        return Err(failure(LayerError::Write { entry: "blob".to_owned(), source: error }));
    }
    let (diff, unpacked) = match (read, written) {
        // The reader stops without an error of its own when the writer has one.
        (Ok(None), Err(error)) | (Ok(Some(_)), Err(error)) => return Err(failure(error)),
        (Err(error), _) => return Err(failure(LayerError::Read(error))),
        (Ok(None), Ok(_)) => return Err(Error::Cancelled),
        (Ok(Some(diff)), Ok(unpacked)) => (diff, unpacked),
    };
    if let Some(wanted) = expected.diff_id.filter(|wanted| *wanted != diff.id) {
        // A wrong blob has a wrong diffID as well, and is the plainer message.
        writer.commit(expected.blob.as_ref())?;
        return Err(Error::DiffId { layer: expected.name.clone(), expected: wanted, actual: diff.id });
    }
    let blob = keep(writer, &head, expected, &diff, &folder)?;
    let snapshot = Snapshot {
        diff: Some(diff),
        bytes: unpacked.bytes,
        created: expected.created,
        ..Snapshot::default()
    };
    let snapshot = staged.commit(snapshot)?;
    if let Some(blob) = blob {
        store.add_layer_blob(&diff.id, &blob)?;
    }
    Ok(snapshot)
}

/// Keeps the packed bytes, because a foreign archive can't be made again from its files.
///
/// A plain archive of kiln's own form can be, and isn't kept.
fn keep(
    writer: BlobWriter,
    head: &[u8],
    expected: &Expected,
    diff: &Diff,
    folder: &std::path::Path,
) -> Result<Option<LayerBlob>> {
    let compressed = layer::Compressed::by_magic(head);
    if compressed == layer::Compressed::No && expected.blob.is_none() {
        let failure = |source| Error::Layer { action: "read", layer: expected.name.clone(), source };
        let (canonical, _) = layer::diff_id(folder, layer::Times::Kept).or_else(|error| match error {
            LayerError::Name { .. } => Ok((Digest::of(b""), 0)),
            other => Err(failure(other)),
        })?;
        if canonical == diff.id {
            return Ok(None);
        }
    }
    let found = match compressed {
        layer::Compressed::No => media_type::OCI_LAYER,
        layer::Compressed::Gzip => media_type::OCI_LAYER_GZIP,
        layer::Compressed::Zstd => media_type::OCI_LAYER_ZSTD,
    };
    let media_type = expected.media_type.clone().unwrap_or_else(|| found.to_owned());
    let blob = writer.commit(expected.blob.as_ref())?;
    Ok(Some(LayerBlob { digest: blob.digest, size: blob.size, media_type }))
}

/// Decompresses into the queue; `None` when its other end has given up.
fn inflate(tee: &mut Tee<'_>, pieces: SyncSender<io::Result<Vec<u8>>>) -> io::Result<Option<Diff>> {
    let mut hasher = Hasher::new();
    let mut tar_bytes = 0;
    let result = (|| {
        let mut plain = layer::decompress(&mut *tee)?;
        loop {
            let mut piece = vec![0; PIECE];
            let mut filled = 0;
            while filled < PIECE {
                match plain.read(&mut piece[filled..]) {
                    Ok(0) => break,
                    Ok(got) => filled += got,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if filled == 0 {
                break;
            }
            piece.truncate(filled);
            hasher.update(&piece);
            tar_bytes += filled as u64;
            if pieces.send(Ok(piece)).is_err() {
                return Ok(false);
            }
        }
        drop(plain);
        io::copy(&mut *tee, &mut io::sink())?;
        Ok(true)
    })();
    match result {
        Ok(true) => Ok(Some(Diff { id: hasher.finish(), tar_bytes })),
        Ok(false) => Ok(None),
        Err(error) => {
            // The writer must not take the break for the archive's end.
            let _ = pieces.send(Err(io::Error::from(error.kind())));
            Err(error)
        }
    }
}

/// A reader that stores what passes.
struct Tee<'a> {
    source: &'a mut (dyn Read + Send),
    writer: BlobWriter,
    /// Why the blob could not be written.
    failed: Option<io::Error>,
    /// The first bytes.
    head: Vec<u8>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(buffer)?;
        if self.head.len() < 4 {
            self.head.extend_from_slice(&buffer[..got.min(4)]);
        }
        if let Err(error) = self.writer.write_all(&buffer[..got]) {
            let kind = error.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        Ok(got)
    }
}

/// The reading end of the queue.
struct Queue {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    taken: usize,
}

impl Queue {
    fn new(pieces: Receiver<io::Result<Vec<u8>>>) -> Self {
        Self { pieces, piece: Vec::new(), taken: 0 }
    }
}

impl Read for Queue {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            match self.pieces.recv() {
                Ok(piece) => (self.piece, self.taken) = (piece?, 0),
                Err(_) => return Ok(0),
            }
        }
        let got = buffer.len().min(self.piece.len() - self.taken);
        buffer[..got].copy_from_slice(&self.piece[self.taken..self.taken + got]);
        self.taken += got;
        Ok(got)
    }
}
