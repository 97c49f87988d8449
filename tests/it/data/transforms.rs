//! Decoding and transforms against Pillow: `tests/golden/data_images.py` makes the files and the expectations.

use crate::support::golden;
use diffpref::data::decode::{decode, read};
use diffpref::data::transforms::{Crop, View, apply, square};
use diffpref::data::unreadable::Unreadable;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn images() -> PathBuf {
    golden("images")
}

fn bytes(name: &str) -> Vec<u8> {
    read(&images().join(name)).unwrap()
}

#[test]
fn every_kind_of_file_gives_the_bytes_of_pillow() {
    let cases: Vec<Value> = serde_json::from_slice(&bytes("cases.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let resolution = case["resolution"].as_u64().unwrap() as u32;
        let crop = match case["crop"].as_array() {
            None => Crop::Center,
            Some(at) => Crop::At { index: at[0].as_i64().unwrap(), count: at[1].as_i64().unwrap() },
        };
        let view = View { image: "".into(), flip: case["flip"].as_bool().unwrap(), crop };
        let image = decode(&bytes(case["file"].as_str().unwrap())).unwrap();
        let (ours, _) = square(&image, resolution, &view).unwrap();
        let expected =
            image::load_from_memory(&bytes(case["expected"].as_str().unwrap())).unwrap().to_rgb8().into_raw();
        let worst = ours.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
        let time_ids: [i64; 6] = serde_json::from_value(case["time_ids"].clone()).unwrap();
        if ours != expected || apply(&image, resolution, &view).unwrap().time_ids != time_ids {
            wrong.push(format!("{} (off by {worst:?})", case["expected"]));
        }
    }
    assert!(cases.len() > 40);
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_truncated_jpeg_is_noticed_wherever_it_is_cut() {
    for name in ["420.jpg", "progressive.jpg", "cmyk.jpg", "gray.jpg"] {
        let whole = bytes(name);
        assert!(decode(&whole).is_ok());
        for cut in [whole.len() / 2, whole.len() * 3 / 4, whole.len() - 20] {
            assert_eq!(decode(&whole[..cut]), Err(Unreadable::Truncated), "{name} cut at {cut} of {}", whole.len());
        }
        assert!(decode(&whole[..30]).is_err());
    }
}

#[test]
fn truncated_files_of_other_formats_are_refused() {
    for name in ["rgb.png", "rgba.png", "palette.png", "lossless.webp", "plain.bmp", "palette.gif"] {
        let whole = bytes(name);
        let error = decode(&whole[..whole.len() / 2]).expect_err(name);
        assert!(matches!(error, Unreadable::Truncated | Unreadable::Damaged(_)), "{name}: {error}");
    }
}

#[test]
fn what_is_no_image_is_told_so_whatever_its_name_is() {
    let told = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
    assert!(told(b"hello, I am no image").starts_with("not an image: it is a text file; JPEG, PNG"));
    assert!(told(b"").starts_with("not an image: the file is empty"));
    assert!(told(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(told(b"\x00\x01\x02\x03\xff\xfe").starts_with("not an image: its first bytes are of no known format"));
    assert!(told(b"\xff\xd8\xff\xe0 not really a jpeg").len() > 10);
    assert_eq!(read(Path::new("/nowhere/at/all.png")), Err(Unreadable::Missing));
}

#[test]
fn kinds_of_tiff_that_are_not_read_are_named() {
    let file = |name: &str| std::fs::read(golden("images-refused").join(name)).unwrap();
    for name in ["palette.tif", "lab.tif", "float.tif", "ycbcr.tif"] {
        let error = decode(&file(name)).unwrap_err().to_string();
        assert!(error.starts_with("the image is of a kind that is not read ("), "{name}: {error}");
        assert!(error.ends_with("); save it as 8-bit RGB"), "{name}: {error}");
    }
    let [bits, expected] = ["one-bit.tif", "one-bit.tif.png"].map(|name| decode(&file(name)).unwrap());
    assert_eq!(bits.as_raw(), expected.as_raw());
}

#[test]
fn a_header_that_asks_for_gigabytes_is_refused() {
    let mut jpeg = bytes("420.jpg");
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xfa; 4]);
    assert_eq!(decode(&jpeg), Err(Unreadable::TooLarge { width: 0xfafa, height: 0xfafa }));
}
