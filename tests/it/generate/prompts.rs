//! Files of prompts, parquet files of pyarrow (golden/make_prompts.py) among them, and their refusals.

use crate::support::golden;
use diffpref::data::prompts::read as read_prompts;
use std::path::Path;

/// What a refused parquet file says, without the folder.
fn refused(path: &Path, column: Option<&str>) -> String {
    let text = read_prompts(path, column).unwrap_err().to_string();
    assert!(!text.contains("panicked"), "{text}");
    text.replace(&format!("{}/", path.parent().unwrap().display()), "")
}

#[test]
fn prompts_files_are_read_by_their_ending_and_errors_name_the_row() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        read_prompts(&dir.path().join(name), None)
    };
    assert_eq!(file("a.txt", "a cat\n\n  a dog \r\n").unwrap(), ["a cat", "a dog"]);
    assert_eq!(file("a.csv", "id,caption\n1,\"a cat, sitting\"\n2,a dog\n").unwrap(), ["a cat, sitting", "a dog"]);
    assert_eq!(file("a.tsv", "text\tprompt\nno\ta cat\n").unwrap(), ["a cat"]);
    assert_eq!(file("a.jsonl", "{\"Prompt\": \"a cat\"}\n\n{\"prompt\": \"\"}\n").unwrap(), ["a cat", ""]);
    // DrawBench, HPSv2's benchmark, ImageReward's.
    assert_eq!(file("d.csv", "Prompts,Category\nA red car.,Colors\n").unwrap(), ["A red car."]);
    assert_eq!(file("a.json", "[\"a cat\", \"a dog\"]").unwrap(), ["a cat", "a dog"]);
    assert_eq!(file("b.json", "[{\"id\": \"7-1\", \"prompt\": \"a cat\"}]").unwrap(), ["a cat"]);
    let named = read_prompts(&dir.path().join("a.csv"), Some("id")).unwrap();
    assert_eq!(named, ["1", "2"]);
    let error =
        |name, text| file(name, text).unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR");
    assert_eq!(
        error("b.csv", "id,name\n1,x\n"),
        "DIR/b.csv row 1: no column prompt, caption, text, prompts; there are: id, name"
    );
    assert!(error("c.csv", "prompt,id\na,1\nb\n").starts_with("DIR/c.csv row 3: "));
    assert!(
        error("b.jsonl", "{\"prompt\": \"a\"}\n{\"prompt\":\n").starts_with("DIR/b.jsonl row 2: not a JSON object")
    );
    assert_eq!(error("c.jsonl", "{\"prompt\": 3}"), "DIR/c.jsonl row 1: the prompt is 3, expected a text");
    assert_eq!(error("c.json", "[\"a cat\", 3]"), "DIR/c.json entry 2: expected a JSON object, found 3");
    assert!(error("d.json", "{}").contains("is not a JSON list of texts or objects"));
    assert!(error("b.txt", "\n").contains("holds no prompt"));
    let none = read_prompts(&dir.path().join("none.txt"), None).unwrap_err().to_string();
    assert!(none.contains("cannot read the prompts") && none.contains("none.txt"), "{none}");
    assert!(error("a.pickle", "x").contains("expected a name ending in .txt, .csv, .tsv, .json, .jsonl or .parquet"));
}

#[test]
fn a_text_in_another_encoding_is_refused_with_the_row_what_it_looks_like_and_how_to_convert_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.txt");
    let said = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        refused(&file, None)
    };
    let utf_16 = |swap: bool, mark: bool| -> Vec<u8> {
        let text = if mark { "\u{feff}a cat\na dog\n" } else { "a cat\na dog\n" };
        text.encode_utf16().flat_map(|c| if swap { c.to_be_bytes() } else { c.to_le_bytes() }).collect()
    };
    for (bytes, encoding) in [
        (utf_16(false, true), "UTF-16"),
        (utf_16(true, true), "UTF-16"),
        (utf_16(false, false), "UTF-16LE"),
        (utf_16(true, false), "UTF-16BE"),
        (b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32"),
    ] {
        let how = format!("convert it: iconv -f {encoding} -t UTF-8 FILE > NEW, or save it as UTF-8 in an editor");
        assert_eq!(said(&bytes), format!("a.txt row 1: this looks like {encoding}, expected UTF-8; {how}"));
    }
    let how = "convert it: iconv -f ISO-8859-1 -t UTF-8 FILE > NEW, or save it as UTF-8 in an editor";
    assert_eq!(
        said(b"a cat\r\na caf\xe9\r\n"),
        format!("a.txt row 2: byte 0xe9 is not UTF-8, this looks like ISO-8859-1; {how}")
    );
    assert!(
        said(b"a cat\nthe cat\x92s tail\n").contains("row 2: byte 0x92 is not UTF-8, this looks like WINDOWS-1252")
    );
    assert_eq!(
        said(b"a cat\na caf\xc3"),
        "a.txt row 2: the file ends inside a character of UTF-8; it was cut, copy it again"
    );
}

#[test]
fn a_mark_and_the_line_ends_of_windows_are_no_part_of_a_prompt() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("a.txt", "\u{feff}a cat\r\n\r\n  \r\nein Käse 🧀\r\n"),
        ("a.csv", "\u{feff}prompt,id\r\na cat,1\r\nein Käse 🧀,2\r\n"),
        ("a.tsv", "\u{feff}prompt\tid\r\na cat\t1\r\nein Käse 🧀\t2\r\n"),
        ("a.jsonl", "\u{feff}{\"prompt\": \"a cat\"}\r\n\r\n{\"prompt\": \"ein Käse 🧀\"}\r\n"),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(read_prompts(&dir.path().join(name), None).unwrap(), ["a cat", "ein Käse 🧀"], "{name}");
    }
    std::fs::write(dir.path().join("b.txt"), "\u{feff}\r\n \r\n\t\r\n").unwrap();
    assert_eq!(refused(&dir.path().join("b.txt"), None), "b.txt holds no prompt");
}

#[test]
fn tables_of_spreadsheets_are_read_and_no_row_vanishes() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        read_prompts(&dir.path().join(name), None)
    };
    for text in [
        "id;prompt\n1;red apple, big\n2;cat\n",
        "id, prompt\n1,\"red apple, big\"\n2,cat\n",
        "ID,PROMPT\n1,\"red apple, big\"\n2,cat\n",
        "id\tprompt\r1\tred apple, big\r2\tcat\r",
    ] {
        assert_eq!(file("a.csv", text).unwrap(), ["red apple, big", "cat"], "{text}");
    }
    assert_eq!(file("a.txt", "red apple\rcat\rdog\r").unwrap(), ["red apple", "cat", "dog"]);
    assert_eq!(file("a.jsonl", "{\"prompt\": \"a\"}\r{\"prompt\": \"b\"}\r").unwrap(), ["a", "b"]);
    assert_eq!(file("b.csv", "Prompt,prompt\nno,yes\n").unwrap(), ["yes"]);
    assert_eq!(file("c.csv", "prompt\n5\" tall\n\"a \"\"red\"\" cat\"\n").unwrap(), ["5\" tall", "a \"red\" cat"]);
    let error =
        |text: &str| file("d.csv", text).unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR");
    assert_eq!(
        error("id,prompt\n1,a\n2,\"b\n3,c\n4,d\n"),
        "DIR/d.csv row 3: a quote opens in this row and never closes; close it, or double it"
    );
    assert_eq!(error("prompt,prompt\na,b\n"), "DIR/d.csv row 1: 2 columns are named prompt; rename all but one");
    assert_eq!(
        error("prompt,id\na, b,1\n"),
        "DIR/d.csv row 2: 3 fields, expected 2 as in the header; put a text with separators into quotes"
    );
    let list = file("e.jsonl", "[{\"prompt\": \"a\"}, {\"prompt\": \"b\"}]\n").unwrap_err().to_string();
    assert!(list.contains("row 1: expected a JSON object, found ["), "{list}");
}

#[test]
fn every_codec_of_parquet_gives_the_rows_that_pyarrow_wrote() {
    let rows: Vec<String> = (0..1200).map(|i| format!("a cat with {} tails", i % 7)).collect();
    for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli", "plain"] {
        assert_eq!(read_prompts(&golden(&format!("prompts/{codec}.parquet")), None).unwrap(), rows, "{codec}");
    }
}

#[test]
fn a_column_of_parquet_is_found_by_its_name_as_in_a_table() {
    let texts = ["red apple", "blauer Fuchs 🦊", ""];
    assert_eq!(read_prompts(&golden("prompts/large.parquet"), None).unwrap(), texts);
    assert_eq!(read_prompts(&golden("prompts/large.parquet"), Some("caption")).unwrap(), texts);
    let missing = refused(&golden("prompts/zstd.parquet"), Some("caption"));
    assert_eq!(missing, "zstd.parquet has no column caption; there are: id, prompt");
}

#[test]
fn a_row_of_parquet_that_is_no_text_is_named() {
    assert_eq!(
        refused(&golden("prompts/null.parquet"), None),
        "null.parquet row 4: the prompt is null, expected a text"
    );
    assert_eq!(
        refused(&golden("prompts/bytes.parquet"), None),
        "bytes.parquet row 2: the prompt is not UTF-8, expected a text"
    );
    let numbers = golden("prompts/numbers.parquet");
    assert_eq!(
        refused(&numbers, None),
        "numbers.parquet column prompt holds INT64, expected texts; name another with --prompt-column"
    );
    assert!(refused(&numbers, Some("text")).contains("column text is nested, expected a text in each row"));
    let decimal = refused(&numbers, Some("caption"));
    assert!(decimal.contains("column caption holds Decimal") && decimal.contains("expected texts"), "{decimal}");
    assert_eq!(refused(&golden("prompts/empty.parquet"), None), "empty.parquet holds no prompt");
}

#[test]
fn a_codec_that_is_not_read_is_named_with_those_that_are() {
    let text = refused(&golden("prompts/lzo.parquet"), None);
    assert!(text.starts_with("lzo.parquet row 1: ") && text.contains("LZO"), "{text}");
    assert!(text.ends_with("write the file with snappy, zstd, gzip, lz4 or brotli"), "{text}");
}

#[test]
fn a_damaged_parquet_file_is_refused_wherever_the_damage_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.parquet");
    std::fs::write(&file, "x").unwrap();
    assert!(refused(&file, None).starts_with("x.parquet is not a parquet file: "), "{}", refused(&file, None));
    let whole = std::fs::read(golden("prompts/snappy.parquet")).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 20]).unwrap();
    assert!(refused(&file, None).starts_with("x.parquet is not a parquet file: "), "{}", refused(&file, None));
    let footer = 8 + u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap()) as usize;
    let mut zeros = whole.clone();
    zeros[4..whole.len() - footer].fill(0);
    std::fs::write(&file, &zeros).unwrap();
    assert!(refused(&file, None).starts_with("x.parquet row 1: "), "{}", refused(&file, None));
    // A flipped byte is refused or changes a text; it never ends the program.
    for place in (4..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        std::fs::write(&file, &bytes).unwrap();
        if let Err(e) = read_prompts(&file, None) {
            assert!(e.to_string().contains("x.parquet "), "{e}");
        }
    }
}
