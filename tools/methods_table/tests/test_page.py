"""The page, the rows it has, and the notes it keeps."""

import tempfile
import unittest
from pathlib import Path

from methods_table import notes
from methods_table.kept import Page as Before
from methods_table.page import render, table, wrapped
from methods_table.rows import GROUPS, OTHERS, SAMPLING, all_rows, chosen
from methods_table.summary import Summary

def of_names(best_third, content=1.0):
    """Figures of eight names that are all alike."""
    figures = {"best_third": best_third, "darkness": best_third, "content": content, "distance": 0.1}
    return {measure: [value] * 8 for measure, value in figures.items()}


BASE = of_names(0.5)


def result(name, best_third, content=1.0, seed=0, base=BASE):
    model = {**of_names(best_third, content), "distance": [0.12] * 8}
    return {
        "row": name, "seed": seed, "figures": {"base": base, "model": model},
        "settings": {"steps": 15}, "warnings": [], "jobs": 2, "machine": f"machine {seed}",
        "inputs": {"train": {}, "judge": {"program": "abcdef0123456789"}}, "made": f"2025-01-0{seed + 1} 10:00 UTC",
        "versions": {"diffpref": "0.1.0", "libtorch": "2.11.0"}, "spans": [[seed * 1800, seed * 1800 + 3600]],
        "train_seconds": 60.0 + seed, "judge_seconds": 40.0, "steps": 125, "items_per_step": 8, "val_gap_w": 1e-3 * seed,
        "val_gap_l": 2e-3, "s_per_step": 0.4, "peak_mem_gib": 0.3 + seed,
    }


def page_of(results, failed=None, stale=None, said=None, before=""):
    """The page of all rows; `results`: {row: [result]}; `before`: the page that was there."""
    summaries = []
    for row in all_rows([]):
        there = results.get(row.name, [])
        missing = tuple(seed for seed in row.seeds if seed not in [r["seed"] for r in there])
        summaries.append(Summary(row, there, missing, (failed or {}).get(row.name, {})))
    return render(summaries, stale or {}, said or {}, 32, Before(before))


def line(page, title):
    return next([cell.strip() for cell in text.strip("|").split(" | ")] for text in page.splitlines() if text.startswith(f"| {title} |"))


class Page(unittest.TestCase):
    def test_lines_of_prose_are_wrapped_and_read_back_as_they_were(self):
        page = page_of({"dpo": [result("dpo", 0.6)]})
        lines = [text for text in wrapped(page).splitlines() if not text.startswith(("|", "    "))]
        self.assertLessEqual(max(map(len, lines)), 120)
        self.assertEqual(Before(wrapped(page)).conditions(), Before(page).conditions())

    def test_every_row_that_was_not_run_says_so(self):
        page = page_of({})
        self.assertEqual(page.count("| not run |"), sum(map(len, GROUPS.values())))
        self.assertIn("No row has been run yet", page)

    def test_seeds_are_pooled_and_the_missing_ones_counted(self):
        cells = line(page_of({"dpo": [result("dpo", 0.6), result("dpo", 0.8, seed=1)]}), "dpo")
        self.assertEqual(cells[1:5], ["2 of 3", "70 [70, 70]", "+20.0 [+20.0, +20.0]", "+20.0 [+20.0, +20.0]"])
        self.assertEqual(cells[5:8], ["100 [100, 100]", "+0.0 [+0.0, +0.0]", "+20.0 [+20.0, +20.0]"])
        self.assertEqual(cells[8:], ["0.50", "2.00", "125 x 8", "0.400", "1.30", "60", "helps"])

    def test_seeds_are_also_shown_one_by_one(self):
        page = page_of({"dpo": [result("dpo", 0.6), result("dpo", 0.8, 0.9, seed=1)]})
        self.assertIn("| dpo | 0, 1 | +10.0, +30.0 | +0.0, -10.0 |", page)

    def test_the_base_model_stands_first_in_every_group(self):
        page = page_of({"kto": [result("kto", 0.6)]})
        self.assertEqual(page.count("| base model |"), len(GROUPS))
        self.assertEqual(line(page, "base model")[2], "50 [50, 50]")

    def test_a_negative_model_is_shown_with_and_without(self):
        results = {"dpo": [result("dpo", 0.6)], "npo": [result("npo", 0.75)], "dpo-npo": [result("dpo-npo", 0.5)]}
        page = page_of(results)
        self.assertIn("| base guided against npo | base model | +25.0 [+25.0, +25.0] |", page)
        self.assertIn("| dpo guided against npo | dpo | -10.0 [-10.0, -10.0] | +0.0 [+0.0, +0.0] | teaches the opposite |", page)

    def test_a_failed_row_says_why_and_a_stale_one_what_changed(self):
        results = {name: [result(name, 0.6)] for name in ("dpo", "sft", "ipo")}
        stale = {"sft": ["program"], "dpo": ["program"], "ipo": ["configs/ipo-demo.toml", "program"]}
        page = page_of(results, failed={"kto": {0: "error: no labels"}}, stale=stale)
        self.assertEqual(line(page, "kto")[-1], "failed")
        self.assertIn("* **kto**, seed 0: failed. error: no labels", page)
        self.assertEqual(line(page, "dpo")[-1], "helps (stale)")
        self.assertIn("* Stale, since program changed after they were made: sft, dpo\n", page)
        self.assertIn("* Stale, since configs/ipo-demo.toml, program changed after they were made: ipo\n", page)

    def test_a_bar_in_a_cell_does_not_break_the_table(self):
        self.assertEqual(table(["a"], [["x | y\nz"]]), "| a |\n| --- |\n| x \\| y z |\n")

    def test_hand_written_reasons_are_kept(self):
        page = page_of({"sft": [result("sft", 0.5)]}, said={"sft": "Nothing says what is worse."})
        self.assertEqual(line(page, "sft")[-1], "no difference")
        self.assertIn("* **sft**: Nothing says what is worse.", page)

    def test_a_row_with_another_base_is_named_and_compared_with_its_own(self):
        other = of_names(0.25)
        results = {"dpo": [result("dpo", 0.6)], "kto": [result("kto", 0.6, base=other)]}
        for stale, odd, base in (({}, "kto", "50 [50, 50]"), ({"dpo": ["assets/testbed/names.jsonl"]}, "dpo", "25 [25, 25]")):
            page = page_of(results, stale=stale)
            self.assertRegex(page, rf"of the base model than the rest, hence not comparable with it: {odd}\n")
            self.assertEqual(line(page, "kto")[3], "+35.0 [+35.0, +35.0]")
            self.assertEqual(line(page, "base model")[2], base)

    def test_the_power_is_the_median_half_width_of_rows_of_one_seed(self):
        wide = result("kto", 0.6)
        wide["figures"] = {"base": BASE, "model": {**wide["figures"]["model"], "best_third": [0.5, 0.7] * 4}}
        page = page_of({"kto": [wide], "dpo": [result("dpo", 0.6), result("dpo", 0.8, seed=1)]})
        # Eight names, half of them 0.2 above the rest: quantiles of means of eight draws.
        self.assertIn("is 7.5 points of the best third and 0.0 of content", page)
        self.assertIn("no row of one training seed has been run yet", page_of({}))

    def test_time_on_the_clock_and_work_are_told_apart(self):
        page = page_of({"dpo": [result("dpo", 0.6), result("dpo", 0.8, seed=1)]})
        self.assertIn("2 runs (a row and a seed each) took 1.50 hours on the clock, 0.06 hours of work.", page)

    def test_the_machines_are_those_that_made_the_rows(self):
        page = page_of({"dpo": [result("dpo", 0.6), result("dpo", 0.8, seed=1)]})
        self.assertIn("* machine 0; machine 1.\n", page)

    def test_the_programs_are_listed_with_the_number_of_runs_that_they_made(self):
        def made(name, trained, judged, seed=0):
            inputs = {"train": {name: {"program": trained * 16}}, "judge": {"program": judged * 16}}
            return {**result(name, 0.6, seed=seed), "inputs": inputs}

        worn = {key: value for key, value in made("dpo-npo", "a", "c").items() if key != "versions"}
        worn["inputs"]["train"] = {"dpo": {"program": "a" * 16}}
        results = {"dpo": [made("dpo", "a", "a"), made("dpo", "a", "a", 1)], "sft": [made("sft", "a", "b")], "dpo-npo": [worn]}
        page = page_of(results)
        self.assertIn("* 2 runs by program aaaaaaaaaaaa (SHA-256): diffpref 0.1.0, libtorch 2.11.0.\n", page)
        self.assertIn("* 1 run by program aaaaaaaaaaaa (SHA-256): diffpref 0.1.0, libtorch 2.11.0; judged by another, bbbbbbbbbbbb.\n", page)
        self.assertIn("* 1 run by program cccccccccccc (SHA-256).\n", page)

    def test_a_row_that_trains_nothing_has_no_training_figures(self):
        bare = {key: value for key, value in result("dpo-npo", 0.6).items() if key not in ("steps", "versions", "s_per_step", "val_gap_w")}
        cells = line(page_of({"dpo-npo": [bare]}), "dpo guided against npo")
        self.assertEqual((cells[10], cells[11], cells[13]), ("", "", ""))


class HeldOutRewards(unittest.TestCase):
    CURVE = [
        {"step": 9, "reward": [0.1, -0.2, 0.4], "watched": {"flatness": [0.2, 0.1, 0.3], "content": [-0.1, -0.2, 0.0]}},
        {"step": 18, "reward": [0.3, 0.1, 0.5], "watched": {"flatness": [0.4, 0.3, 0.5], "content": [-0.3, -0.4, -0.2]}},
    ]

    def page(self, curve, before=""):
        run = {**result("dpo", 0.6), "held_out": curve, "network_evaluations": 23040}
        return page_of({"dpo": [run]} if curve else {}, before=before)

    def test_a_curve_is_shown_with_its_end_and_its_cost(self):
        cells = line(self.page(self.CURVE), "dpo, seed 0")
        watched = "content -0.300 [-0.400, -0.200], flatness +0.400 [+0.300, +0.500]"
        self.assertEqual(cells[1:], ["23040", "9: +0.100, 18: +0.300", "+0.300 [+0.100, +0.500]", watched, "rises"])
        self.assertEqual(line(self.page(self.CURVE[:1]), "dpo, seed 0")[-1], "no difference")
        falling = [{**self.CURVE[0], "reward": [-0.3, -0.5, -0.1]}]
        self.assertEqual(line(self.page(falling), "dpo, seed 0")[-1], "falls")

    def test_a_run_that_held_nothing_out_has_no_line(self):
        self.assertNotIn("Reward on held-out prompts", page_of({"dpo": [result("dpo", 0.6)]}))

    def test_it_is_kept_with_its_row(self):
        before = self.page(self.CURVE)
        self.assertEqual(line(self.page(None, before), "dpo, seed 0"), line(before, "dpo, seed 0"))


class RowsOfAnotherMachine(unittest.TestCase):
    RESULTS = {
        "dpo": [result("dpo", 0.6), result("dpo", 0.8, seed=1)],
        "npo": [result("npo", 0.75)],
        "kto": [result("kto", 0.6)],
    }

    def test_are_kept_as_they_were_and_named(self):
        before = page_of(self.RESULTS)
        page = page_of({"sft": [result("sft", 0.9)]}, before=before)
        for title in ("dpo", "base guided against npo", "kto", "base model"):
            self.assertEqual(line(page, title), line(before, title))
        self.assertEqual(line(page, "sft")[3], "+40.0 [+40.0, +40.0]")
        self.assertIn("| dpo | 0, 1 | +10.0, +30.0 | +0.0, +0.0 |", page)
        self.assertIn("| base guided against npo | base model | +25.0 [+25.0, +25.0] |", page)
        self.assertIn("because their files are on another machine: dpo, base guided against npo, kto. Conditions", page)
        self.assertIn("* 4 runs (a row and a seed each) took", page)
        self.assertIn("* 1 run (a row and a seed each) took", page)

    def test_stay_the_same_however_often_the_page_is_written(self):
        once = page_of({}, before=page_of(self.RESULTS))
        self.assertEqual(page_of({}, before=once), once)

    def test_give_way_to_rows_that_are_there_or_failed(self):
        before = page_of(self.RESULTS)
        page = page_of({"dpo": [result("dpo", 0.55)]}, failed={"kto": {0: "error: no labels"}}, before=before)
        self.assertEqual(line(page, "dpo")[1:4], ["1 of 3", "55 [55, 55]", "+5.0 [+5.0, +5.0]"])
        self.assertNotIn("| dpo | 0, 1 |", page)
        self.assertEqual(line(page, "kto")[-1], "failed")

    def test_a_whole_table_keeps_nothing(self):
        page = page_of(self.RESULTS, before=page_of(self.RESULTS))
        self.assertEqual(page, page_of(self.RESULTS))

    def test_of_other_columns_are_not_kept(self):
        before = "### Core methods\n\n| row | seeds |\n| --- | --- |\n| dpo | 3 |\n"
        self.assertEqual(page_of({}, before=before), page_of({}))


class Rows(unittest.TestCase):
    def test_a_recipe_of_no_group_is_a_row_of_its_own_group(self):
        rows = all_rows(["dpo", "novel"])
        self.assertEqual([(row.name, row.group) for row in rows if row.name in ("novel", "dpo")][-1], ("novel", OTHERS))
        self.assertEqual(sum(row.name == "dpo" for row in rows), 1)

    def test_dpo_has_three_seeds_most_others_one(self):
        seeds = {row.name: row.seeds for row in all_rows([])}
        self.assertEqual((seeds["dpo"], seeds["ipo"]), ((0, 1, 2), (0,)))

    def test_pairs_of_samples_are_an_override_of_dpo(self):
        row = next(row for row in all_rows([]) if row.name == "dpo-samples")
        self.assertEqual((row.recipe, row.sets), ("dpo", ("data.path=assets/testbed/pairs-samples.jsonl",)))

    def test_methods_that_sample_have_rows_when_they_have_recipes(self):
        self.assertNotIn(SAMPLING, {row.group for row in all_rows([])})
        rows = {row.name: row for row in all_rows(["self_npo", "ddpo", "novel", "d3po"])}
        self.assertEqual([row.name for row in rows.values() if row.group == SAMPLING], ["d3po", "ddpo", "self_npo"])
        self.assertEqual((rows["ddpo"].seeds, rows["d3po"].seeds), ((0, 1, 2), (0,)))
        self.assertEqual((rows["self_npo"].negative, rows["self_npo"].title), ("self_npo", "base guided against self_npo"))
        self.assertEqual(rows["d3po"].negative, "")

    def test_what_a_chosen_row_wears_is_chosen_too(self):
        self.assertEqual([row.name for row in chosen(all_rows([]), ["dpo-npo"])], ["dpo", "npo", "dpo-npo"])

    def test_an_unknown_row_is_refused_with_the_nearest_name(self):
        with self.assertRaisesRegex(ValueError, "--only inop: there is no such row; did you mean inpo?"):
            chosen(all_rows([]), ["inop"])


class Notes(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table-notes.toml"
            path.write_text(text)
            return notes.read(path, ["dpo", "dpo-safeguard"])

    def test_a_line_is_a_row_and_its_reason(self):
        self.assertEqual(self.read('# why\ndpo-safeguard = "It clips."\n'), {"dpo-safeguard": "It clips."})
        self.assertEqual(notes.read(Path("/nowhere/table-notes.toml"), []), {})

    def test_what_would_vanish_is_refused(self):
        with self.assertRaisesRegex(ValueError, "there is no row 'dop'; did you mean dpo?"):
            self.read('dop = "x"\n')
        with self.assertRaisesRegex(ValueError, "not understood: 'dpo = x y'"):
            self.read("dpo = x y\n")
