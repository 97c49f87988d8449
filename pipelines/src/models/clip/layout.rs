//! The layout of a CLIP's weights, and what a file without a CLIP is.

use crate::error::{Error, Result};
use crate::models::look_alike::look_alike;
use crate::weights::TensorFile;
use std::path::Path;

/// Names of the tensors in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// transformers' `CLIPModel`, behind a prefix: "" or "model."
    Transformers { prefix: &'static str },
    /// OpenCLIP, the text tower behind a prefix: "" or "text."
    OpenClip { text: &'static str },
}

const EXPECTED: &str =
    "expected a CLIP with vision and text tower, by transformers (CLIPModel) or OpenCLIP (docs/scorers.md)";

impl Layout {
    /// The layout of a file. `own`: start of names that the caller reads itself.
    ///
    /// # Errors
    /// Weights of another architecture, named if it is known.
    pub(super) fn of(file: &TensorFile, own: Option<&str>) -> Result<Self> {
        let foreign: Vec<&str> = file.names().filter(|name| own.is_none_or(|own| !name.starts_with(own))).collect();
        let has = |name: &str| file.shape(name).is_some();
        // Parts that no CLIP has decide before the parts that each has.
        let other = look_alike(&foreign.iter().copied().filter(|name| !is_common(name)).collect::<Vec<_>>());
        let found = [
            (
                "vision_model.embeddings.class_embedding",
                "text_model.embeddings.token_embedding.weight",
                Self::Transformers { prefix: "" },
            ),
            (
                "model.vision_model.embeddings.class_embedding",
                "model.text_model.embeddings.token_embedding.weight",
                Self::Transformers { prefix: "model." },
            ),
            ("visual.class_embedding", "token_embedding.weight", Self::OpenClip { text: "" }),
            ("visual.class_embedding", "text.token_embedding.weight", Self::OpenClip { text: "text." }),
        ];
        let found = found.into_iter().find(|(vision, text, _)| has(vision) && has(text)).map(|(.., layout)| layout);
        match (other, found) {
            (None, Some(layout)) => Ok(layout),
            (Some(what), _) => Err(refused(file.path(), what)),
            (None, None) => Err(match look_alike(&foreign) {
                Some(what) => refused(file.path(), what),
                None => {
                    let (count, first) = (file.names().count(), file.names().next().unwrap_or("nothing"));
                    let problem = format!("this is no CLIP ({count} tensors, the first is {first})");
                    Error::unusable(file.path(), problem, EXPECTED)
                }
            }),
        }
    }
}

fn refused(path: &Path, what: &str) -> Error {
    Error::unusable(path, format!("this looks like {what}"), EXPECTED)
}

/// Whether a CLIP has such names.
fn is_common(name: &str) -> bool {
    let is_head = name.starts_with("vision_model.head.");
    !is_head && ["text_model.", "vision_model."].iter().any(|start| name.starts_with(start))
}
