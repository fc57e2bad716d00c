//! Sizes of memory as docker takes them: `64m`, `1.5 GiB`, `4096`.

/// Returns the bytes of a size, by the rules of docker's `RAMInBytes`: a decimal number, perhaps a
/// blank, and a unit of 1024 (`b`, `k`, `m`, `g`, `t`, `p`, also as `kb` or `kib`) in any case.
/// `None` when it isn't one.
pub(super) fn parse(text: &str) -> Option<u64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = match text.as_bytes()[last] {
        b' ' => (&text[..last], &text[last + 1..]),
        _ => text.split_at(last + 1),
    };
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '+') {
        return None;
    }
    let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite())?;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a byte is dropped; the cast saturates and the number isn't negative"
    )]
    Some((number * 1024_f64.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes_have_units_of_1024() {
        let table = [
            ("32", Some(32)),
            ("32b", Some(32)),
            ("1k", Some(1024)),
            ("1KB", Some(1024)),
            ("1 KiB", Some(1024)),
            ("64m", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("2T", Some(2 << 40)),
            ("0", Some(0)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("1ib", None),
            ("1bb", None),
            ("1 k b", None),
            ("inf", None),
            ("1.2.3", None),
            ("1é", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
