//! What the `--filter`s of several commands have in common.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::LabelFilter;
use crate::cli::error::Error;
use crate::cli::{format, suggest};

/// Splits `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(&str, &str), Error> {
    text.split_once('=').ok_or_else(|| {
        Error::usage(format!("the filter `{text}` has no value")).hint("write it as `KEY=VALUE`")
    })
}

/// A key that is none of `known`.
pub(super) fn unknown(key: &str, known: &[&str]) -> Error {
    let error = Error::usage(format!("unknown filter `{key}`"));
    let error = match suggest::closest(key, known.iter().copied()) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error,
    };
    error.hint(format!("it may be {}", known.join(", ")))
}

/// Reads the value of a filter that is either so or not.
pub(super) fn boolean(key: &str, value: &str) -> Result<bool, Error> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::usage(format!("the filter `{key}` is `{value}`; it must be true or false"))
            .hint(format!("write it as `{key}=true`"))),
    }
}

/// Adds a value of `label=`: `KEY`, or `KEY=VALUE`.
pub(super) fn add_label(labels: &mut LabelFilter, value: &str) {
    let (key, wanted) = value.split_once('=').map_or((value, None), |(key, wanted)| (key, Some(wanted)));
    labels.0.push((key.to_owned(), wanted.map(str::to_owned)));
}

/// A list's column of labels.
pub(super) fn labels_column(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}

/// The labels of a row, for `.Label "key"`.
pub(super) fn labels_of_row(labels: &BTreeMap<String, String>) -> (&'static str, Value) {
    let labels = labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    (format::LABEL, Value::Object(labels.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_split_at_its_first_sign() {
        let mut labels = LabelFilter::default();
        for value in ["a", "b=", "c=d=e"] {
            add_label(&mut labels, value);
        }
        let expected = [("a", None), ("b", Some("")), ("c", Some("d=e"))];
        assert_eq!(labels.0, expected.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))));
    }

    // Docker's words of truth.
    #[test]
    fn a_boolean_is_a_word_or_a_digit() {
        for (value, expected) in [
            ("true", Some(true)),
            ("1", Some(true)),
            ("false", Some(false)),
            ("0", Some(false)),
            ("yes", None),
        ] {
            assert_eq!(boolean("dangling", value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn a_mistyped_filter_is_named_with_what_was_meant() {
        let hints = |error| match error {
            Error::Failure(failure) => (failure.message, failure.hints),
            _ => panic!("a usage error"),
        };
        let (message, told) = hints(unknown("lable", &["label", "name"]));
        assert_eq!(message, "unknown filter `lable`");
        assert_eq!(told, ["did you mean `label`?", "it may be label, name"]);
        let (message, told) = hints(pair("dangling").unwrap_err());
        assert_eq!(message, "the filter `dangling` has no value");
        assert_eq!(told, ["write it as `KEY=VALUE`"]);
    }
}
