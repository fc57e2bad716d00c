"""Rows of kiln alone: this repository as a project, what a no-op costs, and how costs grow."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from engines import BUSYBOX, DEBIAN, DISK, ENGINES, WORK
from measure import Failed, Sample, out_of, require
from rows import CONTEXTS, Bar, Files, NoOp, Row, Wide, fresh, lines, make, settle

PEERS = {name: "measures kiln itself" for name in ENGINES if name != "kiln"}

# The shell of the toolchain image: each RUN says how long its program took, so that the rest is kiln's.
TIMED_SHELL = """#!/bin/bash
before=${EPOCHREALTIME/./}
/bin/sh -c "$1"
code=$?
echo "the step took $((${EPOCHREALTIME/./} - before)) us" >&2
exit $code
"""


class Project(Row):
    """This repository's own Dockerfile. The compiler comes from this machine; a profile that compiles quickly keeps
    the wait short and changes nothing of what kiln does."""

    name, title = "project", "this repository's own Dockerfile, one source line touched"
    bars = {"kiln's own part": Bar(seconds=0.150)}
    without = PEERS
    toolchain = "localhost/toolchain:latest"

    def __init__(self):
        project = Path(os.environ["BENCH_PROJECT"])
        self.folder = CONTEXTS / "project"
        skipped = shutil.ignore_patterns("target", ".git")
        shutil.copytree(project, self.folder, ignore=skipped, dirs_exist_ok=True)

    def begin(self, engine):
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout.strip()
        dockerfile = lines(
            f"FROM {DEBIAN}",
            "RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev",
            "COPY --from=rust bin/ /usr/local/bin/",
            "COPY --from=rust lib/ /usr/local/lib/",
            "COPY --chmod=755 shell /usr/local/sbin/timed-shell",
            'SHELL ["/usr/local/sbin/timed-shell"]',
            "ENV CARGO_HOME=/usr/local/cargo CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=symbols",
        )
        folder = make("toolchain", {"Dockerfile": dockerfile, "shell": TIMED_SHELL})
        flags = ["--build-context", f"rust={sysroot}", "-t", self.toolchain]
        out_of([engine.binary, "build", *flags, str(folder)], engine.env)
        print("  compiling everything once, to fill the caches", file=sys.stderr, flush=True)
        self.build(engine)

    def build(self, engine, watch=None):
        arguments = ["--build-arg", f"RUST={self.toolchain}", "--build-arg", "PROFILE=dev"]
        argv = [engine.binary, "build", "--progress", "plain", *arguments, "-t", "project", str(self.folder)]
        return engine.timed(argv, watch=watch)

    def round(self, engine, watch=None):
        with open(self.folder / "src/lib.rs", "a") as file:
            file.write(f"// {fresh()}\n")
        settle()
        sample = self.build(engine, watch)
        times = [int(time) / 1e6 for time in re.findall(r"the step took (\d+) us", sample.output)]
        require(len(times) == 1, f"{len(times)} steps ran, not the one that compiles")
        version = out_of([engine.binary, "run", "--rm", "--network", "none", "project", "--version"], engine.env)
        require(version.startswith("kiln "), f"the program says {version}")
        own = Sample(sample.wall - times[0], 0.0, sample.memory)
        return {"kiln's own part": [own], "with cargo": [sample]}


class Costs(NoOp):
    """Counts, not times: they are the same on every machine."""

    name, title = "costs", "a no-op build, counted"
    bars = {}
    without = PEERS

    def begin(self, engine):
        # The second one reads files once more that were too young to trust.
        for _ in range(2):
            super().begin(engine)
            time.sleep(0.1)

    def round(self, engine, watch=None):
        argv = engine.build(self.folder, "noop")
        profile, calls = WORK / "callgrind.out", WORK / "strace.out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}"]
        said = out_of([*valgrind, *argv], engine.env)
        instructions = int(re.search(r"Collected : (\d+)", said)[1])
        out_of(["strace", "-f", "-o", str(calls), *argv], engine.env)
        syscalls = sum("(" in line and "resumed>" not in line for line in calls.read_text().splitlines())
        return {"instructions": instructions, "system calls": syscalls}

    def floors(self):
        return {}


class Grown(Files):
    """The files row with another number of files, of 2 KB each."""

    def __init__(self, count):
        self.name, self.count, self.total = f"files-{count}", count, 2000 * count
        super().__init__()


class Graph(Wide):
    """A tree of stages: each copies from two others."""

    def __init__(self, vertices):
        # WORKDIR, COPY and two COPY --from each; the leaves have less.
        self.name, self.stages = f"vertices-{vertices}", vertices // 3
        steps = []
        for stage in reversed(range(self.stages)):
            below = [child for child in (2 * stage + 1, 2 * stage + 2) if child < self.stages]
            steps += [f"FROM {BUSYBOX} AS s{stage}", f"WORKDIR /w{stage}", f"COPY f{stage % 50} /w{stage}/f"]
            steps += [f"COPY --from=s{child} /w{child}/f /w{stage}/{child}" for child in below]
        files = {f"f{number}": f"file {number}\n" for number in range(50)}
        self.folder = make(self.name, {**files, "Dockerfile": lines(*steps)})

    def round(self, engine, watch=None):
        build = engine.build(self.folder, self.name)
        engine.forget()
        settle()
        cold = engine.timed(build, watch=watch)
        cached = [engine.timed(build, watch=watch) for _ in range(self.repeats)]
        found = engine.look(self.name, self.folder, "cat /w0/*").split("\n")
        require(sorted(found)[1:] == ["file 0", "file 1", "file 2"], f"the root has {found}")
        return {"cold": [cold], "cached": cached}


def scaling(kiln, rounds, tell):
    """Medians by size: `{what: {size: {measure: [seconds]}}}`."""
    found = {"files": {}, "vertices": {}}
    kinds = [("files", Grown, (1000, 10_000, 100_000)), ("vertices", Graph, (100, 1000, 10_000))]
    for what, kind, sizes in kinds:
        for size in sizes:
            row = kind(size)
            times = {}
            for _ in range(rounds):
                try:
                    got = row.round(kiln)
                except (Failed, OSError) as error:
                    tell(f"  {what} {size}: {error}")
                    break
                for measure, samples in got.items():
                    times.setdefault(measure, []).extend(sample.wall for sample in samples)
            tell(f"  {size:>7} {what}: " + ", ".join(f"{measure} {min(each):.3f} s" for measure, each in times.items()))
            found[what][size] = times
            shutil.rmtree(row.folder)
    return found
