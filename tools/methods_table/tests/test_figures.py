"""Intervals, verdicts, and figures from opinions and metrics."""

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
            (up, down): "helps, but hurts content",
            (unclear, down): "hurts content",
            (down, unclear): "teaches the opposite",
            (down, down): "teaches the opposite, and hurts content",
            (unclear, unclear): "no difference",
            (unclear, up): "no difference",
            (between(0.0, 0.1), between(-0.1, 0.0)): "no difference",
        }
        for (flat, content), expected in cases.items():
            self.assertEqual(verdict(flat, content), expected)


class Opinions(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def evaluate(self, scorers):
        """Two names with two pictures each, by the scorers."""
        shares = {"fox": (1.0, 0.0), "owl": (1.0, 1.0)}
        rows = [
            {"model": model, "prompt": name, "seed": seed, "scores": {
                scorer: {"flat_share": share if model == "after" else 0.0, "content_accuracy": 1.0} for scorer in scorers
            }}
            for model in ("before", "after") for name in shares for seed, share in enumerate(shares[name])
        ]
        (self.folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        listed = [{"name": scorer, "accuracy": {f"{scorer}_on_samples": 0.75}} for scorer in scorers]
        evaluation = {"models": [{"name": "before"}, {"name": "after"}], "scorers": listed, "settings": {"steps": 15}, "warnings": ["why"]}
        (self.folder / "eval.json").write_text(json.dumps(evaluation))
        return of_evaluation(self.folder, ["fox", "owl"], 2)

    def test_a_name_has_the_share_of_its_pictures(self):
        found = self.evaluate(["style", "content", "nearest_pixels"])
        self.assertEqual(found["judges"].keys(), {"trained", "nearest_pixels"})
        for judge in found["judges"].values():
            self.assertEqual(judge["base"], {"flat": [0.0, 0.0], "content": [1.0, 1.0]})
            self.assertEqual(judge["model"], {"flat": [0.5, 1.0], "content": [1.0, 1.0]})
        self.assertEqual(found["judge_accuracy"]["trained"], {"content_on_samples": 0.75, "style_on_samples": 0.75})
        self.assertEqual((found["settings"], found["warnings"]), ({"steps": 15}, ["why"]))

    def test_a_judge_counts_only_with_all_its_scorers(self):
        self.assertEqual(self.evaluate(["style"])["judges"], {})

    def test_a_picture_that_was_not_rated_is_an_error(self):
        self.evaluate(["style", "content"])
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
