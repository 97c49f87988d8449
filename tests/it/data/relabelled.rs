//! Preferences from scores and votes, ties, and labelled images from pairs.

use super::items::{cut, read, read_with, row};
use diffpref::data::items::{Item, ItemKind, Labels, Preference, ReadOptions, Ties};

/// A pair with the scores a, b and c of its winner; its loser has 0.5 of each.
fn scored(id: &str, winner: [f64; 3], label: &str) -> String {
    let [a, b, c] = winner;
    format!(
        "{{\"id\": \"{id}\", \"prompt\": \"a\", \"winner\": \"w{id}\", \"loser\": \"l{id}\", \"scores\": \
         {{\"a\": [{a}, 0.5], \"b\": [{b}, 0.5], \"c\": [{c}, 0.5]}}{label}}}\n"
    )
}

/// Ids, the first letter of the first image, and whether the pair is a tie.
fn winners(items: &[Item]) -> Vec<(String, String, bool)> {
    let name = |item: &Item| item.images[0].file().file_name().unwrap().to_string_lossy()[..1].to_string();
    items.iter().map(|item| (item.id.clone(), name(item), item.preference.is_tie())).collect()
}

fn of(rows: &[(&str, &str, bool)]) -> Vec<(String, String, bool)> {
    rows.iter().map(|(id, side, tie)| (id.to_string(), side.to_string(), *tie)).collect()
}

const TIE: &str = ", \"label\": \"tie\"";

#[test]
fn scores_and_votes_rank_pairs_anew_and_even_ones_are_dropped() {
    let text = scored("1", [0.9, 0.1, 0.1], "")
        + &scored("2", [0.1, 0.9, 0.9], "")
        + &scored("3", [0.5, 0.5, 0.9], "")
        + &scored("4", [0.1, 0.1, 0.1], TIE);
    let labelled = |labels: &str, ties: Ties| {
        read_with(&text, |o| (o.labels, o.ties) = (Labels::parse(labels).unwrap(), ties)).unwrap()
    };
    let set = labelled("score:a", Ties::Drop);
    assert_eq!(winners(&set.train), of(&[("1", "w", false), ("2", "l", false)]));
    assert_eq!((set.dropped_ties, set.dropped_labels), (vec!["4".to_string()], vec!["3".to_string()]));
    assert_eq!(set.train[1].scores["a"], [0.5, 0.1], "scores follow their images");
    let set = labelled("vote:a,b,c", Ties::Drop);
    assert_eq!(winners(&set.train), of(&[("1", "l", false), ("2", "w", false), ("3", "w", false)]));
}

#[test]
fn a_vote_that_is_even_drops_the_pair() {
    let text = scored("1", [0.9, 0.1, 0.1], "") + &scored("2", [0.1, 0.2, 0.9], "");
    let set = read_with(&text, |o| o.labels = Labels::parse("vote:a,b").unwrap()).unwrap();
    assert_eq!(winners(&set.train), of(&[("2", "l", false)]));
    assert_eq!(set.dropped_labels, ["1"]);
}

#[test]
fn kept_ties_stay_ties_whatever_their_scores() {
    let text = scored("1", [0.9, 0.1, 0.1], "") + &scored("4", [0.1, 0.1, 0.1], TIE);
    let unscored = "{\"id\": 5, \"prompt\": \"a\", \"winner\": \"w5\", \"loser\": \"l5\", \"label\": \"tie\"}\n";
    let set = read_with(&(text + unscored), |o| (o.ties, o.labels) = (Ties::Keep, Labels::Score("b".into()))).unwrap();
    assert_eq!(winners(&set.train), of(&[("1", "l", false), ("4", "w", true), ("5", "w", true)]));
    assert!(set.dropped_ties.is_empty());
}

#[test]
fn winner_and_loser_change_places_after_relabelling() {
    let text = scored("1", [0.9, 0.1, 0.1], "") + &scored("2", [0.1, 0.9, 0.9], "");
    let read = |labels| read_with(&text, |o| (o.swapped, o.labels) = (true, labels)).unwrap();
    assert_eq!(winners(&read(Labels::Given).train), of(&[("1", "l", false), ("2", "l", false)]));
    let set = read(Labels::Score("a".into()));
    assert_eq!(winners(&set.train), of(&[("1", "l", false), ("2", "w", false)]));
    assert_eq!(set.train[0].scores["a"], [0.5, 0.9]);
    assert_eq!(set.train[1].scores["a"], [0.1, 0.5]);
}

#[test]
fn scores_that_are_missing_are_refused_with_the_first_pairs_and_their_lines() {
    let text =
        row("1", "a") + "\n" + &scored("2", [0.9, 0.1, 0.1], "") + &row("3", "a") + &row("4", "a") + &row("5", "a");
    let error = |change: &dyn Fn(&mut ReadOptions)| cut(&format!("{:#}", read_with(&text, change).unwrap_err()));
    assert_eq!(
        error(&|o| o.labels = Labels::Score("a".into())),
        "pairs.jsonl: 4 of 5 pairs have no score of \"a\", which data.labels asks for: \"1\" (line 1), \"3\" (line 4), \
         \"4\" (line 5) ..; there are scores of a, b, c. Add scores = {\"a\": [winner's, loser's]} to every row, or name \
         another scorer"
    );
    let said = error(&|o| o.scorer = Some("hps".into()));
    assert!(said.starts_with("pairs.jsonl: 5 of 5 pairs have no score of \"hps\", which [method] asks for:"), "{said}");
    let said = cut(&format!("{:#}", read_with(&row("1", "a"), |o| o.scorer = Some("hps".into())).unwrap_err()));
    assert!(said.contains("1 of 1 pairs have no score of \"hps\"") && said.contains("no row has `scores`"), "{said}");
}

#[test]
fn pairs_that_are_all_even_leave_nothing_to_train_on() {
    let text = scored("1", [0.5, 0.1, 0.1], "") + &scored("4", [0.1, 0.1, 0.1], TIE);
    let error = cut(&format!("{:#}", read_with(&text, |o| o.labels = Labels::Score("a".into())).unwrap_err()));
    assert_eq!(
        error,
        "pairs.jsonl: of 2 rows 1 are ties and 1 are even by data.labels = \"score:a\"; all were dropped, there is nothing \
         to train on"
    );
}

pub(super) fn desirables(items: &[Item]) -> Vec<(String, bool)> {
    let label = |item: &Item| matches!(item.preference, Preference::Label { desirable: true });
    items.iter().map(|item| (item.id.clone(), label(item))).collect()
}

fn pair(id: &str, prompt: &str, winner: &str, loser: &str, scores: [f64; 2]) -> String {
    let [w, l] = scores;
    format!(
        "{{\"id\": \"{id}\", \"prompt\": \"{prompt}\", \"winner\": \"{winner}\", \"loser\": \"{loser}\", \
         \"scores\": {{\"a\": [{w}, {l}]}}}}\n"
    )
}

#[test]
fn pairs_become_labelled_images_desirable_if_they_won_once() {
    let text = pair("1", "p", "x", "y", [0.9, 0.1])
        + &pair("2", "p", "y", "z", [0.1, 0.9])
        + &pair("3", "q", "z", "x", [0.9, 0.1])
        + &pair("4", "p", "y", "x", [0.5, 0.5]);
    let read = |labels| read_with(&text, |o| (o.wanted, o.labels) = (ItemKind::Labels, labels)).unwrap();
    let set = read(Labels::Given);
    let expected = [("1:w", true), ("1:l", true), ("2:l", false), ("3:w", true), ("3:l", false)];
    assert_eq!(desirables(&set.train), expected.map(|(id, won)| (id.to_string(), won)));
    assert_eq!((set.kind, set.rows, set.train[2].row), (ItemKind::Pairs, 4, 1));
    assert!(set.train[2].images[0].file().ends_with("z") && set.train[2].images.len() == 1);
    assert_eq!(set.train[2].scores["a"], [0.9]);
    // Relabelled: the place in the row names the item, who won decides the label; pair 4 is even and says nothing.
    let set = read(Labels::Score("a".into()));
    let expected = [("1:w", true), ("1:l", false), ("2:l", true), ("3:w", true), ("3:l", false)];
    assert_eq!(desirables(&set.train), expected.map(|(id, won)| (id.to_string(), won)));
}

#[test]
fn the_range_of_scores_runs_over_both_images_of_the_training_pairs() {
    let text = pair("1", "p", "x", "y", [0.9, 0.1]) + &pair("2", "p", "y", "z", [0.3, 1.5]);
    let set = read(&text).unwrap();
    assert_eq!((set.score_range("a"), set.score_range("b")), (Some([0.1, 1.5]), None));
}
