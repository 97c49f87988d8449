"""Rows are made, kept, continued and made again, around a stand-in for diffpref."""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from methods_table import inputs, schedule
from methods_table.programs import Failed, Programs, Stopped
from methods_table.rows import all_rows
from methods_table.work import Run, Workshop

STAND_IN = Path(__file__).with_name("stand_in.py")
ROWS = {row.name: row for row in all_rows([])}


class Table(unittest.TestCase):
    def setUp(self):
        folder, home = tempfile.TemporaryDirectory(), os.getcwd()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, home)
        os.chdir(folder.name)
        for path in ("assets/testbed/model/config.json", "assets/testbed/drawings/noto.webp"):
            Path(path).parent.mkdir(parents=True)
            Path(path).write_text(path)
        rows = [{"prompt": "fox", "held_out": True}, {"prompt": "owl", "held_out": False}, {"prompt": "bat", "held_out": True}]
        Path("assets/testbed/names.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        Path("configs").mkdir()
        for name in ("sft", "dpo", "npo"):
            self.recipe(name, "# as it was\n")
        Path("diffpref").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        Path("diffpref").chmod(0o755)
        self.programs, self.said = Programs(), []

    def recipe(self, name, text):
        Path(f"configs/{name}-demo.toml").write_text(text)

    def workshop(self, jobs=1, remake_older=False):
        program = Path("./diffpref").absolute()
        return Workshop(program, Path("configs"), Path("runs/table"), jobs, self.programs, self.said.append, remake_older)

    def make(self, *names, jobs=1, remake_older=False):
        """Makes rows of seed 0 as a new call of the tool does. Returns those that failed."""
        table, workshop = Path("runs/table"), self.workshop(jobs, remake_older)
        runs = [Run(ROWS[name], 0, table) for name in names]
        return schedule.make_all(workshop, runs, ROWS, jobs)

    def another_program(self):
        """Puts another version in its place. Returns the SHA-256 of the one before and of this one."""
        before = inputs.Hashes().of_file("diffpref")
        with Path("diffpref").open("a") as program:
            program.write("# another version\n")
        return before, inputs.Hashes().of_file("diffpref")

    def calls(self):
        """What was called since the last time, as `train sft` and the like."""
        path = Path("calls")
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def kinds(self):
        return [call.split()[0] for call in self.calls()]

    def row(self, name):
        return inputs.read_json(f"runs/table/{name}-seed0/row.json")

    def test_a_row_is_trained_judged_and_kept(self):
        self.assertEqual(self.make("sft"), {})
        row = self.row("sft")
        self.assertEqual((row["steps"], row["items_per_step"], row["s_per_step"], row["val_gap_w"]), (4, 16, 0.5, 0.001))
        self.assertEqual(row["figures"]["base"]["best_third"], [0.0, 0.0])
        self.assertEqual(row["figures"]["model"]["best_third"], [1.0, 1.0])
        train, evaluation = self.calls()
        self.assertIn("train.seed=0 --set train.threads=1 --set train.out=runs/table/sft-seed0 --resume=auto", train)
        self.assertIn("eval --run runs/table/sft-seed0 --out runs/table/sft-seed0/eval", evaluation)
        self.assertIn("--guidance-scale 4 --steps 10 --seeds 8", evaluation)
        self.make("sft")
        self.assertEqual(self.calls(), [])

    def test_only_held_out_names_are_painted_and_the_pictures_are_shared(self):
        self.make("sft", "dpo")
        lines = Path("runs/table/held-out.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line)["prompt"] for line in lines], ["fox", "bat"])
        self.assertIn("--scorer background --scorer nearest_drawing=assets/testbed", self.calls()[1])
        self.assertEqual({path.parent.name for path in Path("runs/table/pictures").glob("*/*/index*")}, {"before", "after"})

    def test_a_changed_recipe_is_trained_anew_in_an_empty_folder_and_others_are_left(self):
        self.make("sft", "dpo")
        Path("runs/table/sft-seed0/old").write_text("")
        self.calls()
        self.recipe("sft", "# changed\n")
        self.make("sft", "dpo")
        self.assertEqual(self.kinds(), ["train", "eval"])
        self.assertFalse(Path("runs/table/sft-seed0/old").exists())
        self.assertIn("sft-seed0: made again, because configs/sft-demo.toml changed", self.said)

    def test_changed_drawings_judge_anew_without_training(self):
        self.make("sft")
        self.calls()
        Path("assets/testbed/drawings/noto.webp").write_text("another")
        self.make("sft")
        self.assertEqual(self.kinds(), ["eval"])

    def test_another_program_leaves_a_row_as_it_is_with_the_program_that_made_it(self):
        self.make("sft")
        self.calls()
        before, _ = self.another_program()
        self.make("sft")
        self.assertEqual(self.kinds(), [])
        self.assertEqual(self.row("sft")["inputs"]["judge"]["program"], before)

    def test_a_row_of_another_program_is_made_anew_where_that_is_asked_for(self):
        self.make("sft")
        self.calls()
        _, now = self.another_program()
        self.make("sft", remake_older=True)
        self.assertEqual(self.kinds(), ["train", "eval"])
        self.assertIn("sft-seed0: made again, because program changed", self.said)
        row = self.row("sft")["inputs"]
        self.assertEqual((row["train"]["sft"]["program"], row["judge"]["program"]), (now, now))
        self.make("sft", remake_older=True)
        self.assertEqual(self.kinds(), [])

    def test_what_one_program_trained_and_another_judged_names_both(self):
        self.make("sft")
        self.calls()
        before, now = self.another_program()
        Path("assets/testbed/drawings/noto.webp").write_text("another")
        self.make("sft")
        self.assertEqual(self.kinds(), ["eval"])
        row = self.row("sft")["inputs"]
        self.assertEqual((row["train"]["sft"]["program"], row["judge"]["program"]), (before, now))

    def test_a_model_is_held_against_a_base_that_the_same_program_painted(self):
        self.make("sft")
        before, now = self.another_program()
        self.make("dpo")
        for program in (before, now):
            self.assertTrue(Path(f"runs/table/pictures/{program[:12]}/before").is_dir())
        self.make("sft", remake_older=True)
        self.assertEqual(Path("runs/table/sft-seed0/eval/pictures").resolve().name, now[:12])

    def test_a_row_whose_worn_lora_another_program_made_anew_is_judged_anew(self):
        self.make("dpo-npo", "dpo", "npo")
        self.calls()
        _, now = self.another_program()
        self.make("dpo", remake_older=True)
        self.calls()
        self.make("dpo-npo", "dpo", "npo")
        self.assertEqual(self.kinds(), ["eval"])
        self.assertIn("dpo-npo-seed0: made again, because the training of dpo changed", self.said)
        self.assertEqual(self.row("dpo-npo")["inputs"]["train"]["dpo"]["program"], now)
        self.assertNotEqual(self.row("dpo-npo")["inputs"]["train"]["npo"]["program"], now)
        self.make("dpo-npo", "dpo", "npo")
        self.assertEqual(self.kinds(), [])

    def test_without_a_program_rows_are_still_told_stale_from_not(self):
        self.make("sft", "dpo")
        Path("diffpref").unlink()
        self.recipe("dpo", "# changed\n")
        workshop = self.workshop()
        for name, expected in (("sft", []), ("dpo", ["configs/dpo-demo.toml"])):
            run = Run(ROWS[name], 0, Path("runs/table"))
            self.assertEqual(workshop.stale(run, run.read()["inputs"], workshop.inputs_of(run, ROWS)), expected)

    def test_a_row_of_another_version_of_this_tool_is_judged_anew(self):
        self.make("sft")
        self.calls()
        inputs.write_json("runs/table/sft-seed0/row.json", {**self.row("sft"), "format": 0})
        self.make("sft")
        self.assertEqual(self.kinds(), ["eval"])

    def test_a_removed_run_is_made_anew(self):
        self.make("sft")
        self.calls()
        shutil.rmtree("runs/table/sft-seed0")
        self.make("sft")
        self.assertEqual(self.kinds(), ["train", "eval"])

    def test_one_that_fails_says_why_and_the_others_go_on(self):
        self.recipe("dpo", "# fail\n")
        failed = self.make("dpo", "sft", "npo", "dpo-npo")
        self.assertEqual(set(failed), {"dpo-seed0", "dpo-npo-seed0"})
        self.assertIn("ended with 1: Error: the loss is not finite at step 2", failed["dpo-seed0"])
        self.assertEqual(failed["dpo-npo-seed0"], "needs dpo-seed0, which failed")
        self.assertIsNone(self.row("dpo"))
        self.assertIsNotNone(self.row("sft"))

    def test_a_negative_model_guides_the_base_and_the_trained_model(self):
        self.make("dpo-npo", "dpo", "npo")
        evaluations = [call for call in self.calls() if call.startswith("eval --model")]
        lora = "final/pytorch_lora_weights.safetensors"
        negative = f"--negative-lora after=runs/table/npo-seed0/{lora} --negative-merge after=1,1"
        self.assertIn(f"--model before=assets/testbed/model --model after=assets/testbed/model {negative}", evaluations[0])
        self.assertIn(f"--model after=assets/testbed/model+runs/table/dpo-seed0/{lora} {negative}", evaluations[1])
        self.assertNotIn("steps", self.row("dpo-npo"))
        self.recipe("dpo", "# changed\n")
        self.make("dpo-npo", "dpo", "npo")
        self.assertEqual(sorted(self.kinds()), ["eval", "eval", "train"])

    def test_a_signal_stops_all_that_runs_and_the_next_call_goes_on_with_it(self):
        self.recipe("sft", "# wait\n")
        self.recipe("dpo", "# wait\n")
        threading.Thread(target=self.stop_when_running).start()
        with self.assertRaises(Stopped):
            self.make("sft", "dpo", "npo", jobs=2)
        self.assertIsNone(self.row("sft"))
        # The run was stopped, not its recipe changed: what it left is gone on with, and its time counts.
        Path("runs/table/sft-seed0/checkpoint").write_text("")
        first = inputs.read_json("runs/table/sft-seed0.training.json")
        self.programs, _ = Programs(), self.calls()
        self.assertEqual(len(first["spans"]), 1)
        threading.Thread(target=self.stop_when_running).start()
        with self.assertRaises(Stopped):
            self.make("sft", "dpo", jobs=2)
        self.assertTrue(Path("runs/table/sft-seed0/checkpoint").exists())
        again = inputs.read_json("runs/table/sft-seed0.training.json")
        self.assertEqual((len(again["spans"]), again["spans"][0]), (2, first["spans"][0]))
        self.assertGreater(again["seconds"], first["seconds"])
        # Another program does not continue the work of this one.
        self.another_program()
        self.programs, _ = Programs(), self.calls()
        threading.Thread(target=self.stop_when_running).start()
        with self.assertRaises(Stopped):
            self.make("sft", "dpo", jobs=2)
        self.assertFalse(Path("runs/table/sft-seed0/checkpoint").exists())

    def test_a_signal_leaves_older_rows_that_were_still_to_be_made_anew(self):
        self.make("dpo")
        row = self.row("dpo")
        self.another_program()
        self.recipe("sft", "# wait\n")
        self.recipe("npo", "# wait\n")
        self.calls()
        threading.Thread(target=self.stop_when_running).start()
        with self.assertRaises(Stopped):
            self.make("sft", "npo", "dpo", jobs=2, remake_older=True)
        self.assertEqual(self.row("dpo"), row)

    def stop_when_running(self):
        end = time.time() + 30
        while time.time() < end and len(Path("calls").read_text().splitlines() if Path("calls").exists() else []) < 2:
            time.sleep(0.01)
        self.programs.stop(2)

    def test_a_program_that_is_missing_is_named(self):
        with self.assertRaisesRegex(Failed, "cannot start ./nowhere: No such file or directory; `make release` builds it"):
            self.programs.run(["./nowhere"], Path("log"))
