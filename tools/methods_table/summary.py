"""What the page says of a row: its seeds pooled, its differences, its verdict."""

from dataclasses import dataclass, field

from . import figures

MAIN = "trained"  # the judge whose intervals make the verdict
SECOND = "nearest_pixels"


@dataclass
class Summary:
    row: object
    results: list  # row.json of every seed that is there
    missing: tuple = ()  # seeds that are not
    failed: dict = field(default_factory=dict)  # seed -> why

    def per_name(self, judge, measure, who="model"):
        return figures.pooled([result["judges"][judge][who][measure] for result in self.results])

    def has(self, judge):
        return bool(self.results) and all(judge in result["judges"] for result in self.results)

    def value(self, judge, measure):
        return figures.bootstrap(self.per_name(judge, measure))

    def difference(self, judge, measure, other=None):
        """To the base model, or to another row: paired by name."""
        others = other.per_name(judge, measure) if other else self.per_name(judge, measure, "base")
        return figures.bootstrap(figures.minus(self.per_name(judge, measure), others))

    def verdict(self, other=None):
        return figures.verdict(self.difference(MAIN, "flat", other), self.difference(MAIN, "content", other))

    def mean(self, key):
        found = [result[key] for result in self.results if result.get(key) is not None]
        return sum(found) / len(found) if found else None

    def largest(self, key):
        return max((result[key] for result in self.results if result.get(key) is not None), default=None)


def common_base(summaries):
    """A summary whose pictures by the base model are those of all rows.

    Raises ValueError when rows were compared with different pictures: their differences could not stand in one table.
    """
    first = None
    for summary in summaries:
        for result in summary.results:
            base = [result["settings"], {judge: said["base"] for judge, said in result["judges"].items()}]
            first = first or (summary, result, base)
            if base != first[2]:
                names = [f"{r['row']}-seed{r['seed']}" for r in (first[1], result)]
                raise ValueError(
                    f"{names[0]} and {names[1]} were judged against different pictures of the base model; run `make methods-table` "
                    "to judge them alike"
                )
    return first[0] if first else None
