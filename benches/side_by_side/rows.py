"""The workloads. Each knows what it builds, what must come out, what the machine allows, and kiln's bars."""

import hashlib
import os
import random
import shutil
import tarfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from engines import BUSYBOX, DISK, WORK
from measure import Sample, floor, out_of, require

CONTEXTS = DISK / "contexts"


@dataclass
class Bar:
    """What kiln has to reach in one measure; each that is given counts."""

    # At most so many seconds.
    seconds: float = None
    # So many times faster than the fastest peer of the same run.
    times_peer: float = None
    # At most so many times a floor: its name and the factor.
    floor: tuple = None


class Row:
    """One workload. `round` gives samples by measure; `bars` says what they should be."""

    name, title = "", ""
    bars = {}
    # Engines that are left out, with the reason.
    without = {"podman": "builds as buildah does"}
    # How many rounds there are for each that is asked for: what is short wants more.
    turns = 1
    # How many rounds a peer gets at most: a minute each is enough.
    peer_rounds = 99
    # Whether the peak memory is looked at.
    weighs = True

    def begin(self, engine):
        """Prepares an engine, untimed."""

    def round(self, engine, watch=None):
        raise NotImplementedError

    def floors(self):
        """Seconds of plain programs for the same primitive work."""
        return {}

    def end(self):
        """Removes what takes room."""


def fresh():
    return uuid.uuid4().hex[:12]


def lines(*texts):
    return "\n".join(texts) + "\n"


def make(name, files):
    """Writes a small context."""
    folder = CONTEXTS / name
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def settle():
    """Lets the disk finish what others wrote, so that nobody waits for it while timed."""
    os.sync()


class NoOp(Row):
    name, title = "noop", "no-op rebuild, 12 steps, small context"
    bars = {"no-op": Bar(seconds=0.005, times_peer=15)}
    # It takes milliseconds: a median wants more of them.
    repeats = 7

    def __init__(self):
        steps = [f"FROM {BUSYBOX}", "ENV A=1 B=2", "WORKDIR /app", "RUN echo one > one", "COPY f0 f1 ./"]
        steps += ["RUN cat f0 f1 > both", "COPY src src", "RUN ls src | wc -l > count", "ENV C=3"]
        steps += ["RUN echo $A$B$C > env", "LABEL a=b", 'CMD ["cat", "env"]']
        files = {"f0": "zero\n", "f1": "one\n", "Dockerfile": lines(*steps)}
        files |= {f"src/f{number}": f"file {number}\n" * 100 for number in range(20)}
        self.folder = make("noop", files)

    def begin(self, engine):
        engine.timed(engine.build(self.folder, "noop"))

    def round(self, engine, watch=None):
        samples = [engine.timed(engine.build(self.folder, "noop"), watch=watch) for _ in range(self.repeats)]
        found = engine.look("noop", self.folder, "cat /app/both /app/count /app/env").split()
        require(found == ["zero", "one", "20", "123"], f"the files of the steps are {found}")
        return {"no-op": samples}

    def floors(self):
        return {"kiln --version": floor(os.environ["KILN"], "--version")}


def text(seed, size):
    """Text that looks like source code to a compressor."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("etaoinshrdlucmfwypvbgk_", k=chance.randint(2, 11))) for _ in range(4000)]
    return " ".join(chance.choices(words, k=size // 6)).encode()[:size]


def make_tree(folder, files, total):
    """`files` files of `total` bytes: sizes as in real projects, three of four are text."""
    chance = random.Random(7)
    sources = [text(1, 6_000_000)] * 3 + [chance.randbytes(6_000_000)]
    weights = [chance.lognormvariate(0, 1.0) for _ in range(files)]
    scale = total / sum(weights)
    for number, weight in enumerate(weights):
        place = folder / f"t/d{number // 1000:02}/e{number // 100 % 10}/f{number // 50 % 2}"
        if number % 50 == 0:
            place.mkdir(parents=True, exist_ok=True)
        source, size = sources[number % 4], max(16, int(weight * scale))
        start = chance.randrange(0, max(1, len(source) - size))
        (place / f"file{number:06}").write_bytes(b"%d\n" % number + source[start : start + size])
    (folder / "t/nonce").write_text("0\n")
    (folder / "Dockerfile").write_text(f"FROM {BUSYBOX}\nCOPY t /t\n")
    return folder


class Files(Row):
    """Cold, again, and with one file changed: one after the other, since each needs the one before."""

    name, title = "files", "20,000 files, 200 MB"
    bars = {
        "cold COPY": Bar(times_peer=4.5, floor=("cp -a", 1)),
        "no-op": Bar(times_peer=10, floor=("stat walk", 1.5)),
        "one file changed": Bar(times_peer=8),
    }
    count, total, repeats = 20_000, 200_000_000, 3

    def __init__(self):
        self.folder = CONTEXTS / self.name
        if not self.folder.exists():
            make_tree(self.folder, self.count, self.total)

    def samples_of_files(self):
        step = max(1, self.count // 4)
        names = [f"t/d{n // 1000:02}/e{n // 100 % 10}/f{n // 50 % 2}/file{n:06}" for n in range(0, self.count, step)]
        return ["t/nonce", *names]

    def check(self, engine):
        names = self.samples_of_files()
        script = f"cd /; find t -type f | wc -l; sha256sum {' '.join(names)}"
        found = engine.look(self.name, self.folder, script).split()
        expected = [str(self.count + 1)]
        for name in names:
            expected += [hashlib.sha256((self.folder / name).read_bytes()).hexdigest(), name]
        require(found == expected, f"files or contents differ: {found[:1]}")

    def round(self, engine, watch=None):
        build = engine.build(self.folder, self.name)
        engine.forget()
        settle()
        cold = engine.timed(build, watch=watch)
        self.check(engine)
        again = [engine.timed(build, watch=watch) for _ in range(self.repeats)]
        (self.folder / "t/nonce").write_text(fresh() + "\n")
        settle()
        changed = engine.timed(build, watch=watch)
        self.check(engine)
        return {"cold COPY": [cold], "no-op": again, "one file changed": [changed]}

    def floors(self):
        source, copy = str(self.folder / "t"), DISK / "copy"
        found = {"stat walk": min(floor(str(WORK / "walk"), source) for _ in range(5))}
        for name, flags in {
            "cp -a": ["-a", "--reflink=never"],
            "cp -a --reflink": ["-a", "--reflink=always"],
            "cp -al": ["-al"],
        }.items():
            settle()
            found[name] = floor("cp", *flags, source, str(copy))
            shutil.rmtree(copy)
        found["tar | sha256"] = floor("sh", "-c", f"tar -C {source} -c . | openssl dgst -sha256")
        return found


class Runs(Row):
    name, title = "run", "20 distinct trivial RUN steps, cold"
    bars = {"each step": Bar(seconds=0.005, times_peer=18)}
    steps = 20

    def __init__(self):
        steps = [f"FROM {BUSYBOX}", "ARG N"]
        steps += [f"RUN echo $N-{number} > /step{number}" for number in range(self.steps)]
        self.folder = make("run", {"Dockerfile": lines(*steps)})

    def begin(self, engine):
        engine.timed(engine.build(self.folder, "run", [("N", fresh())]))

    def round(self, engine, watch=None):
        nonce = fresh()
        settle()
        sample = engine.timed(engine.build(self.folder, "run", [("N", nonce)]), watch=watch)
        names = " ".join(f"/step{number}" for number in range(self.steps))
        found = engine.look("run", self.folder, f"cat {names}").split()
        require(found == [f"{nonce}-{number}" for number in range(self.steps)], f"the steps wrote {found}")
        step = Sample(sample.wall / self.steps, sample.cpu / self.steps, sample.memory)
        return {"each step": [step]}

    def floors(self):
        alone = ["unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "true"]
        return {"unshare true": min(floor(*alone) for _ in range(5))}


class Stages(Row):
    name, title = "stages", "8 independent stages (32 MB of urandom, 1 s of sleep), joined"
    bars = {"cold": Bar(times_peer=1.8)}
    stages = 8

    def __init__(self):
        steps = []
        for stage in range(self.stages):
            work = f"dd if=/dev/urandom of=/out bs=1M count=32 2>/dev/null; sleep 1; echo $N-{stage} > /n"
            steps += [f"FROM {BUSYBOX} AS s{stage}", "ARG N", f"RUN {work}"]
        steps += [f"FROM {BUSYBOX}"]
        for stage in range(self.stages):
            steps += [f"COPY --from=s{stage} /n /n{stage}", f"COPY --from=s{stage} /out /o{stage}"]
        self.folder = make("stages", {"Dockerfile": lines(*steps)})

    def round(self, engine, watch=None):
        nonce = fresh()
        settle()
        sample = engine.timed(engine.build(self.folder, "stages", [("N", nonce)]), watch=watch)
        found = engine.look("stages", self.folder, "cat /n?; stat -c %s /o?").split()
        expected = [f"{nonce}-{stage}" for stage in range(self.stages)] + ["33554432"] * self.stages
        require(found == expected, f"the stages gave {found}")
        return {"cold": [sample]}

    def floors(self):
        work = f"(dd if=/dev/urandom of={DISK}/out.$i bs=1M count=32 2>/dev/null; sleep 1) &"
        settle()
        seconds = floor("sh", "-c", f"for i in 1 2 3 4 5 6 7 8; do {work} done; wait")
        out_of(["sh", "-c", f"rm {DISK}/out.*"])
        return {"the same without containers": seconds}


class Wide(Row):
    name, title = "wide", "2,031 instructions in 300 stages"
    bars = {"cached": Bar(seconds=0.030), "cold": Bar(times_peer=8)}
    without = Row.without | {"buildah": "takes minutes", "docker-legacy": "takes minutes"}
    peer_rounds, stages, repeats = 1, 300, 5

    def __init__(self):
        steps = ["ARG N=0"]
        for stage in range(self.stages):
            steps += [f"FROM {BUSYBOX} AS s{stage}", f"ENV A{stage}=v{stage} B=c", f"LABEL l{stage}=x"]
            steps += [f"WORKDIR /w{stage}", f"COPY f{stage % 50} /w{stage}/f"]
            if stage % 10 == 0:
                steps += [f"RUN echo {stage} > /w{stage}/before"]
            else:
                steps += [f"COPY --from=s{stage - 1} /w{stage - 1}/before /w{stage}/before"]
            if stage % 3:
                steps += [f"ENV C{stage}=$A{stage}-x"]
        steps += [f"FROM {BUSYBOX}"]
        steps += [f"COPY --from=s{stage} /w{stage} /r/{stage}" for stage in range(9, self.stages, 10)]
        files = {f"f{number}": f"file {number}\n" for number in range(50)}
        self.folder = make("wide", {**files, "Dockerfile": lines(*steps)})

    def round(self, engine, watch=None):
        build = engine.build(self.folder, "wide")
        engine.forget()
        settle()
        cold = engine.timed(build, watch=watch)
        cached = [engine.timed(build, watch=watch) for _ in range(self.repeats)]
        found = engine.look("wide", self.folder, "cat /r/*/before | sort -n").split()
        require(found == [str(stage) for stage in range(0, self.stages, 10)], f"the chains gave {found}")
        return {"cold": [cold], "cached": cached}


class Gigabyte(Row):
    name, title = "gigabyte", "1 GB single-file COPY layer, cold, exported as a docker tar"
    bars = {"cold + export": Bar(times_peer=5)}
    peer_rounds = 2

    def __init__(self):
        self.folder = make("gigabyte", {"Dockerfile": f"FROM {BUSYBOX}\nCOPY big /big\n"})
        with open(self.folder / "big", "wb") as file:
            for _ in range(1024):
                file.write(os.urandom(1 << 20))

    def round(self, engine, watch=None):
        engine.forget()
        with open(self.folder / "big", "r+b") as file:
            file.write(os.urandom(4096))
        out = DISK / "export.tar"
        settle()
        try:
            sample = engine.timed(*engine.export(self.folder, "gigabyte", out), watch=watch)
            with open(self.folder / "big", "rb") as file:
                expected = hashlib.file_digest(file, "sha256").hexdigest()
            require(digest_in(out, "big") == expected, "the file in the exported layer differs")
        finally:
            out.unlink(missing_ok=True)
        return {"cold + export": [sample]}

    def floors(self):
        settle()
        out = DISK / "floor.tar"
        script = f"tar -C {self.folder} -c big | tee {out} | openssl dgst -sha256"
        seconds = floor("sh", "-c", script)
        out.unlink()
        return {"read, sha256, write once": seconds}

    def end(self):
        shutil.rmtree(self.folder)


def digest_in(archive, name):
    """The sha256 of a file in any layer of a docker tar."""
    with tarfile.open(archive) as outer:
        for member in outer:
            if not member.isfile() or member.size < 1 << 20:
                continue
            with tarfile.open(fileobj=outer.extractfile(member), mode="r|*") as layer:
                for entry in layer:
                    if Path(entry.name) == Path(name):
                        return hashlib.file_digest(layer.extractfile(entry), "sha256").hexdigest()
    return None
