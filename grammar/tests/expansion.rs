//! `testdata/expansion/Dockerfile` against what BuildKit makes of it.
//!
//! `env.txt` is the environment of the image that the BuildKit inside docker.io 20.10.24 built from
//! the file, `docker inspect --format '{{.Config.Env}}'` one by line without PATH.

use std::collections::BTreeMap;

use kiln_grammar::ast::{Kind, Word};
use kiln_grammar::{Diagnostic, parse, word};

/// The labels of the images that the same BuildKit built from these files; `None` where it refused.
#[test]
fn lines_are_joined_and_split_as_buildkit_does() {
    type Labels = Option<&'static [(&'static str, &'static str)]>;
    let table: [(&str, Labels); 22] = [
        (
            "LABEL a=1 \\\n# c\n  b=2 \\\n\n  c=3\nLABEL d=4",
            Some(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]),
        ),
        ("LABEL a=1 \\", Some(&[("a", "1")])),
        ("LABEL a=1\\\nb=2\n", Some(&[("a", "1b=2")])),
        ("LABEL a=1\\\\\nLABEL b=2\n", Some(&[("a", "1\\"), ("b", "2")])),
        ("LABEL a=1 \\   \n b=2\n", Some(&[("a", "1"), ("b", "2")])),
        ("LABEL a=1 \\\r\n b=2\r\n\r\nLABEL c=3\r\n", Some(&[("a", "1"), ("b", "2"), ("c", "3")])),
        ("\tLABEL\ta=1\t\tb=2\n", Some(&[("a", "1"), ("b", "2")])),
        ("LABEL a=1 # c=3\n", None),
        ("LABEL a=1 \\\n\\\n b=2\n", Some(&[("a", "1"), ("b", "2")])),
        ("LA\\\nBEL a=1\n", Some(&[("a", "1")])),
        ("LABEL a='x \\\n y' b=2\n", Some(&[("a", "x  y"), ("b", "2")])),
        ("LABEL a=\"x \\\n# comment\n y\" b=2\n", Some(&[("a", "x  y"), ("b", "2")])),
        ("LABEL a=$b$ c=${d:-e f}\n", None),
        ("LABEL a=\u{a0}x\u{3000}y\n", None),
        ("LABEL a=x\u{3000}b=y\n", Some(&[("a", "x"), ("b", "y")])),
        ("LABEL\u{a0}a=x\n", None),
        ("LABEL a=1\u{b}b=2\n", Some(&[("a", "1"), ("b", "2")])),
        (
            "LABEL a=\"b\" \"c\"=d 'e f'='g h' i=\"j\"k'l'\n",
            Some(&[("a", "b"), ("c", "d"), ("e f", "g h"), ("i", "jkl")]),
        ),
        ("LABEL a=b=c d==\n", Some(&[("a", "b=c"), ("d", "=")])),
        ("LABEL a b=c\n", Some(&[("a", "b=c")])),
        ("LABEL a\\ b c\n", Some(&[("a", "b c")])),
        ("LABEL a=1 \\\n", Some(&[("a", "1")])),
    ];
    for (text, expected) in table {
        let labels = parse("Dockerfile", format!("FROM scratch\n{text}").as_bytes()).ok().map(|file| {
            let kinds = file.stages[0].instructions.iter().map(|found| &found.kind);
            let pairs = kinds.flat_map(|kind| match kind {
                Kind::Label(pairs) => pairs.as_slice(),
                other => panic!("{other:?} in {text:?}"),
            });
            let expand = |text: &str| word::expand(text, '\\', &|_: &str| None).expect("expands");
            pairs.map(|pair| (expand(&pair.key.text), expand(&pair.value.text))).collect::<Vec<_>>()
        });
        let expected =
            expected.map(|pairs| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(labels, expected, "{text:?}");
    }
}

#[test]
fn the_environment_is_the_one_that_buildkit_gives() -> Result<(), Vec<Diagnostic>> {
    let file = parse("Dockerfile", include_bytes!("../../testdata/expansion/Dockerfile"))?;
    let mut vars: BTreeMap<String, String> = BTreeMap::new();
    let mut environment = Vec::new();
    for instruction in &file.stages[0].instructions {
        // Within one instruction, `$x` has the value from before it.
        let before = vars.clone();
        let get = |name: &str| before.get(name).cloned();
        let expand = |text: &Word| word::expand(&text.text, file.directives.escape, &get).expect("expands");
        match &instruction.kind {
            Kind::Arg(declarations) => {
                for declaration in declarations {
                    let value = declaration.default.as_ref().map(expand).unwrap_or_default();
                    vars.insert(expand(&declaration.name), value);
                }
            }
            Kind::Env(pairs) => {
                for pair in pairs {
                    environment.push(format!("{}={}", expand(&pair.key), expand(&pair.value)));
                    vars.insert(expand(&pair.key), expand(&pair.value));
                }
            }
            _ => {}
        }
    }
    let expected: Vec<&str> = include_str!("../../testdata/expansion/env.txt").lines().collect();
    assert_eq!(environment, expected);
    Ok(())
}
