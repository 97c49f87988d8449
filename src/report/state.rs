//! The states of a run, with a headline and advice for each.

use serde::Serialize;

/// The states of a run that the verdict distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Learning,
    NothingLearntYet,
    Saturated,
    Diverging,
    Overfitting,
    /// State of a method that samples while it trains.
    RewardRising,
    RewardHacked,
    /// The run has no informative metric.
    Unmeasured,
}

impl State {
    /// The verdict in one sentence.
    pub fn headline(self) -> &'static str {
        match self {
            State::Learning => "The model is learning the preference.",
            State::NothingLearntYet => "Nothing learnt yet.",
            State::Saturated => "Saturated: the preference is learnt, more steps add little.",
            State::Diverging => "Diverging: the model is getting worse on winners and losers alike.",
            State::Overfitting => "Overfitting: the training pairs are memorised.",
            State::RewardRising => "The reward of the model's own samples rises.",
            State::RewardHacked => "Reward hacked: the reward rises, but not what it should stand for.",
            State::Unmeasured => "This run cannot be judged: it has no held-out pairs.",
        }
    }

    /// Advice.
    pub fn advice(self) -> &'static str {
        match self {
            State::Learning => "Continue as long as the held-out margin rises, and check the pictures below.",
            State::NothingLearntYet => {
                "Train on; if it stays so, raise optim.lr, or method.beta where the pairs are clean."
            }
            State::Saturated => {
                "Stop here, or take harder pairs. best/ holds the weights with the highest held-out margin."
            }
            State::Diverging => {
                "Stop, and train again with a lower optim.lr or a higher method.beta. This is the known way to noisy \
                 pictures, even while the margin grows."
            }
            State::Overfitting => {
                "Take the weights in best/, and next time fewer steps, more pairs, a smaller LoRA rank or a lower optim.lr."
            }
            State::RewardRising => {
                "Continue as long as the pictures below get better too: a reward measures only what its scorer does."
            }
            State::RewardHacked => {
                "Look at the pictures below. Go back to an earlier checkpoint, and train again with a lower optim.lr, fewer \
                 steps, or a reward that mixes in what was lost."
            }
            State::Unmeasured => "Set validate.fraction above 0, so that held-out pairs are measured during the run.",
        }
    }
}
