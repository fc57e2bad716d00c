//! Secrets, agents and proxies that a build is lent: a step has them, and nothing else ever does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::binary::{Kiln, Ran, Step, finish, names, read, run, start};
use crate::support::needs_root;

const IN_FILE: &str = "file-secret-7d41c0a9";
const IN_VARIABLE: &str = "variable-secret-93be55f2";
const IN_PROXY: &str = "proxy-secret-0c4419ae";

/// Files outside of the store and of kiln's own TMPDIR.
struct Lender {
    folder: tempfile::TempDir,
}

impl Lender {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), IN_FILE).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A build that is lent everything.
    fn build(&self, kiln: &Kiln, context: &Path, words: &[&str]) -> Command {
        let mut command = kiln.build_command(context, words);
        command.args(["--secret", &format!("id=file,src={}", self.path("secret"))]);
        command.args(["--secret", "id=variable,env=LENT"]).env("LENT", IN_VARIABLE);
        command.env("HTTP_PROXY", format!("http://user:{IN_PROXY}@127.0.0.1:1"));
        command.args(["--build-arg", &format!("FTP_PROXY=http://{IN_PROXY}.test")]);
        command
    }
}

/// Names and contents below `folder` that have `bytes`.
fn traces(folder: &Path, bytes: &str) -> Vec<PathBuf> {
    let has = |hay: &[u8]| hay.windows(bytes.len()).any(|window| window == bytes.as_bytes());
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let found = entries.filter(|entry| {
        has(entry.file_name().as_encoded_bytes())
            || entry.file_type().is_file() && has(&std::fs::read(entry.path()).unwrap_or_default())
    });
    found.map(walkdir::DirEntry::into_path).collect()
}

/// Neither the store, nor kiln's other files, nor what it said has any of the secrets.
fn keeps_quiet(kiln: &Kiln, ran: &Ran) {
    for secret in [IN_FILE, IN_VARIABLE, IN_PROXY] {
        assert_eq!(traces(kiln.scratch(), secret), Vec::<PathBuf>::new(), "{secret}");
        assert!(!ran.error.contains(secret) && !ran.out.contains(secret), "{secret}: {ran}");
    }
}

#[test]
fn the_bytes_of_a_secret_are_nowhere_after_the_build() {
    if !needs_root("the_bytes_of_a_secret_are_nowhere_after_the_build") {
        return;
    }
    let (kiln, lender) = (Kiln::busybox(), Lender::new());
    let context = kiln.context(&[(
        "Dockerfile",
        "FROM busybox\n\
         RUN --mount=type=secret,id=file --mount=type=secret,id=variable,env=TOKEN --mount=type=secret,id=variable,target=/etc/token \
         stat -c '%a %u:%g' /run/secrets/file > /seen; wc -c < /run/secrets/file >> /seen; echo ${#TOKEN} >> /seen; \
         wc -c < /etc/token >> /seen; echo ${#HTTP_PROXY} ${#ftp_proxy} >> /seen; \
         echo x 2>/dev/null > /run/secrets/file || echo read-only >> /seen; grep ' /run/secrets/file ' /proc/mounts | cut -d' ' -f3 >> /seen\n\
         RUN --mount=type=secret,id=file,target=/s,mode=0440,uid=5,gid=6 stat -c '%a %u:%g' /s > /owned\n\
         RUN test ! -e /run && test ! -e /etc/token && test -z \"$TOKEN\"\n",
    )]);
    let out = tempfile::tempdir_in(kiln.scratch()).unwrap();
    let output = format!("type=local,dest={}", out.path().display());
    let ran =
        run(&mut lender.build(&kiln, &context, &["-t", "lent", "-o", &output, "-o", "type=image"])).ok();
    let proxies =
        (format!("http://user:{IN_PROXY}@127.0.0.1:1").len(), format!("http://{IN_PROXY}.test").len());
    let expected = format!(
        "400 0:0\n{}\n{}\n{}\n{} {}\nread-only\ntmpfs\n",
        IN_FILE.len(),
        IN_VARIABLE.len(),
        IN_VARIABLE.len(),
        proxies.0,
        proxies.1
    );
    assert_eq!(read(&out, "seen"), expected);
    assert_eq!(read(&out, "owned"), "440 5:6\n");
    keeps_quiet(&kiln, &ran);
    kiln.ok(&["save", "lent", "-o", kiln.scratch().join("saved.tar").to_str().unwrap()]);
    keeps_quiet(&kiln, &ran);
    // Another secret is no reason to run a step again.
    std::fs::write(lender.path("secret"), "another").unwrap();
    let again = run(&mut lender.build(&kiln, &context, &[])).ok();
    assert_eq!(again.ended(Step::Done), Vec::<String>::new());
}

#[test]
fn the_bytes_of_a_secret_are_nowhere_after_a_failure_or_a_kill() {
    if !needs_root("the_bytes_of_a_secret_are_nowhere_after_a_failure_or_a_kill") {
        return;
    }
    let (kiln, lender) = (Kiln::busybox(), Lender::new());
    let with = |command: &str| {
        let mounts = "--mount=type=secret,id=file --mount=type=secret,id=variable,env=TOKEN";
        kiln.context(&[("Dockerfile", &format!("FROM busybox\nRUN {mounts} {command}\n"))])
    };
    let ran = run(&mut lender.build(&kiln, &with("test -s /run/secrets/file && exit 3"), &[]));
    let ran = ran.fails_with(&["exit code: 3"]);
    keeps_quiet(&kiln, &ran);
    // The name of the variable is shown, and never what it stands for.
    let ran = run(&mut lender.build(&kiln, &with("test $TOKEN = x"), &[])).fails_with(&["test **** = x"]);
    keeps_quiet(&kiln, &ran);
    let ran = run(&mut lender.build(&kiln, &with("[\"/none\"]"), &[]));
    keeps_quiet(&kiln, &ran.fails_with(&["stat /none: no such file or directory"]));
    let context = with("cp /run/secrets/file /dev/shm/x; touch /started; sleep 600");
    let mut child = start(&mut lender.build(&kiln, &context, &[]));
    let started = || {
        let staged = names(&kiln.root().join("tmp"));
        staged.iter().any(|name| kiln.root().join("tmp").join(name).join("fs/started").exists())
    };
    while !started() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    keeps_quiet(&kiln, &Ran { code: 0, out: String::new(), error: String::new() });
    child.kill().unwrap();
    let ran = finish(child);
    keeps_quiet(&kiln, &ran);
    kiln.settle();
    keeps_quiet(&kiln, &ran);
}

#[test]
fn a_missing_secret_stops_only_a_step_that_requires_it() {
    if !needs_root("a_missing_secret_stops_only_a_step_that_requires_it") {
        return;
    }
    let kiln = Kiln::busybox();
    let context = |flag: &str| {
        let text =
            format!("FROM busybox\nRUN --mount={flag} ls /run/secrets 2>/dev/null; echo \"[$X]\" > /x\n");
        kiln.context(&[("Dockerfile", &text)])
    };
    let files = kiln.build_files(&context("type=secret,id=tokn,env=X"), &[]);
    assert_eq!(read(&files, "x"), "[]\n");
    kiln.build(&context("type=secret,id=tokn,required"), &["--secret", "id=token,env=PATH"]).fails_with(&[
        "the step needs the secret `tokn`, which was not given",
        "hint: build with `--secret id=tokn,src=FILE` or `--secret id=tokn,env=VARIABLE`",
        "hint: given are `token`",
    ]);
    kiln.build(&context("type=ssh,required=true"), &[])
        .fails_with(&["the step needs the ssh agent `default`", "hint: build with `--ssh default`"]);
    kiln.build(&context("type=ssh"), &[]).ok();
    kiln.build(&context("type=ssh"), &["--ssh", "default"]).fails_with(&["SSH_AUTH_SOCK isn't set"]);
}

/// An `ssh-agent` of the test's own.
struct Agent {
    process: Child,
    socket: String,
}

impl Agent {
    fn start(lender: &Lender) -> Self {
        let socket = lender.path("agent");
        let mut command = Command::new("ssh-agent");
        let process = command.args(["-D", "-a", &socket]).stdout(Stdio::null()).spawn().unwrap();
        // Between bind and listen the socket is there, and refuses.
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self { process, socket }
    }

    fn add(&self, words: &[&str]) -> String {
        let mut command = Command::new("ssh-add");
        let output = command.args(words).env("SSH_AUTH_SOCK", &self.socket).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A context with `ssh-add` and its libraries below `root/`, and a key beside the lender's files.
fn with_ssh(kiln: &Kiln, lender: &Lender, dockerfile: &str) -> PathBuf {
    let context = kiln.context(&[("Dockerfile", dockerfile), ("root/", "")]);
    let script = "set -e; cd \"$1\"; p=$(command -v ssh-add); \
        cp -L --parents $p $(ldd $p | grep -o '/[^ ]*') root/; ssh-keygen -q -t ed25519 -N '' -C test-key -f \"$2\"";
    let made = Command::new("/bin/sh")
        .args(["-c", script, "sh", context.to_str().unwrap(), &lender.path("key")])
        .status();
    assert!(made.unwrap().success(), "the tests need the package openssh-client");
    context
}

#[test]
fn a_step_asks_the_agent_through_a_socket_of_its_own() {
    if !needs_root("a_step_asks_the_agent_through_a_socket_of_its_own") {
        return;
    }
    let (kiln, lender) = (Kiln::busybox(), Lender::new());
    let context = with_ssh(
        &kiln,
        &lender,
        "FROM busybox\nCOPY root /\nARG N\nRUN --mount=type=ssh,mode=0660,gid=7 ssh-add -l > /listed && \
         stat -c '%F %a %u:%g' $SSH_AUTH_SOCK > /socket; echo $SSH_AUTH_SOCK >> /socket; ssh-add -D; ssh-add -x </dev/null; true\n\
         RUN test ! -e /run && test -z \"$SSH_AUTH_SOCK\"\n",
    );
    let check = |files: &tempfile::TempDir| {
        assert!(read(files, "listed").contains("test-key (ED25519)"), "{}", read(files, "listed"));
        assert_eq!(read(files, "socket"), "socket 660 0:7\n/run/buildkit/ssh_agent.0\n");
    };
    let agent = Agent::start(&lender);
    agent.add(&["-q", &lender.path("key")]);
    check(&kiln.build_files(&context, &["--ssh", &format!("default={}", agent.socket)]));
    assert!(agent.add(&["-l"]).contains("test-key"), "the step could remove the key");
    // A key is served by an agent that ends with the build.
    let key = format!("default={}", lender.path("key"));
    std::fs::set_permissions(lender.path("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    check(&kiln.build_files(&context, &["--ssh", &key, "--build-arg", "N=2"]));
    assert_eq!(names(&kiln.root().join("tmp")), Vec::<String>::new());
    let secret = std::fs::read_to_string(lender.path("key")).unwrap();
    let line = secret.lines().nth(2).unwrap();
    assert_eq!(traces(kiln.scratch(), line), Vec::<PathBuf>::new());
}

#[test]
fn an_agent_of_a_killed_build_ends() {
    if !needs_root("an_agent_of_a_killed_build_ends") {
        return;
    }
    let (kiln, lender) = (Kiln::busybox(), Lender::new());
    let context = with_ssh(&kiln, &lender, "FROM busybox\nRUN --mount=type=ssh sleep 600\n");
    let children = |pid: &str| {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().map(str::to_owned).collect::<Vec<String>>()
    };
    let is_agent = |pid: &String| {
        std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(b"ssh-agent")
    };
    let key = format!("default={}", lender.path("key"));
    let mut child = start(&mut kiln.build_command(&context, &["--ssh", &key]));
    let agent = loop {
        // kiln, the shell that waits for its end, the agent.
        let below =
            children(&child.id().to_string()).iter().flat_map(|shell| children(shell)).collect::<Vec<_>>();
        if let Some(agent) = below.into_iter().find(is_agent) {
            break agent;
        }
        assert!(child.try_wait().unwrap().is_none(), "the build ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    child.kill().unwrap();
    finish(child);
    crate::support::binary::gone("the agent", || Some(agent.clone()).filter(is_agent).into_iter().collect());
}
