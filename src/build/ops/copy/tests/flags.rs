//! `--parents`, `--exclude` and symbolic `--chmod`.

use super::*;

fn parents(sources: &[&str], destination: &str) -> CopySpec {
    CopySpec { parents: true, ..spec(sources, destination) }
}

fn excluding(patterns: &[&str], spec: CopySpec) -> CopySpec {
    CopySpec { excludes: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(), ..spec }
}

/// The trees of BuildKit's own tests of the flag.
const DEEP: &[&str] =
    &["t/a/b/c/d/foo", "t/a/b/c/d/e/bay", "t/a/b2/c/d/e/bar", "t/a/b/c2/d/e/baz", "t/a/b/c2/d/e2/baz", "top"];

#[test]
fn parents_are_kept_from_the_pivot_on() {
    if !is_root("parents_are_kept_from_the_pivot_on") {
        return;
    }
    let setup = Setup::new(DEEP).on(&["dir/old", "link->dir"]);
    let cases: &[(&[&str], &str, &[&str])] = &[
        (&["t/a/b/c/d/foo"], "/", &["t/", "t/a/", "t/a/b/", "t/a/b/c/", "t/a/b/c/d/", "t/a/b/c/d/foo"]),
        (&["top"], "/o", &["o/", "o/top"]),
        (&["/top"], "/link", &["dir/", "dir/top"]),
        (&["t/a/b/./c/d"], "/o/", &["o/", "o/c/", "o/c/d/", "o/c/d/e/", "o/c/d/e/bay", "o/c/d/foo"]),
        (&["t/a/./b/./c/d/e"], "/", &["b/", "b/c/", "b/c/d/", "b/c/d/e/", "b/c/d/e/bay"]),
        (
            &["./t/a/b/c/d/e/."],
            "/",
            &["t/", "t/a/", "t/a/b/", "t/a/b/c/", "t/a/b/c/d/", "t/a/b/c/d/e/", "t/a/b/c/d/e/bay"],
        ),
        (&["t/a/./*/c2/d/e"], "/", &["b/", "b/c2/", "b/c2/d/", "b/c2/d/e/", "b/c2/d/e/baz"]),
        (&["t/a/b*/./c/**/e"], "/", &["c/", "c/d/", "c/d/e/", "c/d/e/bar", "c/d/e/bay"]),
        (
            &["t/a/b/c*/./d/**/baz", "t/a/b*/./c/**/bar"],
            "/",
            &["c/", "c/d/", "c/d/e/", "c/d/e/bar", "d/", "d/e/", "d/e/baz", "d/e2/", "d/e2/baz"],
        ),
        (
            &["**/ba?"],
            "/",
            &[
                "t/",
                "t/a/",
                "t/a/b/",
                "t/a/b/c/",
                "t/a/b/c/d/",
                "t/a/b/c/d/e/",
                "t/a/b/c/d/e/bay",
                "t/a/b/c2/",
                "t/a/b/c2/d/",
                "t/a/b/c2/d/e/",
                "t/a/b/c2/d/e/baz",
                "t/a/b/c2/d/e2/",
                "t/a/b/c2/d/e2/baz",
                "t/a/b2/",
                "t/a/b2/c/",
                "t/a/b2/c/d/",
                "t/a/b2/c/d/e/",
                "t/a/b2/c/d/e/bar",
            ],
        ),
        (&["*.none"], "/o", &["o/"]),
        (&["t*/./none*"], "/o", &["o/"]),
        (&["none*/./x"], "/o", &[]),
        (&["to*/./x"], "/o", &[]),
    ];
    for (sources, destination, expected) in cases {
        assert_eq!(setup.list(&parents(sources, destination)), *expected, "{sources:?} {destination}");
    }
}

#[test]
fn a_named_source_of_parents_has_to_be_there() {
    let mut setup = Setup::new(&["a/b", "link->a", "hidden/x", "part/no", "part/yes"]);
    setup.ignore = "hidden\npart\n!part/yes";
    for (source, message) in [
        ("x", "`/x`: not found"),
        ("a/./x", "`/a/x`: not found"),
        ("x/./*", "`/x`: not found"),
        ("a/b/./c", "`/a/b` is not a directory"),
        ("link/b", "`/link/b` is behind a symbolic link, which --parents doesn't follow"),
        ("hidden", "`/hidden`: not found"),
        ("part/no", "`/part/no`: not found"),
        ("[", "syntax error in pattern `[`"),
        ("a/./[]", "syntax error in pattern `[]`"),
    ] {
        assert_eq!(setup.error(&parents(&[source], "/")), message, "{source}");
    }
    if is_root("a_named_source_of_parents_has_to_be_there") {
        assert_eq!(
            setup.list(&parents(&["part", "link/./b", "link"], "/")),
            ["b", "link->a", "part/", "part/yes"]
        );
    }
}

#[test]
fn excludes_are_relative_to_what_is_copied() {
    if !is_root("excludes_are_relative_to_what_is_copied") {
        return;
    }
    let setup = Setup::new(&["a.txt", "b.md", "d/a.txt", "d/s/a.txt", "d/s/b.md", "d/.git/x", "e[1]"]);
    let all = || spec(&["."], "/");
    let d = || spec(&["d"], "/");
    for (patterns, copy, expected) in [
        (
            &["*.txt"][..],
            all(),
            &["b.md", "d/", "d/.git/", "d/.git/x", "d/a.txt", "d/s/", "d/s/a.txt", "d/s/b.md", "e[1]"][..],
        ),
        (&["**/*.txt", "**/.git"], all(), &["b.md", "d/", "d/s/", "d/s/b.md", "e[1]"]),
        (&["d"], all(), &["a.txt", "b.md", "e[1]"]),
        (&["d"], d(), &[".git/", ".git/x", "a.txt", "s/", "s/a.txt", "s/b.md"]),
        (&["/s", "./a.txt", ".git/"], d(), &[]),
        (&["s/*", "!s/b.md", ".git"], d(), &["a.txt", "s/", "s/b.md"]),
        (&["s", "!s/b.md", ".git"], d(), &["a.txt", "s/", "s/b.md"]),
        (&["*"], d(), &[]),
        (&["*.txt"], spec(&["*.*"], "/"), &["b.md"]),
        (&["e\\[1\\]", "?.*"], spec(&["a.txt", "e*"], "/x/"), &[]),
        (&["**/s"], parents(&["d"], "/"), &["d/", "d/.git/", "d/.git/x", "d/a.txt"]),
        (&["a.txt", "s/a.txt"], parents(&["d/./s", "d/a.txt"], "/"), &["d/", "d/a.txt", "s/", "s/b.md"]),
        (&["d"], parents(&["d/s"], "/o"), &["o/"]),
        (&["d/**", "!**/b.md"], parents(&["d/s"], "/"), &["d/", "d/s/", "d/s/b.md"]),
    ] {
        let copied = setup.list(&excluding(patterns, copy.clone()));
        let copied: Vec<_> = copied.iter().filter(|name| *name != "x/").collect();
        assert_eq!(copied, expected.iter().collect::<Vec<_>>(), "{patterns:?} {:?}", copy.sources);
    }
}

/// BuildKit's fsutil: a folder on the way that is made has all of the source, one that is there its mode.
#[test]
fn parents_have_the_mode_and_owner_of_the_source() {
    if !is_root("parents_have_the_mode_and_owner_of_the_source") {
        return;
    }
    let setup = Setup::new(&["a/b/f", "there/f"]).on(&["there/x", "o/"]);
    let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chmod(&setup.at("a"), 0o700);
    chmod(&setup.at("a/b"), 0o1777);
    chmod(&setup.at("there"), 0o711);
    std::os::unix::fs::chown(setup.chain[0].join("there"), Some(8), Some(9)).unwrap();
    let (layer, _) = setup.copy(&parents(&["a/b/f", "there/f"], "/")).unwrap();
    let stat = |name: &str| {
        let stat = fs::metadata(layer.join(name)).unwrap();
        (format!("{:o}", stat.mode() & 0o7777), stat.uid(), stat.gid())
    };
    assert_eq!(stat("a"), ("700".into(), 0, 0));
    assert_eq!(stat("a/b"), ("1777".into(), 0, 0));
    assert_eq!(stat("there"), ("711".into(), 8, 9));
    assert_eq!(stat("there/f"), ("644".into(), 0, 0));
    let owned =
        CopySpec { chown: Some("3:4".into()), chmod: Chmod::parse("go=u-w"), ..parents(&["a"], "/o/n") };
    let (layer, _) = setup.copy(&owned).unwrap();
    let stat = |name: &str| fs::metadata(layer.join(name)).unwrap();
    for (name, mode) in [("o/n", 0o755), ("o/n/a", 0o755), ("o/n/a/b", 0o1755), ("o/n/a/b/f", 0o644)] {
        let stat = stat(name);
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (mode, 3, 4), "{name}");
    }
}

#[test]
fn a_symbolic_mode_is_of_each_file_and_its_result_is_keyed() {
    if !is_root("a_symbolic_mode_is_of_each_file_and_its_result_is_keyed") {
        return;
    }
    let setup = Setup::new(&["d/file", "d/program", "d/s/x", "d/l->file"]);
    fs::set_permissions(setup.at("d/program"), fs::Permissions::from_mode(0o750)).unwrap();
    let with = |mode: &str| CopySpec { chmod: Some(Chmod::parse(mode).unwrap()), ..spec(&["d"], "/") };
    let (layer, _) = setup.copy(&with("a=rX,u+w")).unwrap();
    for (name, mode) in [("file", 0o644), ("program", 0o755), ("s", 0o755), ("s/x", 0o644)] {
        assert_eq!(fs::metadata(layer.join(name)).unwrap().mode() & 0o7777, mode, "{name}");
    }
    let before = setup.digest(&with("a=rX,u+w"));
    fs::set_permissions(setup.at("d/file"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(setup.digest(&with("a=rX,u+w")), before, "the same comes out");
    assert_ne!(setup.digest(&with("g+w")), before);
}
