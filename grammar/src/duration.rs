//! Durations as Go writes them: `1h30m`, `1.5s`, `-2ms`.

/// Nanoseconds of each unit; longer names first where one begins another.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Returns the nanoseconds of a duration, or what is wrong with it.
///
/// The rules are those of Go's `time.ParseDuration`: a sign, then decimal numbers with a unit each;
/// `0` needs no unit. Digits below a nanosecond are dropped.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(format!("invalid duration `{text}`"));
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = component(text, rest)?;
        total = total.saturating_add(nanoseconds);
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| format!("invalid duration `{text}`: it is too long"))
}

/// One number with its unit, and the text after it.
fn component<'a>(text: &str, rest: &'a str) -> Result<(i128, &'a str), String> {
    let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, after) = rest.split_at(number_end);
    let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
    let (unit, after) = after.split_at(unit_end);
    if unit.is_empty() {
        return Err(format!("missing unit in duration `{text}`"));
    }
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("unknown unit `{unit}` in duration `{text}`"));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(format!("invalid duration `{text}`"));
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(i128::from(i64::MAX)) };
    // More digits than this are below a nanosecond of an hour.
    let fraction = &fraction[..fraction.len().min(18)];
    let numerator: i128 = fraction.parse().unwrap_or(0);
    let part = numerator * scale / 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    Ok((whole.saturating_mul(*scale).saturating_add(part), after))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_follow_go() {
        const SECOND: i64 = 1_000_000_000;
        let table = [
            ("30s", Ok(30 * SECOND)),
            ("1h2m3s", Ok(3723 * SECOND)),
            ("1.5s", Ok(3 * SECOND / 2)),
            (".5s", Ok(SECOND / 2)),
            ("5.s", Ok(5 * SECOND)),
            ("100ms", Ok(SECOND / 10)),
            ("1us", Ok(1000)),
            ("1µs", Ok(1000)),
            ("2ns", Ok(2)),
            ("-1s", Ok(-SECOND)),
            ("+1s", Ok(SECOND)),
            ("0", Ok(0)),
            ("-0", Ok(0)),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in
            ["", "-", "30", "s", ".s", "1.2.3s", "1d", "1 s", "99999999999999999999999h", "1sx", "9999999h"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
