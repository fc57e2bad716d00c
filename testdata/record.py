#!/usr/bin/env python3
"""Records what another engine makes of the Dockerfiles in testdata/dockerfiles, for tests/it/peer.

    testdata/record.py                 every case that has no recording yet
    testdata/record.py NAME…           these cases, again
    testdata/record.py --all           every recorded case, again
    testdata/record.py --engine buildah NAME…

A case is a folder with a `Dockerfile` and, where it needs them,
    context.sh       makes the build context: run by `sh -e` in the empty folder that becomes it, as root, umask 022;
                     the build runs there, too, so that files made in `..` can be named by flags
    base.Dockerfile  makes the image `base-of-NAME`, NAME being the case's, in the same context before
    flags.txt        further words of the build command, one a line, after `build --network none`;
                     `@` at a word's start or after `=` is the case's folder
The recording is `image.json` beside them: the engine, and then either what it said when it refused, or the image's
config, history (without times) and every file that differs from the base image. buildah's recordings have the files
only, because its history texts are its own.

Needs root, tar, gzip, bzip2, xz, zstd, setfattr and setcap, and for docker a daemon with BuildKit: what `DOCKER_HOST`
names, with buildx in the `docker` command. The committed recordings are those of Debian sid's docker.io and
buildah. A daemon for this needs no network:

    mmdebstrap --variant=minbase --include=docker.io,docker-buildx,busybox-static sid sid
    unshare -m chroot sid …                             # with /proc, /sys, /dev and a tmpfs on /run and /tmp
    dockerd --iptables=false --ip6tables=false --bridge=none --data-root … --exec-root … --pidfile … -H unix://…
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

TESTDATA = pathlib.Path(__file__).resolve().parent
CASES = TESTDATA / "dockerfiles"
BASE = "busybox:latest"
# Longer or binary contents are recorded by their digest.
SHOWN_BYTES = 80
XATTR = "SCHILY.xattr."
APPLETS = "cat chmod chown cp echo env find grep head id ln ls mkdir mkfifo mknod mv rm sh stat touch tr true wc"


def base_tar():
    """The root filesystem that tests/it/peer makes, too."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(kind, name, mode, content=b"", link=""):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.linkname = kind, mode, len(content), link
            tar.addfile(info, io.BytesIO(content))

        for name in ["bin", "dev", "etc", "home", "proc", "sys"]:
            add(tarfile.DIRTYPE, name, 0o755)
        add(tarfile.DIRTYPE, "root", 0o700)
        add(tarfile.DIRTYPE, "tmp", 0o1777)
        add(tarfile.REGTYPE, "bin/busybox", 0o755, pathlib.Path(shutil.which("busybox")).read_bytes())
        passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n"
        add(tarfile.REGTYPE, "etc/passwd", 0o644, passwd)
        add(tarfile.REGTYPE, "etc/group", 0o644, b"root:x:0:\nuser:x:1000:\nstaff:x:50:\n")
        for applet in APPLETS.split():
            add(tarfile.SYMTYPE, "bin/" + applet, 0o777, link="busybox")
    return out.getvalue()


def run(words, **options):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def must(words, **options):
    done = run(words, **options)
    if done.returncode != 0:
        sys.exit(f"{words}: {done.stderr.decode(errors='replace')}")
    return done.stdout


# --- engines


class Docker:
    def __init__(self):
        self.name = "docker.io"
        self.version = must(["docker", "version", "--format", "{{.Server.Version}}"]).decode().strip()
        must(["docker", "import", "-", BASE], input=base_tar())

    def build(self, context, flags, name="recorded"):
        words = ["docker", "buildx", "build", "--progress", "plain", "--network", "none", "--no-cache"]
        return run(words + ["-t", name, *flags, str(context)], cwd=context)

    def archive(self):
        return must(["docker", "save", "recorded"])

    def base(self):
        return must(["docker", "save", BASE])

    def refusal(self, text):
        lines = [line for line in text.splitlines() if line.startswith("ERROR: ")]
        said = lines[-1]
        for prefix in ("ERROR: ", "failed to build: ", "failed to solve: "):
            said = said.removeprefix(prefix)
        # Folders and ids of one run.
        return re.sub(r" of ref [\w:-]+|/var/lib/docker/\S*/(merged|fs|buildkit\d+)\b", "", said)


class Buildah:
    def __init__(self):
        self.name = "buildah"
        self.prefix = os.environ.get("BUILDAH", "buildah").split()
        self.version = must([*self.prefix, "--version"]).decode().split()[2]
        self.made = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
        (self.made / "base.tar").write_bytes(base_tar())
        (self.made / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        must([*self.prefix, "build", "-q", "--network", "none", "-t", BASE, str(self.made)])

    def build(self, context, flags, name="recorded"):
        words = ["build", "--no-cache", "--layers", "--isolation", "chroot", "--ulimit", "nofile=1024:1024"]
        return run([*self.prefix, *words, "-t", name, *flags, str(context)], cwd=context)

    def saved(self, name):
        path = self.made / "out.tar"
        path.unlink(missing_ok=True)
        must([*self.prefix, "push", "-q", name, f"docker-archive:{path}"])
        return path.read_bytes()

    def archive(self):
        return self.saved("recorded")

    def base(self):
        return self.saved(BASE)

    def refusal(self, text):
        lines = [line for line in text.splitlines() if line.startswith("Error: ")]
        return lines[-1].removeprefix("Error: ")


# --- files


def kind(info):
    names = [("isdir", "dir"), ("issym", "link"), ("isfifo", "fifo"), ("ischr", "char"), ("isblk", "block")]
    return next((name for test, name in names if getattr(info, test)()), "file")


def entry(info, content):
    node = {"type": kind(info)}
    if node["type"] == "link":
        node["target"] = info.linkname
    else:
        node["mode"] = f"{info.mode & 0o7777:04o}"
    node["owner"] = f"{info.uid}:{info.gid}"
    if node["type"] in ("char", "block"):
        node["device"] = f"{info.devmajor}:{info.devminor}"
    if node["type"] == "file":
        if len(content) <= SHOWN_BYTES and re.fullmatch(rb"[\n\t -~]*", content):
            node["content"] = content.decode()
        else:
            node["size"] = len(content)
            node["sha256"] = hashlib.sha256(content).hexdigest()
    xattrs = {}
    for key, value in info.pax_headers.items():
        if key.startswith(XATTR):
            raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            xattrs[key.removeprefix(XATTR)] = raw.hex()
    if xattrs:
        node["xattrs"] = dict(sorted(xattrs.items()))
    return node


def below(tree, path):
    return [name for name in tree if name.startswith(path + "/")]


def apply(tree, data):
    """Puts a layer's tar onto `tree`, path → entry; names of one file share it."""
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        members = [("/" + info.name.removeprefix("./").strip("/"), info) for info in tar.getmembers()]
        for path, _ in members:
            above, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                gone = below(tree, above)
            elif name.startswith(".wh."):
                hidden = f"{above}/{name.removeprefix('.wh.')}"
                gone = [hidden, *below(tree, hidden)]
            else:
                continue
            for old in gone:
                tree.pop(old, None)
        for path, info in members:
            if path == "/" or path.rpartition("/")[2].startswith(".wh."):
                continue
            if info.islnk():
                tree[path] = tree["/" + info.linkname.removeprefix("./").strip("/")]
                continue
            node = entry(info, tar.extractfile(info).read() if info.isreg() else b"")
            if path in tree and node["type"] != "dir":
                for old in below(tree, path):
                    del tree[old]
            tree[path] = node


def read_archive(data):
    """The config and the tree of the only image of a docker archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        read = lambda name: tar.extractfile(name).read()
        manifest = json.loads(read("manifest.json"))[0]
        config, tree = json.loads(read(manifest["Config"])), {}
        for layer in manifest["Layers"] or []:
            apply(tree, read(layer))
        return config, tree


def difference(tree, base):
    """What was added, changed or removed, by path; a further name of a file says which it is of."""
    files, seen = {}, {}
    for path in sorted(tree):
        node = tree[path]
        first = seen.setdefault(id(node), path)
        if first != path:
            files[path] = {"type": "hard link", "to": first}
        elif base.get(path) != node:
            files[path] = node
    files.update({path: {"type": "removed"} for path in base if path not in tree})
    return dict(sorted(files.items()))


# --- recordings


def image(config, tree, base):
    if (config["rootfs"]["diff_ids"] or [])[:1] != base[0]["rootfs"]["diff_ids"]:
        base = ({}, {})
    keep = lambda line: {key: value for key, value in line.items() if key != "created"}
    recorded = {key: config[key] for key in ("architecture", "variant", "os", "author") if config.get(key)}
    recorded["config"] = {key: value for key, value in config["config"].items() if value}
    recorded["history"] = [keep(line) for line in config["history"] or []]
    recorded["files"] = difference(tree, base[1])
    return recorded


def text(recording):
    """JSON with a line for each thing that can differ."""
    line = lambda value: json.dumps(value, ensure_ascii=False)
    parts = []
    for key, value in recording.items():
        if key in ("config", "files") and value:
            shown = ",\n".join(f"    {line(name)}: {line(value[name])}" for name in sorted(value))
            parts.append(f"  {line(key)}: {{\n{shown}\n  }}")
        elif key == "history":
            shown = ",\n".join(f"    {line(item)}" for item in value)
            parts.append(f"  {line(key)}: [\n{shown}\n  ]")
        else:
            parts.append(f"  {line(key)}: {line(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def record(engine, base, case):
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        context = pathlib.Path(folder) / "context"
        context.mkdir(mode=0o755)
        if (case / "context.sh").exists():
            must(["sh", "-e", str(case / "context.sh")], cwd=context, umask=0o022)
        shutil.copyfile(case / "Dockerfile", context / "Dockerfile")
        flags = case / "flags.txt"
        flags = flags.read_text().splitlines() if flags.exists() else []
        flags = [re.sub("(^|=)@", rf"\g<1>{case}/", word) for word in flags]
        before = case / "base.Dockerfile"
        if before.exists():
            made = engine.build(context, ["-f", str(before)], f"base-of-{case.name}")
            if made.returncode != 0:
                sys.exit(f"{before}: {made.stderr.decode(errors='replace')}")
        built = engine.build(context, flags)
    recording = {"engine": engine.name, "version": engine.version}
    if built.returncode == 0:
        recording |= image(*read_archive(engine.archive()), base)
        if engine.name == "buildah":
            recording = {key: recording[key] for key in ("engine", "version", "files")}
    else:
        said = built.stderr.decode(errors="replace")
        recording["refused"] = engine.refusal(said)
    (case / "image.json").write_text(text(recording))
    return recording.get("refused")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=["docker", "buildah"], default="docker")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("names", nargs="*")
    words = parser.parse_args()
    engine = Docker() if words.engine == "docker" else Buildah()
    base = read_archive(engine.base())
    recorded = lambda case: (case / "image.json").exists()
    cases = [CASES / name for name in words.names]
    if not cases:
        cases = sorted(case for case in CASES.iterdir() if words.all or not recorded(case))
    for case in cases:
        if words.all and recorded(case) and json.loads((case / "image.json").read_text())["engine"] != engine.name:
            continue
        if not words.names and (case / "expected.txt").exists() and not recorded(case):
            continue
        refused = record(engine, base, case)
        print(case.name, f"REFUSED {refused}" if refused else "", flush=True)


main()
