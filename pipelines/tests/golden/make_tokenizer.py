"""Makes the small CLIP tokenizers of this folder and what transformers 5.23 encodes with them.

    .python/python pipelines/tests/golden/make_tokenizer.py

    tokenizer/plain    vocab.json + merges.txt, special tokens written as SD 1.5 has them (found after lower-casing too)
    tokenizer/exclaim  the same words, `!` pads as in SD 2 and so is special in prompts
    tokenizer/joined   tokenizer.json as transformers 5 saves it, a vocabulary that lacks most bytes, length 16
"""

import json
import pathlib
import shutil

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

HERE = pathlib.Path(__file__).parent
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
CORPUS = """a photo of a cat, a photograph of an astronaut riding a horse on the moon
a red panda eating a bamboo shoot in the forest, highly detailed, digital painting, artstation, concept art
the quick brown fox jumps over the lazy dog's back; don't you'd they're we've I'll I'm it's
black cat face, honeybee, red apple, hot pepper, water buffalo, portrait of a woman in the style of greg rutkowski
eine kleine katze auf dem weg nach münchen, un café à paris, el niño comió piñas""".splitlines()

PROMPTS = [
    "", " ", "a", "A photo of a CAT", "  leading and   inner \t spaces \n and lines  ", "don't you'd they're we've I'll I'm it's",
    "the dog's 's 'S 'tis 'll", "hello!", "!", "!!!", "wow! such! cat !", "a!b", "3.14159 2024 1,000,000", "x²+y³=½ ①②",
    "café", "cafe\u0301", "MÜNCHEN straße İstanbul ǅ", "Ünïcödé ÀÉÎÕÜ", "ﬁne ﬂow", "東京タワーの写真", "한국어 문장", "مرحبا بالعالم", "नमस्ते दुनिया",
    "🦊", "👩‍🚀 on the 🌕", "🇩🇪🇫🇷", "zero\u200bwidth\u200djoin", "non\u00a0breaking\u3000ideographic\u2028line", "tab\tand\rreturn",
    "(masterpiece:1.2), [bad] {x} <lora:foo:0.8>", "a_b-c/d\\e|f", "https://example.com/?q=a&b=c#d", "<|startoftext|>a cat<|endoftext|>",
    "<|ENDOFTEXT|> <|EndOfText|>", "x<|endoftext|>y", "< |endoftext| >", "'", "'''", "\"quoted\" “curly” ‘single’ …—–", "#hashtag @user 100% $5 ~^`",
    "\u0000\u0001 control \u007f", "\ufeffbyte order mark", "\U0001f3fb\U0010ffff", "a" * 200, "cat " * 100, "!" * 90, "photo of a cat, " * 30,
    "portrait of a woman in the style of greg rutkowski, highly detailed", "ᾳ ΑΒΓ ΣΊΣΥΦΟΣ", "I I I i ı İ", "ＦＵＬＬＷＩＤＴＨ １２３",
]


def train(corpus, size, alphabet):
    """Merges of a BPE over CLIP's pre-tokens, most frequent pair first."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]


def vocabulary(alphabet, merges):
    words = alphabet + [c + "</w>" for c in alphabet] + [a + b for a, b in merges]
    return {w: i for i, w in enumerate(dict.fromkeys(words + [BOS, EOS]))}


def write(folder, name, value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=None) + "\n"
    (folder / name).write_text(text, encoding="utf-8")


def words_folder(name, vocab, merges, pad, config):
    folder = HERE / "tokenizer" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write(folder, "vocab.json", vocab)
    write(folder, "merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    token = lambda content: {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    write(folder, "special_tokens_map.json", {"bos_token": token(BOS), "eos_token": token(EOS), "pad_token": pad, "unk_token": token(EOS)})
    write(folder, "tokenizer_config.json", config)
    return folder


def main():
    alphabet = list(bytes_to_unicode().values())
    merges = train(CORPUS, 700, alphabet)
    vocab = vocabulary(alphabet, merges)
    config = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    folders = {
        "plain": words_folder("plain", vocab, merges, EOS, config),
        "exclaim": words_folder("exclaim", vocab, merges, "!", config),
    }
    few = sorted(set("abcdefghijklmnopqrstuvwxyz,-") | set("0123"))
    small = train([line for line in CORPUS if line.isascii()], 120, few)
    small = [m for m in small if all(c in few for c in (m[0] + m[1]).replace("</w>", ""))]
    joined = HERE / "tokenizer" / "joined"
    shutil.rmtree(joined, ignore_errors=True)
    CLIPTokenizer(vocab=vocabulary(few, small), merges=small, model_max_length=16).save_pretrained(joined)
    folders["joined"] = joined
    golden = {}
    for name, folder in folders.items():
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        encode = lambda p: tokenizer(p, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
        golden[name] = [{"prompt": p, "ids": encode(p)} for p in PROMPTS]
    lines = [f'  "{name}": [\n' + ",\n".join("    " + json.dumps(row) for row in rows) + "\n  ]" for name, rows in golden.items()]
    write(HERE, "tokenizer_ids.json", "{\n" + ",\n".join(lines) + "\n}\n")


main()
