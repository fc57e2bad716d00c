//! What a registry answers, read with bounds and put into words.

use bytes::{Bytes, BytesMut};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::call::Call;
use super::error::{Error, Result};

/// More of an error's or a token's body is not read.
pub(super) const SMALL_BODY_MAX: usize = 256 << 10;
/// More of a registry's words is not shown.
const WORDS_MAX_CHARS: usize = 500;

/// Turns an answer that is no success into an error with the registry's own words.
pub(super) async fn refusal(call: &Call<'_>, response: Response) -> Error {
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
            call.protocol("it speaks https where http was expected; name it as `server` in its hosts.toml")
        }
        _ => {
            Error::Status { registry, reference: call.reference.familiar(), status: status.as_u16(), message }
        }
    }
}

/// Says that an anonymous user may not, or that there is nothing.
pub(super) fn denied(call: &Call<'_>, message: String) -> Error {
    Error::Denied {
        action: call.action.word(),
        reference: call.reference.familiar_name(),
        registry: call.endpoint.label.clone(),
        message,
    }
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
pub(super) fn words(body: &[u8]) -> (String, String) {
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else { return Default::default() };
    let code = body.errors.first().map(|error| error.code.clone()).unwrap_or_default();
    let said: Vec<String> = body.errors.iter().map(entry_words).chain(body.details).collect();
    let said = said.join("; ");
    (code, shown(&said))
}

/// Makes a stranger's text safe to show: one line, without control characters, not endless.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX_CHARS).collect()
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
}
