#!/usr/bin/env python3
"""Trains and judges every method on the test bed and writes docs/methods/table.md.

    make methods-table
    python3 tools/methods_table.py --only dpo,inpo --seeds 0
    python3 tools/methods_table.py --write-only
    python3 tools/methods_table.py --remake-older

Continues where the last call stopped. Finished rows are skipped, rows with changed inputs are made again. Rows of
another program are kept, unless --remake-older is given. Cells of rows whose files are on another machine are kept on
the page.

Needs Python 3.9 or newer and target/release/diffpref, and runs in the repository. Exit codes: 0 every row exists, 1
some row failed (the page has the reason), 2 wrong arguments, 130 / 143 stopped by a signal.
"""

import argparse
import signal
import sys
from pathlib import Path

from methods_table import inputs, kept, notes, page, rows, schedule, work
from methods_table.programs import Programs, Stopped
from methods_table.summary import Summary


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="ROW,..", help="these rows, and those they need")
    parser.add_argument("--seeds", type=seeds, metavar="N,..", help="training seeds of all rows (0,1,2 for dpo, spo, ddpo, dense-reward, else 0)")
    parser.add_argument("--jobs", type=positive, default=2, help="rows at a time, one core per row (2)")
    parser.add_argument("--remake-older", action="store_true", help="rows of another program than the present one are stale")
    parser.add_argument("--write-only", action="store_true", help="write the page from the existing rows")
    parser.add_argument("--program", type=Path, default=Path("target/release/diffpref"), help="target/release/diffpref")
    parser.add_argument("--configs", type=Path, default=Path("configs"), help="folder of the NAME-demo.toml (configs)")
    parser.add_argument("--table", type=Path, default=Path("runs/table"), help="folder of the rows (runs/table)")
    parser.add_argument("--page", type=Path, default=Path("docs/methods/table.md"), help="docs/methods/table.md")
    return parser.parse_args()


def positive(text):
    if (number := int(text)) < 1:
        raise ValueError
    return number


def seeds(text):
    found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    if min(found) < 0:
        raise ValueError
    return found


def refuse(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def say(text):
    print(text, file=sys.stderr, flush=True)


def runs_of(row, options):
    return [work.Run(row, seed, options.table) for seed in options.seeds or row.seeds]


def runs_on_page(row, options):
    """The usual seeds, and others that were run."""
    found = (path.parent.name.rpartition("-seed")[2] for path in options.table.glob(f"{row.name}-seed*/row.json"))
    every = sorted({*row.seeds, *(int(seed) for seed in found if seed.isdigit())})
    return [work.Run(row, seed, options.table) for seed in every]


def summary_of(row, options, failed):
    runs = runs_on_page(row, options)
    results = [(run, run.read()) for run in runs]
    return Summary(
        row,
        [result for _, result in results if result],
        tuple(run.seed for run, result in results if not result),
        {run.seed: failed[run.key] for run in runs if run.key in failed},
    )


def stale_rows(summaries, workshop, by_name):
    """{row: names of inputs that are no longer what they were}; where a recipe is gone, nothing can be said."""
    stale = {}
    for summary in summaries:
        for result in summary.results:
            run = work.Run(summary.row, result["seed"], workshop.table)
            try:
                now = workshop.inputs_of(run, by_name)
            except OSError:
                continue
            if changed := workshop.stale(run, result["inputs"], now):
                stale[summary.row.name] = changed
    return stale


def write_page(options, workshop, every_row, failed):
    by_name = {row.name: row for row in every_row}
    summaries = [summary_of(row, options, failed) for row in every_row]
    said = notes.read(options.page.with_name("table-notes.toml"), by_name)
    stale = stale_rows(summaries, workshop, by_name)
    before = kept.Page.of_file(options.page)
    inputs.write_whole(options.page, page.wrapped(page.render(summaries, stale, said, len(workshop.names), before)))


def make(options, workshop, every_row, programs):
    """Makes the rows that are asked for. Returns {key: reason} of those that failed."""
    by_name = {row.name: row for row in every_row}
    wanted = rows.chosen(every_row, options.only)
    lacking = {row.name: missing for row in wanted if (missing := recipes_missing(row, workshop, by_name))}
    if options.only and lacking:
        raise ValueError(f"{', '.join(lacking)}: there is no {next(iter(lacking.values()))}")
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, _: programs.stop(number))
    runs = [run for row in wanted if row.name not in lacking for run in runs_of(row, options)]
    return schedule.make_all(workshop, runs, by_name, options.jobs)


def recipes_missing(row, workshop, by_name):
    """The first recipe that a row needs and that is not there; None: all are. Without --only such a row stays "not run"."""
    names = [needed.recipe for needed in (row, *(by_name[name] for name in row.parents)) if needed.recipe]
    return next((path for path in map(workshop.recipe, names) if not path.is_file()), None)


def main():
    options = arguments()
    every_row = rows.all_rows(rows.recipes_in(options.configs))
    programs = Programs()
    try:
        workshop = work.Workshop(options.program, options.configs, options.table, options.jobs, programs, say, options.remake_older)
        rows.chosen(every_row, options.only)
        if (options.remake_older or not options.write_only) and not options.program.is_file():
            refuse(f"{options.program} is missing; `make release` builds it")
        try:
            failed = {} if options.write_only else make(options, workshop, every_row, programs)
        except Stopped:
            write_page(options, workshop, every_row, {})
            say("stopped: finished rows are kept, the next call continues")
            sys.exit(128 + programs.signal)
        write_page(options, workshop, every_row, failed)
    except (ValueError, OSError) as error:
        refuse(error)
    say(f"{options.page}: written")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
