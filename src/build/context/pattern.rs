//! Go's path patterns.
//!
//! [`Glob`] is `filepath.Match`: `*`, `?`, `[a-z]`, `[^a-z]`, `\x`; neither `*` nor `?` crosses a slash.
//! [`IgnorePattern`] is one pattern of a `.dockerignore`: the same with `**`, which does. Both work on
//! Unicode characters; bytes that are no UTF-8 are characters of their own.
//!
//! Matching is a walk over sets of states, so that no pattern takes exponential time.

/// A pattern that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern `{pattern}`")]
pub struct BadPattern {
    /// As written.
    pub pattern: String,
}

/// A compiled `filepath.Match` pattern.
#[derive(Debug, Clone)]
pub struct Glob(Vec<Token>);

impl Glob {
    /// Compiles `pattern`.
    pub fn new(pattern: &[u8]) -> Result<Self, BadPattern> {
        let bad = || BadPattern { pattern: String::from_utf8_lossy(pattern).into_owned() };
        let characters = characters(pattern);
        let mut rest = characters.as_slice();
        let mut tokens = Vec::new();
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            tokens.push(match first {
                STAR => Token::Star,
                QUESTION => Token::One,
                BACKSLASH => {
                    let (&escaped, after) = rest.split_first().ok_or_else(bad)?;
                    rest = after;
                    Token::Character(escaped)
                }
                BRACKET => {
                    let (class, after) = class(rest).ok_or_else(bad)?;
                    rest = after;
                    class
                }
                other => Token::Character(other),
            });
        }
        Ok(Self(tokens))
    }

    /// Tells whether the whole of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        run(&self.0, name)
    }
}

/// Tells whether `text` has characters that make it a pattern; escaped ones don't.
pub fn has_wildcards(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// A compiled pattern of a `.dockerignore`, without its `!`.
///
/// Source: the matcher that moby and BuildKit share; its special cases (`**foo` is any end `foo`,
/// `dir/**` any path that begins with `dir/`) are kept.
#[derive(Debug, Clone)]
pub enum IgnorePattern {
    /// The path itself.
    Exact(Vec<u8>),
    /// Every path that begins so.
    Prefix(Vec<u8>),
    /// Every path that ends so.
    Suffix(Vec<u8>),
    /// Anything else.
    Tokens(Tokens),
}

/// What a pattern is compiled to.
#[derive(Debug, Clone)]
pub struct Tokens(Vec<Token>);

impl IgnorePattern {
    /// Compiles `pattern`, which is clean: no `./`, no trailing slash.
    pub fn new(pattern: &[u8]) -> Result<Self, BadPattern> {
        // The peers check the pattern by filepath.Match's rules, too.
        Glob::new(pattern)?;
        let leading = pattern.strip_prefix(b"**");
        let trailing = pattern.strip_suffix(b"**");
        let plain = |text: &[u8]| !text.iter().any(|byte| b"*?[]\\".contains(byte));
        Ok(match (leading, trailing) {
            _ if plain(pattern) => Self::Exact(pattern.to_vec()),
            (Some(suffix), _) if plain(suffix) => Self::Suffix(suffix.to_vec()),
            (_, Some(prefix)) if plain(prefix) => Self::Prefix(prefix.to_vec()),
            _ => Self::Tokens(Tokens(ignore_tokens(pattern)?)),
        })
    }

    /// Tells whether the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(pattern) => path == pattern,
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Suffix(suffix) => path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path),
            Self::Tokens(Tokens(tokens)) => run(tokens, path),
        }
    }
}

const STAR: u32 = b'*' as u32;
const QUESTION: u32 = b'?' as u32;
const BACKSLASH: u32 = b'\\' as u32;
const BRACKET: u32 = b'[' as u32;
const CLOSING: u32 = b']' as u32;
const CARET: u32 = b'^' as u32;
const DASH: u32 = b'-' as u32;
const SLASH: u32 = b'/' as u32;

#[derive(Debug, Clone)]
enum Token {
    /// This character.
    Character(u32),
    /// One character, no slash.
    One,
    /// Any characters, no slash.
    Star,
    /// One character in (or not in) these ranges.
    Class { negated: bool, ranges: Vec<(u32, u32)> },
    /// Nothing, or what [`Token::DirectoriesLoop`] takes; stands right before it.
    Directories,
    /// Any characters up to a slash that ends them.
    DirectoriesLoop,
    /// Any characters.
    Everything,
}

/// The characters of `text`; a byte that is no UTF-8 becomes one above all of Unicode.
fn characters(text: &[u8]) -> Vec<u32> {
    const BEYOND_UNICODE: u32 = 0x11_0000;
    let mut characters = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        characters.extend(chunk.valid().chars().map(u32::from));
        characters.extend(chunk.invalid().iter().map(|byte| BEYOND_UNICODE + u32::from(*byte)));
    }
    characters
}

/// Reads a class after its `[`; gives what follows its `]`.
fn class(mut rest: &[u32]) -> Option<(Token, &[u32])> {
    let negated = rest.first() == Some(&CARET);
    if negated {
        rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if rest.first() == Some(&CLOSING) && !ranges.is_empty() {
            return Some((Token::Class { negated, ranges }, &rest[1..]));
        }
        let (low, after) = class_character(rest)?;
        let (high, after) = match after.split_first() {
            Some((&DASH, after)) => class_character(after)?,
            _ => (low, after),
        };
        ranges.push((low, high));
        rest = after;
    }
}

fn class_character(rest: &[u32]) -> Option<(u32, &[u32])> {
    let (character, after) = match rest.split_first()? {
        (&(DASH | CLOSING), _) => return None,
        (&BACKSLASH, after) => after.split_first()?,
        found => found,
    };
    // A class that ends the pattern here is never closed.
    (!after.is_empty()).then_some((*character, after))
}

fn ignore_tokens(pattern: &[u8]) -> Result<Vec<Token>, BadPattern> {
    let bad = || BadPattern { pattern: String::from_utf8_lossy(pattern).into_owned() };
    let characters = characters(pattern);
    let mut rest = characters.as_slice();
    let mut tokens = Vec::new();
    while let Some((&first, mut after)) = rest.split_first() {
        match first {
            STAR if after.first() == Some(&STAR) => {
                after = &after[1..];
                if after.first() == Some(&SLASH) {
                    after = &after[1..];
                }
                if after.is_empty() {
                    tokens.push(Token::Everything);
                } else {
                    tokens.extend([Token::Directories, Token::DirectoriesLoop]);
                }
            }
            STAR => tokens.push(Token::Star),
            QUESTION => tokens.push(Token::One),
            BACKSLASH => {
                let (&escaped, behind) = after.split_first().ok_or_else(bad)?;
                tokens.push(Token::Character(escaped));
                after = behind;
            }
            BRACKET => {
                let (class, behind) = class(after).ok_or_else(bad)?;
                tokens.push(class);
                after = behind;
            }
            other => tokens.push(Token::Character(other)),
        }
        rest = after;
    }
    Ok(tokens)
}

/// Runs `tokens` over the whole of `text`.
fn run(tokens: &[Token], text: &[u8]) -> bool {
    let mut states = vec![false; tokens.len() + 1];
    let mut next = states.clone();
    states[0] = true;
    pass_empty(tokens, &mut states);
    for character in characters(text) {
        next.fill(false);
        for (index, token) in tokens.iter().enumerate().filter(|(index, _)| states[*index]) {
            let (stays, goes) = step(token, character);
            next[index] |= stays;
            next[index + 1] |= goes;
        }
        pass_empty(tokens, &mut next);
        std::mem::swap(&mut states, &mut next);
    }
    states[tokens.len()]
}

/// Whether the state stays at `token`, and whether it goes past it, with `character`.
fn step(token: &Token, character: u32) -> (bool, bool) {
    match token {
        Token::Character(wanted) => (false, *wanted == character),
        Token::One => (false, character != SLASH),
        Token::Star => (character != SLASH, false),
        Token::Class { negated, ranges } => {
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
            (false, inside != *negated)
        }
        Token::Directories => (false, false),
        Token::DirectoriesLoop => (true, character == SLASH),
        Token::Everything => (true, false),
    }
}

/// Spreads the states over tokens that match nothing.
fn pass_empty(tokens: &[Token], states: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        match token {
            _ if !states[index] => {}
            Token::Star | Token::Everything => states[index + 1] = true,
            Token::Directories => (states[index + 1], states[index + 2]) = (true, true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's own table for `filepath.Match`.
    #[test]
    fn globs_match_as_go_does() {
        for (pattern, name, matches) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "a", false),
            ("*x", "xxx", true),
            ("[[]x", "[x", true),
            ("", "", true),
            ("", "a", false),
        ] {
            let glob = Glob::new(pattern.as_bytes()).unwrap();
            assert_eq!(glob.matches(name.as_bytes()), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn malformed_patterns_are_named() {
        for pattern in
            ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[a-", "[a\\"]
        {
            let error = Glob::new(pattern.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("syntax error in pattern `{pattern}`"));
        }
    }

    /// moby's table; the last column tells whether the path itself matches.
    #[test]
    fn ignore_patterns_match_as_mobys_do() {
        for (pattern, path, matches) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", false),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**file", "dir/afile", true),
            ("**/file", "dir/dir/file", true),
            ("**/file", "dir/afile", false),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("abc?def", "abcdef", false),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("a\\\\", "a\\", true),
            ("a\\*b", "a*b", true),
        ] {
            let compiled = IgnorePattern::new(pattern.as_bytes()).unwrap();
            assert_eq!(compiled.matches(path.as_bytes()), matches, "{pattern} {path}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_match_themselves_and_one_question_mark() {
        let glob = Glob::new(b"a\xff?").unwrap();
        assert!(glob.matches(b"a\xff\xfe"));
        assert!(!glob.matches(b"a\xfe\xfe"));
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!Glob::new(pattern.as_bytes()).unwrap().matches("a".repeat(2000).as_bytes()));
    }

    #[test]
    fn escaped_characters_are_no_wildcards() {
        assert!(has_wildcards(b"a*") && has_wildcards(b"[a]") && has_wildcards(b"?"));
        assert!(!has_wildcards(b"a\\*b") && !has_wildcards(b"plain") && !has_wildcards(b"a\\"));
    }
}
