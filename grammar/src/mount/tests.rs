//! Tables of mounts.

use super::*;

fn word(text: &str) -> Word {
    Word { text: text.to_owned(), span: Span { start: 100, end: 100 + text.len() } }
}

fn vars(name: &str) -> Option<String> {
    let table =
        [("dir", "/x"), ("kind", "cache"), ("comma", "/a,readonly=false"), ("yes", "true"), ("no", "")];
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

#[track_caller]
fn mount(text: &str) -> Mount {
    parse(&word(text), '\\', &vars).expect(text)
}

fn message(text: &str) -> String {
    parse(&word(text), '\\', &vars).expect_err(text).message
}

fn bind(source: &str, from: Option<&str>, readonly: bool) -> MountKind {
    MountKind::Bind { from: from.map(str::to_owned), source: source.to_owned(), readonly }
}

#[test]
fn a_bind_mount_shows_files_of_the_context_or_of_another_place() {
    let table = [
        ("target=/t", bind("/", None, true)),
        ("type=bind,dst=/t", bind("/", None, true)),
        ("type=BIND,Destination=/t,Src=a", bind("/a", None, true)),
        ("target=/t,source=/a/../../b/.", bind("/b", None, true)),
        ("target=/t,from=build,rw", bind("/", Some("build"), false)),
        ("target=/t,rw=false", bind("/", None, true)),
        ("target=/t,readwrite=1", bind("/", None, false)),
        ("target=/t,ro=F", bind("/", None, false)),
        ("target=/t,rw,readonly", bind("/", None, true)),
        ("target=/a,target=/t,from=", bind("/", None, true)),
        ("target=/t,from=$kind", bind("/", Some("cache"), true)),
        ("target=/t,rw=$yes,source=${dir}/y", bind("/x/y", None, false)),
        ("target=/t,source=$comma", bind("/a,readonly=false", None, true)),
        ("\"source=/a,b\",target=/t", bind("/a,b", None, true)),
        ("target=/t,\"source=/say \"\"x\"\"\"", bind("/say x", None, true)),
        ("target=/t,id=ignored,env=A", bind("/", None, true)),
    ];
    for (text, kind) in table {
        let found = mount(text);
        assert_eq!((found.target.as_deref(), &found.kind), (Some("/t"), &kind), "{text}");
        assert_eq!(found.span, Span { start: 100, end: 100 + text.len() });
    }
}

#[test]
fn a_cache_mount_is_known_by_its_id_or_its_cleaned_target() {
    let cache = |id: &str, sharing, owner, readonly| MountKind::Cache {
        id: id.to_owned(),
        from: None,
        source: "/".to_owned(),
        sharing,
        owner,
        readonly,
    };
    let owner = |mode, uid, gid| Some(Owner { mode, uid, gid });
    let table = [
        ("type=cache,target=/root/.cache/", cache("/root/.cache", Sharing::Shared, None, false)),
        ("type=$kind,target=a/./b/../c", cache("a/c", Sharing::Shared, None, false)),
        ("type=cache,target=../a", cache("../a", Sharing::Shared, None, false)),
        ("type=cache", cache(".", Sharing::Shared, None, false)),
        ("type=cache,target=/c,id=x", cache("x", Sharing::Shared, None, false)),
        ("type=cache,target=/c,sharing=Locked", cache("/c", Sharing::Locked, None, false)),
        ("type=cache,target=/c,sharing=private,ro", cache("/c", Sharing::Private, None, true)),
        ("type=cache,target=/c,mode=0700", cache("/c", Sharing::Shared, owner(0o700, 0, 0), false)),
        ("type=cache,target=/c,uid=5,gid=6", cache("/c", Sharing::Shared, owner(0o755, 5, 6), false)),
        ("mode=1777,type=cache,target=/c", cache("/c", Sharing::Shared, owner(0o1777, 0, 0), false)),
    ];
    for (text, kind) in table {
        assert_eq!(mount(text).kind, kind, "{text}");
    }
    let MountKind::Cache { from, source, .. } = mount("type=cache,target=/c,from=a,source=b").kind else {
        panic!("a cache")
    };
    assert_eq!((from.as_deref(), source.as_str()), (Some("a"), "/b"));
}

#[test]
fn memory_secrets_and_agents_have_their_defaults() {
    let secret = |id: &str, env: Option<&str>, required, mode| MountKind::Secret {
        id: id.to_owned(),
        env: env.map(str::to_owned),
        required,
        owner: Owner { mode, uid: 0, gid: 0 },
    };
    let ssh = |id: &str, required, owner| MountKind::Ssh { id: id.to_owned(), required, owner };
    let owner = |mode, uid, gid| Owner { mode, uid, gid };
    let table = [
        ("type=tmpfs,target=/t", MountKind::Tmpfs { size: None, readonly: false }),
        ("type=tmpfs,target=/t,size=64m,ro", MountKind::Tmpfs { size: Some(64 << 20), readonly: true }),
        ("type=tmpfs,target=/t,size=0", MountKind::Tmpfs { size: None, readonly: false }),
        ("type=secret,id=a", secret("a", None, false, 0o400)),
        ("type=secret,source=a,required", secret("a", None, true, 0o400)),
        ("type=secret,target=/etc/a.key,required=$yes", secret("a.key", None, true, 0o400)),
        ("type=secret,id=a,env=TOKEN,mode=0444", secret("a", Some("TOKEN"), false, 0o444)),
        ("type=secret,id=a,env=", secret("a", Some("a"), false, 0o400)),
        ("type=ssh", ssh("default", false, owner(0o600, 0, 0))),
        ("type=ssh,id=k,required,uid=7,gid=8,mode=666", ssh("k", true, owner(0o666, 7, 8))),
    ];
    for (text, kind) in table {
        assert_eq!(mount(text).kind, kind, "{text}");
    }
}

#[test]
fn a_mount_goes_below_the_working_directory_or_where_it_says() {
    let table = [
        ("target=/t/../u/", Ok(Some("/u"))),
        ("target=a/b", Ok(Some("/w/a/b"))),
        ("type=cache", Ok(Some("/w"))),
        ("target=..", Err("invalid mount target `/`")),
        ("type=secret,id=a/b", Ok(Some("/run/secrets/b"))),
        ("type=secret,id=a,env=A", Ok(None)),
        ("type=secret,id=a,env=A,target=k", Ok(Some("/w/k"))),
        ("type=ssh", Ok(Some("/run/buildkit/ssh_agent.2"))),
        ("type=ssh,target=/s", Ok(Some("/s"))),
    ];
    for (text, expected) in table {
        let found = mount(text).destination("/w", 2).map_err(|found| found.message);
        assert_eq!(found, expected.map(|place| place.map(str::to_owned)).map_err(str::to_owned), "{text}");
    }
    let found = mount("type=bind").destination("/", 0).expect_err("the root");
    assert!(found.hint.is_some_and(|hint| hint.contains("WORKDIR")));
}

#[test]
fn wrong_mounts_say_what_is_wrong() {
    let table = [
        ("", "invalid field `` must be a key=value pair"),
        ("target", "invalid field `target` must be a key=value pair"),
        ("tagret=/t", "unexpected key `tagret` in `tagret=/t`"),
        ("type=bnd,target=/t", "unsupported mount type `bnd`"),
        ("type=,target=/t", "unsupported mount type ``"),
        ("target=/", "invalid mount target `/`"),
        ("target=//x/..", "invalid mount target `/`"),
        ("target=/t,ro=maybe", "invalid value for ro: `maybe`"),
        ("target=/t,readwrite=", "invalid value for readwrite: ``"),
        ("target=/t,required", "unexpected key `required` for mount type `bind`"),
        ("target=/t,size=1m", "unexpected key `size` for mount type `bind`"),
        ("type=cache,target=/t,required=true", "unexpected key `required` for mount type `cache`"),
        ("required=true,type=secret,id=a", "unexpected key `required` for mount type `bind`"),
        ("target=/t,mode=0755", "mode not allowed for `bind` type mounts"),
        ("type=tmpfs,target=/t,uid=1", "uid not allowed for `tmpfs` type mounts"),
        ("target=/t,sharing=locked", "invalid cache sharing set for bind mount"),
        ("type=ssh,sharing=locked", "invalid cache sharing set for ssh mount"),
        ("type=secret,id=a,sharing=locked", "secret mount should not define sharing"),
        ("type=cache,target=/t,sharing=lokced", "unsupported sharing value `lokced`"),
        ("type=cache,target=/t,mode=0888", "invalid value `0888` for mode"),
        ("type=cache,target=/t,mode=+7", "invalid value `+7` for mode"),
        ("type=cache,target=/t,uid=root", "invalid value `root` for uid"),
        ("type=cache,target=/t,gid=4294967296", "invalid value `4294967296` for gid"),
        ("type=tmpfs,target=/t,size=big", "invalid value for size: `big`"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=$no", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=ssh,source=a", "ssh mount should not have a source"),
        ("target=/t,\"source=a", "a quote is not closed"),
        ("target=/t,source=${x", "syntax error: missing '}'"),
        ("target=/t,source=${x:?is needed}", "x: is needed"),
        ("target=/t,type=$dir", "unsupported mount type `/x`"),
    ];
    for (text, expected) in table {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn wrong_mounts_say_what_to_do() {
    let hint = |text: &str| parse(&word(text), '\\', &vars).expect_err(text).hint.unwrap_or_default();
    let table = [
        ("tagret=/t", "did you mean target?"),
        ("dest=/t", "did you mean dst?"),
        ("requird", "did you mean required?"),
        (
            "xyz=1",
            "the keys are type, target, source, from, id, sharing, required, env, mode, uid, gid, size, ro, rw",
        ),
        ("type=secrets", "did you mean secret?"),
        ("type=volume", "write one of bind, cache, tmpfs, secret, ssh"),
        ("type=cache,sharing=lock", "did you mean locked?"),
        (
            "target=/t,required",
            "a mount without `type=` is a bind mount: `required` is for `type=` secret or ssh",
        ),
        ("type=cache,size=1", "`size` is for mounts with `type=` tmpfs"),
        ("source", "write `source=<value>`"),
        ("size=1,type=tmpfs,target=/t", "write `type=tmpfs` before `size`"),
    ];
    for (text, expected) in table {
        assert_eq!(hint(text), expected, "{text}");
    }
}

#[test]
fn a_mistake_points_at_its_field() {
    let found = parse(&word("target=/t,mode=x,type=cache"), '\\', &vars).expect_err("a wrong mode");
    assert_eq!(found.span, Span { start: 110, end: 116 });
    let torn = Word { span: Span { start: 0, end: 50 }, ..word("target=/t,mode=x,type=cache") };
    assert_eq!(parse(&torn, '\\', &vars).expect_err("a wrong mode").span, torn.span, "a continuation");
}

#[test]
fn mistakes_that_no_variable_can_mend_are_found_without_them() {
    let found = |text: &str| -> Vec<String> {
        check(&word(text), '\\')
            .into_iter()
            .map(|found| format!("{}: {}", found.code, found.message))
            .collect()
    };
    let none: [&str; 0] = [];
    for text in ["target=$x", "type=$x,required,mode=7", "type=cache,target=/t,mode=$m", "type=secret,id=$x"]
    {
        assert_eq!(found(text), none, "{text}");
    }
    assert_eq!(
        found("tagret=$x,type=cache,uid=me,mode=$m,source=${"),
        [
            "mount: unexpected key `tagret` in `tagret=$x`",
            "mount: invalid value `me` for uid",
            "bad-word: syntax error: missing '}'"
        ],
        "all at once"
    );
    assert_eq!(found("type=secret"), ["mount: invalid secret mount. one of source, target required"]);
    assert_eq!(found("target=/t,size=$x"), ["mount: unexpected key `size` for mount type `bind`"]);
    assert_eq!(
        found("type=ssh,from=x,rw"),
        [
            "useless-mount-key: `from` means nothing to `ssh` mounts",
            "useless-mount-key: `ro or rw` means nothing to `ssh` mounts"
        ]
    );
}
