"""Figures of a row on the page: pooled seeds, differences, verdict."""

from dataclasses import dataclass, field

from . import figures


@dataclass
class Summary:
    row: object
    results: list  # row.json of every finished seed
    missing: tuple = ()  # unfinished seeds
    failed: dict = field(default_factory=dict)  # seed -> why

    def per_name(self, measure, who="model"):
        return figures.pooled([result["figures"][who][measure] for result in self.results])

    def value(self, measure):
        return figures.bootstrap(self.per_name(measure))

    def difference(self, measure, other=None):
        """Difference to the base model, or to another row: paired by name."""
        others = other.per_name(measure) if other else self.per_name(measure, "base")
        return figures.bootstrap(figures.minus(self.per_name(measure), others))

    def verdict(self, other=None):
        return figures.verdict(self.difference("best_third", other), self.difference("content", other))

    def mean(self, key):
        found = [result[key] for result in self.results if result.get(key) is not None]
        return sum(found) / len(found) if found else None

    def largest(self, key):
        return max((result[key] for result in self.results if result.get(key) is not None), default=None)


def with_common_base(summaries, stale):
    """Rows with results, split by their base model's pictures and figures: (alike, others).

    "Alike" means equal to a row that is not stale, if there is one.
    """
    def base_of(result):
        return [result["settings"], result["figures"]["base"]]

    there = [summary for summary in summaries if summary.results]
    first = next((summary for summary in there if summary.row.name not in stale), there[0] if there else None)
    alike = [s for s in there if all(base_of(result) == base_of(first.results[0]) for result in s.results)]
    return alike, [summary for summary in there if summary not in alike]
