//! What docker.io 20.10.24 with BuildKit made of the same Dockerfiles and context, recorded.

mod image;
mod recorded;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::support::binary::Kiln;
use crate::support::needs_root;

/// Mode and owner of a name, or the target of a link.
fn shown(root: &Path, name: &str) -> String {
    let path = root.join(name);
    let stat = std::fs::symlink_metadata(&path).unwrap();
    match std::fs::read_link(&path) {
        Ok(target) => format!("-> {}", target.display()),
        Err(_) => format!("{:o} {}:{}", stat.mode() & 0o7777, stat.uid(), stat.gid()),
    }
}

#[test]
fn copies_give_the_modes_owners_and_links_of_the_peer() {
    if !needs_root("copies_give_the_modes_owners_and_links_of_the_peer") {
        return;
    }
    let kiln = Kiln::busybox();
    let dockerfile = "FROM busybox AS one\n\
        RUN mkdir /o && echo 1 > /o/f && chown 5:6 /o/f && chmod 600 /o/f && ln -s f /o/l && ln /o/f /o/h && \\\n\
            mkdir -m 700 /o/in && chown 8:9 /o/in /o && chmod 711 /o && ln -s /o /ol\n\
        FROM busybox\n\
        RUN mkdir -m 700 /old && chown 3:4 /old && mkdir -m 711 /old/sub && ln -s /old /link\n\
        COPY --from=one /o /x\n\
        COPY --from=ONE --chown=1:2 /o /z\n\
        COPY --from=0 /ol /zz\n\
        COPY --from=one ol/l /lf\n\
        COPY sticky /st\n\
        COPY d /link\n\
        COPY --chown=9 d/sub /p/q/r\n";
    let context =
        kiln.context(&[("Dockerfile", dockerfile), ("sticky/in", ""), ("d/sub/two", ""), ("d/one*", "")]);
    for (name, mode) in [("sticky", 0o1777), ("d/sub", 0o700), ("sticky/in", 0o4755)] {
        std::fs::set_permissions(context.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let files = kiln.build_files(&context, &[]);
    for (name, expected) in [
        ("x", "755 0:0"),
        ("x/f", "600 5:6"),
        ("x/l", "-> f"),
        ("x/in", "700 8:9"),
        ("z", "755 1:2"),
        ("z/in", "700 1:2"),
        ("z/f", "600 1:2"),
        ("zz", "755 0:0"),
        ("lf", "600 5:6"),
        ("st", "755 0:0"),
        ("st/in", "4755 0:0"),
        ("link", "-> /old"),
        ("old", "700 3:4"),
        ("old/sub", "700 0:0"),
        ("old/one", "755 0:0"),
        ("p/q", "755 9:9"),
        ("p/q/r", "755 9:9"),
        ("p/q/r/two", "644 9:9"),
    ] {
        assert_eq!(shown(files.path(), name), expected, "{name}");
    }
    let inode = |name: &str| std::fs::metadata(files.path().join(name)).unwrap().ino();
    assert_eq!(inode("x/f"), inode("x/h"));
    assert_eq!(inode("z/f"), inode("z/h"));
}

/// But for what later BuildKits changed: --chown and --chmod are shown, ports are a list, a healthcheck has a
/// start interval.
#[test]
fn history_reads_as_the_peers() {
    if !needs_root("history_reads_as_the_peers") {
        return;
    }
    let kiln = Kiln::busybox();
    let dockerfile = "FROM busybox\n\
        ARG A=1\n\
        ENV E=\"a b\" F=$A\n\
        copy --chown=1:2 --chmod=0640 f $F/\n\
        RUN echo $A > /o\n\
        WORKDIR rel\n\
        EXPOSE 8080:80 81-82/udp\n\
        VOLUME /v /w\n\
        HEALTHCHECK --interval=90s --retries=3 CMD curl x || exit 1\n\
        ONBUILD RUN later\n\
        SHELL [\"/bin/sh\", \"-ec\"]\n\
        CMD a \"b\"\n\
        ENTRYPOINT [\"e\", \"f g\"]\n";
    let context = kiln.context(&[("Dockerfile", dockerfile), ("f", "")]);
    let built = kiln.build(&context, &["-t", "made"]).ok();
    let history = kiln.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]);
    let lines: Vec<&str> = history.lines().take(11).collect();
    assert_eq!(
        lines,
        [
            r#"ENTRYPOINT ["e" "f g"]"#,
            r#"CMD ["/bin/sh" "-ec" "a \"b\""]"#,
            "SHELL [/bin/sh -ec]",
            r#"HEALTHCHECK &{["CMD-SHELL" "curl x || exit 1"] "1m30s" "0s" "0s" "0s" '\x03'}"#,
            "VOLUME [/v /w]",
            "EXPOSE [80/tcp 81/udp 82/udp]",
            "WORKDIR /rel",
            "RUN |1 A=1 /bin/sh -c echo $A > /o # buildkit",
            "COPY --chown=1:2 --chmod=0640 f 1/ # buildkit",
            "ENV E=a b F=1",
            "ARG A=1",
        ]
    );
    for name in ["[2/4] COPY --chown=1:2 --chmod=0640 f 1/", "[3/4] RUN echo 1 > /o", "[4/4] WORKDIR rel"] {
        assert!(built.error.contains(name), "`{name}` is missing in:\n{built}");
    }
}
