//! Blobs: configs, manifests and packed layers, named by their digest.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use crate::lock::Claim;
use crate::{Digest, Error, Hasher, Lease, Result, Store};

/// The largest document (config, manifest) that is read into memory.
const DOCUMENT_LIMIT_BYTES: u64 = 16 << 20;

/// A blob that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// The digest of its bytes.
    pub digest: Digest,
    /// The number of its bytes.
    pub size: u64,
}

/// A blob that is being written; dropped without a commit, it was never there.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    lease: Lease,
    claim: Claim,
    hasher: Hasher,
    size: u64,
}

impl Store {
    /// Begins a new blob.
    pub fn blob_writer(&self, lease: &Lease) -> Result<BlobWriter> {
        let claim = Claim::new_file(&self.path("tmp"))?;
        Ok(BlobWriter { store: self.clone(), lease: lease.clone(), claim, hasher: Hasher::new(), size: 0 })
    }

    /// Stores `bytes`.
    pub fn put_blob(&self, bytes: &[u8], lease: &Lease) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !lease.hold_blobs(&[digest])? {
            let mut writer = self.blob_writer(lease)?;
            writer.write_all(bytes).map_err(Error::io("write", writer.claim.path()))?;
            writer.commit(None)?;
        }
        Ok(digest)
    }

    /// Returns the size of a blob, `None` when it isn't there or its file was cut.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some(size) = self.meta().read(|tx| tx.blob_size(digest))? else { return Ok(None) };
        Ok(self.blob_file_size(digest)?.filter(|actual| *actual == size))
    }

    /// Reads a document of at most 16 MiB and verifies it.
    ///
    /// A damaged one is taken out of use, so that it can be fetched again.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let file = self.open_blob(digest)?;
        let size = file.metadata().map_err(Error::io("read", &path))?.len();
        if size > DOCUMENT_LIMIT_BYTES {
            return Err(Error::BlobTooLarge { digest: *digest, size, limit: DOCUMENT_LIMIT_BYTES });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(DOCUMENT_LIMIT_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        if Digest::of(&bytes) != *digest {
            self.retire_blob(digest)?;
            return Err(Error::DamagedBlob { digest: *digest, path });
        }
        Ok(bytes)
    }

    /// Opens a blob of any size; [`VerifyingReader`] checks what is read.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        if self.meta().read(|tx| tx.blob_size(digest))?.is_none() {
            return Err(Error::NoBlob { digest: *digest });
        }
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoBlob { digest: *digest }),
            other => other.map_err(Error::io("open", &path)),
        }
    }

    /// Takes a blob whose file was found damaged out of use, so that it can be fetched again.
    pub fn retire_blob(&self, digest: &Digest) -> Result<()> {
        self.meta().write(|tx| tx.retire_blob(digest))
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn blob_file_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }
}

impl BlobWriter {
    /// Returns the number of bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts the blob into the store and holds it by the lease.
    ///
    /// The bytes are on the disk before the blob is visible. [`Error::DigestMismatch`] when they are not
    /// the `expected` ones; nothing stays then.
    pub fn commit(self, expected: Option<&Digest>) -> Result<Blob> {
        let blob = Blob { digest: self.hasher.finish(), size: self.size };
        if let Some(expected) = expected.filter(|expected| **expected != blob.digest) {
            return Err(Error::DigestMismatch { expected: *expected, actual: blob.digest });
        }
        if self.lease.hold_blobs(&[blob.digest])? {
            return Ok(blob);
        }
        self.claim.file().sync_all().map_err(Error::io("flush", self.claim.path()))?;
        self.lease.write(|tx, lease| {
            tx.stage_blob(&blob.digest, blob.size)?;
            tx.lease_blob(lease, &blob.digest)
        })?;
        let path = self.store.blob_path(&blob.digest);
        fs::rename(self.claim.path(), &path).map_err(Error::io("create", &path))?;
        self.store.meta().write(|tx| tx.finish_blob(&blob.digest, blob.size))?;
        Ok(blob)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.claim.file().write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a stream and fails at its end when its digest is another than the expected one.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    reader: R,
    hasher: Option<Hasher>,
    expected: Digest,
}

impl<R: Read> VerifyingReader<R> {
    /// Verifies `reader` against `expected`.
    pub fn new(reader: R, expected: Digest) -> Self {
        Self { reader, hasher: Some(Hasher::new()), expected }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
        } else if let Some(hasher) = self.hasher.take() {
            let actual = hasher.finish();
            if actual != self.expected {
                // A second read must not look like a good end.
                self.hasher = Some(Hasher::new());
                let error = Error::DigestMismatch { expected: self.expected, actual };
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Ok(count)
    }
}
