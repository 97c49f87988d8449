//! CLIP tokenizers against transformers 5.23 (golden/make_tokenizer.py).

use pipelines::text::Tokenizer;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn folder(name: &str) -> PathBuf {
    golden().join("tokenizer").join(name)
}

fn rows(name: &str) -> Vec<(String, Vec<i64>)> {
    let text = std::fs::read_to_string(golden().join("tokenizer_ids.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let row = |row: &Value| {
        let ids = row["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        (row["prompt"].as_str().unwrap().to_string(), ids)
    };
    all[name].as_array().unwrap().iter().map(row).collect()
}

fn ids(tokenizer: &Tokenizer, prompt: &str) -> Vec<i64> {
    Vec::<i64>::try_from(tokenizer.encode(&[prompt]).unwrap().view(-1)).unwrap()
}

fn assert_equals_transformers(name: &str) {
    let tokenizer = Tokenizer::open(&folder(name), 77).unwrap();
    let rows = rows(name);
    assert!(rows.len() > 50);
    for (prompt, expected) in rows {
        assert_eq!(ids(&tokenizer, &prompt), expected, "{name}: {prompt:?}");
    }
}

#[test]
fn vocab_and_merges_encode_as_transformers_does() {
    assert_equals_transformers("plain");
}

#[test]
fn an_exclamation_mark_that_pads_is_special_in_prompts_too() {
    assert_equals_transformers("exclaim");
    let tokenizer = Tokenizer::open(&folder("exclaim"), 77).unwrap();
    assert_eq!(ids(&tokenizer, "a")[3..], [0; 74]);
}

#[test]
fn tokenizer_json_with_a_small_vocabulary_encodes_as_transformers_does() {
    assert_equals_transformers("joined");
}

#[test]
fn a_batch_is_padded_and_cut_to_the_shorter_limit_of_tokenizer_and_text_encoder() {
    let tokenizer = Tokenizer::open(&folder("plain"), 8).unwrap();
    let long = "cat ".repeat(40);
    let batch = tokenizer.encode(&["", "a cat", &long]).unwrap();
    assert_eq!(batch.size(), [3, 8]);
    assert_eq!(tokenizer.tokens_cut("a cat").unwrap(), 0);
    assert_eq!(tokenizer.tokens_cut(&long).unwrap(), 40 - 6);
    assert_eq!(Tokenizer::open(&folder("joined"), 77).unwrap().length(), 16);
}

/// A copy of the plain tokenizer with one file replaced (None: removed).
fn broken(file: &str, content: Option<&str>) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder("plain")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    match content {
        Some(text) => std::fs::write(dir.path().join(file), text).unwrap(),
        None => std::fs::remove_file(dir.path().join(file)).unwrap(),
    }
    let error = Tokenizer::open(dir.path(), 77).err().expect("an error").to_string();
    let error = error.replace(&dir.path().display().to_string(), "DIR");
    (dir, error)
}

#[test]
fn broken_tokenizer_files_are_named() {
    let (_, missing) = broken("merges.txt", None);
    assert_eq!(missing, "DIR has no merges.txt: a CLIP tokenizer is vocab.json and merges.txt, or tokenizer.json");
    let (_, row) = broken("merges.txt", Some("#version: 0.2\na b\nabc\n"));
    assert!(row.starts_with("DIR/merges.txt: line 3 is \"abc\""), "{row}");
    let (_, word) = broken("merges.txt", Some("#version: 0.2\nq z\n"));
    assert!(word.contains("the merge `q z` needs `qz`, which the vocabulary lacks"), "{word}");
    let (_, json) = broken("vocab.json", Some("{\"a\": 0,"));
    assert!(json.starts_with("DIR/vocab.json is not valid JSON"), "{json}");
    let (_, special) = broken("special_tokens_map.json", Some("{\"pad_token\": \"<pad>\"}"));
    assert!(special.contains("pad_token `<pad>` is not in the vocabulary"), "{special}");
    let (_, length) = broken("tokenizer_config.json", Some("{\"model_max_length\": \"long\"}"));
    assert!(length.contains("`model_max_length` is \"long\", expected a number"), "{length}");
}
