//! PNG files with text chunks, and pictures embedded in pages.

use crate::machine::files::write_atomically;
use anyhow::{Context, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, RgbImage};
use std::io::BufReader;
use std::path::Path;

/// Writes a picture with text chunks (keyword, text) before its pixels; the file appears whole or not at all.
///
/// tEXt for Latin-1 texts, which most programs read, else iTXt in UTF-8.
pub fn write(path: &Path, image: &RgbImage, texts: &[(&str, &str)]) -> Result<()> {
    let bytes = encode(image, texts).with_context(|| format!("cannot make the picture {}", path.display()))?;
    write_atomically(path, &bytes)
}

/// Bytes of a PNG file with text chunks (keyword, text) before its pixels.
pub fn encode(image: &RgbImage, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        let latin1 = text.chars().all(|c| u32::from(c) < 256);
        match latin1 {
            true => encoder.add_text_chunk((*keyword).to_string(), (*text).to_string())?,
            false => encoder.add_itxt_chunk((*keyword).to_string(), (*text).to_string())?,
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_raw())?;
    writer.finish()?;
    Ok(bytes)
}

/// The text under `keyword`, if the file is a PNG that has it before its pixels.
pub fn read_text(path: &Path, keyword: &str) -> Option<String> {
    let decoder = png::Decoder::new(BufReader::new(std::fs::File::open(path).ok()?));
    let reader = decoder.read_info().ok()?;
    let info = reader.info();
    let plain = info.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == keyword);
    if let Some(chunk) = plain {
        return Some(chunk.text.clone());
    }
    info.utf8_text.iter().find(|chunk| chunk.keyword == keyword)?.get_text().ok()
}

/// A PNG file as a `data:` address, for a self-contained page. A picture with a side above `largest_side` pixels is
/// reduced.
///
/// # Errors
/// A missing file or one that is no PNG.
pub fn inline(path: &Path, largest_side: u32) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the picture {}", path.display()))?;
    let image = image::load_from_memory_with_format(&bytes, ImageFormat::Png)
        .with_context(|| format!("{} is not a PNG picture; make it again", path.display()))?;
    if image.width().max(image.height()) <= largest_side {
        return Ok(address(&bytes));
    }
    inline_picture(&image.to_rgb8(), largest_side).with_context(|| format!("cannot make {} smaller", path.display()))
}

/// [`inline`] for a picture in memory.
///
/// # Errors
/// A picture without pixels.
pub fn inline_picture(image: &RgbImage, largest_side: u32) -> Result<String> {
    if image.width().max(image.height()) <= largest_side {
        return Ok(address(&encode(image, &[])?));
    }
    let small = DynamicImage::from(image.clone()).resize(largest_side, largest_side, FilterType::Triangle);
    Ok(address(&encode(&small.to_rgb8(), &[])?))
}

fn address(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}
