//! One request to one endpoint: TLS, tokens, redirects and retries.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, Once};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Body, Method, Response, StatusCode, Url};
use serde::Deserialize;

use super::Tuning;
use super::auth::{self, Challenge, Grant, Token, Tokens};
use super::error::{Error, Result};
use super::hosts::{Endpoint, Tls, is_loopback};
use crate::oci::Reference;

/// The same bound as Go's client has.
const REDIRECTS_MAX: usize = 10;
/// More of an error's or a token's body is not read.
const SMALL_BODY_MAX: usize = 256 << 10;
/// More of a registry's words is not shown.
const WORDS_MAX_CHARS: usize = 500;

/// Whether content is read or written; decides on scopes and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
}

impl Action {
    fn scope(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// A request, kept so that it can be sent again.
pub(super) struct Call<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) reference: &'a Reference,
    pub(super) action: Action,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Makes the body anew for each attempt.
    pub(super) body: Option<&'a (dyn Fn() -> Result<Body> + Send + Sync)>,
    /// A repository that must be readable too, to mount a blob from it.
    pub(super) from: Option<&'a str>,
    /// Whether a retry is safe and useful.
    pub(super) retry: bool,
}

impl<'a> Call<'a> {
    /// Returns a call of `path` below the repository: `manifests/latest`.
    pub(super) fn new(
        endpoint: &'a Endpoint,
        reference: &'a Reference,
        action: Action,
        method: Method,
        path: &str,
    ) -> Self {
        let mut url = endpoint.base.clone();
        url.set_path(&format!("{}/{}/{path}", endpoint.base.path(), reference.repository));
        if let Some(registry) = &endpoint.mirrors {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        Self {
            endpoint,
            reference,
            action,
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            from: None,
            retry: true,
        }
    }

    /// Adds a header whose value is known to be plain text.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let value =
            value.parse().map_err(|_| self.protocol(format!("`{value}` can't be sent in a header")))?;
        self.headers.append(name, value);
        Ok(self)
    }

    pub(super) fn protocol(&self, reason: impl Into<String>) -> Error {
        Error::Protocol {
            registry: self.endpoint.label.clone(),
            reference: self.reference.familiar(),
            reason: reason.into(),
        }
    }

    fn grant(&self) -> Grant {
        let own = format!("repository:{}:{}", self.reference.repository, self.action.scope());
        let from = self.from.map(|repository| format!("repository:{repository}:pull"));
        Grant { base: self.endpoint.base.to_string(), scopes: std::iter::once(own).chain(from).collect() }
    }
}

/// The HTTP clients and what they remember.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) tuning: Tuning,
    tokens: Tokens,
    /// By TLS settings (none for plain http) and whether the host is this machine.
    clients: Mutex<HashMap<(Option<Tls>, bool), reqwest::Client>>,
}

impl Transport {
    pub(super) fn new(tuning: Tuning) -> Self {
        Self { tuning, tokens: Tokens::default(), clients: Mutex::default() }
    }

    /// Sends `call` and returns its answer, whatever its status; retries what may pass.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response> {
        let mut attempt = 0;
        loop {
            let result = self.authorised(call).await;
            let may_retry = call.retry && attempt < self.tuning.retries;
            let wait = match &result {
                Ok(response) if may_retry && is_passing(response.status()) => {
                    self.retry_after(response).unwrap_or_else(|| Some(self.backoff(attempt)))
                }
                Err(error) if may_retry && error.is_transient() => Some(self.backoff(attempt)),
                _ => None,
            };
            let Some(wait) = wait else { return result };
            attempt += 1;
            tracing::debug!(url = %call.url, attempt, ?wait, "trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends `call` and returns its answer if it is a success.
    pub(super) async fn send_ok(&self, call: &Call<'_>) -> Result<Response> {
        let response = self.send(call).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(call, response).await) }
    }

    /// Returns the wait before retry number `attempt`, with up to a quarter more so that many clients spread.
    pub(super) fn backoff(&self, attempt: u32) -> Duration {
        let wait = self.tuning.first_delay.saturating_mul(1 << attempt.min(10)).min(self.tuning.max_delay);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        wait + wait * (now.subsec_micros() % 256) / 1024
    }

    /// Returns what the registry asks for: `None` if nothing, `Some(None)` if more than is bearable.
    fn retry_after(&self, response: &Response) -> Option<Option<Duration>> {
        let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        let wait = Duration::from_secs(seconds);
        Some((wait <= self.tuning.max_delay).then_some(wait))
    }

    /// Sends with the token at hand; on `401` gets a new one, once.
    async fn authorised(&self, call: &Call<'_>) -> Result<Response> {
        let grant = call.grant();
        let token = self.tokens.get(&grant);
        let response = self.follow(call, token.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.tokens.forget(&grant);
        match Challenge::of(response.headers()) {
            Challenge::Bearer { realm, service, scope } => {
                let scopes = wanted_scopes(scope, &grant);
                let (token, life) = self.fetch_token(call, &realm, service.as_deref(), &scopes).await?;
                self.tokens.put(grant, token.clone(), life);
                self.follow(call, Some(&token)).await
            }
            Challenge::Basic => Err(Error::LoginRequired {
                registry: call.endpoint.label.clone(),
                reference: call.reference.familiar_name(),
            }),
            Challenge::Unknown => Ok(response),
        }
    }

    async fn fetch_token(
        &self,
        call: &Call<'_>,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<(Token, Duration)> {
        let wrong = |reason: String| call.protocol(format!("its token server {reason}"));
        let mut url =
            Url::parse(realm).map_err(|error| wrong(format!("`{realm}` is no address: {error}")))?;
        // A token that crossed the network in the clear would be worth stealing.
        if !matches!(url.scheme(), "https") && call.endpoint.base.scheme() != "http" {
            return Err(wrong(format!("`{realm}` isn't https")));
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("`{realm}` isn't http")));
        }
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        }
        let request = self.client(call.endpoint, &url)?.get(url);
        let response = request.send().await.map_err(|error| Error::from_http(&call.endpoint.label, error))?;
        let status = response.status();
        let body = read_bounded(response, SMALL_BODY_MAX).await;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(denied(call, words(&body.unwrap_or_default()).1));
        }
        if !status.is_success() {
            return Err(wrong(format!("answered {status}")));
        }
        let body = body.map_err(|error| error.into_error(call))?;
        auth::parse_token(&body).ok_or_else(|| wrong("gave no token".to_owned()))
    }

    /// Sends once and follows redirects; what belongs to the endpoint stays with the endpoint.
    async fn follow(&self, call: &Call<'_>, token: Option<&Token>) -> Result<Response> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.once(call, &url, token).await?;
            let Some(next) = redirect(&response) else { return Ok(response) };
            let next = url.join(&next).map_err(|_| call.protocol("its redirect is no address"))?;
            if !matches!(next.scheme(), "http" | "https") {
                return Err(call.protocol(format!("it redirects to `{}:`", next.scheme())));
            }
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(call.protocol("it redirects from https to http"));
            }
            tracing::debug!(from = url.host_str(), to = next.host_str(), "redirected");
            url = next;
        }
        Err(call.protocol("it redirects without end"))
    }

    async fn once(&self, call: &Call<'_>, url: &Url, token: Option<&Token>) -> Result<Response> {
        let mut request = self.client(call.endpoint, url)?.request(call.method.clone(), url.clone());
        request = request.headers(call.headers.clone());
        if url.origin() == call.endpoint.base.origin() {
            request = request.headers(call.endpoint.headers.clone());
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, token.header());
            }
        }
        if let Some(body) = call.body {
            request = request.body(body()?);
        }
        request.send().await.map_err(|error| Error::from_http(&call.endpoint.label, error))
    }

    /// Returns the client for `url`; plain http never loads certificates, loopback never uses a proxy.
    fn client(&self, endpoint: &Endpoint, url: &Url) -> Result<reqwest::Client> {
        let tls = (url.scheme() == "https").then(|| endpoint.tls.clone());
        let key = (tls, is_loopback(url));
        let mut clients = self.clients.lock().expect("nothing panics while it holds the clients");
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build(&self.tuning, &endpoint.label, key.0.as_ref(), key.1)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// Turns an answer that is no success into an error with the registry's own words.
    pub(super) async fn refusal(&self, call: &Call<'_>, response: Response) -> Error {
        let status = response.status();
        let body = read_bounded(response, SMALL_BODY_MAX).await.unwrap_or_default();
        let (code, message) = words(&body);
        let registry = call.endpoint.label.clone();
        match (status, code.as_str()) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => denied(call, message),
            (StatusCode::NOT_FOUND, "NAME_UNKNOWN") => {
                Error::RepositoryUnknown { registry, reference: call.reference.familiar_name(), message }
            }
            (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN") => {
                Error::ManifestUnknown { registry, reference: call.reference.familiar(), message }
            }
            (StatusCode::BAD_REQUEST, "") if body.starts_with(b"Client sent an HTTP request to an HTTPS") => {
                call.protocol(
                    "it speaks https where http was expected; name it as `server` in its hosts.toml",
                )
            }
            _ => Error::Status {
                registry,
                reference: call.reference.familiar(),
                status: status.to_string(),
                message,
            },
        }
    }
}

fn denied(call: &Call<'_>, message: String) -> Error {
    Error::Denied {
        action: call.action.word(),
        reference: call.reference.familiar_name(),
        registry: call.endpoint.label.clone(),
        message,
    }
}

/// Returns what to ask the token server for: the challenge's scope, and the one to mount from.
fn wanted_scopes(challenged: Option<String>, grant: &Grant) -> Vec<String> {
    match challenged {
        Some(scope) => {
            // One challenge may name several scopes with blanks between.
            let mut scopes: Vec<String> = scope.split_whitespace().map(str::to_owned).collect();
            let repository = |scope: &str| scope.rsplit_once(':').map(|(head, _)| head.to_owned());
            let missing = grant
                .scopes
                .iter()
                .skip(1)
                .filter(|scope| scopes.iter().all(|other| repository(other) != repository(scope)));
            let missing: Vec<String> = missing.cloned().collect();
            scopes.extend(missing);
            scopes
        }
        None => grant.scopes.clone(),
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn redirect(response: &Response) -> Option<String> {
    let status = response.status().as_u16();
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    matches!(status, 301 | 302 | 303 | 307 | 308).then(|| location.to_owned())
}

fn build(tuning: &Tuning, registry: &str, tls: Option<&Tls>, loopback: bool) -> Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that somebody installed one before, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let connect = tls.and_then(|tls| tls.dial_timeout).unwrap_or(tuning.connect);
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(connect)
        .read_timeout(tuning.idle)
        .http2_adaptive_window(true);
    if loopback {
        builder = builder.no_proxy();
    }
    match tls {
        None => builder = builder.tls_certs_only([]),
        Some(tls) => {
            builder = builder.tls_danger_accept_invalid_certs(tls.skip_verify);
            builder = builder.tls_certs_merge(authorities(tls)?);
            if let Some((certificate, key)) = &tls.client {
                let mut pem = read_file(certificate)?;
                pem.extend(key.as_deref().map(read_file).transpose()?.unwrap_or_default());
                let identity =
                    reqwest::Identity::from_pem(&pem).map_err(|error| not_pem(certificate, &error))?;
                builder = builder.identity(identity);
            }
        }
    }
    builder.build().map_err(|error| {
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Error::Setup { registry: registry.to_owned(), reason: innermost.to_string() }
    })
}

fn authorities(tls: &Tls) -> Result<Vec<reqwest::Certificate>> {
    let mut found = Vec::new();
    for path in &tls.ca {
        let bundle = reqwest::Certificate::from_pem_bundle(&read_file(path)?);
        found.extend(bundle.map_err(|error| not_pem(path, &error))?);
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::ReadConfig { path: path.to_owned(), source })
}

fn not_pem(path: &Path, error: &reqwest::Error) -> Error {
    Error::Config { path: path.to_owned(), reason: format!("it is no PEM certificate: {error}") }
}

/// Why a bounded body could not be read.
#[derive(Debug)]
pub(super) enum BodyError {
    TooLong(usize),
    Http(reqwest::Error),
}

impl BodyError {
    pub(super) fn into_error(self, call: &Call<'_>) -> Error {
        match self {
            Self::TooLong(bound) => call.protocol(format!("its answer has more than {bound} bytes")),
            Self::Http(error) => Error::from_http(&call.endpoint.label, error),
        }
    }
}

/// Reads a whole body of at most `bound` bytes.
pub(super) async fn read_bounded(mut response: Response, bound: usize) -> Result<Bytes, BodyError> {
    if response.content_length().is_some_and(|length| length > bound as u64) {
        return Err(BodyError::TooLong(bound));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Http)? {
        if body.len() + chunk.len() > bound {
            return Err(BodyError::TooLong(bound));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    /// Docker Hub's token server says it so.
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Returns the registry's first error code, and all it said in one line that is safe to show.
fn words(body: &[u8]) -> (String, String) {
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else { return Default::default() };
    let code = body.errors.first().map(|error| error.code.clone()).unwrap_or_default();
    let said: Vec<String> = body.errors.iter().map(entry_words).chain(body.details).collect();
    let said = said.join("; ");
    let shown = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    (code, shown.take(WORDS_MAX_CHARS).collect())
}

fn entry_words(entry: &ErrorEntry) -> String {
    match (entry.code.as_str(), entry.message.as_str()) {
        ("", message) => message.to_owned(),
        (code, "") => code.to_ascii_lowercase().replace('_', " "),
        (code, message) if message.eq_ignore_ascii_case(&code.replace('_', " ")) => message.to_owned(),
        (code, message) => format!("{}: {message}", code.to_ascii_lowercase().replace('_', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_are_shown_in_one_safe_line() {
        for (body, code, shown) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                "MANIFEST_UNKNOWN",
                "manifest unknown",
            ),
            (
                r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m\nway"}]}"#,
                "DENIED",
                "denied: no [31m way",
            ),
            (r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#, "TOOMANYREQUESTS", "toomanyrequests"),
            (r#"{"details":"incorrect username or password"}"#, "", "incorrect username or password"),
            (r#"{"errors":[]}"#, "", ""),
            ("<html>", "", ""),
        ] {
            assert_eq!(words(body.as_bytes()), (code.to_owned(), shown.to_owned()), "{body}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let transport = Transport::new(Tuning::default());
        let tuning = &transport.tuning;
        for attempt in 0..40 {
            let wait = transport.backoff(attempt);
            assert!(wait >= tuning.first_delay && wait <= tuning.max_delay * 5 / 4, "{wait:?}");
        }
        assert!(transport.backoff(4) >= tuning.first_delay * 16);
    }

    #[test]
    fn a_mount_asks_for_both_repositories() {
        let grant = Grant {
            base: String::new(),
            scopes: vec!["repository:a:pull,push".into(), "repository:b:pull".into()],
        };
        let challenged = Some("repository:a:push,pull".to_owned());
        assert_eq!(wanted_scopes(challenged, &grant), ["repository:a:push,pull", "repository:b:pull"]);
        assert_eq!(wanted_scopes(None, &grant), grant.scopes);
    }
}
