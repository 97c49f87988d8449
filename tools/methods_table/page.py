"""docs/methods/table.md from all rows."""

import re
import statistics
import textwrap
from collections import Counter

from . import figures, work
from .kept import BASE, CONDITIONS, Page
from .summary import with_common_base

HEAD = """\
# All methods on the test bed

    make methods-table                                   # trains and judges missing or stale rows, writes this page
    python3 tools/methods_table.py --only dpo,inpo --seeds 0
    python3 tools/methods_table.py --write-only          # writes this page alone, from the existing rows

`tools/methods_table.py` writes this page; remarks by hand are in [table-notes.toml](table-notes.toml). Every method
trains the model of the [test bed](../../tools/testbed/README.md) from its `configs/NAME-demo.toml`, to paint darker
grounds. Each run is judged by formula and becomes a row in `runs/table/`.

| case | effect of a call |
| --- | --- |
| Ctrl-C | leaves whole rows; the next call continues there |
| recipe, data, judge or settings of a row changed | the row is made again |
| another program made the row | kept (the end of the page counts rows by program); made again with `--remake-older` |
| the row's files are on another machine | its cells on this page are kept |

The model has 7 million parameters. A method that helps here need not help Stable Diffusion. One without effect in
these few steps may have an effect in 2,000.
"""

HOW = f"""\
## How to read it

* **Pictures**: the {{names}} held-out names, {work.SEEDS} seeds each, {work.STEPS} DDIM steps, guidance {work.GUIDANCE}. Seeds and noise are the same for every row. A method trained with several seeds has the mean over them as the value of a name. No preference data shows these names, and no recipe was chosen on them: the settings that were tried on other names are in [tools/testbed](../../tools/testbed/README.md).
* **Best third**: share of pictures whose ground is as dark as the darkest third of the base model's. **Darkness**: mean of 1 - luma of the border, in hundredths. **Content**: share of pictures whose nearest drawing, over a plain ground, has the right name. **Distance** to that drawing, change in per cent: how far pictures leave what drawings look like. Scorers `background` and `nearest_drawing` ([scorers.md](../scorers.md)).
* **Intervals** (in brackets) are 95 %: 10,000 bootstrap resamples of the names, the same for every row. Differences (`+`, `-`, in points) are to the base model and paired by name. They cover names and their pictures, not training seeds; a separate table shows the spread of seeds.
* **Power**: {{power}}
* **val_gap_w, val_gap_l**: mean e_theta - e_ref of held-out winners and losers at the last validation, in thousandths. Above 0 the model has become worse at them ([train.md](../train.md)).
* **Verdict**. *helps*: interval of the best third wholly above 0; *teaches the opposite*: wholly below. *costs content*: interval of content wholly below 0. *no difference*: none of these. Of 40 rows without any effect about two would be named by chance.
* **s/step**: median seconds of a step on one core, with other rows running ([README.md](README.md) counts passes). **GiB**: peak resident memory of the training.
"""


def interval(value):
    return f"{value.mean * 100:.0f} [{value.lo * 100:.0f}, {value.hi * 100:.0f}]"


def points(value):
    return f"{value.mean * 100:+.1f} [{value.lo * 100:+.1f}, {value.hi * 100:+.1f}]"


def number(value, digits, factor=1.0):
    return "" if value is None else f"{value * factor:.{digits}f}"


def table(head, rows):
    """A Markdown table. Line breaks and bars in cells are replaced."""
    clean = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in [head, ["---"] * len(head), *rows]]
    return "\n".join("| " + " | ".join(row) + " |" for row in clean) + "\n"


COLUMNS = ["row", "seeds", "best third, %", "best third, points", "darkness, hundredths", "content, %", "content, points"]
COLUMNS += ["distance, %", "val_gap_w", "val_gap_l", "steps x items", "s/step", "GiB", "training, s", "verdict"]


def line_of(summary, stale):
    """A row of the table. `stale`: names of inputs that changed since."""
    if not summary.results:
        reason = "failed" if summary.failed else "not run"
        return [summary.row.title, f"0 of {len(summary.missing)}", *[""] * (len(COLUMNS) - 3), reason]
    seeds = len(summary.results)
    result = summary.results[0]
    size = f"{result['steps']} x {result['items_per_step']}" if result.get("steps") else ""
    verdict = summary.verdict() + (" (stale)" if stale else "")
    return [
        summary.row.title,
        f"{seeds} of {seeds + len(summary.missing)}" if summary.missing else seeds,
        interval(summary.value("best_third")),
        *(points(summary.difference(measure)) for measure in ("best_third", "darkness")),
        interval(summary.value("content")),
        points(summary.difference("content")),
        points(relative(summary, "distance")),
        number(summary.mean("val_gap_w"), 2, 1e3),
        number(summary.mean("val_gap_l"), 2, 1e3),
        size,
        number(summary.mean("s_per_step"), 3),
        number(summary.largest("peak_mem_gib"), 2),
        number(summary.mean("train_seconds") if summary.row.recipe else None, 0),
        verdict,
    ]


def relative(summary, measure):
    """Difference to the base model as a share of its mean."""
    base = figures.bootstrap(summary.per_name(measure, "base")).mean
    difference = summary.difference(measure)
    return figures.Interval(difference.mean / base, difference.lo / base, difference.hi / base)


def base_line(base):
    cells = [""] * len(COLUMNS)
    cells[0] = BASE
    for column, measure in ((2, "best_third"), (5, "content")):
        cells[column] = interval(figures.bootstrap(base.per_name(measure, "base")))
    return cells


def power(summaries):
    """The smallest effect that most rows can tell from none, in words."""
    alone = [summary for summary in summaries if len(summary.results) == 1]
    if not alone:
        return "no row of one training seed has been run yet."
    widths = {}
    for measure in ("best_third", "content"):
        intervals = [summary.difference(measure) for summary in alone]
        widths[measure] = statistics.median((between.hi - between.lo) / 2 for between in intervals) * 100
    return (
        f"the median half width of the intervals, over the rows of one training seed, is {widths['best_third']:.1f} points of "
        f"the best third and {widths['content']:.1f} of content. An effect of that size is told from none in half of all cases."
    )


def kept_rows(summaries, before):
    """{row: its cells}: rows of the page `before` without results on this machine."""
    absent = [summary.row for summary in summaries if not summary.results and not summary.failed]
    found = {row.name: before.cells(row.group, row.title, len(COLUMNS)) for row in absent}
    return {name: cells for name, cells in found.items() if cells}


def groups(summaries, stale, before, kept):
    alike, _ = with_common_base(summaries, stale)
    text = ""
    for group in dict.fromkeys(summary.row.group for summary in summaries):
        of = [summary for summary in summaries if summary.row.group == group]
        lines = [kept.get(summary.row.name) or line_of(summary, stale.get(summary.row.name)) for summary in of]
        base = base_line(alike[0]) if alike else before.cells(group, BASE, len(COLUMNS))
        first = [base] if base else []
        text += f"\n### {group}\n\n{table(COLUMNS, first + lines)}"
    return text


AIM_AND_COST = ("best_third", "content")
GUIDED = "Negative models, with and without"
GUIDED_COLUMNS = ["with", "without", "best third, points", "content, points", "verdict"]


def with_and_without(summaries, before, kept):
    """Negative models: guided against them and not."""
    by_name = {summary.row.name: summary for summary in summaries}
    lines = []
    for summary in summaries:
        other = by_name.get(summary.row.positive)
        if cells := summary.row.name in kept and before.cells(GUIDED, summary.row.title, len(GUIDED_COLUMNS)):
            lines.append(cells)
        if not summary.row.negative or not summary.results or (other and not other.results):
            continue
        differences = [points(summary.difference(measure, other)) for measure in AIM_AND_COST]
        lines.append([summary.row.title, other.row.title if other else "base model", *differences, summary.verdict(other)])
    if not lines:
        return ""
    what = "Differences to the same pictures without the negative model; merged 1,1 ([generate.md](../generate.md))."
    return f"\n## {GUIDED}\n\n{what}\n\n{table(GUIDED_COLUMNS, lines)}"


HELD_OUT = "Reward on held-out prompts"
HELD_OUT_COLUMNS = ["row, seed", "network evaluations", "step: gain", "at the end", "watched, at the end", "reward"]
HELD_OUT_HOW = """\
The objective of a method that samples is the reward of its recipe on the held-out names, one picture each. Shown is
the gain over the same pictures of the start model, sampled as in training, in brackets 95 % over names, not over
training seeds. The reward is darkness, from 0 to 1. Watched: scorers that are not trained on. Evaluations are forward
passes of a picture; 1000 pairs of dpo take 4000."""


def by_held_out(summaries, before, kept):
    """The curves of methods that sample."""
    lines = []
    for summary in summaries:
        titled = [(f"{summary.row.title}, seed {seed}", None) for seed in summary.row.seeds]
        if summary.row.name not in kept:
            titled = [(f"{summary.row.title}, seed {result['seed']}", result) for result in summary.results]
        for title, result in titled:
            cells = held_out_line(title, result) if result else before.cells(HELD_OUT, title, len(HELD_OUT_COLUMNS))
            lines += [cells] if cells else []
    return f"\n## {HELD_OUT}\n\n{HELD_OUT_HOW}\n\n{table(HELD_OUT_COLUMNS, lines)}" if lines else ""


def held_out_line(title, result):
    """The cells of one run; None where it held no prompts out."""
    if not (curve := result.get("held_out")):
        return None
    def gain(mean, low, high):
        return f"{mean:+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if low is not None else "")

    mean, low, high = curve[-1]["reward"]
    watched = ", ".join(f"{name} {gain(*said)}" for name, said in sorted(curve[-1]["watched"].items()))
    steps = ", ".join(f"{point['step']}: {point['reward'][0]:+.3f}" for point in curve)
    verdict = "no difference" if low is None or low <= 0 <= high else "rises" if low > 0 else "falls"
    return [title, result["network_evaluations"], steps, gain(mean, low, high), watched, verdict]


SEEDWISE = "Seed by seed"
SEEDWISE_COLUMNS = ["row", "seeds", "best third, points", "content, points"]


def by_seed(summaries, before, kept):
    """How far training seeds differ."""
    def points_of(result, measure):
        said = result["figures"]
        return sum(figures.minus(said["model"][measure], said["base"][measure])) / len(said["base"][measure]) * 100

    lines = []
    for summary in summaries:
        title, results = summary.row.title, summary.results
        if cells := summary.row.name in kept and before.cells(SEEDWISE, title, len(SEEDWISE_COLUMNS)):
            lines.append(cells)
        elif len(results) > 1:
            points = [", ".join(f"{points_of(result, m):+.1f}" for result in results) for m in AIM_AND_COST]
            lines.append([title, ", ".join(str(result["seed"]) for result in results), *points])
    return f"\n## {SEEDWISE}\n\n{table(SEEDWISE_COLUMNS, lines)}" if lines else ""


def remarks(summaries, stale, notes):
    """Reasons written by hand, then failures, warnings and stale inputs of the rows."""
    said = [f"* **{s.row.title}**: {notes[s.row.name]}" for s in summaries if s.row.name in notes]
    for summary in summaries:
        title = summary.row.title
        said += [f"* **{title}**, seed {seed}: failed. {reason}" for seed, reason in sorted(summary.failed.items())]
        said += [f"* **{title}**: {warning}" for warning in sorted({w for r in summary.results for w in r.get("warnings", ())})]
    if others := with_common_base(summaries, stale)[1]:
        of = ", ".join(summary.row.title for summary in others)
        said.append(f"* Compared with other pictures or judgements of the base model than the rest, hence not comparable with it: {of}")
    titles = {summary.row.name: summary.row.title for summary in summaries}
    for changed in sorted({tuple(names) for names in stale.values()}):
        of = ", ".join(titles[name] for name, names in stale.items() if tuple(names) == changed)
        said.append(f"* Stale, since {', '.join(changed)} changed after they were made: {of}")
    return "\n## Reasons and remarks\n\n" + "\n".join(said) + "\n" if said else ""


def makers(results):
    """Which program made how many runs."""
    def trained_by(result):
        judge = result["inputs"]["judge"]
        return result["inputs"]["train"].get(result["row"], judge)["program"]

    versions = {trained_by(r): ", ".join(f"{k} {v}" for k, v in r["versions"].items() if v) for r in results if r.get("versions")}
    counts = Counter((trained_by(result), result["inputs"]["judge"]["program"]) for result in results)
    for (trained, judged), runs in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        of = f": {versions[trained]}" if trained in versions else ""
        other = "" if judged == trained else f"; judged by another, {judged[:12]}"
        yield f"{runs} run{'s'[: runs > 1]} by program {trained[:12]} (SHA-256){of}{other}."


def conditions(summaries, before, kept):
    """Running time, versions, machine, dates of existing rows; for kept rows the lines of the page `before`."""
    results = [result for summary in summaries for result in summary.results]
    lines = conditions_of(results) if results else []
    if kept:
        titles = ", ".join(summary.row.title for summary in summaries if summary.row.name in kept)
        lines.append(f"{KEPT}: {titles}. Conditions of these rows, or of rows made again since:")
        lines += [line for line in before.conditions() if line not in lines and not line.startswith(KEPT)]
    said = "".join(f"* {line}\n" for line in lines) or "No row has been run yet.\n"
    return f"\n## {CONDITIONS}\n\n{said}"


KEPT = "Kept from an earlier page, because their files are on another machine"


def conditions_of(results):
    clock = figures.clock_seconds([span for result in results for span in result["spans"]])
    work_seconds = sum(result["train_seconds"] + result["judge_seconds"] for result in results)
    machines = sorted({result["machine"] for result in results})
    made = sorted(result["made"] for result in results)
    return [
        f"{len(results)} run{'s'[: len(results) > 1]} (a row and a seed each) took {clock / 3600:.2f} hours on the clock, {work_seconds / 3600:.2f} hours of work.",
        f"{'; '.join(machines)}.",
        *makers(results),
        f"Made between {made[0]} and {made[-1]}.",
    ]


def render(summaries, stale, notes, names, before=Page()):
    """The page. `stale`: {row: inputs that changed}; `notes`: {row: text}; `names`: number of held-out names;
    `before`: the existing page."""
    how = HOW.format(names=names, power=power(summaries))
    kept = kept_rows(summaries, before)
    parts = [HEAD, "\n## Rows\n", groups(summaries, stale, before, kept)]
    parts += [with_and_without(summaries, before, kept), by_held_out(summaries, before, kept), by_seed(summaries, before, kept)]
    return "".join([*parts, remarks(summaries, stale, notes), "\n", how, conditions(summaries, before, kept)])


def wrapped(page):
    """The page with lines of prose of at most 118 characters. Tables, code and headings stay as they are."""
    def of(line):
        if len(line) <= 118 or line.startswith(("|", "    ", "#")):
            return line
        indent = "  " if line.startswith("* ") else ""
        joined = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", lambda found: found.group().replace(" ", "\0"), line)
        broken = textwrap.fill(joined, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        return broken.replace("\0", " ")

    return "\n".join(map(of, page.split("\n")))
