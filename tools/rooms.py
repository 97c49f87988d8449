#!/usr/bin/env python3
"""Checks which file imports which: a part of `make lint`. Reads src/ and pipelines/src, needs no packages.

A room is a folder, or a single file, directly under src/ or pipelines/src. Two rules:

1. A file of src/ imports only rooms on a lower step of STEPS. Rooms on one step never import each other.
2. The files of a room do not import each other in a circle. A `mod.rs` imports the files that it re-exports.

Paths in inline test modules count like all others. `mod x;` alone is no import, nor is a `$crate` path of a macro: it belongs to
the file that calls the macro.
"""

import re
import sys
from collections import deque
from pathlib import Path
from typing import NamedTuple

# Rooms of src/, from the lowest step to the highest.
STEPS = [
    {"keys", "numbers", "progress"},
    {"machine", "world"},
    {"data"},
    {"objectives", "heads", "ledger"},
    {"scorers"},
    {"settings"},
    {"networks"},
    {"optimizer"},
    {"painting"},
    {"denoising", "metrics", "run_folder"},
    {"rollout"},
    {"report"},
    {"train", "scorer_training", "generate", "eval", "publish", "score", "runs"},
    {"pairs", "sweep", "datasets", "caches"},
    {"chain"},
    {"cli"},
]

# Imports that break rule 1: (file or room, imported room): reason. A line that no import needs any more is an error.
UPWARD = {}

# Rooms that break rule 2: reason. A line for a room without a circle is an error.
CIRCLES = {
    "src/objectives": "mod.rs is the registry, each method uses what mod.rs declares",
}

# Comments, strings and characters: no path is read from them.
SILENT = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\])'""", re.DOTALL
)
# `pub(in crate::room)` restricts who sees a name; it imports nothing.
VISIBILITY = re.compile(r"\bpub\(in [^)]*\)")
USE = re.compile(r"\buse\s+([^;]*);")
PATH = re.compile(r"(?<![\w:$])[A-Za-z_]\w*(?:::[A-Za-z_]\w*)+")
INLINE = re.compile(r"\bmod\s+\w+\s*\{")


class Import(NamedTuple):
    source: str  # importing file, relative to the repository
    line: int
    target: str  # imported file


class Crate:
    """The modules of one crate. `a::b` names the module whose file is a/b.rs or a/b/mod.rs, "" the root of the crate."""

    def __init__(self, root, folder):
        self.files = {}
        for path in sorted((root / folder).rglob("*.rs")):
            parts = list(path.relative_to(root / folder).with_suffix("").parts)
            if parts[-1] in ("mod", "lib"):
                parts.pop()
            self.files["::".join(parts)] = path.relative_to(root).as_posix()

    def resolve(self, module, inline, path):
        """The module that `path` leads to, seen from `module` inside `inline` nested inline modules. None: another crate's."""
        names, here = path.split("::"), [name for name in module.split("::") if name]
        if names[0] == "crate":
            here, names = [], names[1:]
        elif names[0] in ("self", "super"):
            up = len([name for name in names if name == "super"]) - inline
            here = here[: len(here) - max(up, 0)]
            names = [name for name in names if name not in ("self", "super")] if up >= 0 else []
        elif inline or "::".join([*here, names[0]]) not in self.files:
            return None
        while names and "::".join([*here, names[0]]) in self.files:
            here.append(names.pop(0))
        return "::".join(here)

    def imports(self, root):
        for module, name in self.files.items():
            seen = set()
            for line, inline, path in paths((root / name).read_text()):
                target = self.resolve(module, inline, path)
                if target in self.files and target != module and (line, target) not in seen:
                    seen.add((line, target))
                    yield Import(name, line, self.files[target])


def blank(pattern, text):
    """`text` with spaces in place of what `pattern` matches; line breaks stay."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def leaves(tree, start=0, prefix=""):
    """Paths of a `use` tree with their offsets: `a::{b, c::d}` is a::b and a::c::d."""
    depth, begin = 0, 0
    for at, character in enumerate(tree + ","):
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            part = tree[begin:at]
            head, brace, rest = part.partition("{")
            offset = start + begin + len(head) - len(head.lstrip())
            path = prefix + "".join(re.sub(r"\bas\s+\w+", "", head).split())
            if brace:
                yield from leaves(rest.rstrip().removesuffix("}"), start + begin + len(head) + 1, path)
            elif path:
                yield offset, path.removesuffix("::*").removesuffix("::self")
            begin = at + 1


def paths(text):
    """All paths of a source file: (line, number of inline modules around it, path)."""
    text = blank(VISIBILITY, blank(SILENT, text))
    found = [(use.start(1) + at, path) for use in USE.finditer(text) for at, path in leaves(use.group(1))]
    found += [(path.start(), path.group()) for path in PATH.finditer(blank(USE, text))]
    spans = [(inline.end(), closing(text, inline.end())) for inline in INLINE.finditer(text)]
    for at, path in sorted(found):
        yield text.count("\n", 0, at) + 1, sum(begin <= at < end for begin, end in spans), path


def closing(text, at):
    """Offset of the brace that closes the block which begins before `at`."""
    depth = 1
    while depth and at < len(text):
        depth += (text[at] == "{") - (text[at] == "}")
        at += 1
    return at


def room(name):
    """The room of a file: its crate's folder and the first name below it. None for lib.rs and main.rs."""
    folder = "pipelines/src" if name.startswith("pipelines/") else "src"
    first = name[len(folder) + 1 :].split("/")[0].removesuffix(".rs")
    return None if first in ("lib", "main") else f"{folder}/{first}"


def upward(imports, steps, allowed):
    """Complaints about rule 1."""
    step = {f"src/{name}": number for number, names in enumerate(steps) for name in names}
    order = " < ".join(", ".join(sorted(names)) for names in steps)
    used, said = set(), []
    unplaced = sorted({room(one.source) for one in imports if (room(one.source) or "pipelines/").startswith("src/")} - set(step))
    said += [f"{name}: a room without a place in the order. Add it to STEPS in tools/rooms.py." for name in unplaced]
    for one in imports:
        source, target = room(one.source), room(one.target)
        if source not in step or target not in step or source == target or step[target] < step[source]:
            continue
        exceptions = [key for key in allowed if key[1] == target and key[0] in (source, one.source)]
        used.update(exceptions)
        if not exceptions:
            same = "rooms on one step do not import each other" if step[source] == step[target] else f"{target} is the higher room"
            said.append(f"{one.source}:{one.line}: {source} imports {one.target}, but {same}.")
    if len(said) > len(unplaced):
        said.append(f"    Order: {order}.\n    Move what both need into a lower room, or pass it in as a value or a trait.")
    said += [f"tools/rooms.py: UPWARD allows {key[0]} -> {key[1]}, which no longer occurs. Delete the line." for key in allowed if key not in used]
    return said


def circle(arrows, begin):
    """The shortest circle of imports through the file `begin`, or None."""
    came, queue = {}, deque([begin])
    while queue:
        source = queue.popleft()
        for target, one in arrows.get(source, {}).items():
            if target == begin:
                steps = [one]
                while steps[0].source != begin:
                    steps.insert(0, came[steps[0].source])
                return steps
            if target not in came:
                came[target] = one
                queue.append(target)
    return None


def circles(imports, allowed):
    """Complaints about rule 2: one circle per room, the shortest."""
    rooms = {}
    for one in imports:
        if room(one.source) and room(one.source) == room(one.target):
            rooms.setdefault(room(one.source), {}).setdefault(one.source, {}).setdefault(one.target, one)
    said = []
    for name in sorted({*rooms, *allowed}):
        arrows = rooms.get(name, {})
        found = [steps for begin in sorted(arrows) if (steps := circle(arrows, begin))]
        if found and name not in allowed:
            lines = "".join(f"\n    {one.source}:{one.line} imports {one.target}" for one in min(found, key=len))
            said.append(
                f"{name}: {len(found)} files import each other in a circle. The shortest:{lines}\n"
                "    Move what both need into a file that imports neither; keep mod.rs to `mod` and `pub use`."
            )
        if not found and name in allowed:
            said.append(f"tools/rooms.py: CIRCLES allows a circle in {name}, which has none. Delete the line.")
    return said


def main(root=Path(__file__).resolve().parent.parent):
    imports = [one for folder in ("src", "pipelines/src") for one in Crate(root, folder).imports(root)]
    said = upward(imports, STEPS, UPWARD) + circles(imports, CIRCLES)
    print("\n".join(said), file=sys.stderr, end="\n" if said else "")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
