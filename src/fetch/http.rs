//! Downloads by http and https.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use kiln_cache::Digest;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::error::{Error, Result};
use crate::api::{Checksum, HashAlgorithm, without_password};
use crate::blocking;
use crate::redacted::Redacted;
use crate::registry::{Cause, Tuning, Unreachable, plain_client, unreachable};

/// The same bound as Go's client has.
const REDIRECTS_MAX: usize = 10;
/// Bytes that are written and hashed at once.
const PIECE: usize = 1 << 20;
/// A file that lasts through more breaks than this is sent a few bytes at a time by somebody hostile.
const BREAKS_MAX: u32 = 100;
/// Longest validator that is remembered.
const VALIDATOR_BYTES: usize = 1024;

/// A client for downloads. Cheap to make: TLS is set up at the first https address.
#[derive(Debug, Default)]
pub struct Downloads {
    tuning: Tuning,
    /// By scheme and host class: see [`plain_client`].
    clients: Mutex<HashMap<(String, String), reqwest::Client>>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The address.
    pub url: String,
    /// The value of `Authorization`, for the address' own host alone.
    pub authorization: Option<Redacted>,
    /// What the server said of the file that the caller has.
    pub known: Validators,
    /// Whether a redirect may leave TLS: right when a checksum says what must come.
    pub may_leave_tls: bool,
    /// The most bytes that are taken.
    pub limit: u64,
}

/// What a server says to tell one state of a file from another.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

impl Validators {
    /// Returns true when the server gave nothing to ask with.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| {
            let text = headers.get(name)?.to_str().ok()?;
            (text.len() <= VALIDATOR_BYTES).then(|| text.to_owned())
        };
        Self { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) }
    }

    fn ask(&self, headers: &mut HeaderMap) {
        let mut put = |name: HeaderName, value: &Option<String>| {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        };
        put(header::IF_NONE_MATCH, &self.etag);
        put(header::IF_MODIFIED_SINCE, &self.last_modified);
    }

    /// What proves that the rest of a file is of the same file: a strong tag, else a time.
    fn strong(&self) -> Option<&str> {
        let tag = self.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
        tag.or(self.last_modified.as_deref())
    }

    /// Returns when the file last changed, in unix seconds.
    fn modified(&self) -> Option<i64> {
        let text = self.last_modified.as_deref()?;
        let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(parsed.as_second())
    }
}

/// What a server answered.
#[derive(Debug)]
pub enum Answer {
    /// What the caller has still holds.
    Unchanged,
    /// The file is on its way.
    File(Box<Download>),
}

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    client: reqwest::Client,
    wanted: Wanted,
    /// Where redirects led.
    url: Url,
    /// `None` after a break: a body that failed once would seem to be complete.
    response: Option<Response>,
    validators: Validators,
    /// Bytes in all; 0 when unknown.
    total: u64,
    tuning: Tuning,
}

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub bytes: u64,
    /// What to ask with the next time.
    pub validators: Validators,
    /// When the file last changed, in unix seconds, if the server says so.
    pub modified: Option<i64>,
}

impl Downloads {
    /// Asks for the file that `wanted` names; tries again what may pass.
    pub async fn get(&self, wanted: &Wanted) -> Result<Answer> {
        let mut attempt = 0;
        loop {
            let result = self.follow(wanted).await;
            let passing = match &result {
                Ok((_, response, _)) => is_passing(response.status()),
                Err(error) => error.is_transient(),
            };
            if !passing || attempt >= self.tuning.retries {
                let (url, response, client) = result?;
                return self.answer(wanted, url, response, client);
            }
            let wait = result.ok().and_then(|(_, response, _)| retry_after(&response));
            tokio::time::sleep(pause(&self.tuning, attempt, wait)).await;
            attempt += 1;
        }
    }

    fn answer(
        &self,
        wanted: &Wanted,
        url: Url,
        response: Response,
        client: reqwest::Client,
    ) -> Result<Answer> {
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED && !wanted.known.is_empty() {
            return Ok(Answer::Unchanged);
        }
        if !status.is_success() || status == StatusCode::PARTIAL_CONTENT {
            return Err(wanted.refused(status));
        }
        let total = response.content_length().unwrap_or(0);
        if total > wanted.limit {
            return Err(wanted.too_large());
        }
        let validators = Validators::of(response.headers());
        let tuning = self.tuning.clone();
        Ok(Answer::File(Box::new(Download {
            client,
            wanted: wanted.clone(),
            url,
            response: Some(response),
            validators,
            total,
            tuning,
        })))
    }

    /// Sends the request, and again wherever a redirect leads.
    async fn follow(&self, wanted: &Wanted) -> Result<(Url, Response, reqwest::Client)> {
        let first = wanted.address()?;
        let mut url = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let client = self.client(wanted, &url)?;
            let mut headers = wanted.headers(&first, &url);
            wanted.known.ask(&mut headers);
            let response = wanted.send(&client, &url, headers).await?;
            let Some(location) = redirect(&response) else { return Ok((url, response, client)) };
            url = wanted.next_hop(&url, &location)?;
        }
        Err(Error::Redirect { url: wanted.shown(), reason: "it redirects without end" })
    }

    fn client(&self, wanted: &Wanted, url: &Url) -> Result<reqwest::Client> {
        let key = (url.scheme().to_owned(), url.host_str().unwrap_or_default().to_owned());
        let mut clients = self.clients.lock().expect("nothing panics while it holds the clients");
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = plain_client(url, &self.tuning)
            .map_err(|source| Error::Setup { url: wanted.shown(), source: Box::new(source) })?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

impl Wanted {
    fn shown(&self) -> String {
        without_password(&self.url)
    }

    fn address(&self) -> Result<Url> {
        let wrong = |reason: String| Error::Address { url: self.shown(), reason };
        let url = Url::parse(&self.url).map_err(|error| wrong(error.to_string()))?;
        match url.host_str().filter(|host| !host.is_empty()) {
            Some(_) if matches!(url.scheme(), "http" | "https") => Ok(url),
            _ => Err(wrong("it needs a host, and http or https".to_owned())),
        }
    }

    /// What goes with the request for `url`: the credential only to where the user sends it.
    fn headers(&self, first: &Url, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(credential) = &self.authorization
            && first.origin() == url.origin()
            && let Ok(mut value) = HeaderValue::from_bytes(credential.reveal())
        {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        headers
    }

    async fn send(&self, client: &reqwest::Client, url: &Url, headers: HeaderMap) -> Result<Response> {
        client.get(url.clone()).headers(headers).send().await.map_err(|error| self.unreachable(error))
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        let (reason, source) = unreachable(error);
        Error::Unreachable { url: self.shown(), reason, source }
    }

    fn broken(&self) -> Error {
        let (reason, source) = (Unreachable::Broken, Cause::new("it can't be asked again"));
        Error::Unreachable { url: self.shown(), reason, source }
    }

    /// What a server says that answers 304 to somebody who has nothing.
    pub(crate) fn unasked(&self) -> Error {
        self.refused(StatusCode::NOT_MODIFIED)
    }

    fn refused(&self, status: StatusCode) -> Error {
        let asks = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            || (status == StatusCode::NOT_FOUND && self.authorization.is_some());
        let host = || self.url.parse::<Url>().ok()?.host_str().map(str::to_owned);
        Error::Status {
            url: self.shown(),
            status: status.to_string(),
            wants_credential: asks.then(host).flatten(),
        }
    }

    fn too_large(&self) -> Error {
        Error::TooLarge { url: self.shown(), limit: self.limit }
    }

    fn next_hop(&self, from: &Url, location: &str) -> Result<Url> {
        let wrong = |reason| Error::Redirect { url: self.shown(), reason };
        let next = from.join(location).map_err(|_| wrong("its redirect is no address"))?;
        match (from.scheme(), next.scheme()) {
            ("https", "http") if !self.may_leave_tls => {
                Err(wrong("it redirects from https to http, which needs a checksum"))
            }
            (_, "http" | "https") => Ok(next),
            _ => Err(wrong("it redirects to something else than http")),
        }
    }
}

impl Download {
    /// Writes the body into the empty `file`, checks it against `checksum`, and tells `progress` of (bytes so far, in
    /// all or 0).
    ///
    /// A body that breaks off is asked for again from where it broke, if the server can tell that it is the same.
    pub async fn save(
        mut self,
        file: File,
        checksum: Option<&Checksum>,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Saved> {
        let mut sink = Sink::new(file, checksum);
        let (mut stalls, mut breaks) = (0, 0);
        loop {
            let chunk = match &mut self.response {
                Some(response) => response.chunk().await.map_err(|error| self.wanted.unreachable(error)),
                None => Err(self.wanted.broken()),
            };
            let error = match chunk {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    stalls = 0;
                    sink.pending.extend_from_slice(&chunk);
                    if sink.bytes() > self.wanted.limit {
                        return Err(self.wanted.too_large());
                    }
                    if sink.pending.len() >= PIECE {
                        sink = sink.flush().await?;
                        progress(sink.written, self.total);
                    }
                    continue;
                }
                Err(error) => error,
            };
            (stalls, breaks) = (stalls + 1, breaks + 1);
            if stalls > self.tuning.retries || breaks > BREAKS_MAX {
                return Err(error);
            }
            self.response = None;
            tokio::time::sleep(pause(&self.tuning, stalls - 1, None)).await;
            sink = self.go_on(sink.flush().await?, error).await?;
        }
        let sink = sink.flush().await?;
        progress(sink.written, self.total.max(sink.written));
        self.finish(sink, checksum)
    }

    fn finish(self, sink: Sink, checksum: Option<&Checksum>) -> Result<Saved> {
        let bytes = sink.written;
        let (digest, actual) = sink.digests();
        if let (Some(expected), Some(actual)) = (checksum, actual)
            && *expected != actual
        {
            return Err(Error::Checksum { url: self.wanted.shown(), expected: expected.clone(), actual });
        }
        let modified = self.validators.modified();
        Ok(Saved { digest, bytes, validators: self.validators, modified })
    }

    /// Asks for the rest of the file, or for all of it when the server knows no parts; `error` if neither is to be had.
    async fn go_on(&mut self, sink: Sink, error: Error) -> Result<Sink> {
        let first = self.wanted.address()?;
        let mut headers = self.wanted.headers(&first, &self.url);
        if let Some(same) = self.validators.strong()
            && let Ok(same) = HeaderValue::from_str(same)
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", sink.written))
        {
            headers.insert(header::RANGE, range);
            headers.insert(header::IF_RANGE, same);
        }
        let Ok(response) = self.wanted.send(&self.client, &self.url, headers).await else {
            return Ok(sink);
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(sink.written) => {
                self.response = Some(response);
                Ok(sink)
            }
            StatusCode::OK => {
                self.validators = Validators::of(response.headers());
                self.total = response.content_length().unwrap_or(0);
                self.response = Some(response);
                sink.restart()
            }
            status if is_passing(status) => Ok(sink),
            _ => Err(error),
        }
    }
}

/// Where a body goes: a file and the functions that hash it.
struct Sink {
    file: File,
    pending: Vec<u8>,
    written: u64,
    digest: Sha256,
    other: Option<Other>,
}

enum Other {
    Sha256,
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Other {
    fn of(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => Self::Sha256,
            HashAlgorithm::Sha384 => Self::Sha384(Sha384::new()),
            HashAlgorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }
}

impl Sink {
    fn new(file: File, checksum: Option<&Checksum>) -> Self {
        let other = checksum.map(|checksum| Other::of(checksum.algorithm));
        Self { file, pending: Vec::with_capacity(PIECE), written: 0, digest: Sha256::new(), other }
    }

    fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Writes and hashes what waits.
    async fn flush(mut self) -> Result<Self> {
        if self.pending.is_empty() {
            return Ok(self);
        }
        blocking::run("write download", move || {
            self.file
                .write_all(&self.pending)
                .map_err(|source| Error::Io { verb: "write the download", source })?;
            self.digest.update(&self.pending);
            match &mut self.other {
                Some(Other::Sha384(hasher)) => hasher.update(&self.pending),
                Some(Other::Sha512(hasher)) => hasher.update(&self.pending),
                Some(Other::Sha256) | None => {}
            }
            self.written += self.pending.len() as u64;
            self.pending.clear();
            Ok(self)
        })
        .await
    }

    /// Forgets what came: the file begins anew.
    fn restart(mut self) -> Result<Self> {
        let io = |source| Error::Io { verb: "write the download", source };
        self.file.set_len(0).map_err(io)?;
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        self.pending.clear();
        self.written = 0;
        self.digest = Sha256::new();
        self.other = self.other.map(|other| match other {
            Other::Sha256 => Other::Sha256,
            Other::Sha384(_) => Other::of(HashAlgorithm::Sha384),
            Other::Sha512(_) => Other::of(HashAlgorithm::Sha512),
        });
        Ok(self)
    }

    fn digests(self) -> (Digest, Option<Checksum>) {
        let digest: [u8; 32] = self.digest.finalize().into();
        let checksum = |algorithm, bytes: &[u8]| Checksum { algorithm, hex: hex(bytes) };
        let other = self.other.map(|other| match other {
            Other::Sha256 => checksum(HashAlgorithm::Sha256, &digest),
            Other::Sha384(hasher) => checksum(HashAlgorithm::Sha384, &hasher.finalize()),
            Other::Sha512(hasher) => checksum(HashAlgorithm::Sha512, &hasher.finalize()),
        });
        let text = format!("sha256:{}", hex(&digest));
        (text.parse().expect("64 digits are a digest"), other)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Error {
    /// Tells whether the same request may succeed a moment later.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { reason: Unreachable::Timeout | Unreachable::Broken, .. })
    }
}

fn pause(tuning: &Tuning, attempt: u32, asked: Option<Duration>) -> Duration {
    let wait = tuning.first_delay.saturating_mul(1 << attempt.min(10)).min(tuning.max_delay);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    asked.map_or(wait + wait * (now.subsec_micros() % 256) / 1024, |asked| asked.min(tuning.max_delay))
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn redirect(response: &Response) -> Option<String> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308).then(|| location.to_owned())
}

/// Returns the first byte's number in `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(url: &str, may_leave_tls: bool) -> Wanted {
        let (authorization, known) = (Some(Redacted::new("Bearer x")), Validators::default());
        Wanted { url: url.to_owned(), authorization, known, may_leave_tls, limit: 1 }
    }

    #[test]
    fn a_redirect_leaves_tls_only_with_a_checksum() {
        let hop = |from: &str, to: &str, may| {
            let from = Url::parse(from).unwrap();
            wanted("https://a/x", may)
                .next_hop(&from, to)
                .map(String::from)
                .map_err(|error| error.to_string())
        };
        assert_eq!(hop("https://a/x", "/y", false).unwrap(), "https://a/y");
        assert_eq!(hop("https://a/x", "http://b/y", true).unwrap(), "http://b/y");
        assert!(hop("https://a/x", "http://b/y", false).unwrap_err().ends_with("which needs a checksum"));
        assert!(hop("http://a/x", "ftp://b/y", true).is_err());
    }

    #[test]
    fn a_credential_goes_to_its_own_origin() {
        let wanted = wanted("https://a/x", false);
        let first = wanted.address().unwrap();
        let has =
            |url: &str| wanted.headers(&first, &Url::parse(url).unwrap()).contains_key(header::AUTHORIZATION);
        assert!(has("https://a/y") && has("https://a:443/y"));
        for other in ["http://a/x", "https://b/x", "https://a:8443/x", "https://a.b/x"] {
            assert!(!has(other), "{other}");
        }
    }

    #[test]
    fn times_and_tags_of_servers_are_read() {
        let of = |etag: Option<&str>, modified: &str| Validators {
            etag: etag.map(str::to_owned),
            last_modified: Some(modified.to_owned()),
        };
        let good = of(Some("W/\"1\""), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(good.modified(), Some(784_111_777));
        assert_eq!(
            good.strong(),
            Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            "a weak tag proves nothing of bytes"
        );
        assert_eq!(of(Some("\"1\""), "").strong(), Some("\"1\""));
        assert_eq!(of(None, "yesterday").modified(), None);
    }
}
