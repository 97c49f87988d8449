//! Means, intervals, and numbers in JSON.

use serde_json::{Map, Value, json};

/// 1 above zero, one half at zero.
pub fn wins(u: f64) -> f64 {
    if u > 0.0 {
        1.0
    } else if u == 0.0 {
        0.5
    } else {
        0.0
    }
}

/// `None` for an empty list.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sets `key` if the method has a value for it. A value that is not finite becomes null, which JSON can express; an
/// absent key means that there is none.
pub fn put(into: &mut Map<String, Value>, key: &str, value: Option<f64>) {
    if let Some(x) = value {
        into.insert(key.into(), json!(x));
    }
}

/// 95 % interval over prompts, of the mean of each: their mean +- 1.96 std (n - 1) / sqrt(prompts); `None` with one
/// prompt.
pub fn interval(means: &[f64]) -> Option<(f64, f64)> {
    let n = means.len() as f64;
    if means.len() < 2 {
        return None;
    }
    let centre = mean(means)?;
    let variance = means.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / (n - 1.0);
    let half = 1.96 * (variance / n).sqrt();
    Some((centre - half, centre + half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_finite_stays_visible_as_null() {
        let mut m = Map::new();
        put(&mut m, "loss", Some(f64::NAN));
        put(&mut m, "beta", None);
        assert_eq!(Value::Object(m).to_string(), r#"{"loss":null}"#);
    }
}
