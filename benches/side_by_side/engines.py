"""How each engine is told to build, to forget, to export and to show what it built."""

import os
import shutil
import subprocess
from pathlib import Path

from measure import Failed, out_of, run

DISK = Path(os.environ["BENCH_DISK"])
WORK = Path(os.environ["BENCH_WORK"])
REGISTRY = os.environ["BENCH_REGISTRY"]
BUSYBOX = f"{REGISTRY}/library/busybox:latest"
DEBIAN = f"{REGISTRY}/library/debian:bookworm"


class Engine:
    """One engine with a store of its own on the benchmark's disk."""

    name = ""
    # Seconds between two looks at its memory while it is timed; none for kiln, which is looked at in a run apart.
    watch = 0.1

    def __init__(self):
        self.env, self.daemons = {}, []

    def version(self):
        return ""

    def build(self, folder, tag, arguments=()):
        """The command line of a build."""
        raise NotImplementedError

    def forget(self):
        """Drops images and build cache; the base is there afterwards."""
        raise NotImplementedError

    def look(self, tag, folder, script):
        """What a shell script says in the image that was built from `folder`."""
        raise NotImplementedError

    def export(self, folder, tag, out):
        """The command lines that build and write a docker tar."""
        raise NotImplementedError

    def timed(self, *argvs, watch=None):
        """Runs command lines one after the other as one sample."""
        samples = [run(argv, self.env, self.daemons, watch or self.watch) for argv in argvs]
        whole = samples[0]
        for sample in samples[1:]:
            whole = whole.plus(sample)
        return whole

    def quietly(self, argv):
        """Runs what may fail, such as removing what isn't there."""
        try:
            return out_of(argv, self.env)
        except Failed as error:
            return str(error)


def build_arguments(arguments, flag="--build-arg"):
    return [word for name, value in arguments for word in (flag, f"{name}={value}")]


class Kiln(Engine):
    name, watch = "kiln", None

    def __init__(self):
        super().__init__()
        self.binary, self.root = os.environ["KILN"], DISK / "kiln"
        self.env = {"KILN_ROOT": str(self.root)}

    def version(self):
        return out_of([self.binary, "--version"]).strip()

    def build(self, folder, tag, arguments=()):
        return [self.binary, "build", "-q", "-t", tag, *build_arguments(arguments), str(folder)]

    def forget(self):
        if self.root.exists():
            # A process that flushes the disk may still be at work in there.
            gone = DISK / "gone"
            self.root.rename(gone)
            shutil.rmtree(gone)
        out_of([self.binary, "pull", "-q", BUSYBOX], self.env)

    def look(self, tag, folder, script):
        return out_of([self.binary, "run", "--rm", "--network", "none", tag, "sh", "-c", script], self.env)

    def export(self, folder, tag, out):
        return [[*self.build(folder, tag)[:-1], "-o", f"type=docker,dest={out}", str(folder)]]


class Docker(Engine):
    """Debian's docker.io: BuildKit inside the daemon."""

    name, buildkit = "docker", "1"

    def __init__(self):
        super().__init__()
        if "DOCKER_PID" not in os.environ:
            raise Failed("dockerd isn't there, or doesn't start")
        self.binary, self.daemons = os.environ["DOCKER"], [int(os.environ["DOCKER_PID"])]
        config = WORK / "docker-config"
        config.mkdir(exist_ok=True)
        self.env = {"DOCKER_BUILDKIT": self.buildkit, "DOCKER_CONFIG": str(config)}

    def version(self):
        return out_of([self.binary, "version", "-f", "{{.Server.Version}}"], self.env).strip()

    def build(self, folder, tag, arguments=()):
        return [self.binary, "build", "-q", "-t", tag, *build_arguments(arguments), str(folder)]

    def forget(self):
        images = out_of([self.binary, "images", "--format", "{{.Repository}}:{{.Tag}}"], self.env).split()
        images = [image for image in images if image != BUSYBOX and "<none>" not in image]
        if images:
            self.quietly([self.binary, "rmi", "-f", *images])
        self.quietly([self.binary, "image", "prune", "-f"])
        self.quietly([self.binary, "builder", "prune", "-af"])
        out_of([self.binary, "pull", "-q", BUSYBOX], self.env)

    def look(self, tag, folder, script):
        return out_of([self.binary, "run", "--rm", "--network", "none", tag, "sh", "-c", script], self.env)

    def export(self, folder, tag, out):
        return [self.build(folder, tag), [self.binary, "save", "-o", str(out), tag]]


class DockerLegacy(Docker):
    """The same daemon's own builder."""

    name, buildkit = "docker-legacy", "0"


class Buildah(Engine):
    name = "buildah"

    def __init__(self):
        super().__init__()
        if not shutil.which("buildah"):
            raise Failed("buildah isn't there")
        self.store = ["--root", str(DISK / "buildah"), "--runroot", str(WORK / "buildah-run")]
        # crun refuses machines with both cgroup versions; runc doesn't.
        self.env = {"BUILDAH_RUNTIME": "runc"} if shutil.which("runc") else {}

    def version(self):
        return out_of(["buildah", "--version"]).strip()

    def build(self, folder, tag, arguments=()):
        flags = ["bud", "-q", "--layers", "--jobs", "8", "--tls-verify=false", "-t", tag]
        return ["buildah", *self.store, *flags, *build_arguments(arguments), str(folder)]

    def forget(self):
        self.quietly(["buildah", *self.store, "rm", "-a"])
        self.quietly(["buildah", *self.store, "rmi", "-a", "-f"])
        out_of(["buildah", *self.store, "pull", "-q", "--tls-verify=false", BUSYBOX], self.env)

    def look(self, tag, folder, script):
        container = out_of(["buildah", *self.store, "from", "--pull-never", tag], self.env).strip()
        try:
            rootfs = out_of(["buildah", *self.store, "mount", container], self.env).strip()
            return chroot(rootfs, script)
        finally:
            out_of(["buildah", *self.store, "rm", container], self.env)

    def export(self, folder, tag, out):
        push = ["push", "-q", tag, f"docker-archive:{out}:{tag}"]
        return [self.build(folder, tag), ["buildah", *self.store, *push]]


class BuildKit(Engine):
    """buildctl and a buildkitd of our own."""

    name = "buildkit"

    def __init__(self):
        super().__init__()
        if "BUILDKIT_PID" not in os.environ:
            raise Failed("BUILDKITD names no buildkitd, or it doesn't start")
        self.binary, self.daemons = os.environ["BUILDCTL"], [int(os.environ["BUILDKIT_PID"])]

    def version(self):
        return out_of([self.binary, "--version"]).strip()

    def build(self, folder, tag, arguments=(), output=None):
        flags = ["build", "--progress", "plain", "--frontend", "dockerfile.v0"]
        flags += ["--local", f"context={folder}", "--local", f"dockerfile={folder}"]
        for name, value in arguments:
            flags += ["--opt", f"build-arg:{name}={value}"]
        self.last = list(arguments)
        return [self.binary, *flags, "--output", output or f"type=image,name={tag}"]

    def forget(self):
        out_of([self.binary, "prune", "--all"], self.env)
        base = DISK / "base"
        base.mkdir(exist_ok=True)
        # It fetches an image only when a step stands on it.
        (base / "Dockerfile").write_text(f"FROM {BUSYBOX}\nWORKDIR /fetched\n")
        out_of(self.build(base, "base"), self.env)

    def look(self, tag, folder, script):
        """The daemon can't run an image: the same build, all cached, is written out as files."""
        place = DISK / "buildkit-look"
        shutil.rmtree(place, ignore_errors=True)
        out_of(self.build(folder, tag, self.last, f"type=local,dest={place}"), self.env)
        try:
            return chroot(place, script)
        finally:
            shutil.rmtree(place)

    def export(self, folder, tag, out):
        return [self.build(folder, tag, (), f"type=docker,name={tag},dest={out}")]


class Podman(Engine):
    """For the rows of networks."""

    name = "podman"

    def __init__(self):
        super().__init__()
        if not shutil.which("podman"):
            raise Failed("podman isn't there")
        self.binary = "podman"

    def words(self):
        """What each command begins with: a store of its own, and the runtime that bears both cgroup versions."""
        folders = ["--root", str(DISK / "podman"), "--runroot", str(WORK / "podman-run")]
        folders += ["--network-config-dir", str(WORK / "podman-networks")]
        return [self.binary, *folders, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]

    def version(self):
        return out_of([self.binary, "--version"]).strip()

    def forget(self):
        """Each row of networks has its own image."""


def chroot(rootfs, script):
    shell = ["chroot", str(rootfs), "/bin/sh", "-c", script]
    return subprocess.run(shell, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


ENGINES = {engine.name: engine for engine in (Kiln, Docker, DockerLegacy, Buildah, BuildKit, Podman)}
