"""The row of containers: how long a start takes, end to end."""

import json
import subprocess
from statistics import median

from engines import BUSYBOX, DISK, ENGINES
from measure import floor, out_of, require
from rows import Bar, Row, lines, make

# crun refuses machines that have both versions of cgroups: it gets a mount namespace with version 2 alone.
ONLY_V2 = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && echo ready && exec sleep 100000"


class Starts(Row):
    """Everything included: image look-up, overlay, network, record and removal."""

    name, title = "starts", "a container of `true`, from the command to its removal"
    bars = {
        "run": Bar(times_peer=20, floor=("crun run", 0.5)),
        "run, no network": Bar(seconds=0.005),
        "exec": Bar(floor=("crun exec", 0.5)),
        "ps": Bar(seconds=0.050),
    }
    without = {name: "runs no containers" for name in ENGINES if name not in ("kiln", "docker")}
    without |= {"podman": "is in the rows of networks"}
    repeats = 10
    sleeper = "bench-sleeper"

    def __init__(self):
        self.bundle, self.away, self.begun = DISK / "bundle", None, []

    def begin(self, engine):
        engine.forget()
        said = out_of([engine.binary, "run", "--rm", BUSYBOX, "echo", "it runs"], engine.env)
        require("it runs" in said, f"the container says {said!r}")
        self.begun.append(engine)
        out_of([engine.binary, "run", "-d", "--name", self.sleeper, BUSYBOX, "sleep", "100000"], engine.env)
        if engine.name == "kiln":
            self.prepare_crun(engine)

    def round(self, engine, watch=None):
        commands = {
            "run": ["run", "--rm", BUSYBOX, "true"],
            "run, no network": ["run", "--rm", "--network", "none", BUSYBOX, "true"],
            "exec": ["exec", self.sleeper, "true"],
            "ps": ["ps"],
        }
        return {
            what: [engine.timed([engine.binary, *words], watch=watch) for _ in range(self.repeats)]
            for what, words in commands.items()
        }

    def prepare_crun(self, kiln):
        """A bundle, and a container of it that sleeps."""
        folder = make("starts", {"Dockerfile": lines(f"FROM {BUSYBOX}", "WORKDIR /")})
        self.bundle.mkdir()
        out = f"type=local,dest={self.bundle / 'rootfs'}"
        out_of([kiln.binary, "build", "-q", "-o", out, str(folder)], kiln.env)
        self.away = subprocess.Popen(["unshare", "-m", "sh", "-c", ONLY_V2], stdout=subprocess.PIPE, text=True)
        require(self.away.stdout.readline() == "ready\n", "a mount namespace for crun")
        self.configure(["sleep", "100000"])
        out_of(self.crun("run", "--detach", "--bundle", str(self.bundle), self.sleeper))
        self.configure(["true"])

    def configure(self, args):
        config = self.bundle / "config.json"
        config.unlink(missing_ok=True)
        out_of(["crun", "spec", "-b", str(self.bundle)])
        spec = json.loads(config.read_text())
        spec["process"] |= {"args": args, "terminal": False}
        # Without a manager of cgroups it refuses limits.
        spec["linux"].pop("resources", None)
        config.write_text(json.dumps(spec))

    def crun(self, *words):
        return ["nsenter", "-t", str(self.away.pid), "-m", "crun", "--cgroup-manager=disabled", *words]

    def floors(self):
        if not self.away:
            return {}
        run = lambda: floor(*self.crun("run", "--bundle", str(self.bundle), "bench-true"))
        inside = lambda: floor(*self.crun("exec", self.sleeper, "true"))
        return {"crun run": median(run() for _ in range(5)), "crun exec": median(inside() for _ in range(5))}

    def end(self):
        for engine in self.begun:
            engine.quietly([engine.binary, "rm", "-f", self.sleeper])
        if self.away:
            self.begun[0].quietly(self.crun("delete", "--force", self.sleeper))
            self.away.terminate()
            self.away.wait()
