#!/usr/bin/env python3
"""Measures kiln and its peers. `benches/end_to_end.sh` prepares the machine and calls this."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import report
from engines import ENGINES
from measure import Failed
from networks import Names, NetworkCost, Seats, Throughput
from own import Costs, Project, scaling
from rows import Files, Gigabyte, NoOp, Runs, Stages, Wide
from starts import Starts

NETWORKS = (Throughput, NetworkCost, Names, Seats)
ROWS = {row.name: row for row in (NoOp, Files, Runs, Stages, Wide, Gigabyte, Project, Starts, *NETWORKS)}
# How often memory is looked at in kiln's run apart: many of its builds are over in milliseconds.
WATCH_SECONDS = 0.002
ERRORS = (Failed, OSError, subprocess.SubprocessError)


def tell(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def choose_engines(names):
    """The engines that work on this machine; kiln must."""
    found = []
    for name in names:
        try:
            engine = ENGINES[name]()
            engine.forget()
            found.append(engine)
        except ERRORS as error:
            if name == "kiln":
                raise
            tell(f"{name} is left out: {error}")
    return found


def measure(row, engines, rounds, failures):
    """Interleaved rounds, in alternating order; an engine that fails is left out from there on."""
    result = {"title": row.title, "bars": row.bars, "samples": {}, "floors": {}, "memory": {}, "left_out": dict(row.without)}
    living = [engine for engine in engines if engine.name not in row.without]

    def attempt(engine, work):
        try:
            return work()
        except ERRORS as error:
            tell(f"  {engine.name} fails: {error}")
            result["left_out"][engine.name] = f"failed: {error}"
            living.remove(engine)
            if engine.name == "kiln":
                failures.append(f"{row.name}: {error}")
            return None

    try:
        for engine in list(living):
            attempt(engine, lambda: row.begin(engine))
        for number in range(rounds * row.turns):
            turn(row, number, living, result, attempt)
        if row.weighs:
            weigh(row, living, result, attempt)
    finally:
        row.end()
    return result


def turn(row, number, living, result, attempt):
    """Measures the floors, and each living engine once."""
    try:
        for name, seconds in row.floors().items():
            result["floors"].setdefault(name, []).append(seconds)
    except ERRORS as error:
        tell(f"  no floors: {error}")
    for engine in living[:: 1 if number % 2 == 0 else -1]:
        if engine.name != "kiln" and number >= row.peer_rounds:
            continue
        got = attempt(engine, lambda: row.round(engine)) or {}
        for what, samples in got.items():
            result["samples"].setdefault(engine.name, {}).setdefault(what, []).extend(samples)
            tell(f"  {engine.name:14} {what}: " + " ".join(f"{sample.wall:.4f}" for sample in samples))


def weigh(row, living, result, attempt):
    """The peak memory: of peers from the timed runs, of kiln from a run apart."""
    for name, measures in result["samples"].items():
        result["memory"][name] = max(sample.memory for each in measures.values() for sample in each)
    for engine in [engine for engine in living if engine.name == "kiln"]:
        got = attempt(engine, lambda: row.round(engine, WATCH_SECONDS)) or {}
        peaks = [sample.memory for samples in got.values() for sample in samples]
        result["memory"]["kiln"] = max(peaks, default=0)
        tell(f"  kiln           memory: {result['memory']['kiln'] / 1e6:.1f} MB")


def count(kiln, failures):
    """Instructions and system calls of a no-op build."""
    try:
        row = Costs()
        row.begin(kiln)
        return row.round(kiln)
    except ERRORS as error:
        failures.append(f"costs: {error}")
        return {}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", required=True)
    parser.add_argument("--rows", default="all", help=f"all, or some of {','.join([*ROWS, 'costs', 'scaling'])}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="where .json and .md go")
    return parser.parse_args()


def main():
    asked = arguments()
    known = [*ROWS, "costs", "scaling"]
    rows = known if asked.rows == "all" else asked.rows.split(",")
    if unknown := [row for row in rows if row not in known]:
        sys.exit(f"error: no rows {unknown}; there are {known}")
    data = {"when": time.strftime("%F %T UTC", time.gmtime()), "cpus": os.cpu_count(), "kernel": platform.release()}
    data |= {"load": os.getloadavg()[0], "rows": {}, "costs": {}, "scaling": {}, "failures": []}
    engines = choose_engines(["kiln", *(name for name in asked.engines.split(",") if name != "kiln")])
    kiln = engines[0]
    data["versions"] = {engine.name: engine.version() for engine in engines}
    for name in rows:
        tell(f"{name} (load {os.getloadavg()[0]:.1f})")
        if name == "costs":
            data["costs"] = count(kiln, data["failures"])
        elif name == "scaling":
            data["scaling"] = scaling(kiln, min(asked.rounds, 2), tell)
        else:
            try:
                data["rows"][name] = measure(ROWS[name](), engines, asked.rounds, data["failures"])
            except ERRORS as error:
                tell(f"  {name} is left out: {error}")
                data["failures"].append(f"{name}: {error}")
        # Written after each row: who ends it early keeps what was measured.
        asked.out.with_suffix(".json").write_text(json.dumps(report.plain(data), indent=1) + "\n")
        asked.out.with_suffix(".md").write_text(report.markdown(data))
    print(report.markdown(data))
    tell(f"written to {asked.out}.md and {asked.out}.json")
    sys.exit(1 if data["failures"] else 0)


if __name__ == "__main__":
    main()
