//! Image files to 8-bit RGB, upright, as Pillow reads them.

use super::jpeg;
use super::unreadable::{MAX_PIXELS, Unreadable};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use std::io::Cursor;
use std::path::Path;

/// Reads a file's bytes, for [`decode`] and for the hash.
pub fn read(path: &Path) -> Result<Vec<u8>, Unreadable> {
    std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Io(e.to_string()),
    })
}

/// Decodes an image to 8-bit RGB and applies its EXIF orientation.
///
/// The format follows from the bytes, not from the name. Grey, palette, CMYK and 16-bit images become 8-bit RGB (16
/// bit: round(v / 257)). Colour profiles are ignored, alpha is composed over white. The first frame of an animation
/// counts.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, Unreadable> {
    let format = image::guess_format(bytes).map_err(|_| Unreadable::NotAnImage { found: describe(bytes) })?;
    let (mut image, orientation) = match format {
        ImageFormat::Jpeg => {
            let (rgb, orientation) = jpeg::decode(bytes)?;
            (DynamicImage::ImageRgb8(rgb), orientation)
        }
        format => decode_other(bytes, format)?,
    };
    image.apply_orientation(orientation);
    Ok(to_rgb8(image))
}

fn decode_other(bytes: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), Unreadable> {
    let reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS as u64 {
        return Err(Unreadable::TooLarge { width: u64::from(width), height: u64::from(height) });
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    Ok((image, orientation))
}

fn unreadable(error: image::ImageError) -> Unreadable {
    match error {
        image::ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Unreadable::Truncated,
        image::ImageError::Limits(e) => Unreadable::Damaged(format!("it needs too much memory ({e})")),
        image::ImageError::Unsupported(e) => Unreadable::Unsupported(e.to_string()),
        other => {
            let text = other.to_string();
            // The PNG reader reports it only in words.
            if text.contains("unexpected end of file") { Unreadable::Truncated } else { Unreadable::Damaged(text) }
        }
    }
}

/// The probable content of a file that is no image.
fn describe(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        "the file is empty"
    } else if bytes.starts_with(b"version https://git-lfs") {
        "it is a git-lfs pointer, fetch the file with `git lfs pull`"
    } else if bytes.iter().take(512).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        "it is a text file"
    } else {
        "its first bytes are of no known format"
    }
}

/// 8-bit RGB: alpha over white, 16 bit rounded. By hand, because the image crate drops alpha.
fn to_rgb8(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let gray = |v: &u8| [*v; 3];
    let bytes: Vec<u8> = match image {
        DynamicImage::ImageRgb8(image) => return image,
        DynamicImage::ImageLuma8(image) => image.iter().flat_map(gray).collect(),
        DynamicImage::ImageLumaA8(image) => {
            image.as_raw().chunks_exact(2).flat_map(|p| [over_white(p[0], p[1]); 3]).collect()
        }
        DynamicImage::ImageRgba8(image) => rgba_over_white(image.as_raw()),
        DynamicImage::ImageLuma16(image) => image.iter().map(|v| eight_bit(*v)).flat_map(|v| [v; 3]).collect(),
        DynamicImage::ImageLumaA16(image) => {
            let values: Vec<u8> = image.iter().map(|v| eight_bit(*v)).collect();
            values.chunks_exact(2).flat_map(|p| [over_white(p[0], p[1]); 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => image.iter().map(|v| eight_bit(*v)).collect(),
        DynamicImage::ImageRgba16(image) => rgba_over_white(&image.iter().map(|v| eight_bit(*v)).collect::<Vec<u8>>()),
        other => rgba_over_white(other.to_rgba8().as_raw()),
    };
    // Every arm makes three values per pixel, so the sizes agree. An empty image is refused later.
    RgbImage::from_raw(width, height, bytes).unwrap_or_default()
}

fn rgba_over_white(pixels: &[u8]) -> Vec<u8> {
    pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]].map(|c| over_white(c, p[3]))).collect()
}

/// round((c a + 255 (255 - a)) / 255)
fn over_white(c: u8, a: u8) -> u8 {
    let (c, a) = (u32::from(c), u32::from(a));
    ((c * a + 255 * (255 - a) + 127) / 255) as u8
}

/// round(v / 257)
fn eight_bit(v: u16) -> u8 {
    ((u32::from(v) + 128) / 257) as u8
}
