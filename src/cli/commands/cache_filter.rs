//! `--filter` of the build cache's commands: BuildKit's keys and operators.

use std::time::Duration;

use super::filter;
use crate::api::{CACHE_KINDS, CacheCondition, CacheFilter, TextCondition};
use crate::cli::error::Error;
use crate::cli::time;

/// The keys, as they are told.
const KEYS: [&str; 11] = [
    "type",
    "id",
    "description",
    "parents",
    "until",
    "unused-for",
    "inuse",
    "shared",
    "private",
    "mutable",
    "immutable",
];

/// What stands between key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// `=`
    Fits,
    /// `==`
    Is,
    /// `!=`
    IsNot,
    /// `~=`
    Has,
}

/// Reads all `--filter`s: a thing has to fit each.
pub(super) fn parse(texts: &[String]) -> Result<CacheFilter, Error> {
    let conditions = texts.iter().map(|text| condition(text)).collect::<Result<_, _>>()?;
    Ok(CacheFilter { conditions })
}

fn condition(text: &str) -> Result<CacheCondition, Error> {
    let (key, operator, value) = split(text);
    match key {
        // As in docker, `id=` is a part of the id; a star after it is how a listing marks what steps write to.
        "id" => Ok(CacheCondition::Id(words(operator, value.trim_end_matches('*'), TextCondition::Has))),
        "type" => kind(operator, value),
        "description" => Ok(CacheCondition::Description(words(operator, value, TextCondition::Has))),
        "parents" | "parent" => Ok(CacheCondition::Parents(words(operator, value, TextCondition::Has))),
        "until" | "unused-for" => match operator {
            Some(Operator::Fits | Operator::Is) => Ok(CacheCondition::UnusedFor(age(key, value)?)),
            _ => Err(Error::usage(format!("`{text}` needs a time: `{key}=24h`"))),
        },
        "inuse" => Ok(CacheCondition::InUse(truth(key, operator, value)?)),
        "shared" => Ok(CacheCondition::Shared(truth(key, operator, value)?)),
        "private" => Ok(CacheCondition::Shared(!truth(key, operator, value)?)),
        "mutable" => Ok(CacheCondition::Mutable(truth(key, operator, value)?)),
        "immutable" => Ok(CacheCondition::Mutable(!truth(key, operator, value)?)),
        _ => Err(filter::unknown(key, &KEYS)),
    }
}

fn split(text: &str) -> (&str, Option<Operator>, &str) {
    let Some(end) = text.find(['=', '!', '~']) else { return (text.trim(), None, "") };
    let (key, rest) = text.split_at(end);
    for (spelling, operator) in
        [("==", Operator::Is), ("!=", Operator::IsNot), ("~=", Operator::Has), ("=", Operator::Fits)]
    {
        if let Some(value) = rest.strip_prefix(spelling) {
            return (key.trim(), Some(operator), value.trim());
        }
    }
    (text.trim(), None, "")
}

/// A condition of a text, with `=` as `fits` has it; without a value it says nothing.
fn words(operator: Option<Operator>, value: &str, fits: fn(String) -> TextCondition) -> TextCondition {
    let value = value.trim_matches('"').to_owned();
    match operator {
        Some(Operator::Fits) => fits(value),
        Some(Operator::Is) => TextCondition::Is(value),
        Some(Operator::IsNot) => TextCondition::IsNot(value),
        Some(Operator::Has) => TextCondition::Has(value),
        None => TextCondition::Has(String::new()),
    }
}

fn kind(operator: Option<Operator>, value: &str) -> Result<CacheCondition, Error> {
    if operator != Some(Operator::Has) && !CACHE_KINDS.contains(&value.trim_matches('"')) {
        let error = Error::usage(format!("nothing in a cache is of the type `{value}`"));
        return Err(error.hint(format!("it may be {}", CACHE_KINDS.join(", "))));
    }
    Ok(CacheCondition::Kind(words(operator, value, TextCondition::Is)))
}

fn truth(key: &str, operator: Option<Operator>, value: &str) -> Result<bool, Error> {
    let value = match value {
        "" | "true" | "1" => true,
        "false" | "0" => false,
        _ => return Err(Error::usage(format!("the filter `{key}` is `{value}`; it must be true or false"))),
    };
    Ok(value != (operator == Some(Operator::IsNot)))
}

/// A time that has passed: `24h`, `7d`, or a moment.
fn age(key: &str, text: &str) -> Result<Duration, Error> {
    let now = time::now();
    let since = time::parse_moment(text, now).map(|moment| now.saturating_sub(moment));
    let span = time::parse_age(text).or_else(|| Some(Duration::from_nanos(u64::try_from(since?).ok()?)));
    span.ok_or_else(|| {
        Error::usage(format!("bad time `{text}` of the filter `{key}`")).hint("such as 24h or 7d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<CacheCondition, String> {
        condition(text).map_err(|error| match error {
            Error::Failure(failure) => failure.message,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn filters_are_buildkits() {
        let text = |text: &str| text.to_owned();
        for (filter, expected) in [
            ("type==regular", CacheCondition::Kind(TextCondition::Is(text("regular")))),
            ("type=exec.cachemount", CacheCondition::Kind(TextCondition::Is(text("exec.cachemount")))),
            ("type!=regular", CacheCondition::Kind(TextCondition::IsNot(text("regular")))),
            ("type~=source", CacheCondition::Kind(TextCondition::Has(text("source")))),
            ("id=abc*", CacheCondition::Id(TextCondition::Has(text("abc")))),
            ("id==abc", CacheCondition::Id(TextCondition::Is(text("abc")))),
            ("description~=npm a=b", CacheCondition::Description(TextCondition::Has(text("npm a=b")))),
            ("parents==x", CacheCondition::Parents(TextCondition::Is(text("x")))),
            ("until=24h", CacheCondition::UnusedFor(Duration::from_secs(86_400))),
            ("unused-for=7d", CacheCondition::UnusedFor(Duration::from_secs(7 * 86_400))),
            ("inuse", CacheCondition::InUse(true)),
            ("inuse=false", CacheCondition::InUse(false)),
            ("shared", CacheCondition::Shared(true)),
            ("private", CacheCondition::Shared(false)),
            ("private=false", CacheCondition::Shared(true)),
            ("immutable", CacheCondition::Mutable(false)),
        ] {
            assert_eq!(one(filter), Ok(expected), "{filter}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (filter, expected) in [
            ("typ==regular", "unknown filter `typ`"),
            ("type==regularly", "nothing in a cache is of the type `regularly`"),
            ("type", "nothing in a cache is of the type ``"),
            ("until=soon", "bad time `soon` of the filter `until`"),
            ("until", "`until` needs a time: `until=24h`"),
            ("inuse=maybe", "the filter `inuse` is `maybe`; it must be true or false"),
        ] {
            assert_eq!(one(filter), Err(expected.to_owned()), "{filter}");
        }
    }
}
