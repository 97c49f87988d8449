"""Parquet files of prompts as pyarrow 26 writes them: golden files of tests/prompts.rs.

    pip install pyarrow==26.0.1
    python3 tests/golden/make_prompts.py

    prompts/CODEC.parquet    1,200 rows {id, prompt} in row groups of 500, pages of 1 KB; prompts repeat after 7, so they are dictionary-encoded
    prompts/plain.parquet    the same without dictionary, data page version 2
    prompts/large.parquet    column caption of large_string, 3 rows, unusual characters
    prompts/null.parquet     row 4 of 5 is null
    prompts/bytes.parquet    a binary column; row 2 is not UTF-8
    prompts/numbers.parquet  prompt is an int64, text a list, caption a decimal in bytes
    prompts/empty.parquet    no rows
    prompts/lzo.parquet      names a codec that nobody writes any more
"""

import decimal
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).parent / "prompts"
CODECS = ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]


def main():
    OUT.mkdir(exist_ok=True)
    rows = pa.table({"id": pa.array(range(1200), pa.int64()), "prompt": [f"a cat with {i % 7} tails" for i in range(1200)]})
    for codec in CODECS:
        pq.write_table(rows, OUT / f"{codec}.parquet", compression=codec, row_group_size=500, data_page_size=1024)
    pq.write_table(rows, OUT / "plain.parquet", compression="zstd", use_dictionary=False, row_group_size=700, data_page_version="2.0")
    large = pa.array(["red apple", "blauer Fuchs 🦊", ""], pa.large_string())
    pq.write_table(pa.table({"caption": large}), OUT / "large.parquet")
    pq.write_table(pa.table({"prompt": ["a", "b", "c", None, "e"]}), OUT / "null.parquet")
    pq.write_table(pa.table({"prompt": pa.array([b"a cat", b"\xff\xfe"], pa.binary())}), OUT / "bytes.parquet")
    numbers = {"prompt": pa.array([1, 2], pa.int64()), "text": [["a"], ["b"]], "caption": pa.array([decimal.Decimal("1.5")] * 2, pa.decimal128(3, 1))}
    pq.write_table(pa.table(numbers), OUT / "numbers.parquet")
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), OUT / "empty.parquet")
    # The codec is a field of the footer right behind the column's path: SNAPPY is 1, LZO 3, written zigzag.
    pq.write_table(pa.table({"prompt": ["a"]}), OUT / "lzo.parquet", compression="snappy")
    bytes_ = (OUT / "lzo.parquet").read_bytes()
    path = b"\x19\x18\x06prompt\x15"
    assert bytes_.count(path + b"\x02") == 1
    (OUT / "lzo.parquet").write_bytes(bytes_.replace(path + b"\x02", path + b"\x06"))


main()
