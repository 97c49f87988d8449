"""Makes rows: trains, judges, writes row.json. Finished rows that are not stale are skipped."""

import contextlib
import datetime
import json
import os
import platform
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from . import inputs
from .figures import of_evaluation, of_metrics
from .programs import Failed, Stopped

FORMAT = 2  # of row.json; rows of another format are made again
STEPS = 10  # DDIM
SEEDS = 8  # pictures per name
GUIDANCE = "4"
TESTBED = Path("assets/testbed")
MODEL = TESTBED / "model"
NAMES = TESTBED / "names.jsonl"
DRAWINGS = TESTBED / "drawings"
# Formulas: neither was trained, and neither labelled the data by itself.
SCORERS = ("background", f"nearest_drawing={TESTBED}")
LORA = Path("final/pytorch_lora_weights.safetensors")


@dataclass(frozen=True)
class Run:
    """A row with one of its seeds, and the paths of its files."""

    row: object
    seed: int
    table: Path  # runs/table

    @property
    def key(self):
        return f"{self.row.name}-seed{self.seed}"

    @property
    def folder(self):
        return self.table / self.key

    @property
    def result(self):
        return self.folder / "row.json"

    def read(self):
        """Content of row.json; None without one of this version."""
        known = inputs.read_json(self.result)
        return known if known and known.get("format") == FORMAT else None

    @property
    def log(self):
        return self.table / f"{self.key}.log"

    @property
    def training(self):
        """Record of the run folder's inputs. It is outside the folder, which belongs to `train`."""
        return self.training_of(self.row.name)

    def of(self, name):
        return self.table / f"{name}-seed{self.seed}"

    def training_of(self, name):
        return self.table / f"{name}-seed{self.seed}.training.json"


def held_out(file=NAMES):
    """Rows of held-out names."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [row for row in rows if row.get("held_out")]


def machine():
    """The processor and the system."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def link_to(target, link):
    """Makes `link` a relative symbolic link to a folder."""
    link.parent.mkdir(parents=True, exist_ok=True)
    path = os.path.relpath(target, link.parent)
    if link.is_symlink() and os.readlink(link) != path:
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(path, target_is_directory=True)


class Workshop:
    """Common to all rows: program, recipes, hashes, the judge, and the base model's pictures, painted once."""

    def __init__(self, program, configs, table, jobs, programs, say, remake_older=False):
        self.program, self.configs, self.table, self.jobs = program, configs, table, jobs
        self.programs, self.say = programs, say
        # Inputs that may have changed: the rows of another program are kept, unless they are to be remade.
        self._spared = () if remake_older else ("program",)
        self.hashes = inputs.Hashes()
        self._base = threading.Lock()
        self._base_is_painted = False
        self._hashing = threading.Lock()
        self.names = held_out()
        self.prompts = table / "held-out.jsonl"
        self.prompts_text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.names)

    def recipe(self, name):
        return self.configs / f"{name}-demo.toml"

    def inputs_of(self, run, rows):
        """{"train": .., "judge": ..} of a run as the files are now. Raises OSError where one is missing.

        Without a program, for the page alone, that input is None.
        """
        with self._hashing:
            program = self.hashes.of_file(self.program) if self.program.is_file() else None
            train = {}
            for row in (run.row, *(rows[name] for name in run.row.parents)):
                if row.recipe:
                    train[row.name] = inputs.of_training(self.recipe(row.recipe), row.sets, run.seed, program, self.hashes)
            settings = {"steps": STEPS, "seeds": SEEDS, "guidance_scale": GUIDANCE, "negative": run.row.negative}
            judged = {path.as_posix(): self.hashes.of(path) for path in (DRAWINGS, NAMES, MODEL)}
            judge = {**judged, "names": inputs.of_text(self.prompts_text), "program": program, "judging": settings}
            return {"train": train, "judge": judge}

    def stale(self, run, known, now):
        """Names of inputs that changed since a row was made. `known`, `now`: inputs then and now."""
        changed = inputs.differences(known, now, self._spared)
        # Another program may have retrained a LoRA of the row; the row's pictures have the old one.
        worn = {name: known["train"].get(name) for name in run.row.parents}
        trained = trained_from(run, worn)
        return changed or [f"the training of {name}" for name in worn if worn[name] != trained[name]]

    def make(self, run, rows):
        """Makes a row unless it exists. Returns whether anything was done.

        Raises Stopped, or Failed with the reason.
        """
        if self.programs.stopping:
            raise Stopped  # before any file of an existing row is removed
        try:
            now = self.inputs_of(run, rows)
        except OSError as error:
            raise Failed(f"cannot read {error.filename}: {error.strerror}") from None
        known = run.read()
        if known and not (stale := self.stale(run, known["inputs"], now)):
            return False
        if known:
            self.say(f"{run.key}: made again, because {', '.join(stale)} changed")
        own = {name: made_from for name, made_from in now["train"].items() if name == run.row.name}
        record = self._train(run, own) if own else {"spans": [], "seconds": 0.0}
        spans, figures = self._judge(run, now["judge"]["program"])
        judge_seconds = sum(end - start for start, end in spans)
        inputs.write_json(
            run.result,
            {
                "format": FORMAT,
                "row": run.row.name,
                "seed": run.seed,
                "inputs": {**now, "train": trained_from(run, now["train"])},
                "train_seconds": record["seconds"],
                "judge_seconds": judge_seconds,
                "spans": record["spans"] + spans,
                "jobs": self.jobs,
                "machine": machine(),
                "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
                **self._of_run(run),
                **figures,
            },
        )
        return True

    def _train(self, run, now):
        """Trains, or continues a stopped training. Returns its record."""
        record = inputs.read_json(run.training)
        # A run is never trained by two programs in turn.
        spared = self._spared if record and record["finished"] else ()
        if not record or inputs.differences(record["inputs"], now, spared) or not run.folder.is_dir():
            # The folder of another recipe or program is of no use.
            shutil.rmtree(run.folder, ignore_errors=True)
            record = {"inputs": now, "spans": [], "seconds": 0.0, "finished": False}
            inputs.write_json(run.training, record)
        if record["finished"]:
            return record
        settings = [*run.row.sets, f"train.seed={run.seed}", "train.threads=1", f"train.out={run.folder.as_posix()}"]
        sets = [part for setting in settings for part in ("--set", setting)]
        command = [str(self.program), "train", str(self.recipe(run.row.recipe)), *sets, "--resume=auto"]
        start = time.time()
        try:
            self.programs.run(command, run.log)
            record["finished"] = True
        finally:
            end = time.time()
            record["spans"].append([start, end])
            record["seconds"] += end - start
            inputs.write_json(run.training, record)
        return record

    def _judge(self, run, program):
        """Paints and judges. Returns the time span and the figures."""
        evaluation = run.folder / "eval"
        # One folder for all rows of a program: the base model's pictures are found there and not painted again, and the
        # model's are held against pictures that the same program painted.
        pictures = self.table / "pictures" / program[:12]
        pictures.mkdir(parents=True, exist_ok=True)
        link_to(pictures, evaluation / "pictures")
        if not self.prompts.is_file() or self.prompts.read_text(encoding="utf-8") != self.prompts_text:
            inputs.write_whole(self.prompts, self.prompts_text)
        command = [str(self.program), "eval", *models_of(run), "--out", str(evaluation), "--prompts", str(self.prompts)]
        command += [part for scorer in SCORERS for part in ("--scorer", scorer)]
        command += ["--guidance-scale", GUIDANCE, "--steps", str(STEPS), "--seeds", str(SEEDS)]
        with contextlib.nullcontext() if self._base_is_painted else self._base:
            span = self._timed(command, run.log)
            self._base_is_painted = True
        try:
            return [span], of_evaluation(evaluation, [row["prompt"] for row in self.names], SEEDS)
        except (OSError, ValueError, KeyError) as error:
            raise Failed(str(error)) from None

    def _timed(self, command, log):
        start = time.time()
        self.programs.run(command, log)
        return [start, time.time()]

    def _of_run(self, run):
        """Figures of the training; none for a row that trains nothing."""
        if not run.row.recipe:
            return {}
        try:
            with (run.folder / "metrics.jsonl").open(encoding="utf-8") as lines:
                figures = of_metrics(lines)
            values, _ = inputs.scalars((run.folder / "resolved.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Failed(f"{run.folder} is not a whole run ({error}); remove it to train it again") from None
        items = values.get(("train", "micro_batch"), 1) * values.get(("train", "grad_accum"), 1)
        environment = inputs.read_json(run.folder / "environment.json") or {}
        versions = {key: environment.get(key) for key in ("diffpref", "libtorch", "device")}
        return {**figures, "items_per_step": items, "versions": versions}


def trained_from(run, names):
    """{row: inputs of its training, with the program that made it}; `names` where no training is recorded."""
    records = {name: inputs.read_json(run.training_of(name)) for name in names}
    return {name: record["inputs"][name] if record else names[name] for name, record in records.items()}


def models_of(run):
    """Models of a row as arguments of `diffpref eval`: the base first, then the row's.

    A negative model is merged as NPO publishes it, 1,1: what the positive side learnt acts on the negative side too.
    """
    row = run.row
    if not row.negative:
        return ["--run", str(run.folder)]
    positive = f"+{run.of(row.positive) / LORA}" if row.positive else ""
    models = ["--model", f"before={MODEL}", "--model", f"after={MODEL}{positive}"]
    return [*models, "--negative-lora", f"after={run.of(row.negative) / LORA}", "--negative-merge", "after=1,1"]
