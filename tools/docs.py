#!/usr/bin/env python3
"""Writes the generated parts of docs/ and configs/ from the program's own declarations.

    tools/docs.py PROGRAM           rewrites what is between markers
    tools/docs.py --check PROGRAM   names what differs and exits with 1

A generated part lies between `<!-- keys TABLE .. -->`, `<!-- methods -->` or `<!-- method NAME .. -->` and `<!-- end -->`.
In a recipe it lies between `# keys of NAME` and `# end of keys`.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- (keys|methods|method)((?: \S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)
RECIPE = re.compile(r"(# keys of (\S+)\n).*?(# end of keys\n)", re.DOTALL)


def ask(program, *arguments):
    done = subprocess.run([program, *arguments, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def code(text):
    """Quotes and arrays as code, so that a page shows them as they are written."""
    return re.sub(r'"[^"]*"|\[[^\]]*"[^\]]*\]', lambda found: f"`{found.group()}`", text).replace("|", "\\|")


def default(key):
    """The default in words: `!` required, `-` absent."""
    if key["required"]:
        return "!"
    families = [f"{name} {code(value)}" for name, value in key["families"]]
    first = "-" if key["default"] is None else code(key["default"])
    return ", ".join([first, *families])


def key_table(keys):
    rows = [f"| {k['key']} | {default(k)} | {code(k['values'])} | {k['help'].replace('|', chr(92) + '|')} |" for k in keys]
    return "\n".join(["| key | default | values | meaning |", "|---|---|---|---|", *rows]) + "\n"


def titled(name, keys, count):
    """The keys of one of several tables: its name before them."""
    return key_table(keys) if count == 1 else f"`{name}`:\n\n{key_table(keys)}"


def index(methods):
    rows = [
        f"| [{m['name']}]({m['page']}) | {m['title']} | {m['data']} | {m['reference']} | {m['cost']} | {m['when']} |"
        for m in methods
    ]
    return "\n".join(["| method | title | data | reference | passes | when to take it |", "|---|---|---|---|---|---|", *rows]) + "\n"


def part(kind, names, tables, methods):
    """The text between two markers."""
    by_name = {method["name"]: method for method in methods}
    if kind == "keys":
        return "\n".join(titled(name, tables[name], len(names)) for name in names)
    if kind == "methods":
        return index(methods)
    if len(names) == 1:
        return key_table(by_name[names[0]]["keys"])
    return "\n".join(f"`{name}`:\n\n{key_table(by_name[name]['keys'])}" for name in names)


def recipe(method):
    """One comment line per key: name, default, meaning."""
    return "".join(f"#   {key['key']} ({default(key).replace('`', '')}): {key['help']}\n" for key in method["keys"])


def written(path, text, tables, methods):
    """`text` with its generated parts rewritten."""
    if path.suffix == ".md":
        return PART.sub(lambda m: m.group(1) + part(m.group(2), m.group(3).split(), tables, methods) + m.group(4), text)
    by_name = {method["name"]: method for method in methods}
    return RECIPE.sub(lambda m: m.group(1) + recipe(by_name[m.group(2)]) + m.group(3), text)


def main(arguments):
    check, program = "--check" in arguments, arguments[-1]
    tables, methods = ask(program, "keys"), ask(program, "methods")
    scorer_tables = ask(program, "keys", "--scorer")
    stale = []
    for path in [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "configs").glob("*.toml"))]:
        text = path.read_text()
        new = written(path, text, scorer_tables if path.name == "train-scorer.md" else tables, methods)
        if new != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.write_text(new)
    for name in stale:
        print(f"{name}: {'not what the program declares: run `make docs`' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
