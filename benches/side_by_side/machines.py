"""Machines for the rows of networks: each engine gets a network namespace that plays its machine, with another machine
beside it. So nothing of the host's rules and of other engines counts, and everything goes with the namespaces."""

import ctypes
import os
import shutil
import subprocess
import tarfile
import threading
import time
from pathlib import Path

from engines import DISK, WORK
from measure import Failed, out_of, require

IMAGE, NETWORK = "bench-networks", "bench"
# The range that RFC 2544 sets aside for measuring networks.
LINK = "198.18.{}.{}"
CLONE_NEWNET = 0x40000000
PATIENCE_SECONDS = 20


def quietly(argv, env=None):
    """Runs what may fail, such as removing what isn't there."""
    nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(argv, env={**os.environ, **(env or {})}, **nothing)


def eventually(work, what):
    """Repeats what fails until it doesn't."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return work()
        except (Failed, OSError) as error:
            if time.monotonic() > end:
                raise Failed(f"{what}: {error}")
        time.sleep(0.1)


def within(pid, work):
    """Works in the network of a process. The sockets that are made there stay there."""
    result = []

    def go():
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{pid}/ns/net") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        result.append(work())

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    require(result, f"no way into the network of process {pid}")
    return result[0]


class Pair:
    """Two network namespaces with a veth pair between them: nothing less leads from one to another."""

    number = 0

    def __init__(self, name):
        Pair.number += 1
        self.names = [f"bench-{name}", f"bench-{name}-beside"]
        self.addresses = [LINK.format(Pair.number, last) for last in (1, 2)]
        self.remove()
        for name in self.names:
            out_of(["ip", "netns", "add", name])
            out_of(["ip", "-n", name, "link", "set", "lo", "up"])
        here, beside = self.names
        out_of(["ip", "-n", here, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", beside])
        for name, address, other in zip(self.names, self.addresses, reversed(self.addresses)):
            out_of(["ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0"])
            out_of(["ip", "-n", name, "link", "set", "eth0", "up"])
            out_of(["ip", "-n", name, "route", "add", "default", "via", other])

    def in_here(self, *words):
        return ["nsenter", f"--net=/run/netns/{self.names[0]}", *words]

    def in_beside(self, *words):
        return ["nsenter", f"--net=/run/netns/{self.names[1]}", *words]

    def remove(self):
        for name in self.names:
            quietly(["ip", "netns", "del", name])


class Machine:
    """The machine of one engine, with an image that has a shell and iperf3."""

    # What `run` wants here besides.
    run_flags = ()

    def __init__(self, engine):
        self.engine, self.env = engine, dict(engine.env)
        self.pair = Pair(engine.name)
        self.containers = []
        try:
            self.set_up()
            self.out("import", str(image()), IMAGE)
        except BaseException:
            self.remove()
            raise

    def words(self):
        """What a command of the engine begins with."""
        return [self.engine.binary]

    def set_up(self):
        """Prepares a store."""

    def argv(self, *words):
        return self.pair.in_here(*self.words(), *words)

    def out(self, *words):
        return out_of(self.argv(*words), self.env).strip()

    def quietly(self, *words):
        quietly(self.argv(*words), self.env)

    def start(self, name, *words, flags=()):
        self.containers.append(name)
        self.out("run", "-d", "--name", name, *self.run_flags, *flags, IMAGE, *words)

    def address(self, container):
        return self.out("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)

    def pids(self, containers):
        return [int(pid) for pid in self.out("inspect", "-f", "{{.State.Pid}}", *containers).split()]

    def remove(self):
        """Removes the containers, what the engine keeps running, and the namespaces."""
        if self.containers:
            self.quietly("rm", "-f", *self.containers)
        self.take_down()
        self.pair.remove()

    def take_down(self):
        """Ends what set_up began."""


class KilnMachine(Machine):
    def set_up(self):
        self.root = DISK / "kiln-networks"
        shutil.rmtree(self.root, ignore_errors=True)
        self.env["KILN_ROOT"] = str(self.root)

    def take_down(self):
        self.quietly("system", "prune", "-af")
        shutil.rmtree(self.root, ignore_errors=True)


class DockerMachine(Machine):
    """A daemon of its own, which may write its rules: the one of the other rows may not."""

    def set_up(self):
        self.socket, self.run = WORK / "docker-networks.sock", WORK / "docker-networks"
        self.env["DOCKER_HOST"] = f"unix://{self.socket}"
        folders = ["--data-root", str(DISK / "docker-networks"), "--exec-root", str(self.run)]
        folders += ["--pidfile", str(WORK / "docker-networks.pid"), "--host", self.env["DOCKER_HOST"]]
        log = open(WORK / "docker-networks.log", "w")
        self.daemon = subprocess.Popen(self.pair.in_here("dockerd", *folders), stdout=log, stderr=log)
        eventually(lambda: self.out("info"), "dockerd doesn't answer")

    def take_down(self):
        self.daemon.terminate()
        try:
            self.daemon.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        quietly(["umount", "-R", str(self.run / "netns" / "default")])
        shutil.rmtree(DISK / "docker-networks", ignore_errors=True)


class PodmanMachine(Machine):
    # The limits that it sets by itself are higher than what root may have on some machines.
    run_flags = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")

    def words(self):
        return self.engine.words()

    def take_down(self):
        self.quietly("network", "prune", "-f")
        self.quietly("rmi", "-af")
        # What its plug-ins note of addresses outlives the network.
        shutil.rmtree(f"/var/lib/cni/networks/{NETWORK}", ignore_errors=True)


MACHINES = {"kiln": KilnMachine, "docker": DockerMachine, "podman": PodmanMachine}


def image():
    """The files of an image: busybox, and this machine's iperf3 with its libraries."""
    path = DISK / "networks.tar"
    if path.exists():
        return path
    iperf = shutil.which("iperf3")
    require(iperf, "iperf3 isn't there")
    root = DISK / "networks-image"
    for folder in ("bin", "tmp", "etc"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    for applet in ("sh", "sleep", "true", "cat", "nslookup"):
        (root / "bin" / applet).symlink_to("busybox")
    libraries = [word for word in out_of(["ldd", iperf]).split() if word.startswith("/")]
    for file in [iperf, *libraries]:
        place = root / ("bin/iperf3" if file == iperf else file[1:])
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(file).resolve(), place)
    with tarfile.open(path, "w") as tar:
        tar.add(root, ".")
    shutil.rmtree(root)
    return path
