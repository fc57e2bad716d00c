//! The kiln binary in a store of its own, and build contexts for it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A store that has the busybox base, copied by every test; gone with the last of them.
static TEMPLATE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());

/// kiln in a store of its own, with nothing of the caller's environment; all of it is gone when dropped.
pub(crate) struct Kiln {
    folder: TempDir,
    root: PathBuf,
    /// Kept while anybody has a copy of it.
    template: Option<Arc<TempDir>>,
}

/// What a kiln gave.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    /// Exit code; 128 + n for a signal.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) error: String,
}

/// How a step of `--progress plain` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Done,
    Cached,
    Failed,
}

impl Kiln {
    /// With an empty store.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        Self { folder, root, template: None }
    }

    /// With an empty store in `root`, which stays when this is dropped.
    pub(crate) fn at(root: &Path) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), root: root.to_owned(), template: None }
    }

    /// With the image `busybox:latest` in its store.
    pub(crate) fn busybox() -> Self {
        let template = template();
        let mut kiln = Self::empty();
        let copied = Command::new("cp").arg("-a").arg(template.path().join("root")).arg(&kiln.root).status();
        assert!(copied.unwrap().success());
        kiln.template = Some(template);
        kiln
    }

    /// The store's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for the test's own files, outside of the store.
    pub(crate) fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// `kiln WORDS…`, not started.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("KILN_ROOT", &self.root);
        command.env("TMPDIR", self.folder.path()).stdin(Stdio::null()).args(words);
        command
    }

    /// Runs `kiln WORDS…` without standard input.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words))
    }

    /// The same with standard input.
    pub(crate) fn run_with(&self, words: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(words);
        let mut child = start(command.stdin(Stdio::piped()));
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A kiln that refuses its input early closes the pipe.
            scope.spawn(move || drop(stdin.write_all(input)));
            finish(child)
        })
    }

    /// Runs `kiln WORDS…` and gives its standard output; panics when it fails.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        self.run(words).ok().out
    }

    /// Builds without a network, with a line per step; `words` come before the context.
    pub(crate) fn build(&self, context: &Path, words: &[&str]) -> Ran {
        run(&mut self.build_command(context, words))
    }

    /// The command of [`build`](Self::build), not started.
    pub(crate) fn build_command(&self, context: &Path, words: &[&str]) -> Command {
        let mut command = self.command(&["build", "--progress", "plain", "--network", "none"]);
        command.args(words).arg(context);
        command
    }

    /// Builds and gives the files of the result.
    pub(crate) fn build_files(&self, context: &Path, words: &[&str]) -> TempDir {
        let out = tempfile::tempdir_in(self.folder.path()).unwrap();
        let output = format!("type=local,dest={}", out.path().display());
        let words: Vec<&str> = words.iter().copied().chain(["-o", &output]).collect();
        self.build(context, &words).ok();
        out
    }

    /// The `Config` of an image.
    pub(crate) fn config(&self, image: &str) -> serde_json::Value {
        let inspected: serde_json::Value =
            serde_json::from_str(&self.ok(&["image", "inspect", image])).unwrap();
        inspected[0]["Config"].clone()
    }

    /// A folder with these files, to build from. A name that ends with `/` is a folder, a content that
    /// starts with `-> ` a symlink, a name that ends with `*` executable.
    pub(crate) fn context(&self, files: &[(&str, &str)]) -> PathBuf {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        for (name, content) in files {
            let path = folder.join(name.trim_end_matches('*'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.ends_with('/') {
                std::fs::create_dir_all(&path).unwrap();
            } else if let Some(target) = content.strip_prefix("-> ") {
                symlink(target, &path).unwrap();
            } else {
                std::fs::write(&path, content).unwrap();
                let mode = if name.ends_with('*') { 0o755 } else { 0o644 };
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        folder
    }

    /// What users can see in the store: images with all names, and the layers.
    ///
    /// Blobs that were fetched and verified before something else failed may stay until a prune.
    pub(crate) fn visible(&self) -> String {
        let format = "{{.Repository}}:{{.Tag}} {{.Digest}} {{.ID}} {{.CreatedAt}} {{.Size}}";
        let mut seen = self.ok(&["images", "-a", "--no-trunc", "--digests", "--format", format]);
        for name in names(&self.root.join("snapshots")) {
            seen += &format!("{name}\n");
        }
        seen
    }

    /// Waits until no process of this store runs any more: what a killed kiln started, a flush in the background.
    pub(crate) fn settle(&self) {
        gone("processes", || processes(self.root.to_str().unwrap()));
    }

    /// The path and size and time of everything in the store, once nothing moves in it.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, String> {
        self.settle();
        use std::os::unix::fs::MetadataExt;
        let entries = walkdir::WalkDir::new(&self.root).into_iter().map(Result::unwrap);
        entries
            // SQLite's shared memory is rewritten by readers.
            .filter(|entry| entry.file_name() != "meta.db-shm")
            .map(|entry| {
                let of = entry.metadata().unwrap();
                let text = format!("{:o} {} {}.{}", of.mode(), of.size(), of.mtime(), of.mtime_nsec());
                (entry.path().to_owned(), text)
            })
            .collect()
    }
}

impl Drop for Kiln {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.settle();
        }
        // A test that failed midway leaves no container either.
        let containers = std::fs::read_dir(self.root.join("containers"));
        if containers.is_ok_and(|mut entries| entries.next().is_some()) {
            for id in self.run(&["ps", "-aq"]).out.lines() {
                self.run(&["rm", "-f", "-v", id]);
            }
        }
        let networks = self.root.join("networks");
        if networks.exists() {
            let _ = kiln::network::Networks::new(&networks).remove();
        }
    }
}

impl Ran {
    /// Itself; panics with everything it said when it failed.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Itself; panics when it did not fail with code 1 and all of these words on standard error.
    pub(crate) fn fails_with(self, words: &[&str]) -> Self {
        assert_eq!(self.code, 1, "{self}");
        for word in words {
            assert!(self.error.contains(word), "`{word}` is missing in:\n{self}");
        }
        self
    }

    /// Tells whether `system check` found nothing; what other stores left on the machine is not this one's.
    pub(crate) fn is_clean(&self) -> bool {
        let of_others =
            ["left over: network bridge ", "left over: cgroup ", "left over: packet filter of no store "];
        let mut lines =
            self.out.lines().filter(|line| !of_others.iter().any(|other| line.starts_with(other)));
        self.code == 0
            && lines.next().is_some_and(|line| line.starts_with("checked "))
            && lines.next().is_none()
    }

    /// The id that a build or import prints.
    pub(crate) fn id(&self) -> String {
        let id = self.out.trim_end();
        assert!(id.starts_with("sha256:") && id.len() == 71, "{self}");
        id.to_owned()
    }

    /// How each step ended, by its name without the numbers in brackets; FROM is left out.
    pub(crate) fn steps(&self) -> BTreeMap<String, Step> {
        let mut names: BTreeMap<&str, String> = BTreeMap::new();
        let mut steps = BTreeMap::new();
        for line in self.error.lines() {
            let Some((number, rest)) = line.split_once(' ').filter(|(number, _)| number.starts_with('#'))
            else {
                continue;
            };
            if let Some((_, name)) = rest.split_once("] ").filter(|_| rest.starts_with('[')) {
                names.insert(number, name.to_owned());
                continue;
            }
            let outcome = match rest.split(' ').next() {
                Some("CACHED") => Step::Cached,
                Some("DONE") => Step::Done,
                Some("ERROR:") => Step::Failed,
                _ => continue,
            };
            match names.get(number) {
                Some(name) if !name.starts_with("FROM ") => steps.insert(name.clone(), outcome),
                _ => continue,
            };
        }
        steps
    }

    /// The names of the steps that ended like this.
    pub(crate) fn ended(&self, outcome: Step) -> Vec<String> {
        let steps = self.steps().into_iter();
        steps.filter(|(_, ended)| *ended == outcome).map(|(name, _)| name).collect()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.error)
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    finish(start(command))
}

/// Starts a command whose output [`finish`] collects.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a started command.
pub(crate) fn finish(child: Child) -> Ran {
    use std::os::unix::process::ExitStatusExt;
    let output = child.wait_with_output().unwrap();
    let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code, out: text(output.stdout), error: text(output.stderr) }
}

/// The names in a folder, sorted; none when it doesn't exist.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Reads a file of a result.
pub(crate) fn read(folder: &TempDir, name: &str) -> String {
    let path = folder.path().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn template() -> Arc<TempDir> {
    let mut template = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(template) = template.upgrade() {
        return template;
    }
    let made = Arc::new(tempfile::tempdir().unwrap());
    let kiln = Kiln::at(&made.path().join("root"));
    kiln.run_with(&["import", "-", "busybox:latest"], &busybox_tar()).ok();
    *template = Arc::downgrade(&made);
    made
}

/// A root filesystem of Debian's busybox-static, as a tar.
pub(crate) fn busybox_tar() -> Vec<u8> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| std::fs::read(path).ok());
    let program = program.expect("the tests need the package busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind, name: &str, mode, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        if kind == tar::EntryType::Symlink {
            header.set_link_name("busybox").unwrap();
        }
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
    };
    for (name, mode) in [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("home", 0o755), ("tmp", 0o1777)] {
        add(tar::EntryType::Directory, name, mode, b"");
    }
    add(tar::EntryType::Regular, "bin/busybox", 0o755, &program);
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n";
    add(tar::EntryType::Regular, "etc/passwd", 0o644, passwd.as_bytes());
    add(tar::EntryType::Regular, "etc/group", 0o644, b"root:x:0:\nuser:x:1000:\nstaff:x:50:\n");
    let applets = "sh cat echo ls sleep test stat id true false mkdir chmod chown ln pwd env touch mv rm cp dd \
                   grep hostname ip sync tr wc find head";
    for applet in applets.split_whitespace() {
        add(tar::EntryType::Symlink, &format!("bin/{applet}"), 0o777, b"");
    }
    tar.into_inner().unwrap()
}

/// How long the kernel may take to end what a killed kiln had started.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `what` gives nothing any more.
pub(crate) fn gone(what: &str, mut left: impl FnMut() -> Vec<String>) {
    let end = Instant::now() + PATIENCE;
    while !left().is_empty() {
        assert!(Instant::now() < end, "{what} still there: {:?}", left());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line or environment names `marker`.
fn processes(marker: &str) -> Vec<String> {
    let numbers =
        names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let mut found = Vec::new();
    for number in numbers {
        if number == std::process::id().to_string() {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{number}/{file}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\0', " ");
            if text.contains(marker) {
                found.push(format!("{number}: {text}"));
                break;
            }
        }
    }
    found
}
