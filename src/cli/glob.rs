//! Shell patterns of `--filter reference=…`: Go's path.Match.

/// Tells whether all of `text` matches `pattern`: `*` and `?` stop at `/`; `[a-z]`, `[^a]`; `\` escapes.
/// `None` for a pattern that can't be read.
pub(crate) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where to go on when the newest star has to take one character more.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return Some(true);
        }
        if p < pattern.len() && t < text.len() {
            let (fits, next) = one(&pattern, p, text[t])?;
            if fits {
                (p, t) = (next, t + 1);
                continue;
            }
        }
        match star {
            Some((after, from)) if from < text.len() && text[from] != '/' => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return Some(false),
        }
    }
}

/// Matches `c` with the piece of `pattern` at `at`; also where the next piece begins.
fn one(pattern: &[char], at: usize, c: char) -> Option<(bool, usize)> {
    match pattern[at] {
        '?' => Some((c != '/', at + 1)),
        '\\' => pattern.get(at + 1).map(|&escaped| (escaped == c, at + 2)),
        '[' => {
            let mut at = at + 1;
            let negated = pattern.get(at) == Some(&'^');
            at += usize::from(negated);
            let mut found = false;
            let mut first = true;
            while *pattern.get(at)? != ']' || first {
                first = false;
                let low = class_char(pattern, &mut at)?;
                let mut high = low;
                if pattern.get(at) == Some(&'-') {
                    at += 1;
                    high = class_char(pattern, &mut at)?;
                }
                found |= (low..=high).contains(&c);
            }
            Some((found != negated, at + 1))
        }
        literal => Some((literal == c, at + 1)),
    }
}

fn class_char(pattern: &[char], at: &mut usize) -> Option<char> {
    if pattern.get(*at) == Some(&'\\') {
        *at += 1;
    }
    let c = pattern.get(*at).copied().filter(|&c| c != '-')?;
    *at += 1;
    Some(c)
}

#[cfg(test)]
mod tests {
    use super::matches;

    // Expected values: Go's path.Match.
    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*/b", "abc/b", Some(true)),
            ("a*/b", "a/c/b", Some(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[^b-d]", "abc", Some(false)),
            ("a\\*b", "a*b", Some(true)),
            ("a?b", "a/b", Some(false)),
            ("*", "", Some(true)),
            ("", "a", Some(false)),
            ("[", "a", None),
            ("a[", "ab", None),
            ("[]a]", "]", Some(true)),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
