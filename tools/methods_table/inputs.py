"""Inputs of a row by content. A row with changed inputs is stale and made again.

The program stands among the inputs, but another one does not make a row stale by itself: few of its changes touch a row,
and the table takes hours.
"""

import hashlib
import json
import os
import re
from pathlib import Path

_SECTION = re.compile(r"\[\s*([\w.\-]+)\s*\]\s*(#.*)?$")
_PAIR = re.compile(
    r"""(?:"(?P<quoted>[^"]+)"|(?P<bare>[\w.\-]+))\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^#"'\[{]+?)\s*(#.*)?$"""
)
_CHUNK = 1 << 20


def scalars(text):
    """Texts and numbers of a TOML file as {(section, key): value}, for Python before 3.11, which has no reader.

    Lists, tables in a line and texts over several lines are left out. Returns them and the lines it did not understand.
    """
    found, skipped, section = {}, [], ""
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if match := _SECTION.match(line):
            section = match[1]
        elif match := _PAIR.match(line):
            try:
                found[section, match["quoted"] or match["bare"]] = _scalar(match["value"])
            except ValueError:
                skipped.append(line)
        else:
            skipped.append(line)
    return found, skipped


def _scalar(text):
    """A TOML text, number or truth value, read by the rules of JSON where both agree."""
    if text[0] == text[-1] == "'" and len(text) > 1:
        return text[1:-1]
    return json.loads(text.replace("_", "") if text[0].isdigit() else text)


class Hashes:
    """SHA-256 of files and folders, each read once."""

    def __init__(self):
        self._known = {}

    def of_file(self, path):
        path = Path(path)
        state = path.stat()
        key = (str(path.resolve()), state.st_mtime_ns, state.st_size)
        if key not in self._known:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            self._known[key] = digest.hexdigest()
        return self._known[key]

    def of_folder(self, folder):
        """Hash of the names and contents of every file below."""
        folder = Path(folder)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return of_text("".join(f"{file.relative_to(folder).as_posix()} {self.of_file(file)}\n" for file in files))

    def of_data(self, path):
        """Hash of a .jsonl file and of every file named in its rows, relative to it."""
        path = Path(path)
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        named = sorted({text for text in texts(lines) if len(text) < 512 and (path.parent / text).is_file()})
        pictures = "".join(f"{name} {self.of_file(path.parent / name)}\n" for name in named)
        return of_text(f"{self.of_file(path)}\n{pictures}")

    def of(self, path):
        path = Path(path)
        if path.is_dir():
            return self.of_folder(path)
        return self.of_data(path) if path.suffix == ".jsonl" else self.of_file(path)


def of_text(text):
    return hashlib.sha256(text.encode()).hexdigest()


def texts(value):
    """Every text inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def of_training(recipe, sets, seed, program, hashes):
    """Inputs of a training run: the recipe, every path in it, the overrides, the program."""
    values, _ = scalars(recipe.read_text(encoding="utf-8"))
    # Outputs of the recipe are no inputs.
    read = [value for (section, _), value in values.items() if section != "train" and isinstance(value, str)]
    read += [setting.partition("=")[2] for setting in sets]
    paths = {value for value in read if value and Path(value).exists()}
    inputs = {path: hashes.of(path) for path in sorted(paths)}
    return {**inputs, recipe.as_posix(): hashes.of_file(recipe), "--set": list(sets), "seed": seed, "program": program}


def differences(old, new, but=()):
    """Names of differing inputs, without those in `but`. Values may be nested."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else ["inputs"]
    names = []
    for key in sorted({*old, *new} - {*but}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += [name for name in differences(a, b, but) if name not in names]
        elif a != b and key not in names:
            names.append(key)
    return names


def read_json(path):
    """A JSON file; None where it is missing or damaged, so that it is made again."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_whole(path, text):
    """Writes a temporary file and renames it: a reader finds the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def write_json(path, value):
    write_whole(path, json.dumps(value, indent=1) + "\n")
