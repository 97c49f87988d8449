//! Errors in files of a model. Every message states the place, the expected and the found value, and the remedy.

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// Largest number of listed entries of one kind; the rest is counted.
const LISTED: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation on a file or folder.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    /// A JSON file that does not parse, or not into the expected type.
    #[error("{} is not valid JSON for its purpose: {source}; restore the file from where the model came", path.display())]
    Json { path: PathBuf, source: serde_json::Error },

    /// A missing file or folder.
    #[error("{} has no {what}: {hint}", folder.display())]
    Missing { folder: PathBuf, what: String, hint: String },

    /// An existing file with unusable content.
    #[error("{}: {problem}; {hint}", path.display())]
    Unusable { path: PathBuf, problem: String, hint: String },

    /// A key of a config.json has a value that is missing, mistyped or not implemented.
    #[error("{}: `{key}` is {found}, expected {expected}", path.display())]
    Config { path: PathBuf, key: String, expected: String, found: String },

    /// Tensors of a component do not fit its configuration.
    #[error("{0}")]
    Tensors(Box<TensorProblems>),

    /// Two models whose weights cannot be added; `other` is the one with the expected value.
    #[error("{} is of another architecture than {}:{}\nMerge models that were trained from one base",
        problems.path.display(), other.display(), problems.lists())]
    Architecture { other: PathBuf, problems: Box<TensorProblems> },

    /// A tensor of unsupported shape was passed to a network.
    #[error("{what} has the shape {found}, expected {expected}")]
    Shape { what: &'static str, expected: String, found: String },

    /// A call that the caller can correct, as the text states.
    #[error("{0}")]
    Invalid(String),

    /// Latents `[B, C, h, w]` left the range of numbers while they were denoised.
    #[error("the latents of picture {} of the batch are not finite after step {} (timestep {timestep})", row + 1, step + 1)]
    NotFinite {
        /// Place of the picture in the batch.
        row: usize,
        /// The first such call of the network, from 0.
        step: usize,
        timestep: f64,
    },

    /// libtorch refused an operation; the text is its first line.
    #[error("libtorch: {0}")]
    Torch(String),
}

/// All differences between the files of a component and its config.json.
#[derive(Debug, Default, Clone)]
pub struct TensorProblems {
    /// The file or folder that was read.
    pub path: PathBuf,
    pub missing: Vec<String>,
    pub extra: Vec<String>,
    /// name, shape by config.json, shape in the file
    pub misshapen: Vec<(String, Vec<i64>, Vec<i64>)>,
    /// Names and types of tensors without real numbers.
    pub untyped: Vec<(String, String)>,
    /// Tensors with NaN or infinity, in the kind that they were loaded in.
    pub not_finite: Vec<String>,
}

impl TensorProblems {
    pub fn is_empty(&self) -> bool {
        let Self { path: _, missing, extra, misshapen, untyped, not_finite } = self;
        missing.is_empty() && extra.is_empty() && misshapen.is_empty() && untyped.is_empty() && not_finite.is_empty()
    }
}

impl std::fmt::Display for TensorProblems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        let fits = Self { not_finite: Vec::new(), ..self.clone() }.is_empty();
        if fits {
            write!(f, "{path}: the weights are damaged{}", self.lists())?;
            return write!(f, "\nDownload or make them again; values beyond 65504 need dtype bfloat16 or float32");
        }
        write!(f, "{path}: the tensors do not fit config.json{}", self.lists())?;
        write!(f, "\nUse the config.json that belongs to these weights, or download both again")
    }
}

impl TensorProblems {
    /// The lists of differences, one entry per line.
    fn lists(&self) -> String {
        let misshapen = self.misshapen.iter().map(|(n, want, got)| format!("{n}: expected {want:?}, found {got:?}"));
        let untyped = self.untyped.iter().map(|(n, kind)| format!("{n}: {kind} instead of floating point"));
        let lists = [
            list("missing", &self.missing),
            list("extra", &self.extra),
            list("misshapen", &misshapen.collect::<Vec<_>>()),
            list("of another type", &untyped.collect::<Vec<_>>()),
            list("with NaN or infinity", &self.not_finite),
        ];
        lists.concat()
    }
}

fn list(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let shown: String = lines.iter().take(LISTED).map(|line| format!("\n    {line}")).collect();
    let more = lines.len().saturating_sub(LISTED);
    let more = if more > 0 { format!("\n    and {more} more") } else { String::new() };
    format!("\n  {title} ({}):{shown}{more}", lines.len())
}

impl Error {
    pub fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    pub fn unusable(path: &Path, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_path_buf(), problem: problem.into(), hint: hint.into() }
    }

    pub fn missing(folder: &Path, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Missing { folder: folder.to_path_buf(), what: what.into(), hint: hint.into() }
    }

    pub fn config(path: &Path, key: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Config { path: path.to_path_buf(), key: key.into(), expected: expected.into(), found: found.into() }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        // libtorch appends its C++ stack: 24 lines that do not help the owner of a damaged file.
        let text = text.split("\nException raised from").next().unwrap_or(&text);
        Self::Torch(text.trim().to_string())
    }
}

impl From<diffpref_native::NativeError> for Error {
    fn from(error: diffpref_native::NativeError) -> Self {
        Self::Torch(error.0)
    }
}
