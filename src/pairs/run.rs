//! `diffpref pairs` as a library call.

use super::calibration;
use super::candidates::{self, Candidates};
use super::combine::{self, Combined, Robust, Table, Votes, robust, standardised};
use super::filters::Requirement;
use super::majority::Majority;
use super::measures::{self, Chosen};
use super::output::{List, Pair, Writer};
use super::own::{self, Labelled};
use super::reason::{Dropped, Reason};
use super::refresh;
use super::report;
use super::request::{Request, Ties};
use super::rules::Rule;
use super::strength::{self, Class, Measured, Strength};
use super::summary::{self, Calibrated, Summary, VoteCounts};
use super::votes;
use super::weights::weights;
use crate::data::items::Labels;
use crate::keys::ConfigError;
use crate::machine::files::write_atomically;
use crate::progress::{Progress, Stop};
use crate::scorers::labelled_by::{Judged, labellers};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// Margins below this share of the numbers are rounding: a tie.
const ROUNDING: f64 = 1e-12;

/// Makes pairs, lists or pairs to be annotated; writes them with pairs.json and, if wanted, report.html.
///
/// # Errors
/// [`ConfigError`] for options that do not go together; scores that do not fit; no pair that is left.
pub fn pairs(request: &Request, progress: &dyn Progress, stop: &Stop) -> Result<Summary> {
    request.check()?;
    if !request.votes.is_empty() {
        let prompts = votes::read(&request.votes)?;
        return Work::new(request, &prompts, &[]).done(None, Vec::new());
    }
    if let Some(own) = &request.own {
        let rows = candidates::unrated(&request.scores, request.newest)?;
        let mut prompts = candidates::by_prompt(&rows, &[])?;
        let labelled = own::label(&mut prompts, own, progress, stop)?;
        let (scorer, measure) = (own::SCORER.to_string(), labelled.by.ranking.name().to_string());
        let chosen = [Chosen { scorer, measure, weight: 1.0, sign: 1.0 }];
        return Work::new(request, &prompts, &chosen).done(Some(labelled), Vec::new());
    }
    let rows = candidates::rows(&request.scores, request.newest)?;
    let chosen = measures::chosen(&request.scores, &rows, &request.by, &request.lower)?;
    if request.strength != Strength::Off && chosen.len() < strength::FEWEST {
        return Err(refusal(format!(
            "--strength needs {} measures or more, found {}: {}; add scorers, or name more with --by",
            strength::FEWEST,
            chosen.len(),
            chosen.iter().map(Chosen::name).collect::<Vec<_>>().join(", ")
        )));
    }
    let mut prompts = candidates::by_prompt(&rows, &chosen)?;
    let calibration = match &request.elo {
        Some(elo) => calibration::calibrated(&mut prompts, &chosen, elo)?,
        None => Vec::new(),
    };
    Work::new(request, &prompts, &chosen).done(None, calibration)
}

fn refusal(text: String) -> anyhow::Error {
    ConfigError(text).into()
}

/// Pairs while they are made.
struct Work<'a> {
    request: &'a Request,
    prompts: &'a [Candidates],
    names: Vec<String>,
    weights: Vec<f64>,
    /// z-scores, `[prompts][measures][candidates]`.
    standardised: Vec<Vec<Vec<f64>>>,
    pairs: Vec<Pair>,
    lists: Vec<List>,
    dropped: Dropped,
    /// Cyclic triples, all triples.
    triples: (usize, usize),
    flipped: usize,
    /// By prompt: comparisons that do not fit the scores, and the scores; of votes only.
    corrupted: BTreeMap<usize, BTreeSet<(usize, usize)>>,
    scores: BTreeMap<usize, Vec<f64>>,
}

impl<'a> Work<'a> {
    fn new(request: &'a Request, prompts: &'a [Candidates], chosen: &[Chosen]) -> Self {
        let scale = |k: usize| standardised(&prompts.iter().flat_map(|p| p.numbers[k].clone()).collect::<Vec<_>>());
        let scales: Vec<_> = (0..chosen.len()).map(scale).collect();
        let of = |p: &Candidates| {
            let rows = p.numbers.iter().zip(&scales);
            rows.map(|(numbers, scale)| numbers.iter().map(|x| scale(*x)).collect()).collect()
        };
        Self {
            request,
            prompts,
            names: chosen.iter().map(Chosen::name).collect(),
            weights: chosen.iter().map(|chosen| chosen.weight).collect(),
            standardised: prompts.iter().map(of).collect(),
            pairs: Vec::new(),
            lists: Vec::new(),
            dropped: Dropped::default(),
            triples: (0, 0),
            flipped: 0,
            corrupted: BTreeMap::new(),
            scores: BTreeMap::new(),
        }
    }

    /// Makes pairs of all prompts and writes them. `labelled`: the model that ranked, in place of scorers.
    fn done(mut self, labelled: Option<Labelled>, calibration: Vec<Calibrated>) -> Result<Summary> {
        self.make();
        self.budget();
        self.strengths();
        self.weigh();
        self.finish(labelled, calibration)
    }

    fn make(&mut self) {
        for index in 0..self.prompts.len() {
            if let Err(reason) = self.of_prompt(index) {
                self.dropped.add(reason);
            }
        }
    }

    /// Pairs or the list of one prompt; an error drops the prompt.
    fn of_prompt(&mut self, index: usize) -> Result<(), Reason> {
        let of = &self.prompts[index];
        let n = of.pictures.len();
        if n < 2 {
            return Err(Reason::OneCandidate);
        }
        let majority = of.majority(&self.weights);
        let (cyclic, all) = majority.triples();
        self.triples = (self.triples.0 + cyclic, self.triples.1 + all);
        let combined = match of.votes.is_empty() {
            true => {
                let (numbers, standardised) = (&of.numbers, &self.standardised[index]);
                let table = Table { numbers, standardised, weights: &self.weights, n };
                self.request.combine.combined(&table).ok_or(Reason::TooFewCandidates)?
            }
            false => self.by_votes(index, &majority)?,
        };
        let first = combined.scores[0];
        let equal = combined.scores.iter().all(|score| is_tie(*score, first));
        if equal && cyclic > 0 {
            return Err(Reason::Cycle);
        }
        if self.request.rule == Rule::List {
            if equal {
                return Err(Reason::Tie);
            }
            let rank = |x: &f64| 1 + combined.scores.iter().filter(|y| **y > *x && !is_tie(**y, *x)).count();
            self.lists.push(List { prompt: index, ranks: combined.scores.iter().map(rank).collect() });
            return Ok(());
        }
        for (winner, loser) in self.request.rule.chosen(&of.prompt, &combined.scores) {
            match self.pair(index, (winner, loser), &combined) {
                Ok(pair) => self.pairs.push(pair),
                Err(reason) => self.dropped.add(reason),
            }
        }
        Ok(())
    }

    /// Scores of a prompt's candidates by votes of people.
    fn by_votes(&mut self, index: usize, majority: &Majority) -> Result<Combined, Reason> {
        let votes = Votes::of_people(majority);
        if votes.n >= combine::FEWEST && !votes.connected() {
            return Err(Reason::Unconnected);
        }
        let Robust { scores, corrupted } = robust(&votes).ok_or(Reason::TooFewCandidates)?;
        self.corrupted.insert(index, corrupted.iter().copied().collect());
        self.scores.insert(index, scores.clone());
        Ok(Combined { scores, corrupted })
    }

    /// Scorers behind the preferences and the numbers of the rows. People label what is to be annotated.
    fn judged(&self) -> Result<Judged> {
        let scorer = |name: &String| name.split('.').next().unwrap_or_default().to_string();
        let label = match self.request.rule {
            Rule::SmallMargins => Vec::new(),
            Rule::BestWorst | Rule::Mu2Sigma | Rule::WorstOfFive | Rule::All | Rule::List => {
                let deciding = self.names.iter().zip(&self.weights).filter(|(_, weight)| **weight != 0.0);
                deciding.map(|(name, _)| scorer(name)).collect()
            }
        };
        let scores = self.names.iter().map(|name| (name.clone(), scorer(name))).collect();
        let weights = match self.request.own {
            // The model itself is no scorer: its pictures and labels are known from pairs.json.
            Some(_) => BTreeMap::new(),
            None => measures::weights(&self.request.scores)?,
        };
        let mut judged = Judged { weights, label, scores };
        for file in self.request.replay.iter().flat_map(|replay| &replay.earlier) {
            judged.add(labellers(file, &Labels::Given)?)?;
        }
        Ok(judged)
    }

    fn votes(&self) -> Option<VoteCounts> {
        let votes = self.prompts.iter().map(|of| of.votes.len()).sum();
        let (voters, misfits) = votes::misfits(self.prompts, &self.corrupted, &self.scores);
        (votes > 0).then_some(VoteCounts { votes, voters, misfits })
    }

    fn pair(&self, prompt: usize, (winner, loser): (usize, usize), combined: &Combined) -> Result<Pair, Reason> {
        let numbers = [combined.scores[winner], combined.scores[loser]];
        let tie = is_tie(numbers[0], numbers[1]);
        let (strength, ambiguous, weight) = (None, false, None);
        let pair = Pair { prompt, winner, loser, combined: numbers, tie, strength, ambiguous, weight };
        // Annotators decide: nothing is dropped before them.
        if self.request.rule == Rule::SmallMargins {
            return Ok(pair);
        }
        if tie {
            return if self.request.ties == Ties::Keep { Ok(pair) } else { Err(Reason::Tie) };
        }
        if combined.corrupted.contains(&(winner.min(loser), winner.max(loser))) {
            return Err(Reason::CorruptedVote);
        }
        if pair.margin() < self.request.min_margin {
            return Err(Reason::BelowMargin);
        }
        let table = &self.prompts[prompt].numbers;
        let refused = |requirement: &Requirement| requirement.refusal(table, &self.weights, (winner, loser));
        self.request.require.iter().find_map(refused).map_or(Ok(pair), Err)
    }

    /// Smallest margins first, as many as the budget allows.
    fn budget(&mut self) {
        if self.request.rule == Rule::SmallMargins {
            self.pairs.sort_by(|a, b| a.margin().total_cmp(&b.margin()));
            (self.request.budget..self.pairs.len()).for_each(|_| self.dropped.add(Reason::Budget));
            self.pairs.truncate(self.request.budget);
        }
    }

    fn strengths(&mut self) {
        if self.request.strength == Strength::Off {
            return;
        }
        let measure = |pair: &Pair| {
            let z = &self.standardised[pair.prompt];
            Measured::of(&z.iter().map(|z| z[pair.winner] - z[pair.loser]).collect::<Vec<_>>())
        };
        let ranked: Vec<(usize, Measured)> = self
            .pairs
            .iter()
            .enumerate()
            .filter(|(_, pair)| !pair.tie)
            .filter_map(|(i, pair)| Some((i, measure(pair)?)))
            .collect();
        let classes = strength::classes(&ranked.iter().map(|(_, measured)| *measured).collect::<Vec<_>>());
        let mut out = BTreeSet::new();
        for ((index, measured), class) in ranked.into_iter().zip(classes) {
            let pair = &mut self.pairs[index];
            pair.strength = Some(measured);
            pair.ambiguous = class == Class::Ambiguous;
            if class != Class::Mislabelled {
                continue;
            }
            match self.request.strength {
                Strength::Drop => drop(out.insert(index)),
                Strength::Flip => {
                    std::mem::swap(&mut pair.winner, &mut pair.loser);
                    pair.combined.reverse();
                    pair.strength = Some(Measured { mean: -measured.mean, ..measured });
                    self.flipped += 1;
                }
                Strength::Off | Strength::Write => {}
            }
        }
        out.iter().for_each(|_| self.dropped.add(Reason::Mislabelled));
        let pairs = std::mem::take(&mut self.pairs).into_iter().enumerate();
        self.pairs = pairs.filter(|(index, _)| !out.contains(index)).map(|(_, pair)| pair).collect();
    }

    fn weigh(&mut self) {
        if let Some(k) = self.request.margin_weight {
            let weights = weights(&self.pairs.iter().map(Pair::margin).collect::<Vec<_>>(), k);
            self.pairs.iter_mut().zip(weights).for_each(|(pair, weight)| pair.weight = Some(weight));
        }
    }

    /// Writes the prompts that a next round generates anew; their number.
    fn refresh(&self) -> Result<Option<usize>> {
        let Some(share) = self.request.refresh else { return Ok(None) };
        let all = refresh::best(self.prompts, &self.standardised, &self.weights);
        let chosen = refresh::chosen(&all, share);
        refresh::write(&self.request.out, &chosen)?;
        Ok(Some(chosen.len()))
    }

    /// Writes the rows of the rule and those of earlier rounds; the number of the latter.
    fn write(&self, mean_confidence: Option<f64>) -> Result<usize> {
        let Request { out, rule, replay, .. } = self.request;
        let writer = Writer { out, prompts: self.prompts, names: &self.names, mean_confidence };
        let mut rows = match rule {
            Rule::BestWorst | Rule::Mu2Sigma | Rule::WorstOfFive | Rule::All => writer.pairs(&self.pairs)?,
            Rule::SmallMargins => writer.annotate(&self.pairs)?,
            Rule::List => writer.lists(&self.lists)?,
        };
        let earlier = replay.iter().map(|replay| replay.rows(&rows, *rule, out)).collect::<Result<Vec<_>>>()?.concat();
        let replayed = earlier.len();
        rows.extend(earlier);
        writer.write(rule.file(), &rows)?;
        Ok(replayed)
    }

    fn finish(self, labelled: Option<Labelled>, calibration: Vec<Calibrated>) -> Result<Summary> {
        let request = self.request;
        let written = self.pairs.len() + self.lists.len();
        if written == 0 {
            bail!(
                "no pair is left of {} prompts: {}. Lower --min-margin, leave out --require, or score more pictures per \
                 prompt",
                self.prompts.len(),
                self.dropped.in_words()
            );
        }
        let out = &request.out;
        std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
        let agreed = labelled.as_ref().and_then(|labelled| labelled.consistency.as_ref()).map(|agreed| agreed.mean);
        self.judged()?.write(out, request.rule.file())?;
        let replayed = self.write(agreed)?;
        let refreshed = self.refresh()?;
        let votes = self.votes();
        let mut margins: Vec<f64> = self.pairs.iter().map(Pair::margin).collect();
        margins.sort_by(f64::total_cmp);
        let summary = Summary {
            rule: request.rule,
            combine: request.combine,
            require: request.require.clone(),
            strength: request.strength,
            by: self.names.iter().cloned().zip(self.weights.iter().copied()).collect(),
            prompts: self.prompts.len(),
            candidates: self.prompts.iter().map(|prompt| prompt.pictures.len()).sum(),
            written,
            ties: self.pairs.iter().filter(|pair| pair.tie).count(),
            dropped: self.dropped,
            cyclic_triples: (self.triples.1 > 0).then(|| self.triples.0 as f64 / self.triples.1 as f64),
            flipped: self.flipped,
            votes,
            labelled,
            replayed,
            refreshed,
            calibration,
            margins: [5, 25, 50, 75, 95].iter().filter_map(|q| report::quantile(&margins, *q).copied()).collect(),
        };
        let mut json = serde_json::to_vec_pretty(&summary)?;
        json.push(b'\n');
        write_atomically(&out.join(summary::FILE), &json)?;
        if request.report {
            let page = report::html(&summary, &self.pairs, self.prompts)?;
            write_atomically(&out.join("report.html"), page.as_bytes())?;
        }
        Ok(summary)
    }
}

fn is_tie(a: f64, b: f64) -> bool {
    (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(1.0)
}
