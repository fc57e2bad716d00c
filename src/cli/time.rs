//! Moments and spans as people write and read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Returns the time as unix nanoseconds.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// Returns a span in words: `About an hour`, `2 weeks`. Docker's words and bounds.
pub(crate) fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => return "Less than a second".into(),
        1 => return "1 second".into(),
        2..60 => return format!("{seconds} seconds"),
        60..120 => return "About a minute".into(),
        120..3600 => return format!("{minutes} minutes"),
        _ => {}
    }
    match hours {
        0..=1 => "About an hour".into(),
        2..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / 24),
        336..1440 => format!("{} weeks", hours / 24 / 7),
        1440..17520 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Returns how long ago `nanoseconds` (unix) was: `2 weeks ago`; `N/A` for no time at all.
pub(crate) fn ago(nanoseconds: i64, now: i64) -> String {
    if nanoseconds <= 0 {
        return "N/A".into();
    }
    human(Duration::from_nanos(now.saturating_sub(nanoseconds).max(0).unsigned_abs())) + " ago"
}

/// Returns `seconds` (unix) as docker's `CreatedAt` columns show it: `2026-11-21 10:00:00 +0000 UTC`.
pub(crate) fn long(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map(|time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
        .unwrap_or_default()
}

/// Returns `nanoseconds` (unix) in RFC 3339 with all nine digits: `2026-11-21T10:00:00.000000000Z`.
pub(crate) fn precise(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into()).map(|time| format!("{time:.9}")).unwrap_or_default()
}

/// Returns `seconds` (unix) in RFC 3339: `2026-11-21T10:00:00Z`.
pub(crate) fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// Reads a moment as `logs --since` takes it, to unix nanoseconds: RFC 3339, a date, unix seconds with a
/// fraction, or a Go duration before `now`, a negative one after it.
pub(crate) fn parse_moment(text: &str, now: i64) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(nearest(time));
    }
    let (later, span) = text.strip_prefix('-').map_or((false, text), |span| (true, span));
    if let Some(span) = parse_span(span) {
        let span = i64::try_from(span.as_nanos()).ok()?;
        return if later { now.checked_add(span) } else { now.checked_sub(span) };
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        return Some(seconds.parse::<i64>().ok()?.saturating_mul(1_000_000_000).saturating_add(nanoseconds));
    }
    // Without a zone: UTC.
    let date = if text.contains('T') { format!("{text}Z") } else { format!("{text}T00:00:00Z") };
    date.parse::<Timestamp>().ok().map(nearest)
}

/// What is too early or too late for nanoseconds in 64 bits is before or after everything.
fn nearest(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(if time.as_second() < 0 { i64::MIN } else { i64::MAX })
}

/// Reads how old something may be: a Go duration, or days or weeks (`60d`, `2w`) as people count them.
pub(crate) fn parse_age(text: &str) -> Option<Duration> {
    let whole = |days: &str, hours: u64| {
        Some(Duration::from_secs(days.parse::<u64>().ok()?.checked_mul(hours * 3600)?))
    };
    if text == "0" {
        return Some(Duration::ZERO);
    }
    match (text.strip_suffix('d'), text.strip_suffix('w')) {
        (Some(days), _) => whole(days, 24),
        (_, Some(weeks)) => whole(weeks, 7 * 24),
        _ => parse_span(text),
    }
}

/// Reads a Go duration: `1h30m`, `42m`, `1.5s`, `100ms`.
pub(crate) fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = &rest[end..];
        let unit = &unit[..unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len())];
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end + unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values: go-units HumanDuration.
    #[test]
    fn spans_have_dockers_words() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86_400, "13 days"),
            (14 * 86_400, "2 weeks"),
            (59 * 86_400, "8 weeks"),
            (60 * 86_400, "2 months"),
            (729 * 86_400, "24 months"),
            (730 * 86_400, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn moments_are_read() {
        let now = 1_700_000_000_000_000_000;
        for (text, expected) in [
            ("2023-11-14T22:13:20Z", Some(now)),
            ("2023-11-14T23:13:20+01:00", Some(now)),
            ("2023-11-14T22:13:20", Some(now)),
            ("2023-11-14", Some(1_699_920_000_000_000_000)),
            ("2999-01-01", Some(i64::MAX)),
            ("1000-01-01T00:00:00Z", Some(i64::MIN)),
            ("99999999999999", Some(i64::MAX)),
            ("1700000000", Some(now)),
            ("1700000000.5", Some(now + 500_000_000)),
            ("1h30m", Some(now - 5_400_000_000_000)),
            ("42m", Some(now - 2_520_000_000_000)),
            ("1.5s", Some(now - 1_500_000_000)),
            ("yesterday", None),
            ("", None),
            ("5x", None),
        ] {
            assert_eq!(parse_moment(text, now), expected, "{text}");
        }
    }

    #[test]
    fn ages_may_be_counted_in_days() {
        for (text, hours) in [
            ("60d", Some(1440)),
            ("2w", Some(336)),
            ("24h", Some(24)),
            ("0", Some(0)),
            ("d", None),
            ("-1d", None),
        ] {
            assert_eq!(parse_age(text), hours.map(|hours| Duration::from_secs(hours * 3600)), "{text}");
        }
    }

    #[test]
    fn long_times_are_utc() {
        assert_eq!(long(1_700_000_000), "2023-11-14 22:13:20 +0000 UTC");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
