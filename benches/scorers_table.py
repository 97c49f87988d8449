#!/usr/bin/env python3
"""Table of the measurements of benches/scorers.sh in Markdown: scorers_table.py FOLDER ROUNDS."""

import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

TITLES = {
    "nima": "nima (MobileNet, 224 px)",
    "clip-b32": "clip, ViT-B/32",
    "clip-l14": "clip, ViT-L/14",
    "imagereward": "imagereward (ViT-L/16 and BERT)",
}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def rounds(name, side):
    return [json.loads((work / f"{name}-{side}-{n}.json").read_text()) for n in range(1, int(sys.argv[2]) + 1)]


work = Path(sys.argv[1])
peer = rounds("nima", "theirs")[0]
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
versions = ", ".join(f"{name} {version}" for name, version in peer["versions"].items())
print(f"""
## {datetime.date.today()}: pictures per second of scorers, float32, pictures of 512 px

{processor()}, {os.cpu_count()} cores; {peer["threads"]} threads; load {os.getloadavg()[1]:.1f}; diffpref {commit or "uncommitted"}; {versions}; medians of {sys.argv[2]} rounds, turn by turn.
From the file to the number, without loading. diffpref passes one picture at a time on the CPU, Python 8.

| scorer | diffpref | Python |
|---|---|---|""")
for name, title in TITLES.items():
    ours = statistics.median(r["pictures"] / r["seconds"] for r in rounds(name, "ours"))
    theirs = statistics.median(r["pictures"] / r["seconds"] for r in rounds(name, "theirs"))
    print(f"| {title} | {ours:.2f} | {theirs:.2f} |")
