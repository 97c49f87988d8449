//! JPEG as Pillow decodes it: libjpeg's own arithmetic, Adobe's polarity of CMYK, truncated files refused.

use super::unreadable::{MAX_PIXELS, Unreadable};
use image::RgbImage;
use image::metadata::Orientation;
use mozjpeg::{ColorSpace, Decompress, Marker};
use std::cell::Cell;
use std::io::{BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// Decodes a JPEG to RGB (before its orientation is applied), with the orientation of its EXIF block.
pub(super) fn decode(bytes: &[u8]) -> Result<(RgbImage, Orientation), Unreadable> {
    // libjpeg has no error values: the crate unwinds out of its error handler, also for a file that is not a JPEG.
    match catch_unwind(AssertUnwindSafe(|| decompress(bytes))) {
        Ok(result) => result,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map_or("libjpeg refused it", String::as_str);
            Err(Unreadable::Damaged(text.trim_start_matches("libjpeg fatal error: ").to_string()))
        }
    }
}

fn decompress(bytes: &[u8]) -> Result<(RgbImage, Orientation), Unreadable> {
    let damaged = |e: std::io::Error| Unreadable::Damaged(e.to_string());
    let ran_out = Rc::new(Cell::new(false));
    let reader = Watched { rest: bytes, ran_out: ran_out.clone() };
    let file = Decompress::with_markers(&[Marker::APP(1)]).from_reader(reader).map_err(damaged)?;
    let (width, height) = file.size();
    if width == 0 || height == 0 || width.saturating_mul(height) > MAX_PIXELS {
        return Err(Unreadable::TooLarge { width: width as u64, height: height as u64 });
    }
    let orientation = file.markers().find_map(exif_orientation).unwrap_or(Orientation::NoTransforms);
    let components = file.components().len();
    let space = match components {
        1 => ColorSpace::JCS_GRAYSCALE,
        3 => ColorSpace::JCS_RGB,
        4 => ColorSpace::JCS_CMYK,
        n => return Err(Unreadable::Damaged(format!("a JPEG of {n} colour components; 1, 3 and 4 can be read"))),
    };
    let mut started = file.to_colorspace(space).map_err(damaged)?;
    let samples: Vec<u8> = started.read_scanlines().map_err(damaged)?;
    // libjpeg fills missing data with grey, without an error.
    if ran_out.get() || samples.len() != width * height * components {
        return Err(Unreadable::Truncated);
    }
    let rgb = match components {
        1 => samples.iter().flat_map(|v| [*v; 3]).collect(),
        3 => samples,
        _ => samples.chunks_exact(4).flat_map(|p| cmyk_to_rgb([p[0], p[1], p[2], p[3]])).collect(),
    };
    let image = RgbImage::from_raw(width as u32, height as u32, rgb);
    image.map(|i| (i, orientation)).ok_or(Unreadable::Truncated)
}

fn exif_orientation(marker: mozjpeg::decompress::MarkerData<'_>) -> Option<Orientation> {
    Orientation::from_exif_chunk(marker.data.strip_prefix(b"Exif\0\0")?)
}

/// Pillow reads every four-component JPEG as written by Adobe (inverted), and mixes without a colour profile.
fn cmyk_to_rgb(inverted: [u8; 4]) -> [u8; 3] {
    let [c, m, y, k] = inverted.map(|v| 255 - i32::from(v));
    let white = 255 - k;
    [c, m, y].map(|ink| {
        let product = ink * white + 128;
        (white - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}

/// Detects that the decoder requested bytes after the last one, which happens only for a truncated file.
struct Watched<'a> {
    rest: &'a [u8],
    ran_out: Rc<Cell<bool>>,
}

impl Read for Watched<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.rest.read(to)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.rest.is_empty() {
            self.ran_out.set(true);
        }
        Ok(self.rest)
    }

    fn consume(&mut self, amount: usize) {
        self.rest = self.rest.get(amount..).unwrap_or_default();
    }
}
