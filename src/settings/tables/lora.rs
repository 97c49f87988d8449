//! [lora]: adapters instead of a full fine-tune.

use crate::keys::OnResume::SameContent;
use crate::keys::{Kind, Range, of, text, whole, within};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

crate::keys! {
    pub struct Parsed {
        /// 0: full fine-tune
        rank: i64 = whole(0, 8192).or("0"),
        /// scale = alpha / rank; default: the rank
        alpha: Option<f64> = within(Range::POSITIVE),
        /// module names, matched as suffixes
        targets: Vec<String> = of(Kind::Texts).or("[\"to_q\", \"to_k\", \"to_v\", \"to_out.0\"]"),
        /// start weights: a LoRA file of this rank; the reference is the model with it
        init: Option<PathBuf> = text().on_resume(SameContent),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoraConfig {
    pub rank: i64,
    pub alpha: f64,
    pub targets: Vec<String>,
    pub init: Option<PathBuf>,
}

impl Parsed {
    /// `None`: a full fine-tune.
    pub(in crate::settings) fn resolve(&self) -> Option<LoraConfig> {
        let Self { rank, alpha, targets, init } = self.clone();
        (rank > 0).then(|| LoraConfig { rank, alpha: alpha.unwrap_or(rank as f64), targets, init })
    }
}
