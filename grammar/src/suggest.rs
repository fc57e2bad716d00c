//! "Did you mean …?": the closest known name to a mistyped one.

/// Names further apart than this are not suggested.
const MAX_DISTANCE: usize = 2;

/// A mistyped name longer than this is not a mistyped name.
const MAX_LENGTH: usize = 64;

/// Returns the name of `among` that `word` most likely stands for, compared without case.
///
/// A name is close at an edit distance of 1 or 2, at most half of its length; without one,
/// the shortest name that `word` (3 characters or more) begins. `None` when nothing is near, and
/// when `word` is one of the names. Ties go to the earlier name.
pub fn closest<'a>(word: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_LENGTH {
        return None;
    }
    let wanted: Vec<char> = word.to_lowercase().chars().collect();
    let mut near: Option<(usize, &str)> = None;
    let mut longer: Option<(usize, &str)> = None;
    for name in among {
        let candidate: Vec<char> = name.to_lowercase().chars().collect();
        if candidate == wanted {
            return None;
        }
        let distance = distance(&wanted, &candidate);
        let close = distance <= MAX_DISTANCE && distance * 2 <= candidate.len().max(wanted.len());
        if close && near.is_none_or(|(best, _)| distance < best) {
            near = Some((distance, name));
        }
        let begins = wanted.len() >= 3 && candidate.starts_with(&wanted);
        if begins && longer.is_none_or(|(best, _)| candidate.len() < best) {
            longer = Some((candidate.len(), name));
        }
    }
    near.or(longer).map(|(_, name)| name)
}

/// The Levenshtein distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    const NAMES: [&str; 8] = ["FROM", "RUN", "WORKDIR", "COPY", "ADD", "ARG", "HEALTHCHECK", "CMD"];

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        let table = [
            ("FORM", Some("FROM")),
            ("FRM", Some("FROM")),
            ("form", Some("FROM")),
            ("RUNN", Some("RUN")),
            ("WORK", Some("WORKDIR")),
            ("HEALTH", Some("HEALTHCHECK")),
            ("COPPY", Some("COPY")),
            ("CPOY", Some("COPY")),
            ("RU", Some("RUN")),
            ("XYZ", None),
            ("A", None),
            ("", None),
            ("COPY", None),
        ];
        for (word, expected) in table {
            assert_eq!(closest(word, NAMES), expected, "{word}");
        }
    }

    #[test]
    fn a_very_long_word_is_not_compared() {
        assert_eq!(closest(&"W".repeat(1 << 20), NAMES), None);
    }
}
