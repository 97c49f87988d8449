"""What makes a row stale."""

import json
import os
import tempfile
import unittest
from pathlib import Path

from methods_table.inputs import Hashes, differences, of_training, read_json, scalars, write_json


class Toml(unittest.TestCase):
    def test_texts_and_numbers_are_read_by_section_and_the_rest_is_named(self):
        text = 'top = true\n# no\n[data]\npath = "a#b.jsonl" # why\nlit = \'c\\d\'\n"quoted+key" = 1_000\n[optim]\nlr = 1e-3\nbetas = [0.9, 0.999]\n'
        values, skipped = scalars(text)
        expected = {("", "top"): True, ("data", "path"): "a#b.jsonl", ("data", "lit"): "c\\d"}
        self.assertEqual(values, {**expected, ("data", "quoted+key"): 1000, ("optim", "lr"): 1e-3})
        self.assertEqual(skipped, ["betas = [0.9, 0.999]"])


class Staleness(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.write("model/config.json", "{}")
        self.write("data/a.png", "A")
        self.write("data/unused.png", "U")
        self.write("data/pairs.jsonl", json.dumps({"prompt": "fox", "winner": "a.png", "images": ["a.png"]}) + "\n")
        self.write("runs/out.txt", "written by the run")
        out = f'[train]\nout = "{self.folder}/runs"\n'
        model = f'[model]\npath = "{self.folder}/model"\n'
        self.write("dpo-demo.toml", f'{model}[data]\npath = "{self.folder}/data/pairs.jsonl"\n{out}')
        self.before = self.inputs()

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def inputs(self, sets=(), seed=0, program="p1"):
        return of_training(self.folder / "dpo-demo.toml", sets, seed, program, Hashes())

    def changed(self, **options):
        return [os.path.basename(name) for name in differences(self.before, self.inputs(**options))]

    def test_nothing_changed_nothing_stale(self):
        self.assertEqual(self.changed(), [])

    def test_a_changed_recipe_is_named(self):
        self.write("dpo-demo.toml", (self.folder / "dpo-demo.toml").read_text() + "seed = 1\n")
        self.assertEqual(self.changed(), ["dpo-demo.toml"])

    def test_a_changed_picture_of_the_data_and_a_changed_file_of_the_model_are_named(self):
        self.write("data/a.png", "B")
        self.write("model/config.json", "{ }")
        self.assertEqual(self.changed(), ["pairs.jsonl", "model"])

    def test_a_file_that_no_row_names_and_what_the_run_writes_change_nothing(self):
        self.write("data/unused.png", "V")
        self.write("runs/out.txt", "more")
        self.assertEqual(self.changed(), [])

    def test_overrides_and_seed_count_and_the_program_unless_it_is_spared(self):
        self.assertEqual(self.changed(sets=("safeguard.name=sdpo",)), ["--set"])
        self.assertEqual(self.changed(seed=1), ["seed"])
        self.assertEqual(self.changed(program="p2"), ["program"])
        now = {"train": {"dpo": self.inputs(seed=1, program="p2")}}
        self.assertEqual(differences({"train": {"dpo": self.before}}, now, ("program",)), ["seed"])

    def test_inputs_survive_being_written_and_read(self):
        write_json(self.folder / "row.json", self.inputs(sets=("a=1",)))
        self.assertEqual(differences(read_json(self.folder / "row.json"), self.inputs(sets=("a=1",))), [])

    def test_differences_name_what_is_new_and_what_is_gone_once(self):
        old, new = {"train": {"x": 1, "y": 1}, "judge": {"y": 1}}, {"train": {"y": 2, "z": 1}, "judge": {"y": 2}}
        self.assertEqual(sorted(differences(old, new)), ["x", "y", "z"])

    def test_a_broken_file_counts_as_missing(self):
        self.write("row.json", "{")
        self.assertIsNone(read_json(self.folder / "row.json"))
        self.assertIsNone(read_json(self.folder / "none.json"))
