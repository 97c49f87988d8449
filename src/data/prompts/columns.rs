//! Finding a column by its name.

/// Default columns of prompts, in order of preference.
const COLUMNS: [&str; 3] = ["prompt", "caption", "text"];
/// Plural of PartiPrompts and others.
const PLURAL: &str = "prompts";

/// The candidate columns.
pub fn wanted<'a>(column: &'a Option<&'a str>) -> Vec<&'a str> {
    column.map_or_else(|| COLUMNS.into_iter().chain([PLURAL]).collect(), |column| vec![column])
}

/// Index of the first `wanted` name among `names`. Capitals and blanks around a name count only where two names differ
/// in nothing else.
///
/// # Errors
/// A name that two columns have.
pub fn pick<N: AsRef<str>>(names: &[N], wanted: &[&str]) -> Result<Option<usize>, String> {
    let plain = |name: &str| name.trim().to_lowercase();
    let found = |same: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..names.len()).filter(|index| same(names[*index].as_ref())).collect()
    };
    for name in wanted {
        let exact = found(&|other| other.trim() == *name);
        let places = if exact.is_empty() { found(&|other| plain(other) == plain(name)) } else { exact };
        match places[..] {
            [] => {}
            [place] => return Ok(Some(place)),
            [_, ..] => return Err(format!("{} columns are named {name}; rename all but one", places.len())),
        }
    }
    Ok(None)
}
