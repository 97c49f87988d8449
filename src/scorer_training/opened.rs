//! Model, data and head of a training, opened and checked.

use super::captions::Captions;
use super::corpus::{Corpus, Judged};
use super::learner::Learner;
use super::settings::{Settings, Start};
use super::start::{tower_groups, write_random};
use super::towers::{Features, Towers};
use super::work::{Captioned, Work};
use crate::data::draws;
use crate::heads::{Built, FILE, Group, Head, Objective, Saved, WEIGHTS};
use crate::keys::ConfigError;
use crate::machine::hashes;
use crate::progress::{Progress, Stop};
use crate::scorers::clip_files;
use anyhow::{Context, Result, ensure};
use diffpref_native::Generator;
use pipelines::models::clip;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folder of a drawn CLIP in the run folder.
pub const START: &str = "start";

/// A member of an ensemble: its number, from 1. It has a seed of its own, and a share of the training pairs.
pub type Member = Option<u64>;

/// Everything a training reads.
pub struct Opened {
    pub settings: Settings,
    /// Folder of the CLIP that training starts from.
    pub base: PathBuf,
    /// The data; `None` for captions.
    corpus: Option<Corpus>,
    captions: Option<Captions>,
    /// scorer.json of the folder whose users are extended.
    known: Option<Saved>,
    /// SHA-256 of what a resumed run must find unchanged.
    pub inputs: BTreeMap<String, String>,
}

impl Opened {
    /// Reads the data and the descriptions of the model; no weights.
    ///
    /// # Errors
    /// What is wrong with model or data.
    pub fn open(settings: Settings, member: Member) -> Result<Self> {
        let objective = settings.method.objective();
        let known = match settings.model.new_users {
            true => Some(known_head(&settings, objective)?),
            false => None,
        };
        let mut inputs = BTreeMap::new();
        let (mut corpus, mut captions) = (None, None);
        if objective == Objective::Contrastive {
            let read = Captions::read(&settings.data.path)?;
            inputs.insert("data.path".into(), of_files(&read.files(&settings.data.path))?);
            captions = Some(read);
        } else {
            let kind = head(&settings, None, &[], &[], 1).items();
            let users = known.as_ref().map_or(&[][..], |saved| &saved.users);
            let mut read = Corpus::read(&settings, kind, users)?;
            let mut hashes = read.sha256.iter();
            inputs.extend(hashes.next().map(|hash| ("data.path".into(), hash.clone())));
            inputs.extend(hashes.enumerate().map(|(n, hash)| (format!("data.others {}", n + 1), hash.clone())));
            if let Some(member) = member {
                read.keep_share(settings.train.member_share, settings.train.seed, member)?;
            }
            corpus = Some(read);
        }
        let mut files = clip_files(&settings.model.path);
        if settings.model.start == Start::Weights {
            // Names another architecture before anything else is read.
            clip::open_store(&settings.model.path, None).context("model.path")?;
            files.push(settings.model.path.join("model.safetensors"));
        }
        files.extend(known.iter().map(|_| settings.model.path.join(WEIGHTS)));
        inputs.insert("model.path".into(), of_files(&files).context("model.path")?);
        let base = match settings.model.start {
            Start::Weights => settings.model.path.clone(),
            Start::Random => settings.train.out.join(START),
        };
        Ok(Self { settings, base, corpus, captions, known, inputs })
    }

    /// Writes the drawn start values, if training begins with them.
    ///
    /// # Errors
    /// A folder without config.json; one that cannot be written.
    pub fn prepare(&self) -> Result<()> {
        match self.settings.model.start {
            Start::Random if !self.base.join("model.safetensors").is_file() => {
                write_random(&self.settings.model.path, &self.base, self.settings.train.seed)
            }
            Start::Random | Start::Weights => Ok(()),
        }
    }

    /// Judged pairs or lists, for the plan.
    pub fn corpus(&self) -> Option<&Corpus> {
        self.corpus.as_ref()
    }

    /// Opens the towers from `base` and builds the learner at its start values.
    ///
    /// # Errors
    /// Missing or damaged weights; `Stopped`; unreadable pictures.
    pub fn learner(self, base: &Path, progress: &dyn Progress, stop: &Stop) -> Result<Learner> {
        let Self { settings, corpus, captions, known, .. } = self;
        let towers = Towers::open(base, &settings.model)?;
        let (users, dimensions) = match &corpus {
            Some(corpus) => (corpus.users.clone(), corpus.dimensions.clone()),
            None => (Vec::new(), Vec::new()),
        };
        let head = head(&settings, Some(&towers), &users, &dimensions, towers.width());
        if let Some(saved) = &known {
            adopt(saved, &settings.model.path, head.as_ref(), &towers)?;
        }
        let mut groups: Vec<Group> = tower_groups(&towers.parameters, &settings.model)?;
        groups.extend(head.groups());
        let prompts = match (&corpus, &captions) {
            (Some(corpus), _) => corpus.prompts.clone(),
            (None, Some(captions)) => (0..captions.len()).map(|i| captions.caption(i).to_string()).collect(),
            (None, None) => Vec::new(),
        };
        let cut = towers.tokens_cut(&prompts)?;
        if cut > 0 {
            progress.line(&format!(
                "note: the longest prompt has {cut} tokens more than the text tower reads; the end is cut"
            ));
        }
        let work = match (corpus, captions) {
            (Some(corpus), _) => {
                let texts = corpus.prompts.iter().map(|prompt| head.texts(prompt)).collect();
                let pictures = corpus.pictures.clone();
                let features = Features::new(&towers, settings.model.tune, pictures, texts, progress, stop)?;
                Work::Judged { corpus: Box::new(corpus), features }
            }
            (None, Some(captions)) => Work::Captions(Captioned::new(captions)),
            (None, None) => anyhow::bail!("a training without data"),
        };
        Ok(Learner::new(settings, towers, head, work, groups))
    }
}

/// The head at its start values. `towers`: for the device; `None`: the CPU.
fn head(
    settings: &Settings,
    towers: Option<&Towers>,
    users: &[String],
    dimensions: &[String],
    width: i64,
) -> Box<dyn Head> {
    let nobody = ["".to_string()];
    settings.method.head(&Built {
        width,
        users: if users.is_empty() { &nobody } else { users },
        dimensions,
        only_users: settings.model.new_users,
        seed: settings.train.seed,
        device: towers.map_or(tch::Device::Cpu, |towers| towers.device),
    })
}

/// scorer.json of `model.path`, whose head must have users.
fn known_head(settings: &Settings, objective: Objective) -> Result<Saved> {
    let path = &settings.model.path;
    let saved = Saved::read(path)?.with_context(|| {
        format!("model.new_users: {} has no {FILE}; expected final/ of a training with users", path.display())
    })?;
    ensure!(
        saved.objective() == objective && !saved.users.is_empty(),
        ConfigError(format!(
            "model.new_users: {} was trained with method.name = \"{}\", and the config has \"{objective}\". Take the \
             method of the folder.",
            path.display(),
            saved.objective()
        ))
    );
    let (then, now) = (serde_json::to_value(&saved.method)?, serde_json::to_value(&settings.method)?);
    ensure!(
        then == now,
        ConfigError(format!(
            "model.new_users: the head of {} was trained with [method] {then}, and the config has {now}. Take the same keys.",
            path.display()
        ))
    );
    Ok(saved)
}

/// Copies a trained head into one with more users, which keep their start values.
fn adopt(saved: &Saved, path: &Path, head: &dyn Head, towers: &Towers) -> Result<()> {
    let _frozen = tch::no_grad_guard();
    let known = saved.head(path, towers.device)?;
    for ((name, from), (_, to)) in known.parameters().into_iter().zip(head.parameters()) {
        let rows = from.size().first().copied().filter(|_| name == "users");
        let mut part = match rows {
            Some(rows) => to.narrow(0, 0, rows),
            None => to,
        };
        part.f_copy_(&from).with_context(|| format!("{name} of {}", path.display()))?;
    }
    Ok(())
}

impl Corpus {
    /// Keeps a drawn share of the training items, in their order: stream `member`, id of the member.
    fn keep_share(&mut self, share: f64, seed: u64, member: u64) -> Result<()> {
        let n = self.train.len();
        let count = ((n as f64 * share).round() as usize).clamp(1, n);
        let drawn = Generator::cpu(draws::key(seed, "member", &[&member])).randperm(n as i64)?;
        let mut kept: Vec<usize> = drawn.into_iter().take(count).map(|i| i as usize).collect();
        kept.sort_unstable();
        let left_out: Vec<Judged> =
            (0..n).filter(|i| kept.binary_search(i).is_err()).map(|i| self.train[i].clone()).collect();
        self.train = kept.into_iter().map(|i| self.train[i].clone()).collect();
        self.left_out = left_out;
        self.count_records();
        Ok(())
    }
}

/// One hash of several files, by name and content.
fn of_files(files: &[PathBuf]) -> Result<String> {
    let mut all = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        all += &format!("{name}:{}\n", hashes::of_file(file)?);
    }
    Ok(hashes::of_bytes(all.as_bytes()))
}
