"""What the page says of rows whose files are not on this machine: it is kept, for a table takes hours and `runs/` is not in the repository."""

import re

_HEADING = re.compile(r"#{2,3} (.+)")
CONDITIONS = "Running time and machine"
# Of a row that was never run; `line_of` writes them.
EMPTY = ("not run", "failed")
BASE = "base model"


class Page:
    """The tables and lists of a page that was written before, by heading."""

    def __init__(self, text=""):
        self._cells, self._bullets = {}, {}
        heading = ""
        for line in text.splitlines():
            if match := _HEADING.match(line):
                heading = match[1]
            elif line.startswith("| "):
                cells = [cell.replace("\\|", "|") for cell in line[2:].removesuffix(" |").split(" | ")]
                self._cells.setdefault(heading, {}).setdefault(cells[0], cells)
            elif line.startswith("* "):
                self._bullets.setdefault(heading, []).append(line[2:])

    @classmethod
    def of_file(cls, path):
        return cls(path.read_text(encoding="utf-8") if path.is_file() else "")

    def cells(self, heading, title, width):
        """The cells of a row that was measured; None where there are none, or the table had other columns."""
        found = self._cells.get(heading, {}).get(title)
        return found if found and len(found) == width and found[-1] not in EMPTY else None

    def conditions(self):
        """The lines on time, machine and programs."""
        return self._bullets.get(CONDITIONS, [])
