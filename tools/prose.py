#!/usr/bin/env python3
"""Checks the prose of the documentation and of comments: a part of `make lint`. Needs no packages.

    python3 tools/prose.py             # what must hold
    python3 tools/prose.py --all       # everything that the rules find, counted per rule

Rules for README.md, CHANGELOG.md, ARCHITECTURE.md and docs/: lines of at most 120 characters outside tables and code, sentences of
at most 25 words, no phrase of PHRASES. Rules for comments and messages in src/, pipelines/src and tools/: no phrase of PHRASES, no doc comment that
begins as in OPENINGS.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

WIDTH, WORDS = 120, 25

# Phrases and what to write in their place.
PHRASES = {
    r"\bkin\b": "name the members",
    r"\bamid\b": "in the middle of, during",
    r"\bcom(?:es?|ing) out\b": "the verb of what happens",
    r"\bstands? there\b": "is",
    r"\bin hand\b": "current",
    r"\bat hand\b": "available",
    r"\bgo(?:es|ing)? on\b": "continues",
    r"\blies? (?:beside|there)\b": "is next to",
    r"\bdraws? back\b": "rescales, pulls",
    r"\b(?:makes?|made|makes?|trained|paints?|begins?|samples?) anew\b": "again",
    r"\blets? go\b": "releases, frees",
    r"\b(?:an?|one|two|three|four|eight|\d+|each) (?!(?:is|as|has|was|for|in|of|to|at|and|or|by|from|with|on|per|that|where|when|needs|becomes|through|than)\b)\w+ an? "
    r"(?:row|line|file|picture|prompt|step|pair|list|image|item|method|side|model|name|command|stream|run|level|table|page|key|word|part"
    r"|unit|group|trajectory|seed|batch|column|folder|module|network|iteration|second|micro-batch|block|tensor|encoder|core|content)\b": "per",
}
OPENINGS = re.compile(r"(?:Of|The same|As of|What|Whose|Says|Tells|Asks)\b")

# Written by a tool around lists of names: lines and phrases are checked, sentences are not.
GENERATED = ("docs/methods/table.md", "docs/sweeps/dpo-beta-rate.md", "docs/sweeps/npo-guidance.md", "docs/sweeps/findings.md")

# Not rewritten yet. A clean file in this list is an error.
LATER = ()


class Found(NamedTuple):
    file: str
    line: int
    rule: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.line}: {self.rule}: {self.text}"


def paragraphs(text):
    """Prose of a Markdown text as (number of the first line, lines); tables, code, headings and HTML comments left out."""
    fence, lines, first = False, [], 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        bare = line.strip()
        fence ^= bare.startswith("```")
        skipped = fence or not bare or bare.startswith(("```", "|", "#", "<!--", "![")) or (line.startswith("    ") and not lines)
        if lines and (skipped or re.match(r"([*-]|\d+\.) ", bare)):
            yield first, lines
            lines = []
        if not skipped:
            first = first if lines else number
            lines.append(line)


def sentences(lines):
    """Sentences of a paragraph as (offset of the line where it begins, words). Code, a link and a formula in brackets count as one word."""
    text = "\n".join(lines)
    text = re.sub(r"`[^`]*`|\*\*[^*\n]+\*\*:?|\]\([^)\s]*\)|<[^>\s]*>", lambda found: "X" + "\n" * found.group().count("\n"), text)
    begin = 0
    for end in [found.end() for found in re.finditer(r"[.:;?!](?=[\s)]|$)|$", text)]:
        sentence = text[begin:end]
        words = [word for word in sentence.split() if re.search(r"[A-Za-z]", word)]
        if words:
            yield text.count("\n", 0, begin + len(sentence) - len(sentence.lstrip())), words
        begin = end


def phrases(file, number, text):
    bare = re.sub(r"`[^`\n]*`", "X", text)
    for pattern, instead in PHRASES.items():
        for found in re.finditer(pattern, bare, re.IGNORECASE):
            yield Found(file, number, "phrase", f'"{found.group()}" (rather: {instead})')


def of_markdown(file, text):
    for first, lines in paragraphs(text):
        for offset, line in enumerate(lines):
            if len(line) > WIDTH and " " in line.strip()[:WIDTH]:
                yield Found(file, first + offset, "width", f"{len(line)} characters, at most {WIDTH}")
        for offset, words in sentences(lines):
            if len(words) > WORDS and file not in GENERATED:
                yield Found(file, first + offset, "sentence", f"{len(words)} words, at most {WORDS}: {' '.join(words[:6])} ..")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("    "):
            yield from phrases(file, number, line)


def of_code(file, text):
    """Comments and messages of a source file: phrases in every line, openings of doc comments."""
    previous = ""
    for number, line in enumerate(text.splitlines(), 1):
        yield from phrases(file, number, line)
        found = re.match(r"\s*//[/!] (.*)", line)
        if found and not re.match(r"//[/!]", previous) and (opening := OPENINGS.match(found.group(1))):
            yield Found(file, number, "opening", f'a doc comment begins with "{opening.group()}": begin with a noun or a verb')
        previous = line.strip()


def files(root):
    for name in ("README.md", "CHANGELOG.md", "ARCHITECTURE.md", "docs"):
        path = root / name
        for file in sorted(path.rglob("*.md")) if path.is_dir() else [path]:
            yield file, of_markdown
    for name in ("src", "pipelines/src", "tools"):
        for file in sorted([*(root / name).rglob("*.rs"), *(root / name).rglob("*.py")]):
            if file.name not in ("prose.py", "test_prose.py"):
                yield file, of_code


def check(root):
    for path, rules in files(root):
        yield from rules(path.relative_to(root).as_posix(), path.read_text())


def required(found):
    return not found.file.startswith(LATER)


def main(arguments, root=Path(__file__).resolve().parent.parent):
    found = list(check(root))
    shown = found if "--all" in arguments else [one for one in found if required(one)]
    for one in shown:
        print(one, file=sys.stderr)
    if "--all" in arguments:
        for rule in ("width", "sentence", "phrase", "opening"):
            print(f"{rule}: {sum(one.rule == rule for one in found)}", file=sys.stderr)
    clean = [later for later in LATER if not any(one.file.startswith(later) for one in found)]
    for later in clean:
        print(f"tools/prose.py: {later} is clean. Delete it from LATER.", file=sys.stderr)
    return 1 if clean or any(map(required, found)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
