"""Intervals, verdicts, and figures from scores and metrics."""

import json
import tempfile
import unittest
from pathlib import Path

from methods_table.figures import (
    Interval, bootstrap, clock_seconds, minus, of_evaluation, of_metrics, pooled, split_mix, verdict,
)


def between(lo, hi):
    return Interval((lo + hi) / 2, lo, hi)


class Intervals(unittest.TestCase):
    def test_the_generator_is_the_published_one(self):
        # The first outputs of splitmix64.c (Vigna) from state 1234567.
        draw = split_mix(1234567)
        self.assertEqual([next(draw) for _ in range(3)], [6457827717110365317, 3203168211198807973, 9817491932198370423])

    def test_an_interval_has_the_width_of_the_standard_error(self):
        values = [1.0] * 16 + [0.0] * 16
        interval = bootstrap(values)
        self.assertEqual(interval.mean, 0.5)
        # 1.96 sqrt(p (1 - p) / n) = 0.173; quantiles of 32 names move in steps of 1 / 32.
        self.assertAlmostEqual(interval.lo, 0.5 - 0.173, delta=1 / 32)
        self.assertAlmostEqual(interval.hi, 0.5 + 0.173, delta=1 / 32)

    def test_a_difference_is_paired_by_name(self):
        base = [index / 32 for index in range(32)]
        shifted = [value + 0.1 for value in base]
        interval = bootstrap(minus(shifted, base))
        self.assertAlmostEqual(interval.lo, 0.1)
        self.assertAlmostEqual(interval.hi, 0.1)

    def test_seeds_are_pooled_name_by_name(self):
        self.assertEqual(pooled([[0.0, 1.0], [1.0, 1.0]]), [0.5, 1.0])

    def test_no_name_has_no_interval(self):
        with self.assertRaisesRegex(ValueError, "no name to measure"):
            bootstrap([])


class Verdicts(unittest.TestCase):
    def test_only_an_interval_wholly_on_one_side_of_zero_counts(self):
        up, down, unclear = between(0.01, 0.1), between(-0.1, -0.01), between(-0.1, 0.1)
        cases = {
            (up, unclear): "helps",
            (up, up): "helps",
            (up, down): "helps, but costs content",
            (unclear, down): "costs content",
            (down, unclear): "teaches the opposite",
            (down, down): "teaches the opposite, and costs content",
            (unclear, unclear): "no difference",
            (unclear, up): "no difference",
            (between(0.0, 0.1), between(-0.1, 0.0)): "no difference",
        }
        for (best_third, content), expected in cases.items():
            self.assertEqual(verdict(best_third, content), expected)


class Evaluations(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def evaluate(self, measure="darkness"):
        """Two names with two pictures each. The base model's darkest third starts at 0.6."""
        darkness = {"fox": (0.6, 0.5), "owl": (0.7, 0.9)}
        nearest = {"content_accuracy": 1.0, "off_manifold": 0.25}
        rows = [
            {"model": model, "prompt": name, "seed": seed, "scores": {
                "background": {"darkness": value if model == "after" else 0.5}, "nearest_drawing": nearest,
            }}
            for model in ("before", "after") for name in darkness for seed, value in enumerate(darkness[name])
        ]
        (self.folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        rated = {"name": measure, "groups": {"all": {"best_third": {"threshold": 0.6}}}}
        evaluation = {
            "models": [{"name": "before"}, {"name": "after"}], "settings": {"steps": 15}, "warnings": ["why"],
            "scorers": [{"name": "nearest_drawing", "measures": []}, {"name": "background", "measures": [rated]}],
        }
        (self.folder / "eval.json").write_text(json.dumps(evaluation))
        return of_evaluation(self.folder, ["fox", "owl"], 2)

    def test_a_name_has_the_mean_of_its_pictures(self):
        found = self.evaluate()
        base, model = found["figures"]["base"], found["figures"]["model"]
        self.assertEqual((base["best_third"], base["darkness"]), ([0.0, 0.0], [0.5, 0.5]))
        self.assertEqual(model["best_third"], [0.5, 1.0])
        self.assertEqual([round(value, 9) for value in model["darkness"]], [0.55, 0.8])
        self.assertEqual((model["content"], model["distance"]), ([1.0, 1.0], [0.25, 0.25]))
        self.assertEqual((found["settings"], found["warnings"]), ({"steps": 15}, ["why"]))

    def test_an_evaluation_without_the_aim_is_an_error(self):
        with self.assertRaisesRegex(KeyError, "no measure darkness of background"):
            self.evaluate("lightness")

    def test_a_picture_that_was_not_rated_is_an_error(self):
        self.evaluate()
        with self.assertRaises(KeyError):
            of_evaluation(self.folder, ["fox", "bat"], 2)


class Metrics(unittest.TestCase):
    def test_gaps_are_of_the_last_validation_seconds_the_median_memory_the_peak(self):
        lines = [
            json.dumps({"step": 1, "s_per_step": 9.0, "peak_mem_gib": 0.3, "val_gap_w": 1e-3, "val_gap_l": 2e-3}),
            json.dumps({"step": 2, "s_per_step": 0.5, "peak_mem_gib": 0.2, "val_gap_w": 3e-3, "val_gap_l": 4e-3}),
            json.dumps({"step": 3, "s_per_step": 0.4, "peak_mem_gib": None}),
        ]
        expected = {"steps": 3, "val_gap_w": 3e-3, "val_gap_l": 4e-3, "s_per_step": 0.5, "peak_mem_gib": 0.3}
        found = of_metrics(lines)
        self.assertEqual({key: found[key] for key in expected}, expected)
        self.assertEqual((found["held_out"], found["network_evaluations"]), ([], None))

    def test_held_out_rewards_are_read_with_what_was_only_watched(self):
        validated = {"val_reward": 2.0, "val_watch_style": 1.0, "val_score_style": 1.0}
        for key, gain in (("val_reward", 0.5), ("val_watch_style", -0.25), ("val_score_style", 0.5)):
            validated |= {f"{key}_gain": gain, f"{key}_gain_lo": gain - 0.1, f"{key}_gain_hi": gain + 0.1}
        rows = [{"step": 1, "network_evaluations": 640}, {"step": 2, "network_evaluations": 1280, **validated}]
        found = of_metrics(map(json.dumps, rows))
        self.assertEqual(found["network_evaluations"], 1280)
        self.assertEqual(found["held_out"], [{"step": 2, "reward": [0.5, 0.4, 0.6], "watched": {"style": [-0.25, -0.35, -0.15]}}])

    def test_with_one_held_out_prompt_there_is_no_interval(self):
        found = of_metrics([json.dumps({"step": 2, "val_reward": 2.0, "val_reward_gain": 0.5})])
        self.assertEqual(found["held_out"], [{"step": 2, "reward": [0.5, None, None], "watched": {}}])

    def test_a_figure_that_no_line_has_is_none(self):
        self.assertIsNone(of_metrics(['{"step": 1}'])["val_gap_w"])

    def test_time_on_the_clock_counts_what_ran_side_by_side_once(self):
        self.assertEqual(clock_seconds([[0, 10], [5, 12], [6, 7], [20, 21]]), 13)
        self.assertEqual(clock_seconds([]), 0)
