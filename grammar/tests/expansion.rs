//! `testdata/expansion/Dockerfile` against what BuildKit makes of it.
//!
//! `env.txt` is the environment of the image that the BuildKit inside docker.io 20.10.24 built from
//! the file, `docker inspect --format '{{.Config.Env}}'` one by line without PATH.

use std::collections::BTreeMap;

use kiln_grammar::ast::{Kind, Word};
use kiln_grammar::{Diagnostic, parse, word};

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
