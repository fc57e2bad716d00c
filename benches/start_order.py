#!/usr/bin/env python3
"""Writes the order in which the functions of a start stand in the binary (`make order`).

Code is read by pages. In 14 MB of it the functions that one command runs are on pages of their own, and each page that
is touched first costs a process 2 to 4 us: a third of a start. So the linker puts them side by side, in the order of
their first use. A name that isn't there any more is passed over: an old list costs time and nothing else.

`start_order.py KILN BUSYBOX.tar LIST`, as root, on x86-64: single-steps some commands and all that they fork, at some
30,000 instructions a second.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# <sys/ptrace.h>, and where `rip` is in the registers.
TRACEME, PEEKUSER, CONT, SINGLESTEP, SETOPTIONS = 0, 3, 7, 9, 0x4200
FORKS_EXECS_AND_THE_END = 0x02 | 0x04 | 0x08 | 0x10 | 0x100000
EVENT_EXEC = 4
RIP = 16 * 8
ALL_CHILDREN = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

COMMANDS = (
    ["ps"],
    ["run", "--rm", "busybox", "true"],
    ["exec", "sleeper", "true"],
    ["build", "-q", "{context}"],
)


def functions(binary):
    """The names at each address."""
    names = {}
    for line in subprocess.run(["nm", binary], check=True, capture_output=True, text=True).stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in "tTwW":
            names.setdefault(int(words[0], 16), []).append(words[2])
    return names


def first_uses(binary, words, env, unseen):
    """Runs a command step by step; gives the addresses of `unseen` that are reached, in order, and takes them out."""
    child = os.fork()
    if child == 0:
        libc.ptrace(TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.execve(binary, ["kiln", *words], env)
    os.waitpid(child, 0)
    libc.ptrace(SETOPTIONS, child, None, FORKS_EXECS_AND_THE_END)
    libc.ptrace(CONT, child, None, None)
    used, is_ours = [], {}
    while True:
        try:
            pid, status = os.waitpid(-1, ALL_CHILDREN)
        except ChildProcessError:
            return used
        if not os.WIFSTOPPED(status):
            continue
        stop, passed_on = os.WSTOPSIG(status), 0
        if status >> 16 == EVENT_EXEC:
            is_ours[pid] = os.readlink(f"/proc/{pid}/exe") == binary
        elif stop not in (signal.SIGTRAP, signal.SIGSTOP):
            passed_on = stop
        if not is_ours.setdefault(pid, True):
            libc.ptrace(CONT, pid, None, passed_on)
            continue
        address = libc.ptrace(PEEKUSER, pid, RIP, None)
        if address in unseen:
            unseen.discard(address)
            used.append(address)
        libc.ptrace(SINGLESTEP, pid, None, passed_on)


def main():
    # A timeout, too, takes the containers away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    binary, base, out = os.path.realpath(sys.argv[1]), sys.argv[2], sys.argv[3]
    names = functions(binary)
    with tempfile.TemporaryDirectory() as folder:
        env = {"PATH": os.environ["PATH"], "KILN_ROOT": f"{folder}/store"}
        context = Path(folder, "context")
        context.mkdir()
        context.joinpath("Dockerfile").write_text("FROM busybox\nCOPY . /in\nRUN true\n")
        context.joinpath("file").write_text("file\n")
        kiln = lambda *words: subprocess.run([binary, *words], env=env, check=True, stdout=subprocess.DEVNULL)
        kiln("import", base, "busybox:latest")
        kiln("run", "-d", "--name", "sleeper", "busybox", "sleep", "100000")
        kiln("build", "-q", str(context))
        unseen, used = set(names), []
        try:
            for words in COMMANDS:
                words = [word.format(context=context) for word in words]
                used += first_uses(binary, words, env, unseen)
                print(f"{' '.join(words[:2])}: {len(used)} functions", file=sys.stderr)
        finally:
            kiln("rm", "-f", "sleeper")
            kiln("system", "prune", "-a", "-f")
    Path(out).write_text("".join(f"{name}\n" for address in used for name in names[address]))


main()
