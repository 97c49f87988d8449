//! Names of the column that holds the prompts.

/// Default columns of prompts, in order of preference.
const COLUMNS: [&str; 5] = ["prompt", "caption", "text", "Prompt", "Prompts"];

/// The candidate columns.
pub fn wanted<'a>(column: &'a Option<&'a str>) -> &'a [&'a str] {
    column.as_ref().map_or(&COLUMNS[..], std::slice::from_ref)
}
