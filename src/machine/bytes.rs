//! Numbers of bytes in words.

/// `1.5 MiB`, `2.50 GiB`.
pub fn in_words(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_mebibytes_up_to_a_gibibyte() {
        assert_eq!((in_words(3 << 19).as_str(), in_words(5 << 29).as_str()), ("1.5 MiB", "2.50 GiB"));
    }
}
