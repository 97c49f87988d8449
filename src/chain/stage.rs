//! The stages of a chain.

crate::choice! {
    /// A stage of `diffpref run`.
    pub enum Stage {
        Generate = "generate",
        Score = "score",
        Pairs = "pairs",
        Train = "train",
        Eval = "eval",
    }
}

impl Stage {
    /// Whether its output folder is removed when its inputs changed. The others keep what is still valid by themselves.
    pub fn starts_empty(self) -> bool {
        match self {
            Stage::Generate | Stage::Pairs | Stage::Train => true,
            Stage::Score | Stage::Eval => false,
        }
    }
}
