"""Rows of an existing page whose files are on another machine. They are kept: a table takes hours, and `runs/` is
not in the repository."""

import re

_HEADING = re.compile(r"#{2,3} (.+)")
CONDITIONS = "Running time and machine"
# Verdicts of a row without results, as `line_of` writes them.
EMPTY = ("not run", "failed")
BASE = "base model"


class Page:
    """Tables and lists of an existing page, by heading."""

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
            elif line.startswith("  ") and self._bullets.get(heading):
                self._bullets[heading][-1] += " " + line.strip()

    @classmethod
    def of_file(cls, path):
        return cls(path.read_text(encoding="utf-8") if path.is_file() else "")

    def cells(self, heading, title, width):
        """Cells of a measured row. None without such a row or with other columns."""
        found = self._cells.get(heading, {}).get(title)
        return found if found and len(found) == width and found[-1] not in EMPTY else None

    def conditions(self):
        """Lines on time, machine and programs."""
        return self._bullets.get(CONDITIONS, [])
