//! The known word that a mistyped one was meant to be.

/// Returns the word of `known` that is nearest to `word`: at most two edits away (one for short words), or begun
/// or ended by it.
pub(crate) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let allowed = if lower.chars().count() <= 3 { 1 } else { 2 };
    let score = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        let edits = distance(&lower, &candidate);
        let part = lower.len() >= 3 && (candidate.starts_with(&lower) || candidate.ends_with(&lower));
        if edits <= allowed { Some(edits) } else { part.then_some(allowed + 1) }
    };
    known
        .into_iter()
        .filter_map(|candidate| Some((score(candidate)?, candidate)))
        .min_by_key(|found| found.0)
        .map(|found| found.1)
}

/// Number of single-character edits and neighbour swaps between `a` and `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 || a.len() > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (row[j - 1] + same).min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn the_nearest_word_wins() {
        let known = ["images", "image", "import", "inspect", "history", "rm", "rmi", "run", "ps", "build"];
        for (word, expected) in [
            ("imagse", Some("images")),
            ("hsitory", Some("history")),
            ("biuld", Some("build")),
            ("rn", Some("rm")),
            ("insp", Some("inspect")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), expected, "{word}");
        }
    }
}
