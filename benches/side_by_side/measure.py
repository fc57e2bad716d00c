"""Runs a command and says what it took: wall time, processor time, memory."""

import os
import signal
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# The longest is the first compilation of the project on a busy machine.
TIMEOUT_SECONDS = 1800


class Failed(Exception):
    """A command failed, or gave a wrong result."""


@dataclass
class Sample:
    """What one run took. Memory is the sum over the engine's processes of the engine."""

    wall: float
    cpu: float = 0.0
    memory: int = 0
    output: str = ""

    def plus(self, other):
        return Sample(self.wall + other.wall, self.cpu + other.cpu, max(self.memory, other.memory), self.output + other.output)


def require(truth, what):
    if not truth:
        raise Failed(f"wrong result: {what}")


def children(pid):
    """The children of all threads of a process."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except OSError:
        pass
    return found


def tree(roots):
    """The living processes below `roots`, themselves included."""
    seen, left = [], list(roots)
    while left:
        pid = left.pop()
        seen.append(pid)
        left += children(pid)
    return seen


def namespace(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def memory_of(pids, own):
    """Bytes of the processes of our own pid namespace; those of a step live in another one.

    Pages that several processes have (a program's text, what a fork shares) count once.
    """
    total = 0
    for pid in pids:
        if namespace(pid) != own:
            continue
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


def processor_time(pids):
    """Seconds that these processes, and their children that have ended, have computed."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
        except OSError:
            pass
    return total / TICKS


class Watch(threading.Thread):
    """Samples the memory of a tree of processes."""

    def __init__(self, roots, pause):
        super().__init__()
        self.roots, self.pause = roots, pause
        self.peak, self.over = 0, threading.Event()

    def run(self):
        own = namespace(os.getpid())
        while not self.over.is_set():
            self.peak = max(self.peak, memory_of(tree(self.roots), own))
            self.over.wait(self.pause)

    def end(self):
        self.over.set()
        self.join()
        return self.peak


def wait(pid):
    """Waits for a process, and kills it when it takes too long. A quick one is waited for without a thread."""
    for _ in range(2):
        try:
            signal.setitimer(signal.ITIMER_REAL, TIMEOUT_SECONDS)
            _, status, usage = os.wait4(pid, 0)
            return status, usage
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    raise Failed("a command doesn't end")


def too_long(_signal, _frame):
    raise TimeoutError


signal.signal(signal.SIGALRM, too_long)


def run(argv, env=None, daemons=(), watch=None):
    """Runs one command to its end; `watch`: seconds between two looks at its memory."""
    with tempfile.TemporaryFile() as log:
        before = processor_time(tree(daemons))
        # Straight to the system call: Python's own Popen costs as much as a small build.
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, log.fileno(), stream) for stream in (1, 2)]
        environment = {**os.environ, **(env or {})}
        started = time.perf_counter()
        pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
        watcher = Watch([pid, *daemons], watch) if watch else None
        if watcher:
            watcher.start()
        status, usage = wait(pid)
        wall = time.perf_counter() - started
        memory = watcher.end() if watcher else 0
        log.seek(0)
        output = log.read().decode(errors="replace")
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            raise Failed(f"`{' '.join(argv)[:200]}` ended with {code}: {output[-1500:].strip()}")
        cpu = usage.ru_utime + usage.ru_stime + max(0.0, processor_time(tree(daemons)) - before)
        return Sample(wall, cpu, memory, output)


def out_of(argv, env=None):
    """What a command says, untimed."""
    return run(argv, env).output


def floor(*argv):
    """Seconds that a plain program takes for the same primitive work."""
    return run(list(argv)).wall
