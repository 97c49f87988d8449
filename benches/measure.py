#!/usr/bin/env python3
"""Runs a command and writes its wall time, processor time and peak resident memory: measure.py OUT.json COMMAND..."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

start = time.perf_counter()
code = subprocess.call(sys.argv[2:])
wall = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
record = {"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "peak_gib": used.ru_maxrss / 2**20}
Path(sys.argv[1]).write_text(json.dumps(record))
sys.exit(code)
