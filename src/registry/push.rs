//! Writing to a registry: blobs, then the manifest that names them.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use kiln_cache::Digest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::io::AsyncReadExt;

use super::Client;
use super::call::{Action, Call};
use super::error::{Error, Result};
use super::hosts::Endpoint;
use super::manifest::CONTENT_DIGEST;
use super::reply::refusal;
use crate::oci::Reference;

const CHUNK_BYTES: usize = 128 << 10;

/// Told how many bytes of the current attempt are on their way.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

impl Client {
    /// Tells whether the repository has a blob.
    pub async fn blob_exists(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let endpoint = self.push_endpoint(reference)?;
        let path = format!("blobs/{digest}");
        let call = Call::new(&endpoint, reference, Action::Push, Method::HEAD, &path);
        let response = self.0.transport.send(&call).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(refusal(&call, response).await),
        }
    }

    /// Lets the repository share a blob that `from` (a repository of the same registry) has.
    ///
    /// `false` if the registry can't or won't; the blob is then to be pushed.
    pub async fn mount_blob(&self, reference: &Reference, digest: &Digest, from: &str) -> Result<bool> {
        let endpoint = self.push_endpoint(reference)?;
        let mut call = Call::new(&endpoint, reference, Action::Push, Method::POST, "blobs/uploads/");
        call.url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        call.from = Some(from);
        let call = call.header(CONTENT_LENGTH, "0")?;
        let response = self.0.transport.send(&call).await?;
        match response.status() {
            StatusCode::CREATED => Ok(true),
            StatusCode::ACCEPTED => {
                self.cancel(&endpoint, reference, &call, &response).await;
                Ok(false)
            }
            // The other repository may be hidden from us; pushing still can work.
            status if status.is_client_error() => Ok(false),
            _ => Err(refusal(&call, response).await),
        }
    }

    /// Pushes a blob of `size` bytes that `open` gives, from its start at each call.
    ///
    /// A broken upload starts anew. The registry verifies the digest.
    pub async fn push_blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        size: u64,
        open: &(dyn Fn() -> io::Result<File> + Send + Sync),
        progress: &Progress,
    ) -> Result<()> {
        let endpoint = self.push_endpoint(reference)?;
        let mut attempt = 0;
        loop {
            let mut url = self.open_session(&endpoint, reference).await?;
            url.query_pairs_mut().append_pair("digest", &digest.to_string());
            match self.upload(&endpoint, reference, url, digest, size, open, progress).await {
                Err(error) if attempt < self.0.transport.tuning.retries && is_worth_another(&error) => {
                    tracing::debug!(%digest, %error, attempt, "upload broke, starting anew");
                    tokio::time::sleep(self.0.transport.backoff(attempt)).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// Puts a manifest or index under `reference`'s digest or tag, after all that it names.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest> {
        let endpoint = self.push_endpoint(reference)?;
        let digest = Digest::of(&bytes);
        let body = move || Ok(Body::from(bytes.clone()));
        let path = format!("manifests/{}", reference.identifier());
        let mut call = Call::new(&endpoint, reference, Action::Push, Method::PUT, &path);
        call.body = Some(&body);
        let call = call.header(CONTENT_TYPE, media_type)?;
        let response = self.0.transport.send_ok(&call).await?;
        let stored =
            response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()?.parse().ok());
        match stored {
            Some(stored) if stored != digest => Err(Error::DigestMismatch {
                registry: endpoint.label.clone(),
                reference: reference.familiar(),
                expected: digest,
                actual: stored,
            }),
            _ => Ok(digest),
        }
    }

    /// Returns where pushes go: the first host that takes them.
    fn push_endpoint(&self, reference: &Reference) -> Result<Endpoint> {
        let mut able = self.endpoints(reference, "push", |can| can.push)?;
        Ok(able.swap_remove(0))
    }

    /// Opens an upload session and returns its address.
    async fn open_session(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Url> {
        let call = Call::new(endpoint, reference, Action::Push, Method::POST, "blobs/uploads/");
        let call = call.header(CONTENT_LENGTH, "0")?;
        let response = self.0.transport.send_ok(&call).await?;
        session(&call, &response)
    }

    /// Gives a session its whole blob at once.
    #[expect(clippy::too_many_arguments, reason = "the parts of one upload, used in one place")]
    async fn upload(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        url: Url,
        digest: &Digest,
        size: u64,
        open: &(dyn Fn() -> io::Result<File> + Send + Sync),
        progress: &Progress,
    ) -> Result<()> {
        let digest = *digest;
        let moved = Arc::new(AtomicU64::new(0));
        let body = || {
            let file = open().map_err(|source| Error::ReadBlob { digest, source })?;
            let (moved, progress) = (Arc::clone(&moved), Arc::clone(progress));
            let progress = move |sent| {
                moved.store(sent, Ordering::Relaxed);
                progress(sent);
            };
            Ok(file_body(file, size, Arc::new(progress)))
        };
        let mut put = Call::new(endpoint, reference, Action::Push, Method::PUT, "");
        put.url = url;
        put.body = Some(&body);
        put.moved = Some(&moved);
        // The session may be spoilt by a half-sent body, so that a retry begins with a new one.
        put.retry = false;
        let put = put
            .header(CONTENT_TYPE, "application/octet-stream")?
            .header(CONTENT_LENGTH, &size.to_string())?;
        self.0.transport.send_ok(&put).await.map(drop)
    }

    /// Closes an upload session that nobody needs; the registry forgets it by itself if this fails.
    async fn cancel(&self, endpoint: &Endpoint, reference: &Reference, call: &Call<'_>, response: &Response) {
        let Ok(url) = session(call, response) else { return };
        let mut delete = Call::new(endpoint, reference, Action::Push, Method::DELETE, "");
        delete.url = url;
        delete.from = call.from;
        delete.retry = false;
        let _ = self.0.transport.send(&delete).await;
    }
}

/// Tells whether a new session may do better: the server failed, or lost the session.
fn is_worth_another(error: &Error) -> bool {
    error.is_transient() || matches!(error, Error::Status { status: 404 | 416, .. })
}

/// Returns the address of an upload session.
fn session(call: &Call<'_>, response: &Response) -> Result<Url> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| call.protocol("it opened an upload without a Location"))?;
    let url =
        call.url.join(location).map_err(|_| call.protocol("the Location of its upload is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || (call.url.scheme() == "https" && url.scheme() == "http") {
        return Err(call.protocol(format!("the Location of its upload is `{}:`", url.scheme())));
    }
    Ok(url)
}

/// Streams `size` bytes of `file`; fewer are an error, more are left.
fn file_body(file: File, size: u64, progress: Progress) -> Body {
    let file = tokio::fs::File::from_std(file);
    let body = stream::try_unfold((file, 0), move |(mut file, sent): (tokio::fs::File, u64)| {
        let progress = Arc::clone(&progress);
        async move {
            if sent == size {
                return Ok::<_, io::Error>(None);
            }
            let wanted = usize::try_from(size - sent).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let mut chunk = bytes::BytesMut::with_capacity(wanted);
            let mut part = (&mut file).take(wanted as u64);
            if part.read_buf(&mut chunk).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let sent = sent + chunk.len() as u64;
            progress(sent);
            Ok(Some((chunk.freeze(), (file, sent))))
        }
    });
    Body::wrap_stream(body)
}
