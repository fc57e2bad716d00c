//! Tables of words.

use super::*;

/// The variables of the tables: a plain one, an empty one, a path.
fn vars(name: &str) -> Option<String> {
    let table = [
        ("PWD", "/home"),
        ("NULL", ""),
        ("KOREAN", "한국어"),
        ("FOO", "xxyy"),
        ("FILE", "/tmp/tmp/bar.tar.gz"),
        ("STARS", "a***yy*"),
        ("LINES", "one\ntwo"),
        ("1", "first"),
        ("@", "all"),
        ("SLASH", "/"),
        ("PAT", "*y"),
        ("PORTS", "80 443/tcp"),
        ("QUOTE", "a'b"),
        ("_x1", "under"),
        ("REF", "$0"),
        ("BRACED", "${0}"),
        ("OTHER", "$1a${x}$00"),
        ("DOLLARS", "$$"),
        ("LONE", "$ "),
    ];
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn expanded(text: &str) -> String {
    match expand(text, '\\', &vars) {
        Ok(value) => value,
        Err(error) => format!("error at {}: {error}", error.at),
    }
}

#[track_caller]
fn table(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        assert_eq!(expanded(text), *expected, "{text}");
    }
}

#[test]
fn variables_and_names() {
    table(&[
        ("", ""),
        ("hello", "hello"),
        ("he$PWD", "he/home"),
        ("$PWD-x", "/home-x"),
        ("${PWD}x", "/homex"),
        ("$PWDx", ""),
        ("$KOREAN.", "한국어."),
        ("$한국", ""),
        ("a$", "a$"),
        ("a$ b", "a$ b"),
        ("$.x", "$.x"),
        ("$1x", "firstx"),
        ("$12", ""),
        ("$@x", "allx"),
        ("${@}", "all"),
        ("$$", ""),
        ("$_x1", "under"),
        ("$UNSET", ""),
        ("${UNSET}x", "x"),
        ("\u{3000}$PWD", "\u{3000}/home"),
    ]);
}

#[test]
fn quotes_and_escapes() {
    table(&[
        ("'$PWD'", "$PWD"),
        ("\"$PWD\"", "/home"),
        ("he'll'o", "hello"),
        ("'a\"b'", "a\"b"),
        ("\"a'b\"", "a'b"),
        ("\"a\\\"b\"", "a\"b"),
        ("\"a\\$PWD\"", "a$PWD"),
        ("\"a\\\\b\"", "a\\b"),
        ("\"a\\nb\"", "a\\nb"),
        ("'a\\nb'", "a\\nb"),
        ("a\\nb", "anb"),
        ("\\$PWD", "$PWD"),
        ("\\\\$PWD", "\\/home"),
        ("\\'x\\\"", "'x\""),
        ("a b", "a b"),
        ("a\\", "a"),
        ("${NULL:-'$PWD'}", "$PWD"),
        ("${NULL:-\"$PWD x\"}", "/home x"),
        ("\"${NULL:-\"a b\"}\"", "a b"),
        ("$QUOTE", "a'b"),
        ("'open", "error at 0: unexpected end of statement while looking for matching single-quote"),
        ("ab\"open", "error at 2: unexpected end of statement while looking for matching double-quote"),
        ("\"open\\\"", "error at 0: unexpected end of statement while looking for matching double-quote"),
        ("\"", "error at 0: unexpected end of statement while looking for matching double-quote"),
    ]);
}

#[test]
fn the_escape_directive_changes_the_escape() {
    assert_eq!(expand("a`$PWD \\$PWD", '`', &vars).as_deref(), Ok("a$PWD \\/home"));
    assert_eq!(expand("C:\\x`\\", '`', &vars).as_deref(), Ok("C:\\x\\"));
}

#[test]
fn defaults_alternatives_and_errors() {
    table(&[
        ("${PWD:-x}", "/home"),
        ("${NULL:-x}", "x"),
        ("${NULL-x}", ""),
        ("${UNSET:-x}", "x"),
        ("${UNSET-x}", "x"),
        ("${UNSET:-}", ""),
        ("${PWD:+x}", "x"),
        ("${NULL:+x}", ""),
        ("${NULL+x}", "x"),
        ("${UNSET:+x}", ""),
        ("${UNSET+x}", ""),
        ("${UNSET:-${NULL:-$PWD}}", "/home"),
        ("${PWD:+${UNSET:-deep}}", "deep"),
        ("${UNSET:-a\\}b}", "a}b"),
        ("${PWD:?no}", "/home"),
        ("${NULL?no}", ""),
        ("x${UNSET:?no $PWD}", "error at 1: UNSET: no /home"),
        ("${UNSET?}", "error at 0: UNSET: is not allowed to be unset"),
        ("${UNSET:?}", "error at 0: UNSET: is not allowed to be unset"),
        ("${NULL:?}", "error at 0: NULL: is not allowed to be empty"),
        ("${NULL:?gone}", "error at 0: NULL: gone"),
    ]);
}

#[test]
fn wrong_substitutions() {
    table(&[
        ("${}", "error at 0: syntax error: bad substitution"),
        ("a${:x}", "error at 1: syntax error: bad substitution"),
        ("${{x}}", "error at 0: syntax error: bad substitution"),
        ("${", "error at 0: syntax error: missing '}'"),
        ("${PWD", "error at 0: syntax error: missing '}'"),
        ("${PWD:", "error at 0: syntax error: missing '}'"),
        ("${PWD:-", "error at 0: syntax error: missing '}'"),
        ("${PWD:-$", "error at 0: syntax error: missing '}'"),
        ("${PWD#x", "error at 0: syntax error: missing '}'"),
        ("${PWD/x/y", "error at 0: syntax error: missing '}'"),
        ("${PWD/x}", "error at 0: syntax error: missing '/' in ${}"),
        ("${PWD//x}", "error at 0: syntax error: missing '/' in ${}"),
        ("${PWD:#x}", "error at 0: unsupported modifier (:#) in substitution"),
        ("${PWD:%x}", "error at 0: unsupported modifier (:%) in substitution"),
        ("${PWD:=x}", "error at 0: unsupported modifier (:=) in substitution"),
        ("${PWD:0:1}", "error at 0: unsupported modifier (:0) in substitution"),
        ("${PWD=x}", "error at 0: unsupported modifier (=) in substitution"),
        ("${PWD^^}", "error at 0: unsupported modifier (^) in substitution"),
        ("${PWD#\\x}", "error at 0: invalid pattern (\\x) in substitution: invalid escape '\\x'"),
    ]);
}

#[test]
fn prefixes_and_suffixes() {
    table(&[
        ("${FILE#*/}", "tmp/tmp/bar.tar.gz"),
        ("${FILE##*/}", "bar.tar.gz"),
        ("${FILE%.*}", "/tmp/tmp/bar.tar"),
        ("${FILE%%.*}", "/tmp/tmp/bar"),
        ("${FILE%/*}", "/tmp/tmp"),
        ("${FOO#x}", "xyy"),
        ("${FOO##x}", "xyy"),
        ("${FOO#*x*y}", "y"),
        ("${FOO#*}", "xxyy"),
        ("${FOO##*}", ""),
        ("${FOO#}", "xxyy"),
        ("${FOO##}", "xxyy"),
        ("${FOO%}", "xxyy"),
        ("${FOO%%$NULL}", "xxyy"),
        ("${FOO%$PAT}", "xxy"),
        ("${FOO#??}", "yy"),
        ("${FOO#y}", "xxyy"),
        ("${STARS%%\\**}", "a"),
        ("${STARS%%\\**\\*}", "a"),
        ("${STARS#a\\*\\*}", "*yy*"),
        ("${LINES#*e}", "\ntwo"),
        ("${LINES##*o}", "ne\ntwo"),
        ("${KOREAN#?}", "국어"),
        ("${KOREAN%어}", "한국"),
        ("${UNSET#x}", ""),
        ("${FOO#[x]}", "xxyy"),
    ]);
}

#[test]
fn replacements() {
    table(&[
        ("${FILE/tmp/x}", "/x/tmp/bar.tar.gz"),
        ("${FILE//tmp/x}", "/x/x/bar.tar.gz"),
        ("${FILE//\\//_}", "_tmp_tmp_bar.tar.gz"),
        ("${FILE//$SLASH/_}", "_tmp_tmp_bar.tar.gz"),
        ("${FILE/\\/tmp/}", "/tmp/bar.tar.gz"),
        ("${FILE//\\//\\/}", "\\/tmp\\/tmp\\/bar.tar.gz"),
        ("${FILE/*/x}", "x"),
        ("${FOO/x*y/-}", "-"),
        ("${FOO//?/-}", "----"),
        ("${FOO/z/-}", "xxyy"),
        ("${FOO/$NULL/ww}", "wwxxyy"),
        ("${FOO///}", "xxyy"),
        ("${FOO//$NULL/-}", "-x-x-y-y-"),
        ("${FOO//x*/-}", "-"),
        ("${FOO/x/$PWD}", "/homexyy"),
        ("${FOO//y/$1}", "xxfirstfirst"),
        ("${UNSET/x/y}", ""),
        // Go's templates, in the replacement of `//` alone.
        ("${FOO//y/<$REF>}", "xx<y><y>"),
        ("${FOO//xx/$BRACED-}", "xx-yy"),
        ("${FOO//y/$OTHER.}", "xx.."),
        ("${FOO//y/$DOLLARS}", "xx$$"),
        ("${FOO//y/$LONE}", "xx$ $ "),
        ("${FOO/y/$REF}", "xx$0y"),
        ("${FOO//y/\\$1}", "xx\\\\"),
    ]);
}

#[test]
fn unquoted_expansions_split_in_lists() {
    let rows: &[(&str, &[&str])] = &[
        ("$PORTS", &["80", "443/tcp"]),
        ("\"$PORTS\"", &["80 443/tcp"]),
        ("1$PORTS", &["180", "443/tcp"]),
        ("a b", &["a", "b"]),
        ("a\\ b", &["a b"]),
        ("", &[]),
        ("$NULL", &[]),
        ("${UNSET:-1 2}3", &["1", "23"]),
    ];
    for (text, expected) in rows {
        let words = expand_list(text, '\\', &vars).expect("expands");
        assert_eq!(words, *expected, "{text}");
    }
}

/// What BuildKit writes for these bodies, from its test of special symbols in COPY heredocs.
#[test]
fn bodies_keep_quotes_and_lose_escapes() {
    let rows = [
        ("\"quotes $PWD\"\n", "\"quotes /home\"\n"),
        ("don't '$PWD'\n", "don't '/home'\n"),
        ("\\\n", "\n"),
        ("\\\\\n", "\\\n"),
        ("\\$PWD\n", "$PWD\n"),
        ("${NULL:-it's}", "it's"),
    ];
    for (text, expected) in rows {
        assert_eq!(expand_body(text, '\\', &vars).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn names_are_collected_in_order_and_once() {
    assert_eq!(variables("$b ${a:-$c} '$d' \"$b\" \\$e ${f#$g}", '\\'), ["b", "c", "a", "g", "f"]);
    assert_eq!(variables("$a ${", '\\'), ["a"]);
}

#[test]
fn flags_lose_quotes_but_not_variables() {
    assert_eq!(unquote("'a b'\"$c\\\"\"\\d", '\\'), "a b$c\"d");
    assert_eq!(unquote("a\\b`c", '`'), "a\\bc");
}

#[test]
fn deep_nesting_is_an_error() {
    let text = format!("{}x{}", "${a:-".repeat(100_000), "}".repeat(100_000));
    let error = expand(&text, '\\', &vars).expect_err("too deep");
    assert_eq!(error.message, "`${` is nested too deeply");
}

#[test]
fn a_word_that_explodes_is_an_error() {
    let value = "x".repeat(100_000);
    let vars = move |_: &str| Some(value.clone());
    let error = expand(&"$a".repeat(1000), '\\', &vars).expect_err("too long");
    assert_eq!(error.message, "expands to more than 1048576 bytes");
    let error = expand(&"${a+}".repeat(100_000), '\\', &vars).expect_err("too much");
    assert_eq!(error.message, "expansion takes too much work");
    let error = expand(&format!("${{a##{}b}}", "*x".repeat(10_000)), '\\', &vars).expect_err("too much");
    assert_eq!(error.message, "expansion takes too much work");
}

#[test]
fn an_error_points_into_its_word() {
    let error = WordError { message: String::new(), at: 2 };
    let word = |end| Word { text: "ab${".to_owned(), span: Span { start: 10, end } };
    assert_eq!(error.span(&word(14)), Span { start: 12, end: 14 });
    assert_eq!(error.span(&word(20)), Span { start: 10, end: 20 }, "a continuation lies in it");
}
