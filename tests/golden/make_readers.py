#!/usr/bin/env python3
"""Makes tests/golden/readers/: one small data set per format, written by the libraries that people use (pyarrow, tarfile, csv,
json, Pillow), and expected.json with what a reader must find in each. Run: pip install pyarrow pillow; python3 make_readers.py
"""

import csv
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).resolve().parent / "readers"
PROMPTS = ["red apple", "green apple", "black cat", "red apple", "hot pepper", "a tie"]
EXPECTED = {}


def picture(number, side, ending="png"):
    """Bytes of picture `side` (0, 1 ..) of row `number`, 20 x 16 pixels."""
    image = Image.new("RGB", (20, 16))
    image.putdata([((x * 11 + number * 40) % 256, (y * 15 + side * 90) % 256, 40 + 100 * side) for y in range(16) for x in range(20)])
    data = io.BytesIO()
    image.save(data, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[ending])
    return data.getvalue()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def row(id, prompt, images, **more):
    """A row as the reader must return it. images: bytes, the winner first."""
    return {"id": id, "prompt": prompt, "images": [digest(data) for data in images], **more}


def expect(name, rows, unlabelled=0):
    EXPECTED[name] = {"rows": rows, "unlabelled": unlabelled}


def pickapic():
    """Two shards of one split; the second one as re-exports are: structs, many row groups, zstd."""
    folder = ROOT / "pickapic/data"
    folder.mkdir(parents=True)
    labels = [1.0, 0.0, 1.0, 0.0, 1.0, 0.5]
    rows, expected = [], []
    for i, (prompt, label) in enumerate(zip(PROMPTS, labels)):
        pair = [picture(i, 0, "jpg"), picture(i, 1, "jpg")]
        rows.append({
            "are_different": True, "best_image_uid": "x", "caption": prompt, "created_at": 1_680_000_000_000_000_000 + i,
            "has_label": i != 4, "image_0_uid": f"a{i}", "image_0_url": "", "image_1_uid": f"b{i}", "image_1_url": "",
            "jpg_0": pair[0], "jpg_1": pair[1], "label_0": label, "label_1": 1 - label, "model_0": "sd", "model_1": "xl",
            "ranking_id": 100 + i, "user_id": 7 + i % 2, "num_example_per_prompt": 2 if prompt == "red apple" else 1,
            "__index_level_0__": i,
        })
        if i == 4:
            continue
        first = 1 if label == 0 else 0
        more = {"user": str(7 + i % 2), "weight": 0.5 if prompt == "red apple" else 1.0, "generators": ["sd", "xl"]}
        if label == 0:
            more["generators"] = ["xl", "sd"]
        expected.append(row(str(100 + i), prompt, [pair[first], pair[1 - first]], tie=label == 0.5, **more))
    binary = pa.Table.from_pylist(rows[:2])
    created = binary.schema.get_field_index("created_at")
    binary = binary.set_column(created, "created_at", binary["created_at"].cast(pa.timestamp("ns")))
    pq.write_table(binary, folder / "train-00000-of-00002-b66ac786bf6fb553.parquet")
    structs = [{**one, "jpg_0": {"bytes": one["jpg_0"], "path": None}, "jpg_1": {"bytes": one["jpg_1"], "path": "x.jpg"}} for one in rows[2:]]
    pq.write_table(pa.Table.from_pylist(structs), folder / "train-00001-of-00002-aa.parquet", row_group_size=2, compression="zstd")
    expect("pickapic", expected, unlabelled=1)


def pages():
    """One row group of many pages with images that a reader must find in any order."""
    rows = [{"prompt": f"prompt {i}", "chosen": {"bytes": picture(i, 0), "path": f"{i}.png"}, "rejected": {"bytes": picture(i, 1), "path": None},
             "chosen_model": "dev", "rejected_model": "sd", "id": f"{i}-quality", "evolution": "quality", "category": "Manga",
             "sub_category": "x"} for i in range(40)]
    (ROOT / "parquet_pairs/data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), ROOT / "parquet_pairs/data/train-00000-of-00001.parquet", data_page_size=400,
                   write_batch_size=3, use_dictionary=False)
    expect("parquet_pairs", [row(f"{i}-quality", f"prompt {i}", [picture(i, 0), picture(i, 1)], generators=["dev", "sd"]) for i in range(40)])


def hpdv2():
    folder = ROOT / "hpdv2/train"
    folder.mkdir(parents=True)
    rows, expected = [], []
    for i, prompt in enumerate(PROMPTS[:5]):
        pair = [picture(i, 0), picture(i, 1)]
        for side, data in enumerate(pair):
            (folder / f"{i}_{side}.png").write_bytes(data)
        rows.append({"prompt": prompt, "file_path": [f"{i}_0.png", f"{i}_1.png"], "human_preference": [i % 2, 1 - i % 2], "user_hash": "h"})
        winner = 0 if i % 2 else 1
        expected.append(row(str(i), prompt, [pair[winner], pair[1 - winner]]))
    (ROOT / "hpdv2/train.json").write_text(json.dumps(rows))
    expect("hpdv2", expected)
    test = ROOT / "hpdv2_test/test"
    test.mkdir(parents=True)
    images = [picture(9, side) for side in range(3)]
    for side, data in enumerate(images):
        (test / f"{side}.png").write_bytes(data)
    one = {"prompt": "a dog", "image_path": ["0.png", "1.png", "2.png"], "rank": [2, 1, 2], "raw_annotations": [{"rank": [2, 1, 2], "user_hash": "x"}]}
    (ROOT / "hpdv2_test/test.json").write_text(json.dumps([one]))
    expect("hpdv2_test", [row("0", "a dog", images, phi=[0.0, 1.0, 0.0])])


def hpdv3():
    folder = ROOT / "hpdv3/images"
    folder.mkdir(parents=True)
    rows, expected = [], []
    dists = [[15, 5], None, "null", [3, 9], [1, 1]]
    for i, (prompt, dist) in enumerate(zip(PROMPTS, dists)):
        pair = [picture(i, 0), picture(i, 1)]
        for side, data in enumerate(pair):
            (folder / f"{i}_{side}.png").write_bytes(data)
        rows.append({"prompt": prompt, "path1": f"images/{i}_0.png", "path2": f"images/{i}_1.png", "choice_dist": dist,
                     "confidence": None if dist is None else 0.9, "model1": "flux", "model2": "real_images"})
        more = {"share": {0: 0.75, 4: 0.5}[i]} if i in (0, 4) else {}
        expected.append(row(str(i), prompt, pair, generators=["flux", "real_images"], **more))
    (ROOT / "hpdv3/train.json").write_text(json.dumps(rows))
    expect("hpdv3", expected)


def imagereward():
    folder = ROOT / "imagereward/images"
    folder.mkdir(parents=True)
    images = [picture(3, side, "webp") for side in range(4)]
    for side, data in enumerate(images):
        (folder / f"{side}.webp").write_bytes(data)
    names = [f"images/{side}.webp" for side in range(4)]
    entry = {"id": "000904-0035", "prompt": "a fox", "generations": names, "ranking": [1, 3, 2, 2]}
    other = {"id": "000904-0036", "prompt": "a red fox", "generations": names[:2], "ranking": [2, 1]}
    (ROOT / "imagereward/test.json").write_text(json.dumps([entry, other]))
    lists = [row("000904-0035", "a fox", images, phi=[1.0, 0.0, 1 / 3, 1 / 3]), row("000904-0036", "a red fox", images[:2], phi=[0.0, 1.0])]
    expect("imagereward", lists)
    hub = ROOT / "imagereward_hub/images/train/train_1"
    hub.mkdir(parents=True)
    rows = []
    for side, (data, rank) in enumerate(zip(images, [1, 3, 2, 2])):
        (hub / f"{side}.webp").write_bytes(data)
        rows.append({"image_path": f"images/train/train_1/{side}.webp", "prompt_id": "000904-0035", "prompt": "a fox", "classification": "People",
                     "image_amount_in_total": 4, "rank": rank, "overall_rating": 5, "image_text_alignment_rating": 4, "fidelity_rating": 6})
    pq.write_table(pa.Table.from_pylist(rows), ROOT / "imagereward_hub/metadata-train.parquet")
    expect("imagereward_hub", lists[:1])


def webdataset():
    folder = ROOT / "webdataset"
    folder.mkdir(parents=True)
    expected = []
    for shard in range(2):
        with tarfile.open(folder / f"train-{shard:05d}-of-00002.tar", "w") as tar:
            for i in range(shard * 3, shard * 3 + 3):
                pair = [picture(i, 0, "jpg"), picture(i, 1, "jpg")]
                label = [{"label": 0}, {"label": 1}, {"label": "tie"}, {"label_0": 0.0, "label_1": 1.0}, {}, {"label_0": 1}][i]
                described = {"prompt": PROMPTS[i], **label}
                members = [(f"{i:04d}.0.JPG", pair[0]), (f"{i:04d}.1.jpg", pair[1])]
                if i == 4:
                    members.append((f"{i:04d}.txt", PROMPTS[i].encode() + b"\n"))
                else:
                    members.append((f"{i:04d}.json", json.dumps(described).encode()))
                for name, data in members:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                first = 1 if i in (1, 3) else 0
                expected.append(row(f"{i:04d}", PROMPTS[i], [pair[first], pair[1 - first]], tie=i == 2))
    expect("webdataset", expected)


def folders():
    expected = []
    for i, prompt in enumerate(PROMPTS[:4]):
        for side, name in enumerate(["w", "l"]):
            folder = ROOT / "folders/10_fruit" / name
            folder.mkdir(parents=True, exist_ok=True)
            ending = "jpg" if side else "png"
            (folder / f"{i}.{ending}").write_bytes(picture(i, side, ending))
            (folder / f"{i}.{'caption' if side else 'txt'}").write_text(prompt + "\n")
        expected.append(row(f"10_fruit/{i}", prompt, [picture(i, 0), picture(i, 1, "jpg")]))
    expect("folders", expected)
    beside = ROOT / "folders_beside"
    beside.mkdir(parents=True)
    rows = []
    for i, prompt in enumerate(PROMPTS[:4]):
        for side, name in enumerate(["w", "l"]):
            (beside / f"{i}_{name}.png").write_bytes(picture(i, side))
        (beside / f"{i}.txt").write_text(prompt)
        rows.append(row(str(i), prompt, [picture(i, 0), picture(i, 1)]))
    expect("folders_beside", rows)


def imagefolder():
    for name in ["csv", "jsonl", "parquet"]:
        folder = ROOT / f"imagefolder_{name}"
        folder.mkdir(parents=True)
        rows, expected = [], []
        for i, prompt in enumerate(PROMPTS[:4]):
            for side, what in enumerate(["w", "l"]):
                (folder / f"{what}{i}.png").write_bytes(picture(i, side))
            rows.append({"winner_file_name": f"w{i}.png", "loser_file_name": f"l{i}.png", "prompt": prompt, "weight": 0.5 * (i + 1), "source": "x"})
            expected.append(row(str(i), prompt, [picture(i, 0), picture(i, 1)], weight=0.5 * (i + 1)))
        if name == "csv":
            with open(folder / "metadata.csv", "w", newline="") as file:
                table = csv.DictWriter(file, list(rows[0]))
                table.writeheader()
                table.writerows(rows)
        elif name == "jsonl":
            (folder / "metadata.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")
        expect(f"imagefolder_{name}", expected)


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    for make in [pickapic, pages, hpdv2, hpdv3, imagereward, webdataset, folders, imagefolder]:
        make()
    (ROOT / "expected.json").write_text(json.dumps(EXPECTED, indent=1) + "\n")
