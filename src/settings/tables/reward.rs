//! [reward]: who rates the samples, and how ratings become rewards. Its values are [`crate::scorers::RewardConfig`].

use crate::keys::OnResume::SameContent;
use crate::keys::{Key, Keys, Kind, of, one_of};
use crate::scorers::{RewardConfig, Shaping};
use crate::settings::scorers;

const WEIGHED: Kind =
    Kind::Checked { check: scorers::check_weighed, words: "a list of { name, weight = 1, measure, path }" };
const JUDGES: Kind = Kind::Checked {
    check: scorers::check_judges,
    words: "a list of { name, weight = 1, measure, path, answers = \"score\", orders = 2, tie_zone = 0, sharpness }",
};
const WATCHED: Kind = Kind::Checked { check: scorers::check_watched, words: "a list of { name, measure, path }" };

impl Keys for RewardConfig {
    const KEYS: &'static [Key] = &[
        of(WEIGHED)
            .required()
            .on_resume(SameContent)
            .named("scorers")
            .helped(" who rates the pictures that the method samples"),
        one_of::<Shaping>()
            .or_text("none")
            .named("shaping")
            .helped(" how the ratings of a prompt's pictures become rewards"),
        of(WATCHED)
            .or("[]")
            .on_resume(SameContent)
            .named("watch")
            .helped(" scorers that rate too, and are only reported"),
        of(JUDGES)
            .or("[]")
            .on_resume(SameContent)
            .named("pairwise")
            .helped(" judges of every two pictures of a prompt: win rates are weighed with the scores"),
    ];
}
