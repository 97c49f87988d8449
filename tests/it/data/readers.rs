//! Every format, as the libraries that people use write it (tests/golden/make_readers.py): the rows, the bytes of the images,
//! and a training from each.

use crate::support::each::one_test_each;
use crate::support::{World, golden, json, metrics, sha256, succeeds};
use diffpref::data::items::{Format, ItemKind, Preference};
use diffpref::data::row::{Entry, Row};
use diffpref::data::sources;
use serde_json::Value;
use std::path::Path;

/// Rows of a data set and the number of those without a label.
pub fn rows(path: &Path, format: Option<Format>, wanted: ItemKind) -> anyhow::Result<(Vec<Row>, usize)> {
    let (mut rows, mut unlabelled) = (Vec::new(), 0);
    sources::open(path, format)?.read(wanted, &mut |place, entry| {
        match entry.map_err(|problem| anyhow::anyhow!("{place}: {problem}"))? {
            Entry::Row(row) => rows.push(*row),
            Entry::Unlabelled => unlabelled += 1,
        }
        Ok(())
    })?;
    Ok((rows, unlabelled))
}

/// A row as expected.json has it: what is absent there must be absent here.
fn told(number: usize, row: &Row, expected: &Value) -> Value {
    let images: Vec<String> = row.images.iter().map(|image| sha256(&image.bytes().unwrap())).collect();
    let mut told = serde_json::json!({
        "id": row.id.clone().unwrap_or_else(|| number.to_string()), "prompt": row.prompt, "images": images,
    });
    match &row.preference {
        Preference::Pair { tie } if *tie || !expected["tie"].is_null() => told["tie"] = (*tie).into(),
        Preference::List { phi } => told["phi"] = phi.clone().into(),
        Preference::Pair { .. } | Preference::Label { .. } => {}
    }
    if let Some(user) = &row.user {
        told["user"] = user.as_str().into();
    }
    if let Some(weight) = row.weight {
        told["weight"] = weight.into();
    }
    if let Some(share) = row.share {
        told["share"] = share.into();
    }
    if !row.generators.is_empty() {
        told["generators"] = row.generators.clone().into();
    }
    told
}

fn assert_reads_as_written(set: &str) {
    let expected = &json(&golden("readers/expected.json"))[set];
    let (rows, unlabelled) = rows(&golden("readers").join(set), None, ItemKind::Lists).unwrap();
    let expected_rows = expected["rows"].as_array().unwrap();
    assert_eq!((rows.len(), unlabelled as u64), (expected_rows.len(), expected["unlabelled"].as_u64().unwrap()));
    for (number, (row, expected)) in rows.iter().zip(expected_rows).enumerate() {
        assert_eq!(&told(number, row, expected), expected, "row {number}");
    }
}

one_test_each! {
    a_set_reads_as_it_was_written: super::assert_reads_as_written;
    pickapic parquet_pairs hpdv2 hpdv2_test hpdv3 imagereward imagereward_hub webdataset folders folders_beside
    imagefolder_csv imagefolder_jsonl imagefolder_parquet
}

/// Two steps of a LoRA on four pairs at 16 pixels.
fn assert_trains(set: &str) {
    let world = World::new(1);
    let data = format!("data.path={}", golden("readers").join(set).display());
    succeeds(&mut world.train_with(&[&data, "validate.fraction=0", "train.steps=2"]));
    let run = world.run_dir();
    assert_eq!(metrics(&run).len(), 2);
    assert!(run.join("final/pytorch_lora_weights.safetensors").is_file());
    let report = json(&run.join("data-report.json"));
    assert_eq!(report["items_bad"], 0, "{report}");
    let resolved: toml::Table = std::fs::read_to_string(run.join("resolved.toml")).unwrap().parse().unwrap();
    let format = resolved["data"]["format"].as_str().unwrap();
    assert!(set.starts_with(format), "{set} was read as {format}");
}

one_test_each! {
    a_lora_trains_on: super::assert_trains;
    pickapic parquet_pairs hpdv2 hpdv3 imagereward webdataset folders imagefolder_csv
}

/// Files by name with their bytes, and words of the message.
type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a str);

#[test]
fn a_run_on_shards_resumes_and_notices_another_image() {
    let world = World::new(1);
    crate::support::copy(&golden("readers/webdataset"), &world.path("shards"));
    let data = format!("data.path={}", world.path("shards").display());
    let sets = [data.as_str(), "validate.fraction=0"];
    succeeds(&mut world.train_with(&[&sets[..], &["train.steps=2"]].concat()));
    let resume = |steps: &str| {
        let mut command = world.train_with(&[&sets[..], &[steps]].concat());
        command.arg("--resume");
        command
    };
    succeeds(&mut resume("train.steps=3"));
    assert_eq!(metrics(&world.run_dir()).len(), 3);
    let shard = world.path("shards/train-00000-of-00002.tar");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[512 + 200] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let said = world.refused(&mut resume("train.steps=4"), 1);
    assert!(said.contains("have changed since the run began"), "{said}");
}

#[test]
fn images_of_parquet_files_are_found_in_any_order() {
    let (rows, _) = rows(&golden("readers/parquet_pairs"), None, ItemKind::Pairs).unwrap();
    let expected = &json(&golden("readers/expected.json"))["parquet_pairs"]["rows"];
    for number in [39, 0, 17, 18, 3, 38, 38] {
        let hash = sha256(&rows[number].images[1].bytes().unwrap());
        assert_eq!(expected[number]["images"][1], hash, "row {number}");
    }
}

#[test]
fn rankings_become_pairs_of_different_ranks_for_a_method_of_pairs() {
    let (rows, _) = rows(&golden("readers/imagereward"), None, ItemKind::Pairs).unwrap();
    let said: Vec<(String, String, String)> = rows
        .iter()
        .map(|row| {
            let name = |place: usize| row.images[place].file().file_stem().unwrap().to_string_lossy().into_owned();
            (row.id.clone().unwrap(), name(0), name(1))
        })
        .collect();
    let expected = [
        ("000904-0035:0:1", "0", "1"),
        ("000904-0035:0:2", "0", "2"),
        ("000904-0035:0:3", "0", "3"),
        ("000904-0035:1:2", "2", "1"),
        ("000904-0035:1:3", "3", "1"),
        ("000904-0036:0:1", "1", "0"),
    ];
    assert_eq!(said, expected.map(|(id, w, l)| (id.to_string(), w.to_string(), l.to_string())));
}

/// The error of reading files written here.
fn refusal(files: &[(&str, &[u8])], format: Option<Format>) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let error = format!("{:#}", rows(dir.path(), format, ItemKind::Pairs).unwrap_err());
    error.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn bad_rows_of_foreign_files_are_refused_with_file_and_row() {
    let png: &[u8] = b"\x89PNG";
    let cases: [Case<'_>; 12] = [
        (
            &[("train.json", br#"[{"prompt": "a", "file_path": ["0.png", "1.png"], "human_preference": [1]}]"#)],
            "DIR/train.json:1: expected two images and `human_preference` = [1, 0] or [0, 1], found 2 and [1]",
        ),
        (
            &[("train.json", br#"[{"prompt": "a", "file_path": ["0", "../1"], "human_preference": [1, 0]}]"#)],
            "DIR/train.json:1: the image \"train/../1\" is outside the folder of the data; expected a path below it",
        ),
        (
            &[("train.json", br#"[{"prompt": "a", "path1": "0.png", "path2": "/etc/passwd"}]"#)],
            "DIR/train.json:1: the image \"/etc/passwd\" is outside the folder of the data",
        ),
        (
            &[("train.json", br#"[{"prompt": "a", "path1": "0.png", "path2": "1.png"}, {"prompt": 3"#)],
            "DIR/train.json: not a JSON list of objects: EOF while parsing",
        ),
        (
            &[("t.json", br#"[{"prompt": "a", "generations": ["0", "1"], "ranking": [1]}]"#)],
            "DIR/t.json:1: 2 images and 1 ranks: expected at least two images, one rank each",
        ),
        (
            &[("w/a.png", png), ("w/a.txt", b"x"), ("l/b.png", png)],
            "DIR/w/a.png:1: the pair a has no loser; add the image, or remove the other one",
        ),
        (
            &[("w/a.png", png), ("l/a.jpg", png)],
            "the pair a has no prompt; write it into a file of that name ending in .txt",
        ),
        (
            &[("w/a.png", png), ("w/a.txt", b"x"), ("l/a.png", png), ("l/a.txt", b"y")],
            "the images of the pair a have two prompts, \"x\" and \"y\"; a pair has one",
        ),
        (
            &[("metadata.csv", b"winner_file_name,prompt\nw.png,a\n")],
            "DIR/metadata.csv:2: missing field `loser`; a pair needs prompt, winner and loser, found `winner`, `prompt`",
        ),
        (
            &[("a.tar", &[0x1f, 0x8b, 8, 0])],
            "DIR/a.tar is compressed (gzip): its images cannot be read one by one. Unpack it first",
        ),
        (&[("a.parquet", b"PAR1 no")], "DIR/a.parquet is not a whole parquet file"),
        (&[("notes.md", b"hello")], "data.path: DIR holds no data of a known format. Known are:"),
    ];
    for (files, message) in cases {
        let error = refusal(files, None);
        assert!(error.contains(message), "{error}\nexpected {message}");
    }
}

#[test]
fn what_could_be_two_formats_or_two_splits_is_refused() {
    let both: [(&str, &[u8]); 3] = [("a.tar", b""), ("w/a.png", b"x"), ("l/a.png", b"x")];
    assert!(refusal(&both, None).contains("could be webdataset or folders; name one in data.format"));
    let splits: [(&str, &[u8]); 2] = [("train-00000-of-00001.tar", b""), ("test-00000-of-00001.tar", b"")];
    let error = refusal(&splits, None);
    assert!(
        error.contains("holds the splits test, train; name one, as data.path = \"DIR/test*\" or \"DIR/train*\""),
        "{error}"
    );
    let error = refusal(&[("notes.md", b"")], Some(Format::PickAPic));
    assert!(
        error.starts_with("data.format = \"pickapic\", and DIR does not hold it; expected parquet files"),
        "{error}"
    );
}

/// A tar shard of members.
fn shard(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn bad_samples_of_a_shard_are_refused_with_their_key() {
    let cases: [Case<'_>; 5] = [
        (&[("1.0.jpg", b"a"), ("1.0.jpg", b"b")], "a.tar:1: the sample 1: the member 1.0.jpg is in the shard twice"),
        (
            &[("1.0.jpg", b"a"), ("1.1.jpg", b"b"), ("1.json", b"[]")],
            "the sample 1: expected a JSON object in .json, found an array",
        ),
        (&[("1.0.jpg", b"a"), ("1.2.jpg", b"b"), ("1.txt", b"p")], "the sample 1: there is no image 1.1.jpg"),
        (
            &[("1.0.jpg", b"a"), ("1.1.jpg", b"b"), ("1.json", br#"{"prompt": "p", "label": 2}"#)],
            "the sample 1: expected `label` = 0 or 1 (the preferred image) or \"tie\", or `label_0` = 1, 0 or 0.5, found 2",
        ),
        (
            &[("1.0.jpg", b"a"), ("1.1.jpg", b"b")],
            "the sample 1: missing field `prompt`; a pair needs prompt, winner and loser",
        ),
    ];
    for (members, message) in cases {
        let error = refusal(&[("a.tar", &shard(members))], None);
        assert!(error.contains(message), "{error}\nexpected {message}");
    }
    let cut = shard(&[("1.0.jpg", &[7; 2000]), ("1.1.jpg", &[7; 2000])]);
    let error = refusal(&[("a.tar", &cut[..4000])], None);
    assert!(error.contains("a.tar ends inside 1.1.jpg; copy or download it again"), "{error}");
    let error = refusal(&[("a.tar", &cut[..3000])], None);
    assert!(error.contains("a.tar is not a whole tar archive; write it again"), "{error}");
}

#[test]
fn a_removed_container_is_a_missing_image_and_a_cut_one_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::copy(&golden("readers/parquet_pairs"), dir.path());
    let (rows, _) = rows(dir.path(), None, ItemKind::Pairs).unwrap();
    let file = rows[0].images[0].file().to_path_buf();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = rows[0].images[0].bytes().unwrap_err().to_string();
    assert!(error.starts_with("the image is damaged: the parquet file cannot be read"), "{error}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(rows[1].images[0].bytes().unwrap_err().to_string(), "the file is missing");
}
