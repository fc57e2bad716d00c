//! Anonymous tokens: what a registry's `401` asks for, and the tokens got so far.
//!
//! Source: distribution, docs/spec/auth/token.md; RFC 9110, section 11.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

/// How long a token lasts that doesn't say so; given by the source above.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token isn't used in its last moments, so that it doesn't expire on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// What a token server says beyond this is not believed.
const LIFE_MAX: Duration = Duration::from_secs(3600);

/// A token; its value never shows in messages or traces.
#[derive(Clone)]
pub(super) struct Token(HeaderValue);

impl Token {
    /// Returns the value of the `Authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    /// The endpoint that asked for it.
    pub(super) base: String,
    /// The scopes, as the protocol spells them.
    pub(super) scopes: Vec<String>,
}

/// The tokens got so far.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<Grant, (Token, Instant)>>);

impl Tokens {
    /// Returns a token for `grant` that still lasts a moment.
    pub(super) fn get(&self, grant: &Grant) -> Option<Token> {
        let tokens = self.0.lock().expect("nothing panics while it holds the tokens");
        let (token, until) = tokens.get(grant)?;
        (*until > Instant::now()).then(|| token.clone())
    }

    pub(super) fn put(&self, grant: Grant, token: Token, life: Duration) {
        let life = life.min(LIFE_MAX);
        let usable = life.saturating_sub(MARGIN.min(life / 4));
        let mut tokens = self.0.lock().expect("nothing panics while it holds the tokens");
        tokens.insert(grant, (token, Instant::now() + usable));
    }

    pub(super) fn forget(&self, grant: &Grant) {
        self.0.lock().expect("nothing panics while it holds the tokens").remove(grant);
    }
}

/// What a `401` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// A user name and a password.
    Basic,
    /// Nothing that kiln knows.
    Unknown,
}

impl Challenge {
    /// Reads the `WWW-Authenticate` headers of an answer; a token is preferred over a password.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::Unknown;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Ok(text) = value.to_str() else { continue };
            match Self::parse(text) {
                bearer @ Self::Bearer { .. } => return bearer,
                Self::Basic => found = Self::Basic,
                Self::Unknown => {}
            }
        }
        found
    }

    fn parse(text: &str) -> Self {
        let (scheme, rest) = text.trim().split_once([' ', '\t']).unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Self::Basic;
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Self::Unknown;
        }
        let mut parameters = parameters(rest);
        match parameters.remove("realm") {
            Some(realm) => Self::Bearer {
                realm,
                service: parameters.remove("service"),
                scope: parameters.remove("scope").filter(|scope| !scope.is_empty()),
            },
            None => Self::Unknown,
        }
    }
}

/// Reads `key=value, key="quoted \"value\""`; commas inside quotes belong to the value.
fn parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', '\t', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted),
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        found.entry(key).or_insert(value);
        rest = after;
    }
    found
}

/// Reads up to the closing quote; returns the value and what follows.
fn quoted_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// What a token server answers.
#[derive(Deserialize)]
struct TokenBody {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Reads a token server's answer: the token and how long it lasts.
pub(super) fn parse_token(body: &[u8]) -> Option<(Token, Duration)> {
    let body: TokenBody = serde_json::from_slice(body).ok()?;
    let text = body.token.or(body.access_token).filter(|token| !token.is_empty())?;
    let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok()?;
    header.set_sensitive(true);
    Some((Token(header), body.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_their_quotes() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let Challenge::Bearer { realm, service, scope } = Challenge::parse(hub) else { panic!() };
        assert_eq!(realm, "https://auth.docker.io/token");
        assert_eq!(service.as_deref(), Some("registry.docker.io"));
        assert_eq!(scope.as_deref(), Some("repository:a/b:pull,push"));
        for (text, challenge) in [
            (r#"Basic realm="x""#, Challenge::Basic),
            ("basic", Challenge::Basic),
            ("Bearer", Challenge::Unknown),
            ("Negotiate abc", Challenge::Unknown),
            ("", Challenge::Unknown),
            (
                r#"BEARER Realm=http://h/t , service = "a\"b" , error="x""#,
                Challenge::Bearer { realm: "http://h/t".into(), service: None, scope: None },
            ),
            (
                r#"Bearer realm="unclosed"#,
                Challenge::Bearer { realm: "unclosed".into(), service: None, scope: None },
            ),
        ] {
            let found = match Challenge::parse(text) {
                Challenge::Bearer { realm, scope, .. } => Challenge::Bearer { realm, service: None, scope },
                other => other,
            };
            assert_eq!(found, challenge, "{text}");
        }
    }

    #[test]
    fn tokens_expire_and_never_show() {
        let (token, life) = parse_token(br#"{"access_token":"abc","expires_in":300}"#).unwrap();
        assert_eq!((token.header().to_str().unwrap(), life.as_secs()), ("Bearer abc", 300));
        assert!(!format!("{token:?} {:?}", token.header()).contains("abc"));
        assert!(parse_token(b"{}").is_none() && parse_token(b"<html>").is_none());
        assert!(parse_token(b"{\"token\":\"a\\nb\"}").is_none());

        let tokens = Tokens::default();
        let grant = Grant { base: "http://h/v2".into(), scopes: vec!["repository:a:pull".into()] };
        tokens.put(grant.clone(), token.clone(), Duration::ZERO);
        assert!(tokens.get(&grant).is_none());
        tokens.put(grant.clone(), token, life);
        assert!(tokens.get(&grant).is_some());
        tokens.forget(&grant);
        assert!(tokens.get(&grant).is_none());
    }
}
