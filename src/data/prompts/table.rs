//! Tables of text as spreadsheets and editors write them: `,` `;` or tab between fields, quotes, blanks around names.

/// Record that is appended to find a quote that never closes: it would be swallowed.
const END: &str = "\u{1}";

/// A header and rows of texts.
#[derive(Debug)]
pub struct Table {
    /// Names of the columns, without blanks around them.
    pub names: Vec<String>,
    /// Line of a row in the file, counted from 1 including the header, and its fields.
    pub rows: Vec<(usize, Vec<String>)>,
}

/// Separator of a .csv file: the one that its header has most of, `,` if none. Spreadsheets write `;` where numbers
/// have a decimal comma.
pub fn separator(text: &str) -> u8 {
    let header = text.lines().next().unwrap_or_default();
    let count = |byte: u8| header.bytes().filter(|b| *b == byte).count();
    *[b'\t', b';', b','].iter().max_by_key(|byte| count(**byte)).unwrap_or(&b',')
}

impl Table {
    /// Reads a table. Blank lines are skipped.
    ///
    /// # Errors
    /// A row with more or fewer fields than the header, a quote that never closes.
    pub fn parse(text: &str, separator: u8) -> Result<Self, String> {
        let text = format!("{}\n{END}", text.trim_end_matches('\n'));
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut records = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| e.to_string())?;
            let line = record.position().map_or(0, |position| position.line() as usize);
            records.push((line, record.iter().map(String::from).collect::<Vec<_>>()));
        }
        match records.pop() {
            Some((_, last)) if last == [END] => {}
            unclosed => {
                let line = unclosed.map_or(1, |(line, _)| line);
                return Err(format!("row {line}: a quote opens in this row and never closes; close it, or double it"));
            }
        }
        let mut rows = records.into_iter();
        let header = rows.next().map(|(_, fields)| fields).unwrap_or_default();
        let names: Vec<String> = header.iter().map(|name| name.trim().to_string()).collect();
        let rows: Vec<_> = rows.collect();
        match rows.iter().find(|(_, fields)| fields.len() != names.len()) {
            None => Ok(Self { names, rows }),
            Some((line, fields)) => Err(format!(
                "row {line}: {} fields, expected {} as in the header; put a text with separators into quotes",
                fields.len(),
                names.len()
            )),
        }
    }
}
