//! What a user reads when a RUN step fails: the command, the code, the place, the last lines, and why.

use std::path::PathBuf;

use crate::support::binary::Kiln;
use crate::support::needs_root;

/// Files that don't run, each for a reason of its own; beside them a Dockerfile with `run`.
fn context(kiln: &Kiln, run: &str) -> PathBuf {
    let dockerfile = format!("FROM busybox\nCOPY bin /b/\nWORKDIR /b\n{run}\n");
    let context = kiln.context(&[
        ("Dockerfile", &dockerfile),
        ("bin/crlf*", "#!/bin/sh\r\necho\r\n"),
        ("bin/bash-script*", "#!/bin/bash -e\necho\n"),
        ("bin/env-script*", "#!/usr/bin/env python3\n"),
        ("bin/plain", "#!/bin/sh\necho\n"),
        ("bin/text*", "echo ran as text\n"),
        ("bin/empty*", ""),
        ("bin/configure*", "#!/bin/sh\necho ok\n"),
        ("bin/folder/x", ""),
    ]);
    std::fs::write(context.join("bin/arm"), elf(183, None)).unwrap();
    std::fs::write(context.join("bin/musl"), elf(62, Some("/lib/ld-musl-x86_64.so.1"))).unwrap();
    for name in ["arm", "musl"] {
        use std::os::unix::fs::PermissionsExt;
        let path = context.join("bin").join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    context
}

/// A program header table of 64 bits: for `machine`, with a dynamic loader or without.
fn elf(machine: u16, loader: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16..18].copy_from_slice(&2_u16.to_le_bytes());
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[20] = 1;
    bytes[24..32].copy_from_slice(&0x40_0000_u64.to_le_bytes());
    bytes[32] = 64;
    bytes[52] = 64;
    bytes[54] = 56;
    let mut header = |index: usize, kind: u32, offset: u64, length: u64| {
        let at = 64 + 56 * index;
        bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        bytes[at + 4] = 5;
        bytes[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
        bytes[at + 16..at + 24].copy_from_slice(&(0x40_0000 + offset).to_le_bytes());
        bytes[at + 32..at + 40].copy_from_slice(&length.to_le_bytes());
        bytes[at + 40..at + 48].copy_from_slice(&length.to_le_bytes());
    };
    header(0, 1, 0, 4096);
    let mut count = 1;
    if let Some(loader) = loader {
        header(1, 3, 1024, loader.len() as u64 + 1);
        bytes[1024..1024 + loader.len()].copy_from_slice(loader.as_bytes());
        count = 2;
    }
    bytes[56] = count;
    bytes
}

/// The end of what kiln says, from `error:` on.
fn explanation(kiln: &Kiln, run: &str) -> String {
    let ran = kiln.build(&context(kiln, run), &[]);
    assert_eq!(ran.code, 1, "{run}: {ran}");
    let at = ran.error.rfind("\nerror: ").unwrap();
    ran.error[at..].trim().to_owned()
}

fn check(kiln: &Kiln, cases: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (run, expected) in cases {
        let actual = explanation(kiln, run);
        if actual != *expected {
            wrong += &format!("--- {run}\n{actual}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_program_that_cannot_run_says_why() {
    if !needs_root("a_program_that_cannot_run_says_why") {
        return;
    }
    let kiln = Kiln::busybox();
    check(
        &kiln,
        &[
            (
                r#"RUN ["/b/crlf"]"#,
                "error: process \"/b/crlf\" did not complete successfully: exit code: 127\n  \
                 caused by: exec: \"/b/crlf\": the script's first line `#!/bin/sh` ends with a carriage return: save the file with LF line ends\n\
                 hint: save the file with LF line ends; `*.sh text eol=lf` in .gitattributes keeps git from changing them",
            ),
            (
                r#"RUN ["/b/bash-script"]"#,
                "error: process \"/b/bash-script\" did not complete successfully: exit code: 127\n  \
                 caused by: exec: \"/b/bash-script\": the script's interpreter `/bin/bash` is not in the image\n\
                 hint: install `/bin/bash`, or begin the script with one that the image has, such as `#!/bin/sh`",
            ),
            (
                r#"RUN ["/b/musl"]"#,
                "error: process \"/b/musl\" did not complete successfully: exit code: 127\n  \
                 caused by: exec: \"/b/musl\": its dynamic loader `/lib/ld-musl-x86_64.so.1` is not in the image: it was linked for another C library\n\
                 hint: use a base image with that C library (glibc or musl), or link the program statically",
            ),
            (
                r#"RUN ["/b/arm"]"#,
                "error: process \"/b/arm\" did not complete successfully: exit code: 126\n  \
                 caused by: exec: \"/b/arm\": exec format error: it is a program for arm64, this machine is amd64\n\
                 hint: bring the program for amd64, or build with `--platform`",
            ),
            (
                r#"RUN ["/b/plain"]"#,
                "error: process \"/b/plain\" did not complete successfully: exit code: 126\n  \
                 caused by: exec: \"/b/plain\": permission denied: the file has no execute permission for this user\n\
                 hint: make it executable: `COPY --chmod=755 …`, or `RUN chmod +x …`",
            ),
            (
                r#"RUN ["/b/text"]"#,
                "error: process \"/b/text\" did not complete successfully: exit code: 126\n  \
                 caused by: exec: \"/b/text\": exec format error: it is a text file without a `#!` line\n\
                 hint: begin the file with `#!/bin/sh`",
            ),
            (
                r#"RUN ["/b/empty"]"#,
                "error: process \"/b/empty\" did not complete successfully: exit code: 126\n  \
                 caused by: exec: \"/b/empty\": exec format error: the file is empty or can't be read",
            ),
            (
                r#"RUN ["/b/folder"]"#,
                "error: process \"/b/folder\" did not complete successfully: exit code: 126\n  \
                 caused by: exec: \"/b/folder\": is a directory",
            ),
            (
                r#"RUN ["/b/confgure"]"#,
                "error: process \"/b/confgure\" did not complete successfully: exit code: 127\n  \
                 caused by: exec: \"/b/confgure\": stat /b/confgure: no such file or directory\n\
                 hint: did you mean `/b/configure`?",
            ),
            (
                r#"RUN ["mkdri", "/x"]"#,
                "error: process \"mkdri /x\" did not complete successfully: exit code: 127\n  \
                 caused by: exec: \"mkdri\": executable file not found in $PATH\n\
                 hint: no folder of PATH has `mkdri`: did you mean `mkdir`?",
            ),
        ],
    );
}

#[test]
fn a_shell_that_could_not_run_something_is_explained() {
    if !needs_root("a_shell_that_could_not_run_something_is_explained") {
        return;
    }
    let kiln = Kiln::busybox();
    check(
        &kiln,
        &[
            (
                "RUN X=1 ./crlf",
                "error: process \"/bin/sh -c X=1 ./crlf\" did not complete successfully: exit code: 127\n  \
                 caused by: `./crlf`: the script's first line `#!/bin/sh` ends with a carriage return: save the file with LF line ends\n\
                 hint: save the file with LF line ends; `*.sh text eol=lf` in .gitattributes keeps git from changing them",
            ),
            (
                "RUN true && ./bash-script",
                "error: process \"/bin/sh -c true && ./bash-script\" did not complete successfully: exit code: 127\n  \
                 caused by: `./bash-script`: the script's interpreter `/bin/bash` is not in the image\n\
                 hint: install `/bin/bash`, or begin the script with one that the image has, such as `#!/bin/sh`",
            ),
            (
                "RUN ./plain",
                "error: process \"/bin/sh -c ./plain\" did not complete successfully: exit code: 126\n  \
                 caused by: `./plain`: permission denied: the file has no execute permission for this user\n\
                 hint: make it executable: `COPY --chmod=755 …`, or `RUN chmod +x …`",
            ),
            (
                "RUN echo '#!/none' > /made && chmod 755 /made && /made",
                "error: process \"/bin/sh -c echo '#!/none' > /made && chmod 755 /made && /made\" did not complete successfully: exit code: 127\n  \
                 caused by: `/made`: the script's interpreter `/none` is not in the image\n\
                 hint: install `/none`, or begin the script with one that the image has, such as `#!/bin/sh`",
            ),
            (
                "RUN --mount=target=/ctx /ctx/bin/musl",
                "error: process \"/bin/sh -c /ctx/bin/musl\" did not complete successfully: exit code: 127\n  \
                 caused by: `/ctx/bin/musl`: its dynamic loader `/lib/ld-musl-x86_64.so.1` is not in the image: it was linked for another C library\n\
                 hint: use a base image with that C library (glibc or musl), or link the program statically",
            ),
            (
                "RUN hostnam",
                "error: process \"/bin/sh -c hostnam\" did not complete successfully: exit code: 127\n\
                 hint: no folder of PATH has `hostnam`: did you mean `hostname`?",
            ),
            (
                "RUN exit 127",
                "error: process \"/bin/sh -c exit 127\" did not complete successfully: exit code: 127",
            ),
            (
                "RUN exit 3",
                "error: process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3",
            ),
            (
                "RUN kill -9 $$; sleep 1 & kill -TERM $!; wait $!",
                "error: process \"/bin/sh -c kill -9 $$; sleep 1 & kill -TERM $!; wait $!\" did not complete successfully: exit code: 143",
            ),
        ],
    );
    let foreign = explanation(&kiln, "RUN ./arm");
    assert!(foreign.contains("`./arm`: exec format error: it is a program for arm64"), "{foreign}");
}

#[test]
fn a_failure_shows_the_place_and_the_last_lines() {
    if !needs_root("a_failure_shows_the_place_and_the_last_lines") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = context(&kiln, "RUN for i in 1 2 3; do echo line $i; done; echo bad >&2; exit 9");
    let ran = kiln.build(&context, &[]);
    ran.fails_with(&["line 3", "bad", "   4 | >>> RUN for i in", "exit code: 9", "Dockerfile:4"]);
}

#[test]
fn an_image_without_a_shell_gets_a_hint() {
    if !needs_root("an_image_without_a_shell_gets_a_hint") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = kiln.context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /x\nRUN echo\n")]);
    kiln.build(&context, &[]).fails_with(&[
        "exit code: 127",
        "caused by: exec: \"/bin/sh\": stat /bin/sh: no such file or directory",
        "hint: the image has no `/bin/sh`: use the exec form, `RUN [\"program\", \"argument\"]`, or a base image with a shell",
    ]);
}
