#!/usr/bin/env python3
"""Asks docker which of the one-line Dockerfiles in testdata/forms.txt it takes, and records the answer there.

A line `+ FORM` is taken, `- FORM` is refused, with docker's reason after a `|` in the next line. A FORM stands below
`FROM scratch`, or is the whole file when it begins with `%`. In it, \\n, \\r and \\t are those characters.

What fails when a step runs (no shell in scratch, no such file, no registry) was taken: the language is asked for.
New forms are added to forms.txt as `? FORM`. Needs what testdata/record.py needs.
"""

import os
import pathlib
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

FORMS = pathlib.Path(__file__).resolve().parent / "forms.txt"
LATER = ["failed to compute cache key", "did not complete successfully", "failed to resolve source metadata",
         "no such file or directory", "failed to load cache key", "runc run failed", "invalid user index",
         "invalid includepatterns", "no SSH key", "secret id: not found"]


def text(form):
    whole = form.startswith("%")
    body = form.lstrip("%") if whole else form
    for written, meant in [("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t")]:
        body = body.replace(written, meant)
    return body if whole else f"FROM scratch\n{body}\n"


def ask(form):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "Dockerfile")
        path.write_text(text(form), newline="")
        command = ["docker", "buildx", "build", "--network", "none", "-o", "type=cacheonly", folder]
        env = dict(os.environ, BUILDKIT_PROGRESS="plain", NO_COLOR="1")
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
    reason = errors[-1].split("failed to solve: ")[-1] if errors else ""
    later = any(word in reason for word in LATER)
    if run.returncode == 0 or later:
        return f"+ {form}\n"
    return f"- {form}\n| {reason}\n"


def main():
    lines = FORMS.read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    forms = [line[2:] for line in lines if line[:2] in ("+ ", "- ", "? ")]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, forms))
    FORMS.write_text("\n".join(head) + "\n" + "".join(answers))


if __name__ == "__main__":
    main()
