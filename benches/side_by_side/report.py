"""Medians, ratios and verdicts, as text for people and as JSON."""

from statistics import median

# "≤ 48 MB plus what the step's own program takes", over everything.
MEMORY_BAR = 48e6


def spell(seconds):
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def times_of(result, engine, measure):
    samples = result["samples"].get(engine, {}).get(measure)
    return [sample.wall for sample in samples] if samples else None


def best_peer(result, measure):
    """The fastest peer: `(name, seconds)`."""
    peers = [(median(times_of(result, name, measure)), name) for name in result["samples"] if name != "kiln" and times_of(result, name, measure)]
    return min(peers)[::-1] if peers else (None, None)


def verdicts(result, measure, bar):
    """Each bar as `(text, passed)`; passed is None when there was nothing to compare with."""
    own = median(times_of(result, "kiln", measure))
    _, peer = best_peer(result, measure)
    found = []
    if bar.seconds is not None:
        found.append((f"≤ {spell(bar.seconds)}: {spell(own)}", own <= bar.seconds))
    if bar.times_peer is not None:
        ratio = peer / own if peer else None
        said = f"{ratio:.1f}" if ratio else "no peer"
        found.append((f"≥ {bar.times_peer} × faster: {said}", ratio >= bar.times_peer if ratio else None))
    if bar.floor is not None:
        name, factor = bar.floor
        ratio = own / median(result["floors"][name]) if result["floors"].get(name) else None
        said = f"{ratio:.2f}" if ratio else "no floor"
        found.append((f"≤ {factor:.2f} × {name}: {said}", ratio <= factor if ratio else None))
    return found


def mark(passed):
    return {True: "pass", False: "**FAIL**", None: "–"}[passed]


def row_lines(result):
    """One line of the table per measure."""
    found = []
    floors = ", ".join(f"{name} {spell(median(each))}" for name, each in result["floors"].items())
    for measure in result["samples"].get("kiln", {}):
        own = times_of(result, "kiln", measure)
        name, peer = best_peer(result, measure)
        bar = result["bars"].get(measure)
        judged = "; ".join(f"{text} {mark(passed)}" for text, passed in verdicts(result, measure, bar)) if bar else ""
        spread = f"{spell(median(own))} ({spell(min(own))}–{spell(max(own))}, n {len(own)})"
        best = f"{spell(peer)} {name}" if name else "–"
        # A difference of two times can be none.
        ratio = f"{peer / median(own):.1f}" if peer and median(own) > 0 else "–"
        found.append(f"| {result['title']}: {measure} | {spread} | {best} | {ratio} | {floors} | {judged} |")
        # They are the row's: said once.
        floors = ""
    return found


def engines_table(results, engines):
    """Every engine's median, smallest and largest."""
    found = ["| workload | " + " | ".join(engines) + " |", "|---" * (len(engines) + 1) + "|"]
    for result in results.values():
        measures = []
        for each in result["samples"].values():
            measures += [measure for measure in each if measure not in measures]
        for measure in measures:
            cells = []
            for engine in engines:
                times = times_of(result, engine, measure)
                left_out = result["left_out"].get(engine)
                cells.append(f"{spell(median(times))} ({spell(min(times))}–{spell(max(times))})" if times else left_out or "–")
            cells = [cell.replace("\n", " ").replace("|", "/")[:160] for cell in cells]
            found.append(f"| {result['title']}: {measure} | " + " | ".join(cells) + " |")
    return found


def memory_table(results, engines):
    """The highest memory of each row, and whether kiln's stays below its bar."""
    found = ["| peak memory, all processes of the engine | " + " | ".join(engines) + " |", "|---" * (len(engines) + 1) + "|"]
    highest = 0
    for result in results.values():
        peaks = result["memory"]
        if not any(peaks.values()):
            continue
        highest = max(highest, peaks.get("kiln", 0))
        found.append(f"| {result['title']} | " + " | ".join(f"{peaks[e] / 1e6:.0f} MB" if peaks.get(e) else "–" for e in engines) + " |")
    found += ["", f"kiln's highest: {highest / 1e6:.1f} MB, bar 48 MB: {mark(highest <= MEMORY_BAR)}"] if highest else []
    return found


def scaling_tables(scaling):
    found = []
    for what, sizes in scaling.items():
        measures = list(dict.fromkeys(measure for times in sizes.values() for measure in times))
        found += ["", f"| {what} | " + " | ".join(f"{measure} | each" for measure in measures) + " |"]
        found += ["|---" * (2 * len(measures) + 1) + "|"]
        for size, times in sizes.items():
            cells = []
            for measure in measures:
                each = median(times[measure]) if times.get(measure) else None
                cells += [spell(each), f"{each / size * 1e6:.1f} µs" if each else "–"]
            found.append(f"| {size:,} | " + " | ".join(cells) + " |")
    return found


def markdown(data):
    head = f"{data['when']}, {data['cpus']} processors, Linux {data['kernel']}, load {data['load']:.1f} at the beginning. "
    head += "Medians of interleaved runs (smallest–largest, number of runs)."
    found = [head, ""] + [f"- {name}: {version}" for name, version in data["versions"].items()]
    found += ["", "| workload | kiln | best peer | ratio | floors | bars |", "|---|---|---|---|---|---|"]
    for result in data["rows"].values():
        found += row_lines(result)
    if data["costs"]:
        found += ["", "| counted in a no-op build | |", "|---|---|"]
        found += [f"| {what} | {number:,} |" for what, number in data["costs"].items()]
    if data["rows"]:
        found += ["", *memory_table(data["rows"], data["versions"])]
        found += ["", *engines_table(data["rows"], data["versions"])]
    found += scaling_tables(data["scaling"])
    if data["failures"]:
        found += ["", "Failed:", *(f"- {failure}" for failure in data["failures"])]
    return "\n".join(found) + "\n"


def plain(data):
    """The same as numbers: what JSON can hold."""
    rows = {}
    for name, result in data["rows"].items():
        samples = {
            engine: {measure: [sample.__dict__ | {"output": ""} for sample in each] for measure, each in measures.items()}
            for engine, measures in result["samples"].items()
        }
        bars = {measure: verdicts(result, measure, bar) for measure, bar in result["bars"].items() if times_of(result, "kiln", measure)}
        rows[name] = {key: result[key] for key in ("title", "floors", "memory", "left_out")} | {"samples": samples, "bars": bars}
    return data | {"rows": rows}
