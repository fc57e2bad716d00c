"""The rows of networks: how fast they carry, what they cost a start and a step, and how they know names."""

import json
import random
import selectors
import socket
import struct
import subprocess
import time

from engines import BUSYBOX, ENGINES
from machines import IMAGE, MACHINES, NETWORK, Pair, eventually, within
from measure import Failed, Sample, out_of, require, run
from rows import Bar, Row, fresh, lines, make

GIGA = 1e9


class Networked(Row):
    """A row whose engines each have a machine of their own."""

    weighs = False
    without = {name: "runs no containers" for name in ENGINES if name not in MACHINES}

    def __init__(self):
        self.machines = {}

    def begin(self, engine):
        machine = self.machines[engine.name] = MACHINES[engine.name](engine)
        machine.out("network", "create", NETWORK)
        self.prepare(machine)

    def prepare(self, machine):
        """Starts what the rounds need."""

    def end(self):
        for machine in self.machines.values():
            machine.remove()


def transfer(argv, env=None, total=400_000_000):
    """Sends bytes by one iperf3: seconds for a gigabyte (10^9 bytes) at the receiver's end."""
    try:
        said = json.loads(out_of([*argv, "-n", str(total), "-J"], env))
    except ValueError as error:
        raise Failed(f"iperf3 says no JSON: {error}")
    require("sum_received" in said["end"], f"iperf3 says {said.get('error')}")
    got = said["end"]["sum_received"]
    require(got["bytes"] >= 0.9 * total, f"{got['bytes']} of {total} bytes came")
    return got["seconds"] * GIGA / got["bytes"]


class Throughput(Networked):
    """Published ports are asked from another machine, through the machine's own address: this way goes through every
    rule, redirected, routed and filtered, and beside the floor it has one veth pair more."""

    name, title = "throughput", "a gigabyte by one iperf3"
    bars = {
        "container to container": Bar(floor=("a plain veth pair", 1 / 0.9)),
        "to a published port": Bar(floor=("a plain veth pair", 1 / 0.8)),
    }
    # Short runs, and many: other work on the machine disturbs a few of them only.
    turns, peer_rounds = 5, 6
    published = 5202

    def __init__(self):
        super().__init__()
        self.pair = Pair("veth")
        self.server = subprocess.Popen(self.pair.in_here("iperf3", "-s"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def prepare(self, machine):
        server = ["--network", NETWORK, "-p", f"{self.published}:5201"]
        machine.start("bench-server", "iperf3", "-s", flags=server)
        machine.start("bench-client", "sleep", "100000", flags=["--network", NETWORK])
        machine.server = machine.address("bench-server")
        for measure, argv in self.ways(machine).items():
            eventually(lambda: transfer(argv, machine.env, 1_000_000), f"no way {measure}")

    def ways(self, machine):
        client = ["iperf3", "-c"]
        there, port = machine.pair.addresses[0], ["-p", str(self.published)]
        return {
            "container to container": machine.argv("exec", "bench-client", *client, machine.server),
            "to a published port": machine.pair.in_beside(*client, there, *port),
            "to a published port over loopback": machine.pair.in_here(*client, "127.0.0.1", *port),
        }

    def round(self, engine, watch=None):
        machine = self.machines[engine.name]
        ways = self.ways(machine).items()
        return {measure: [Sample(eventually(lambda: transfer(argv, machine.env), measure))] for measure, argv in ways}

    def floors(self):
        argv = self.pair.in_beside("iperf3", "-c", self.pair.addresses[0])
        return {"a plain veth pair": eventually(lambda: transfer(argv), "the floor")}

    def end(self):
        super().end()
        self.server.terminate()
        self.server.wait()
        self.pair.remove()


class NetworkCost(Networked):
    """Each start beside one without a network, in turn; the image, the record and the removal are in both."""

    name, title = "network", "what a network adds to a container of `true`"
    bars = {"the default bridge": Bar(seconds=0.008), "a user network": Bar(seconds=0.008)}
    turns, peer_rounds = 2, 1
    repeats = 5

    def words(self, machine, network):
        return ["run", "--rm", *machine.run_flags, "--network", network, IMAGE]

    def prepare(self, machine):
        for network in ("bridge", NETWORK):
            said = machine.out(*self.words(machine, network), "sh", "-c", "cat /proc/net/route")
            require("eth0" in said, f"a container of network {network} has the routes {said!r}")

    def round(self, engine, watch=None):
        machine = self.machines[engine.name]
        seconds = lambda network: run(machine.argv(*self.words(machine, network), "true"), machine.env).wall
        found = {"none, the whole start": [], "the default bridge": [], "a user network": []}
        for _ in range(self.repeats):
            none, bridge, user = (seconds(network) for network in ("none", "bridge", NETWORK))
            for samples, wall in zip(found.values(), (none, bridge - none, user - none)):
                samples.append(Sample(wall))
        return found


def question(number, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    # Recursion is desired; one question, of type A and class IN.
    return struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + labels + struct.pack(">B2H", 0, 1, 1)


def answered(message, number, address):
    """Tells whether a message is the answer to a question of this number: just this address."""
    found, flags, _, answers = struct.unpack(">4H", message[:8])
    return found == number and flags & 0x800F == 0x8000 and answers == 1 and message.endswith(socket.inet_aton(address))


def ask(asked, server, patience=10):
    """Sends `(socket, name, address)`, all at once, and waits for the answers, without asking again: seconds to the
    last one, and how many were lost."""
    numbers = [random.randrange(1 << 16) for _ in asked]
    with selectors.DefaultSelector() as waiting:
        for number, (each, name, address) in zip(numbers, asked):
            each.setblocking(False)
            waiting.register(each, selectors.EVENT_READ, (number, name, address))
        started = time.perf_counter()
        for number, (each, name, _) in zip(numbers, asked):
            each.sendto(question(number, name), (server, 53))
        while waiting.get_map() and (ready := waiting.select(patience)):
            for key, _ in ready:
                number, name, address = key.data
                require(answered(key.fileobj.recv(4096), number, address), f"the answer for {name}")
                waiting.unregister(key.fileobj)
        return time.perf_counter() - started, len(waiting.get_map())


class Names(Networked):
    """The questions are put from the containers' own namespaces, so that no program's start is in the times."""

    name, title = "names", "names of a network"
    turns, peer_rounds = 1, 2
    # A peer takes a minute or more for 200.
    counts = {"kiln": 200, "docker": 40}
    without = Networked.without | {"podman": "Debian's has no plug-in for names"}
    parallel, everybody = 1000, 5

    def prepare(self, machine):
        names = [f"bench-{number}" for number in range(self.counts[machine.engine.name])]
        for name in names:
            machine.start(name, "sleep", "100000", flags=["--network", NETWORK])
        machine.names = {name: machine.address(name) for name in names}
        machine.inside = machine.pids(names)
        require(len(set(machine.names.values())) == len(names), "some have the same address")
        # By a container's own program, through its resolv.conf.
        said = machine.out("exec", names[0], "nslookup", names[-1])
        require(machine.names[names[-1]] in said, f"a container finds {said!r}")
        servers = machine.out("exec", names[0], "cat", "/etc/resolv.conf").split("nameserver ")
        machine.server = servers[1].split()[0]

    def round(self, engine, watch=None):
        machine = self.machines[engine.name]
        names = list(machine.names.items())
        open_in = lambda pid, count: within(pid, lambda: [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)])
        several = machine.inside[:: len(names) // self.everybody][: self.everybody]
        rounds = {
            f"{len(names)} containers, each asks for another one": [
                (each, *names[number - 1]) for number, pid in enumerate(machine.inside) for each in open_in(pid, 1)
            ],
            f"all of them, from {self.everybody}": [
                (each, *name) for pid in several for each, name in zip(open_in(pid, len(names)), names)
            ],
            f"{self.parallel} questions at once from one": [
                (each, *names[number % len(names)]) for number, each in enumerate(open_in(machine.inside[0], self.parallel))
            ],
        }
        found = {}
        for measure, asked in rounds.items():
            seconds, lost = ask(asked, machine.server)
            for each, *_ in asked:
                each.close()
            require(lost == 0, f"{lost} answers of {len(asked)} lost: {measure}")
            found[measure] = [Sample(seconds)]
        return found


class Seats(Row):
    """Builds of small RUN steps, once with a network each and once without, in turn."""

    name, title = "seats", "what a network adds to a RUN step"
    bars = {"a step of 20": Bar(seconds=0.001)}
    without = Row.without | {"docker-legacy": "its steps take as long without a network"}
    weighs = False
    turns, peer_rounds = 3, 1
    steps, pairs = 20, 3

    def __init__(self):
        self.folder = None

    def begin(self, engine):
        engine.forget()
        self.build(engine, "none")

    def build(self, engine, network):
        look = "! grep -q eth0" if network == "none" else "grep -q eth0"
        steps = [f"RUN {look} /proc/net/dev # {fresh()}" for _ in range(self.steps)]
        self.folder = make("seats", {"Dockerfile": lines(f"FROM {BUSYBOX}", *steps)})
        *words, folder = engine.build(self.folder, "seats")
        return engine.timed([*words, "--network", network, folder]).wall

    def round(self, engine, watch=None):
        count = self.pairs if engine.name == "kiln" else 1
        pairs = [(self.build(engine, "none"), self.build(engine, "default")) for _ in range(count)]
        return {
            "a step of 20": [Sample((default - none) / self.steps) for none, default in pairs],
            "the whole build without": [Sample(none) for none, _ in pairs],
        }
