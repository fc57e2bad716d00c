//! Blobs as streams that go on after a break.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, stream};
use kiln_cache::Digest;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::call::{Action, Call};
use super::error::{Error, Result};
use super::hosts::Endpoint;
use super::reply::refusal;
use super::{Client, Tried};
use crate::oci::{self, Descriptor, Reference};

/// A blob that lasts through more breaks than this is sent a few bytes at a time by somebody hostile.
const BREAKS_MAX: u32 = 100;

/// A blob's bytes, in order; never more than its descriptor's size, and an error if fewer.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

impl Client {
    /// Fetches the blob that `descriptor` names from `reference`'s repository.
    ///
    /// Returns when a host has begun to answer. A download that breaks goes on where it stopped, at
    /// the same host, then at the next one. The stream gives exactly the descriptor's size; its digest
    /// is the caller's to check.
    pub async fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<BlobStream> {
        let digest = oci::digest_of(descriptor).map_err(|error| Error::Protocol {
            registry: reference.registry.clone(),
            reference: reference.familiar(),
            reason: error.to_string(),
        })?;
        let mut download = Download {
            client: self.clone(),
            reference: reference.clone(),
            digest,
            size: descriptor.size(),
            hosts: self.endpoints(reference, "pull", |can| can.pull)?,
            host: 0,
            offset: 0,
            response: None,
            stalls: 0,
            breaks: 0,
            tried: Tried::default(),
        };
        if download.size > 0 {
            download.open().await?;
        }
        Ok(Box::pin(stream::try_unfold(download, Download::next)))
    }
}

/// An answer with the bytes that were read from it but not yet given.
struct Opened {
    response: Response,
    first: Bytes,
}

impl Opened {
    async fn chunk(&mut self) -> reqwest::Result<Option<Bytes>> {
        if self.first.is_empty() {
            self.response.chunk().await
        } else {
            Ok(Some(std::mem::take(&mut self.first)))
        }
    }
}

/// A blob on its way.
struct Download {
    client: Client,
    reference: Reference,
    digest: Digest,
    size: u64,
    hosts: Vec<Endpoint>,
    host: usize,
    /// What the caller has got.
    offset: u64,
    response: Option<Opened>,
    /// Breaks in a row without a byte between them, at this host.
    stalls: u32,
    breaks: u32,
    tried: Tried,
}

impl Download {
    /// Returns the next bytes.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        while self.offset < self.size {
            if self.response.is_none() {
                self.open().await?;
            }
            let Some(response) = self.response.as_mut() else { continue };
            match response.chunk().await {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => {
                    self.offset = self.offset.saturating_add(chunk.len() as u64);
                    if self.offset > self.size {
                        return Err(self.wrong_size(self.offset));
                    }
                    self.stalls = 0;
                    return Ok(Some((chunk, self)));
                }
                Ok(None) => self.broke(None).await?,
                Err(error) => self.broke(Some(error)).await?,
            }
        }
        self.check_end().await?;
        Ok(None)
    }

    /// Looks for bytes after the last one; a server that names no length may send them.
    async fn check_end(&mut self) -> Result<()> {
        let Some(mut response) = self.response.take() else { return Ok(()) };
        if response.response.content_length().is_some() {
            return Ok(());
        }
        match response.chunk().await {
            Ok(Some(more)) if !more.is_empty() => Err(self.wrong_size(self.size + more.len() as u64)),
            _ => Ok(()),
        }
    }

    /// Takes note of a break: waits and stays at this host, or goes on to the next.
    async fn broke(&mut self, error: Option<reqwest::Error>) -> Result<()> {
        self.response = None;
        self.stalls += 1;
        self.breaks += 1;
        let endpoint = &self.hosts[self.host];
        tracing::debug!(digest = %self.digest, offset = self.offset, ?error, "blob broke off");
        let tuning = &self.client.0.transport.tuning;
        if self.stalls <= tuning.retries && self.breaks <= BREAKS_MAX {
            tokio::time::sleep(self.client.0.transport.backoff(self.stalls - 1)).await;
            return Ok(());
        }
        let failure = match error {
            Some(error) => Error::from_http(&endpoint.label, error),
            None => self.wrong_size(self.offset),
        };
        self.give_up_host(failure)
    }

    /// Goes on to the next host, or fails with what all of them said.
    fn give_up_host(&mut self, failure: Error) -> Result<()> {
        self.tried.add(failure);
        self.host += 1;
        self.stalls = 0;
        if self.host < self.hosts.len() { Ok(()) } else { Err(std::mem::take(&mut self.tried).into_error()) }
    }

    /// Opens the rest of the blob at the first host that has it.
    async fn open(&mut self) -> Result<()> {
        loop {
            match self.open_at(&self.hosts[self.host]).await {
                Ok(response) => {
                    self.response = Some(response);
                    return Ok(());
                }
                Err(error) => self.give_up_host(error)?,
            }
        }
    }

    async fn open_at(&self, endpoint: &Endpoint) -> Result<Opened> {
        let path = format!("blobs/{}", self.digest);
        let mut call = Call::new(endpoint, &self.reference, Action::Pull, Method::GET, &path);
        if self.offset > 0 {
            call = call.header(RANGE, &format!("bytes={}-", self.offset))?;
        }
        let transport = &self.client.0.transport;
        let response = transport.send(&call).await?;
        match response.status() {
            StatusCode::OK => {
                self.check_length(&response, self.size)?;
                self.skip(response, endpoint).await
            }
            StatusCode::PARTIAL_CONTENT => {
                let start = range_start(&response);
                if start != Some(self.offset) {
                    return Err(call.protocol(format!(
                        "asked for a blob from byte {}, it answered from {start:?}",
                        self.offset
                    )));
                }
                self.check_length(&response, self.size - self.offset)?;
                Ok(Opened { response, first: Bytes::new() })
            }
            StatusCode::NOT_FOUND => Err(Error::BlobUnknown {
                registry: endpoint.label.clone(),
                reference: self.reference.familiar(),
                digest: self.digest,
            }),
            StatusCode::RANGE_NOT_SATISFIABLE => Err(self.wrong_size(self.offset)),
            status if status.is_success() => Err(call.protocol(format!("it answered {status} for a blob"))),
            _ => Err(refusal(&call, response).await),
        }
    }

    /// Refuses a length that can't be right before a byte of it is taken.
    fn check_length(&self, response: &Response, expected: u64) -> Result<()> {
        match response.content_length() {
            Some(length) if length != expected => {
                Err(self.wrong_size((self.size - expected).saturating_add(length)))
            }
            _ => Ok(()),
        }
    }

    /// Reads past what the caller has already got, from a server that knows no ranges.
    async fn skip(&self, mut response: Response, endpoint: &Endpoint) -> Result<Opened> {
        let mut left = self.offset;
        while left > 0 {
            let chunk = response.chunk().await.map_err(|error| Error::from_http(&endpoint.label, error))?;
            let Some(mut chunk) = chunk else { return Err(self.wrong_size(self.offset - left)) };
            let seen = left.min(chunk.len() as u64);
            left -= seen;
            if left == 0 {
                let first = chunk.split_off(usize::try_from(seen).unwrap_or(chunk.len()));
                return Ok(Opened { response, first });
            }
        }
        Ok(Opened { response, first: Bytes::new() })
    }

    fn wrong_size(&self, actual: u64) -> Error {
        let endpoint = &self.hosts[self.host.min(self.hosts.len() - 1)];
        Error::SizeMismatch {
            registry: endpoint.label.clone(),
            reference: self.reference.familiar(),
            digest: self.digest,
            expected: self.size,
            actual,
        }
    }
}

/// Returns the first byte's number in `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}
