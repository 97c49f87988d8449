#!/usr/bin/env python3
"""Runs a command and prints its rows per second and peak memory: measure_peak.py NAME ROWS COMMAND .."""

import resource
import subprocess
import sys
import time

name, rows, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
began = time.perf_counter()
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{name}: {rows / seconds:,.0f} rows/s, {seconds:.1f} s, peak {peak:,.0f} MiB")
