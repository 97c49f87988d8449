#!/usr/bin/env python3
"""Recomputes the first steps of runs with diffusers and transformers and compares them with their metrics.jsonl.

    .python/python tools/recompute.py runs/NAME [runs/OTHER ..] --steps 3

All inputs are RUN/resolved.toml, the model folder and the data: which pairs a step takes, every draw, latents,
errors, loss, gradient, AdamW. Of a run that samples while it trains: the updates of its first iteration, from the
transitions that checkpoint-000001 keeps. Exit code 0 when every figure agrees within the tolerances of docs/determinism.md, 1 with
the first that does not, 2 when the run cannot be read. Paths of the config are relative to the working directory.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

import torch

from recompute.compare import differences
from recompute.losses import LOSSES
from recompute.rollouts import METHODS, SampledRun, recomputed
from recompute.steps import Run


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+", help="folder of a run: resolved.toml, metrics.jsonl")
    parser.add_argument("--steps", type=int, default=3, help="how many steps from the first on (3)")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch (0: its own choice)")
    parser.add_argument("--all", action="store_true", help="print every figure, not the worst of each step")
    return parser.parse_args()


def refuse(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def check(config):
    if (name := config["method"]["name"]) not in LOSSES and name not in METHODS:
        refuse(f"method {name!r} cannot be recomputed yet, only {', '.join(sorted([*LOSSES, *METHODS]))}")
    if (name := config["optim"].get("name", "adamw")) != "adamw":
        refuse(f"optim.name = {name!r} cannot be recomputed, only 'adamw'")
    if config.get("reference", {}).get("path"):
        refuse("reference.path cannot be recomputed, only a reference that is the start model or moves away from it")
    paths = [config["model"]["path"], config["data"].get("path")]
    for path in filter(None, paths):
        if not Path(path).exists():
            refuse(f"{path} does not exist here; run this from the folder that the run was started in")


def lines_of(path):
    with path.open() as file:
        return {line["step"]: line for line in map(json.loads, file)}


def show(step, rows, every):
    shown = rows if every else sorted(rows, key=lambda row: -row[4])[:4]
    for name, logged, figure, agrees, used in shown:
        if figure is not None:
            mark = "" if agrees else "   DIFFERS"
            print(f"{step:4}  {name:18} {logged!s:>24} {figure.value:>24.12g}  {used:8.2%}{mark}")


def sampled(config, folder):
    try:
        return SampledRun(config, folder)
    except (OSError, ValueError) as error:
        refuse(error)


def recompute(folder, options):
    """Compares the first steps of a run; exits where they differ."""
    try:
        config = tomllib.loads((folder / "resolved.toml").read_text())
        lines = lines_of(folder / "metrics.jsonl")
    except OSError as error:
        refuse(error)
    check(config)
    samples = config["method"]["name"] in METHODS
    steps = min(options.steps, max(lines, default=0))
    if samples:
        run = sampled(config, folder)
        steps = min(steps, run.kept.updates)
        print(f"{folder}: {config['method']['name']}, {len(run.kept.units)} units of the first iteration")
    else:
        run = Run(config)
        print(f"{folder}: {config['method']['name']}, {len(run.train)} training items, {len(run.validation)} validated")
    print(f"step  {'figure':18} {'metrics.jsonl':>24} {'recomputed':>24}  of tolerance")
    compared = 0
    for step in range(1, steps + 1):
        figures = run.next_step()
        if lines[step].get("skipped"):
            refuse(f"step {step} was skipped: what follows cannot be recomputed from the start")
        if figures is None:
            continue
        rows = list(differences(recomputed(lines[step]) if samples else lines[step], figures))
        show(step, rows, options.all)
        compared += len(rows)
        for name, logged, figure, agrees, _ in rows:
            if not agrees:
                expected = "absent" if figure is None else f"{figure.value!r} (-{figure.below:.3g}, +{figure.above:.3g})"
                print(f"{folder}, step {step}: {name} is {logged!r}, recomputed {expected}")
                sys.exit(1)
    if not compared:
        refuse(f"{folder} has no step to compare")
    print(f"{compared} figures of {steps} steps agree", flush=True)


def main():
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    for folder in options.run:
        recompute(folder, options)


if __name__ == "__main__":
    main()
