//! Names for containers that were given none: an adjective and a surname.

use std::io::Read;

const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "awake", "bold", "brave", "brisk", "bright", "calm", "candid", "careful",
    "cheerful", "clever", "cosy", "crisp", "curious", "daring", "deft", "eager", "early", "earnest", "fair",
    "fast", "fond", "frank", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "humble",
    "jolly", "keen", "kind", "lively", "loyal", "lucid", "merry", "mild", "modest", "neat", "nimble",
    "noble", "patient", "plain", "proud", "quick", "quiet", "ready", "sharp", "silent", "sincere", "solid",
    "spry", "steady", "sunny", "swift", "tidy", "upbeat", "vivid", "warm", "witty",
];

const SURNAMES: [&str; 64] = [
    "abel",
    "agnesi",
    "babbage",
    "banach",
    "bernoulli",
    "bohr",
    "boole",
    "borg",
    "brahe",
    "cantor",
    "cauchy",
    "church",
    "cori",
    "curie",
    "dijkstra",
    "dirac",
    "einstein",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "goeppert",
    "hamilton",
    "hamming",
    "hilbert",
    "hopper",
    "huffman",
    "hypatia",
    "johnson",
    "kepler",
    "kleene",
    "knuth",
    "kolmogorov",
    "lamport",
    "laplace",
    "leibniz",
    "liskov",
    "lovelace",
    "mccarthy",
    "meitner",
    "mendel",
    "mirzakhani",
    "newton",
    "noether",
    "pascal",
    "pasteur",
    "planck",
    "poincare",
    "ramanujan",
    "riemann",
    "ritchie",
    "shannon",
    "somerville",
    "tesla",
    "thompson",
    "turing",
    "volta",
    "yonath",
];

/// Returns a name that is probably free; after some attempts it gets a number.
pub(super) fn random(attempt: u32) -> std::io::Result<String> {
    let [first, second, number] = random_bytes()?;
    let name = format!("{}_{}", ADJECTIVES[usize::from(first % 64)], SURNAMES[usize::from(second % 64)]);
    Ok(if attempt < 4 { name } else { format!("{name}{number}") })
}

/// Returns 64 random hex digits.
pub(super) fn random_id() -> std::io::Result<String> {
    let bytes: [u8; 32] = random_bytes()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random_bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Takes the `/` away that `inspect` shows before a name: what it prints may be typed.
pub(super) fn bare(text: &str) -> &str {
    text.strip_prefix('/').unwrap_or(text)
}

/// Tells whether `text` is a container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(super) fn is_name(text: &str) -> bool {
    text.len() > 1
        && text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_names_and_ids_are_ids() {
        assert!(is_name(&random(0).unwrap()) && is_name(&random(9).unwrap()));
        let id = random_id().unwrap();
        assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()));
        for bad in ["", "a", "-a", "a b", "../x", "ä_b", ".x"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
