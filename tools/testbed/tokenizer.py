"""Make the tokenizer of the base model: CLIP's byte-level BPE, learnt from the names of all Noto icons.

The layout is CLIP's: ids 0..255 are the byte symbols, 256..511 the same ending a word, then one id
for each merge, then <|startoftext|> and <|endoftext|>. The names of the drawings count many times,
so that each of their words becomes a single token; other words are split.

Usage: tokenizer.py WORK
"""

import collections
import json
import re
import sys
from pathlib import Path

from common import names

MERGES = 1200
LENGTH = 16
OWN_NAMES_WEIGHT = 100
END = "</w>"
START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"


def byte_symbols():
    """CLIP's character for each byte value, in the order of the ids."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + index) for index, byte in enumerate(others)}


def words(work):
    """Count the words of all icon names, those of the drawings OWN_NAMES_WEIGHT times."""
    icons = json.loads((work / "npm/noto/package/icons.json").read_text(encoding="utf-8"))["icons"]
    counts = collections.Counter()
    for weight, texts in ((1, [icon.replace("-", " ") for icon in icons]),
                          (OWN_NAMES_WEIGHT, [row["prompt"] for row in names()])):
        for text in texts:
            for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower()):
                counts[word] += weight
    return counts


def merged(symbols, pair):
    """`symbols` with every occurrence of `pair` joined."""
    result = []
    for symbol in symbols:
        if result and (result[-1], symbol) == pair:
            result[-1] += symbol
        else:
            result.append(symbol)
    return result


def learn_merges(counts, symbols):
    """The MERGES most useful merges, best first; ties go to the pair that sorts first."""
    split = {}
    for word in counts:
        characters = [symbols[byte] for byte in word.encode()]
        split[word] = characters[:-1] + [characters[-1] + END]
    merges = []
    for _ in range(MERGES):
        pairs = collections.Counter()
        for word, parts in split.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = {word: merged(parts, best) for word, parts in split.items()}
    return merges


def special(content):
    """A special token as Hugging Face's files describe it."""
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False,
            "single_word": False}


def main():
    """Write WORK/tokenizer."""
    work = Path(sys.argv[1])
    symbols = byte_symbols()
    merges = learn_merges(words(work), symbols)
    tokens = [*symbols.values(), *(symbol + END for symbol in symbols.values()),
              *("".join(pair) for pair in merges), START_TOKEN, END_TOKEN]
    folder = work / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merge_lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    config = {
        "add_prefix_space": False, "bos_token": special(START_TOKEN), "do_lower_case": True,
        "eos_token": special(END_TOKEN), "errors": "replace", "model_max_length": LENGTH,
        "pad_token": END_TOKEN, "tokenizer_class": "CLIPTokenizer",
        "unk_token": special(END_TOKEN)}
    specials = {"bos_token": special(START_TOKEN), "eos_token": special(END_TOKEN),
                "pad_token": END_TOKEN, "unk_token": special(END_TOKEN)}
    for name, content in (("vocab.json", vocabulary), ("tokenizer_config.json", config),
                          ("special_tokens_map.json", specials)):
        text = json.dumps(content, ensure_ascii=False, indent=None if name == "vocab.json" else 2)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(merge_lines) + "\n", encoding="utf-8")
    print(f"{len(tokens)} tokens")


if __name__ == "__main__":
    main()
