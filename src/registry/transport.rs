//! One request to one endpoint: TLS, tokens, redirects and retries.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use super::Tuning;
use super::auth::{self, Challenge, Grant, Token, Tokens};
use super::call::Call;
use super::error::{Error, Result};
use super::hosts::Endpoint;
use super::http::ClientKey;
use super::reply::{SMALL_BODY_MAX, denied, read_bounded, refusal, words};

/// The same bound as Go's client has.
const REDIRECTS_MAX: usize = 10;
/// How many idle times an upload may stand still: a registry hashes and moves a large blob before it answers.
const UPLOAD_IDLES: u32 = 5;

/// The HTTP clients and what they remember.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) tuning: Tuning,
    tokens: Tokens,
    clients: Mutex<HashMap<ClientKey, reqwest::Client>>,
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
        if response.status().is_success() { Ok(response) } else { Err(refusal(call, response).await) }
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
        let clear = call.endpoint.base.scheme() == "http" && url.scheme() == "http";
        if url.scheme() != "https" && !clear {
            return Err(wrong(format!("`{realm}` isn't https")));
        }
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        }
        let response = self.get_anonymously(call, url).await?;
        let status = response.status();
        let body = read_bounded(response, SMALL_BODY_MAX).await;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(denied(call, words(&body.unwrap_or_default()).1));
        }
        if is_passing(status) {
            return Err(Error::Status {
                registry: call.endpoint.label.clone(),
                reference: call.reference.familiar(),
                status: status.as_u16(),
                message: "its token server is busy or broken".to_owned(),
            });
        }
        if !status.is_success() {
            return Err(wrong(format!("answered {status}")));
        }
        let body = body.map_err(|error| error.into_error(call))?;
        auth::parse_token(&body).ok_or_else(|| wrong("gave no token".to_owned()))
    }

    /// Gets an address that isn't the endpoint's own, redirects included.
    async fn get_anonymously(&self, call: &Call<'_>, mut url: Url) -> Result<Response> {
        for _ in 0..=REDIRECTS_MAX {
            let request = self.client(call.endpoint, &url, false)?.get(url.clone());
            let sent = request.send().await;
            let response = sent.map_err(|error| Error::from_http(&call.endpoint.label, error))?;
            let Some(next) = redirect(&response) else { return Ok(response) };
            url = next_hop(&url, &next).map_err(|reason| call.protocol(reason))?;
        }
        Err(call.protocol("its token server redirects without end"))
    }

    /// Sends once and follows redirects; what belongs to the endpoint stays with the endpoint.
    async fn follow(&self, call: &Call<'_>, token: Option<&Token>) -> Result<Response> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.once(call, &url, token).await?;
            let Some(next) = redirect(&response) else { return Ok(response) };
            let next = next_hop(&url, &next).map_err(|reason| call.protocol(reason))?;
            tracing::debug!(from = url.host_str(), to = next.host_str(), "redirected");
            url = next;
        }
        Err(call.protocol("it redirects without end"))
    }

    async fn once(&self, call: &Call<'_>, url: &Url, token: Option<&Token>) -> Result<Response> {
        let client = self.client(call.endpoint, url, call.body.is_some())?;
        let mut request = client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
        if url.origin() == call.endpoint.base.origin() {
            request = request.headers(call.endpoint.headers.clone());
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, token.header());
            }
        }
        let label = &call.endpoint.label;
        let sent = match call.body {
            Some(body) => {
                let sending = request.body(body()?).send();
                let patience = self.tuning.idle * UPLOAD_IDLES;
                watch(sending, call.moved, patience).await.ok_or_else(|| Error::timeout(label))?
            }
            None => request.send().await,
        };
        sent.map_err(|error| Error::from_http(label, error))
    }

    fn client(&self, endpoint: &Endpoint, url: &Url, upload: bool) -> Result<reqwest::Client> {
        let key = ClientKey::new(endpoint, url, upload);
        let mut clients = self.clients.lock().expect("nothing panics while it holds the clients");
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = key.build(&self.tuning, &endpoint.label)?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// Waits for `sending`; `None` once `moved` has stood still for `patience`.
async fn watch<F: Future>(sending: F, moved: Option<&AtomicU64>, patience: Duration) -> Option<F::Output> {
    let mut sending = std::pin::pin!(sending);
    let now = || moved.map_or(0, |moved| moved.load(Ordering::Relaxed));
    let mut last = now();
    loop {
        match tokio::time::timeout(patience, &mut sending).await {
            Ok(output) => return Some(output),
            Err(_) if now() == last => return None,
            Err(_) => last = now(),
        }
    }
}

/// Returns where a redirect leads; what was protected stays protected.
fn next_hop(from: &Url, location: &str) -> Result<Url, &'static str> {
    let next = from.join(location).map_err(|_| "its redirect is no address")?;
    match (from.scheme(), next.scheme()) {
        ("https", "http") => Err("it redirects from https to http"),
        (_, "http" | "https") => Ok(next),
        _ => Err("it redirects to something else than http"),
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn redirects_stay_in_http_and_never_lose_tls() {
        let hop = |from: &str, to| next_hop(&Url::parse(from).unwrap(), to).map(String::from);
        assert_eq!(hop("https://a/v2/x", "/y?z").unwrap(), "https://a/y?z");
        assert_eq!(hop("https://a/v2/x", "//b/y").unwrap(), "https://b/y");
        assert_eq!(hop("http://a/", "https://b/").unwrap(), "https://b/");
        for (from, to) in
            [("https://a/", "http://b/"), ("http://a/", "file:///etc/passwd"), ("http://a/", "http://")]
        {
            assert!(hop(from, to).is_err(), "{to}");
        }
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
