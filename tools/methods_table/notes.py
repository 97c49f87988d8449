"""Reasons written by hand, one per row. The rest of the page is generated."""

import difflib

from . import inputs


def read(path, names):
    """{row: text} of a file of `row = "text"` lines.

    Raises ValueError for a line that is not understood or a row that does not exist: a note must not vanish silently.
    """
    if not path.is_file():
        return {}
    values, skipped = inputs.scalars(path.read_text(encoding="utf-8"))
    if skipped:
        raise ValueError(f'{path}: not understood: {skipped[0][:80]!r}; expected ROW = "text" in one line')
    for section, name in values:
        if section or name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise ValueError(f"{path}: there is no row {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return {name: str(text) for (_, name), text in values.items()}
