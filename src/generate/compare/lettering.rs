//! Captions in a picture: the public-domain 8 x 8 font of font8x8. Missing letters become question marks.

use font8x8::{BASIC_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, UnicodeFonts};
use image::{Rgb, RgbImage};

/// Side of a letter in pixels at scale 1.
pub const LETTER: u32 = 8;
const INK: Rgb<u8> = Rgb([32, 36, 44]);

/// Draws one line with its upper left corner at `x`, `y`. Parts outside the picture are cut.
pub fn draw(sheet: &mut RgbImage, text: &str, x: u32, y: u32, scale: u32) {
    for (place, letter) in text.chars().enumerate() {
        let left = x + place as u32 * LETTER * scale;
        for (row, bits) in glyph(letter).into_iter().enumerate() {
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                fill(sheet, left + column * scale, y + row as u32 * scale, scale);
            }
        }
    }
}

fn fill(sheet: &mut RgbImage, x: u32, y: u32, side: u32) {
    for (x, y) in (x..x + side).flat_map(|x| (y..y + side).map(move |y| (x, y))) {
        if let Some(pixel) = sheet.get_pixel_mut_checked(x, y) {
            *pixel = INK;
        }
    }
}

fn glyph(letter: char) -> [u8; 8] {
    let found = BASIC_FONTS.get(letter).or_else(|| LATIN_FONTS.get(letter));
    let found = found.or_else(|| GREEK_FONTS.get(letter)).or_else(|| HIRAGANA_FONTS.get(letter));
    found.or_else(|| BASIC_FONTS.get('?')).unwrap_or_default()
}

/// Breaks a text into at most `lines` lines of at most `columns` letters, between words where possible. A text that
/// does not fit ends in dots.
pub fn wrap(text: &str, columns: usize, lines: usize) -> Vec<String> {
    let columns = columns.max(4);
    let mut wrapped = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let line = wrapped.last().map_or(0, |line| line.chars().count());
            let space = usize::from(line > 0);
            let fits = line + space + rest.len() <= columns;
            if !fits && line > 0 {
                wrapped.push(String::new());
                continue;
            }
            let taken: String = rest.drain(..rest.len().min(columns)).collect();
            if let Some(last) = wrapped.last_mut() {
                *last += if space == 1 { " " } else { "" };
                *last += &taken;
            }
        }
    }
    if wrapped.len() > lines {
        wrapped.truncate(lines);
        if let Some(last) = wrapped.last_mut() {
            *last = last.chars().take(columns - 3).collect::<String>() + "...";
        }
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_is_broken_between_words_and_cut_with_dots() {
        assert_eq!(wrap("a black cat", 20, 2), ["a black cat"]);
        assert_eq!(wrap("a black cat\nin the forest", 11, 3), ["a black cat", "in the", "forest"]);
        assert_eq!(wrap("a black cat in the forest", 11, 2), ["a black cat", "in the..."]);
        assert_eq!(wrap("incomprehensibilities", 8, 3), ["incompre", "hensibil", "ities"]);
        assert_eq!(wrap("", 8, 2), [""]);
    }

    #[test]
    fn a_letter_is_drawn_as_the_font_has_it_and_an_unknown_one_as_a_question_mark() {
        let drawn = |text: &str, scale| {
            let mut sheet = RgbImage::from_pixel(16, 16, Rgb([255; 3]));
            draw(&mut sheet, text, 0, 0, scale);
            sheet
        };
        let ink = |sheet: &RgbImage| sheet.pixels().filter(|pixel| **pixel == INK).count();
        // The font's I: rows 1E 0C 0C 0C 0C 0C 1E 00.
        assert_eq!(ink(&drawn("I", 1)), 2 * 4 + 5 * 2);
        assert_eq!(ink(&drawn("I", 2)), 4 * ink(&drawn("I", 1)));
        assert_eq!(drawn("I", 1).get_pixel(1, 0), &INK);
        assert_eq!(drawn("\u{732b}", 1), drawn("?", 1));
        assert_ne!(drawn("\u{fc}", 1), drawn("?", 1));
        assert_eq!(ink(&drawn("IIII", 1)), 2 * ink(&drawn("I", 1)), "what does not fit is cut");
    }
}
