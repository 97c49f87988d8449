//! Numbers of a metrics line.

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

/// Sets `key` if the method has a value for it. A value that is not finite becomes null, which JSON can express; an
/// absent key means that there is none.
pub fn put(into: &mut Map<String, Value>, key: &str, value: Option<f64>) {
    if let Some(x) = value {
        into.insert(key.into(), json!(x));
    }
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
