//! Rankings of k images: as one list, or as pairs of different ranks.

use crate::data::image_ref::ImageRef;
use crate::data::item::{ItemKind, Preference};
use crate::data::ranking::win_fractions;
use crate::data::row::Row;
use serde_json::Value;

/// A prompt with k ranked images; the lowest rank is the best.
pub struct Ranked {
    pub id: Option<String>,
    pub prompt: String,
    pub images: Vec<ImageRef>,
    pub ranks: Vec<f64>,
}

impl Ranked {
    /// One list, or with `wanted` pairs the pairs i < j of different ranks, with the ids `ID:i:j`.
    ///
    /// # Errors
    /// Fewer than two images, or not one rank per image.
    pub fn rows(self, number: usize, wanted: ItemKind) -> Result<Vec<Row>, String> {
        let k = self.images.len();
        if k < 2 || self.ranks.len() != k {
            return Err(format!(
                "{k} images and {} ranks: expected at least two images, one rank each",
                self.ranks.len()
            ));
        }
        match wanted {
            ItemKind::Lists => {
                let scores: Vec<f64> = self.ranks.iter().map(|rank| -rank).collect();
                let preference = Preference::List { phi: win_fractions([scores.as_slice()], k) };
                Ok(vec![Row { id: self.id, ..Row::new(self.prompt, self.images, preference) }])
            }
            ItemKind::Pairs | ItemKind::Labels => {
                let id = self.id.clone().unwrap_or_else(|| number.to_string());
                let places = (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j)));
                let unequal = places.filter(|(i, j)| self.ranks[*i] != self.ranks[*j]);
                let pair = |(i, j): (usize, usize)| {
                    let (winner, loser) = if self.ranks[i] < self.ranks[j] { (i, j) } else { (j, i) };
                    let images = vec![self.images[winner].clone(), self.images[loser].clone()];
                    let row = Row::new(self.prompt.clone(), images, Preference::Pair { tie: false });
                    Row { id: Some(format!("{id}:{i}:{j}")), ..row }
                };
                Ok(unequal.map(pair).collect())
            }
        }
    }
}

/// Ranks of a field.
///
/// # Errors
/// Not a list of numbers.
pub fn ranks(name: &str, value: &Value) -> Result<Vec<f64>, String> {
    let numbers = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
    numbers.ok_or_else(|| format!("field `{name}`: expected one rank per image, found {value}"))
}
