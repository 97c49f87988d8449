//! Bytes of a text file as text: UTF-8, or a refusal that names the likely encoding and how to convert it.

use std::borrow::Cow;

/// Number of leading bytes examined to detect UTF-16 without a mark.
const SAMPLE: usize = 512;

/// The text without its byte-order mark. A CR that ends a line becomes an LF.
///
/// # Errors
/// Text that is not UTF-8: the error names the row, counted from 1, the likely encoding, and how to convert the file.
pub fn text(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    if let Some(encoding) = utf_16_or_32(bytes) {
        return Err(format!("row 1: this looks like {encoding}, expected UTF-8; {}", convert(encoding)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(with_line_feeds(text.trim_start_matches('\u{feff}'))),
        Err(e) => {
            let row = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
            let found = bytes[e.valid_up_to()];
            // A file that ends inside a character is truncated, not in another encoding.
            if e.error_len().is_none() {
                return Err(format!("row {row}: the file ends inside a character of UTF-8; it was cut, copy it again"));
            }
            let looks_like = single_byte(bytes);
            Err(format!(
                "row {row}: byte 0x{found:02x} is not UTF-8, this looks like {looks_like}; {}",
                convert(looks_like)
            ))
        }
    }
}

/// A CR alone ends lines of old Macs and of some spreadsheets.
fn with_line_feeds(text: &str) -> Cow<'_, str> {
    let alone = text.bytes().zip(text.bytes().skip(1).chain([0])).any(|(one, next)| one == b'\r' && next != b'\n');
    match alone {
        true => text.replace("\r\n", "\n").replace('\r', "\n").into(),
        false => text.into(),
    }
}

fn convert(encoding: &str) -> String {
    format!("convert it: iconv -f {encoding} -t UTF-8 FILE > NEW, or save it as UTF-8 in an editor")
}

/// Detected by the mark, or by zeros in every second byte of a Latin text.
fn utf_16_or_32(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("UTF-16"),
        _ => {}
    }
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let zeros = |parity: usize| sample.iter().skip(parity).step_by(2).filter(|byte| **byte == 0).count();
    let half = sample.len() / 2;
    match (half >= 2, zeros(0), zeros(1)) {
        (true, 0, odd) if 2 * odd > half => Some("UTF-16LE"),
        (true, even, 0) if 2 * even > half => Some("UTF-16BE"),
        _ => None,
    }
}

/// Bytes 0x80 to 0x9f are letters and quotes of Windows, and control characters of Latin-1.
fn single_byte(bytes: &[u8]) -> &'static str {
    match bytes.iter().any(|byte| (0x80..=0x9f).contains(byte)) {
        true => "WINDOWS-1252",
        false => "ISO-8859-1",
    }
}
