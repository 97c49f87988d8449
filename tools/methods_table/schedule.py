"""Rows side by side: those that train first, then those that paint with what others trained."""

from concurrent.futures import ThreadPoolExecutor, as_completed

from .programs import Failed, Stopped


def make_all(workshop, runs, rows, jobs):
    """Makes every run, `jobs` at a time.

    A failed run does not stop the others. Returns {key: reason} of failed runs. Raises Stopped after a signal, once
    running work has ended.
    """
    failed = {}
    for stage in ([run for run in runs if run.row.recipe], [run for run in runs if not run.row.recipe]):
        _make_stage(workshop, stage, rows, jobs, failed)
    return failed


def _make_stage(workshop, runs, rows, jobs, failed):
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        pending = {}
        for run in runs:
            parents = [run.of(name).name for name in run.row.parents]
            if lacking := [key for key in parents if key in failed]:
                failed[run.key] = f"needs {' and '.join(lacking)}, which failed"
                workshop.say(f"{run.key}: {failed[run.key]}")
                continue
            pending[pool.submit(workshop.make, run, rows)] = run
        stopped = False
        for future in as_completed(pending):
            run = pending[future]
            try:
                made = future.result()
            except Stopped:
                stopped = True
            except (Failed, OSError) as error:
                failed[run.key] = str(error)
                workshop.say(f"{run.key}: {error}")
            else:
                workshop.say(f"{run.key}: {'done' if made else 'was there'}")
        if stopped:
            raise Stopped
