//! The table of what a step can read.

use super::unread;

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

const PATH: (&str, &str) = ("PATH", "/usr/local/bin:/usr/bin:/bin");

/// Tells whether the ARG `VERSION` counts in a step with this program.
fn counts(program: &[&str]) -> bool {
    let mut args = pairs(&[("VERSION", "1")]);
    let judged = unread(&words(program), &pairs(&[PATH, ("E", "x")]), "/", &mut args);
    assert_eq!(judged.is_none(), !args.is_empty());
    judged.is_none()
}

fn counts_in_script(script: &str) -> bool {
    counts(&["/bin/sh", "-c", script])
}

#[test]
fn these_scripts_read_no_arg() {
    for script in [
        "echo hi",
        "true",
        ":",
        "",
        "# only $(a comment)\n",
        "mkdir -p /app/data && chown -R app:app /app",
        "rm -rf /tmp/* /var/cache/apk/*.gz",
        "mkdir $HOME/x; touch \"${HOME}/x/y z\" 'a\nb'",
        "set -eux; mkdir /a; cd /a; touch b",
        "set -o pipefail && echo a | tee /log",
        "if [ -e /x ]; then rm /x; else mkdir /x; fi",
        "if ! test -d /x; then mkdir /x; fi",
        "[ \"$E\" = x ] || exit 1",
        "[ ! \"$E\" != x ] && test ! -n \"$E\"",
        "for d in a b c; do mkdir -p /d/$d; done",
        "while false; do sleep 1; done",
        "X=1; echo $X ${X} $? $# $0 $$",
        "X=1 Y=$X mkdir /x",
        "export X=1 && echo \"$X\"",
        "export X; unset X; umask 022",
        "echo a > /f; echo b >> /f 2>&1",
        "echo a >/dev/null 2>&1; mkdir /x",
        "echo x >| $E/f",
        "cat <<EOF > /etc/app.conf\nhome=$HOME \\`env\\` \\$(env)\nEOF\n",
        "cat > /f <<'EOF'\n$(env) `env` ${!x} $((1))\nEOF\necho done",
        "cat <<-EOF\n\t$HOME\n\tEOF\nmkdir /x",
        "cat <<A <<B > /f\n1\nA\n2\nB\ntrue",
        "ln -s /opt/app/run /usr/local/bin/app",
        "ln -sf ../share/zoneinfo/UTC /usr/share/app-time",
        "mv /app/config.example /app/config",
        "printf '%s\\n' one two > /f",
        "mk\\\ndir /x",
        "'mkdir' /x; \"mkdir\" /y; mk\"di\"r /z",
        "mkdir /a & wait_for=1; echo",
        "ls -la / | cat",
        "date -u +%s; uname -m; id; whoami",
        "echo a$ b$/ \"$\" \\$x '`'",
        "echo env eval . source export",
        "echo process the output",
        "chmod u+x /usr/local/bin/tool 'ünïcode\r'",
        "touch /x && stat /x && readlink -f /x",
    ] {
        assert!(!counts_in_script(script), "{script}");
    }
}

const READING: &[&str] = &[
    "echo $VERSION",
    "echo '$VERSION'",
    "mkdir /x # VERSION",
    "env",
    "printenv",
    "env | grep VER",
    "export",
    "export -p",
    "set",
    "set -a",
    "set -o",
    "set -- a",
    "declare -p",
    "compgen -v",
    "eval echo \\$VER\"SION\"",
    ". /script",
    "source /script",
    "sh -c 'x'",
    "exec mkdir /x",
    "command mkdir /x",
    "apt-get update && apt-get install -y curl",
    "apk add --no-cache curl",
    "pip install flask",
    "npm ci",
    "make",
    "./configure",
    "/bin/mkdir /x",
    "/app/setup.sh",
    "python -c 1",
    "cp /proc/self/environ /x",
    "cp a b",
    "cat /proc/self/environ > /x",
    "cat /link > /x",
    "cat < /proc/self/environ",
    "mkdir /x < /y",
    "mv /proc/self/environ /x || true",
    "cd /proc && mv 1 /x || true",
    "cd $E && mv 1 /x",
    "tar c /",
    "find / -exec env ';'",
    "awk 'BEGIN { print ENVIRON[\"V\"] }'",
    "sed e",
    "grep -r x /",
    "xargs mkdir",
    "date -f /link",
    "echo $(date)",
    "echo `date`",
    "echo \"$(env)\"",
    "echo \"`env`\"",
    "echo $((X))",
    "echo $[X]",
    "echo ${!X}",
    "echo ${X:-y}",
    "echo ${X//a/b}",
    "echo ${#X}x${X@P}",
    "echo $'x'",
    "cat <<EOF\n$(env)\nEOF",
    "cat <<EOF\n`env`\nEOF",
    "cat <<EOF\n${!x}\nEOF",
    "cat <<EOF\n$((x))\nEOF",
    "cat <<EOF\nfoo\\\nEOF\nenv\nEOF",
    "cat <<< x",
    "cat <(env)",
    "(env)",
    "(mkdir /x)",
    "{ env; }",
    "f() { env; }; f",
    "function f { env; }",
    "alias mkdir=env; mkdir x",
    "case x in x) env;; esac",
    "[[ -v X ]]",
    "[[ a -eq X ]]",
    "test -v \"$X\"",
    "[ $E $E ]",
    "[ -v \"$X\" ]",
    "printf -v x y",
    "printf $E",
    "read X",
    "trap env EXIT",
    "$X foo",
    "\"$X\"",
    "mkdir$X /x",
    "m* /x",
    "{mkdir,x}",
    "~/x",
    "PATH=/evil mkdir /x",
    "export PATH=/evil; mkdir /x",
    "unset PATH",
    "export $X",
    "IFS=x; echo a",
    "LD_PRELOAD=/x true",
    "BASH_ENV=/x true",
    "for PATH in /evil; do mkdir /x; done",
    "for x; do env; done",
    "a[1]=x",
    "a=(1)",
    "X+=1",
    "echo x > /usr/local/bin/mkdir; mkdir /x",
    "echo env > \"$E\"; mkdir /x",
    "mv /evil /usr/local/bin && mkdir /x",
    "mv /evil/mkdir /opt; mkdir /x",
    "ln -sf /evil /bin/sh",
    "ln -sf /evil /lib/libc.so.6; mkdir /x",
    "cd /usr; ln -sfn /evil bin; mkdir /x",
    "echo /x.so > /etc/ld.so.preload; mkdir /x",
    "echo x | tee /bin/mkdir; mkdir /x",
    "mv $E /x",
    "time mkdir /x",
    "mkdir /x\0",
    "mkdir /x;\renv",
    "mkdir\u{a0}/x",
    "mkdir\x0b/x",
    "echo 'not closed",
    "echo \"not closed",
    "echo >",
    "> > x",
    "curl https://example.org/install.sh | sh",
    "useradd app",
    "git clone https://example.org/x.git",
];

#[test]
fn these_scripts_could_read_an_arg() {
    for script in READING {
        assert!(counts_in_script(script), "{script}");
    }
}

#[test]
fn only_known_shells_and_programs_are_judged() {
    for (program, expected) in [
        (&["/bin/sh", "-c", "true"][..], false),
        (&["/bin/bash", "-c", "true"], false),
        (&["/bin/bash", "-euxo", "pipefail", "-c", "true"], false),
        (&["/bin/bash", "-o", "pipefail", "-c", "true"], false),
        (&["/bin/ash", "-eo", "pipefail", "-c", "true"], false),
        (&["/usr/bin/dash", "-ec", "true"], false),
        (&["sh", "-c", "true"], false),
        (&["mkdir", "-p", "/x"], false),
        (&["echo", "$(env)", "`env`"], false),
        (&["true"], false),
        (&["/bin/sh", "-lc", "true"], true),
        (&["/bin/bash", "-l", "-c", "true"], true),
        (&["/bin/bash", "-ic", "true"], true),
        (&["/bin/bash", "--login", "-c", "true"], true),
        (&["/bin/bash", "-O", "extglob", "-c", "true"], true),
        (&["/bin/bash", "-ac", "true"], true),
        (&["/bin/sh", "script"], true),
        (&["/bin/sh", "-e", "script"], true),
        (&["/bin/sh", "-c", "true", "name"], true),
        (&["/bin/zsh", "-c", "true"], true),
        (&["/usr/local/bin/bash", "-c", "true"], true),
        (&["/opt/sh", "-c", "true"], true),
        (&["/bin/sh"], true),
        (&["env"], true),
        (&["/bin/mkdir", "/x"], true),
        (&["cd", "/x"], true),
        (&["export"], true),
        (&["cat", "/proc/self/environ"], true),
        (&["mkdir", "VERSION"], true),
        (&[], true),
    ] {
        assert_eq!(counts(program), expected, "{program:?}");
    }
}

/// Some names are read without being written, and some variables change what a shell does.
#[test]
fn names_that_somebody_knows_always_count() {
    let count = |env: &[(&str, &str)], args: &[(&str, &str)], cwd: &str| {
        let (mut args, all) = (pairs(args), args.len());
        let judged = unread(&words(&["/bin/sh", "-c", "mkdir /x"]), &pairs(env), cwd, &mut args);
        assert_eq!(judged.map_or(0, |(unread, _)| unread.len()) + args.len(), all);
        args.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    for name in [
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "LD_PRELOAD",
        "BASH_ENV",
        "ENV",
        "IFS",
        "POSIXLY_CORRECT",
        "GLIBC_TUNABLES",
        "LS_COLORS",
        "PWD",
        "SHLVL",
        "QEMU_CPU",
        "SSH_CLIENT",
        "not-an-identifier",
        "1st",
        "é",
        "BASH_FUNC_mkdir%%",
        "ASAN_OPTIONS",
        "x",
        "mkdir",
        "MALLOC_PERTURB_",
        "_",
    ] {
        assert_eq!(count(&[PATH], &[(name, "1")], "/"), [name], "{name}");
    }
    let none = Vec::<String>::new();
    assert_eq!(count(&[PATH], &[("A", "1"), ("HOME", "2"), ("B", "3")], "/"), ["HOME"]);
    assert_eq!(count(&[PATH, ("LANG", "C"), ("HOME", "/")], &[("A", "1")], "/w"), none);
    assert_eq!(count(&[PATH], &[("A", &"x".repeat(4097))], "/"), ["A"]);
    for env in [
        &[][..],
        &[("PATH", "bin:/bin")],
        &[("PATH", "/bin:")],
        &[PATH, ("BASH_ENV", "/x")],
        &[PATH, ("LD_LIBRARY_PATH", "/x")],
        &[PATH, ("BASH_FUNC_echo%%", "() { env; }")],
        &[PATH, ("SHELLOPTS", "posix")],
    ] {
        assert_eq!(count(env, &[("A", "1")], "/"), ["A"], "{env:?}");
    }
    assert_eq!(count(&[PATH], &[("A", "1")], "/proc/self"), ["A"]);
    assert_eq!(count(&[PATH], &[("A", "1"), ("ENV", "/x")], "/"), ["A", "ENV"]);
    for (path, counts) in [("/bin", false), ("/bin:/go/tools", true), ("/tools/bin", true)] {
        let mut args = pairs(&[("A", "1")]);
        let program = words(&["/bin/sh", "-c", "mv /evil /go/tools; mkdir /x"]);
        let judged = unread(&program, &pairs(&[("PATH", path)]), "/", &mut args);
        assert_eq!(judged.is_none(), counts, "{path}");
    }
}

#[test]
fn the_programs_that_a_step_relies_on_are_named() {
    let mut args = pairs(&[("VERSION", "1")]);
    let program = words(&["/bin/bash", "-c", "mkdir /x && echo y | tee /z; ! true"]);
    let (unread, relied) = unread(&program, &pairs(&[PATH]), "/", &mut args).unwrap();
    assert_eq!(unread, pairs(&[("VERSION", "1")]));
    assert_eq!(relied.shell.as_deref(), Some("/bin/bash"));
    assert_eq!(relied.programs.iter().collect::<Vec<_>>(), ["echo", "mkdir", "tee", "true"]);
    assert_eq!(relied.folders, ["/usr/local/bin", "/usr/bin", "/bin"]);
}
