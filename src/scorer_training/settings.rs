//! Configuration of a scorer's training: its tables, checked and resolved.

use crate::data::items::{Labels, Ties};
use crate::heads::{HpsLabels, Method, NOT_BUILT, Objective, Preprocessed};
use crate::keys::OnResume::{Harmless, Rounding, SameContent};
use crate::keys::{Auto, Choice, ConfigError, Key, Kind, Range, at_least, of, one_of, switch, text, whole, within};
use crate::machine::devices::Device;
use crate::objectives;
use crate::settings::tables::{Part, Table, data, model, optim};
use crate::settings::written::{Written, apply_set, check_table, parse_set, refuse_unknown_tables, sub_table, typed};
use crate::settings::{OptimConfig, Place};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::Value;

crate::choice! {
    /// `[model] start`
    pub enum Start {
        /// The weights of the folder.
        Weights = "weights",
        /// Drawn weights of the shape in config.json.
        Random = "random",
    }
}

crate::choice! {
    /// `[model] tune`
    pub enum Tune {
        /// Both towers whole.
        Towers = "towers",
        /// The last blocks of each tower.
        Blocks = "blocks",
        /// The head alone; features are computed once.
        Head = "head",
    }
}

crate::choice! {
    /// `[model] saved_dtype`
    pub enum SavedDtype {
        Float32 = "float32",
        Float16 = "float16",
    }
}

crate::keys! {
    /// [model]
    pub struct ModelTable {
        /// folder of a CLIP, as the scorer `clip` reads it
        path: PathBuf = text().required().on_resume(SameContent),
        /// random: drawn weights, config.json and tokenizer of the folder
        start: Start = one_of::<Start>().or_text("weights"),
        /// the folder is final/ of a training with users; only users that it lacks are trained (pal, lore)
        new_users: bool = switch().or("false"),
        /// what is trained; auto: head for gpm, pal, lore and dprm, else towers
        tune: Auto<Tune> = one_of::<Tune>().or_auto(),
        /// trained blocks of the image tower from its end, with what follows them; tune = "blocks"
        image_blocks: u64 = at_least(0).or("0"),
        /// trained blocks of the text tower from its end, with what follows them; tune = "blocks"
        text_blocks: u64 = at_least(0).or("0"),
        /// crop: CLIP, PickScore; bars: HPSv2; auto: by the method
        preprocessing: Auto<Preprocessed> = one_of::<Preprocessed>().or_auto(),
        /// cpu, cuda or cuda:N; float32 on each
        device: Auto<Device> = of(model::DEVICE).or_text("auto").on_resume(Rounding),
        /// of the written CLIP
        saved_dtype: SavedDtype = one_of::<SavedDtype>().or_text("float32").on_resume(Harmless),
    }
}

crate::keys! {
    /// [data]
    pub struct DataTable {
        /// pairs.jsonl or lists.jsonl; contrastive: rows of `prompt` and `image`, or a folder of drawings
        path: PathBuf = text().required().on_resume(SameContent),
        /// pairs of other data sets; method more, which draws a batch of each per step
        others: Option<Vec<PathBuf>> = of(Kind::Texts).on_resume(SameContent),
        /// pairs labelled as ties; auto: keep, hpsv2 with hard labels: drop
        ties: Auto<Ties> = one_of::<Ties>().or_auto(),
        /// who ranks the pairs: their rows, the scores of one scorer, or the more of at least two
        labels: Labels = of(data::LABELS).or_text("given"),
    }
}

crate::keys! {
    /// [validate]
    pub struct ValidateTable {
        /// share of the prompts held out
        fraction: f64 = within(Range::FRACTION).or("0.1"),
        /// steps between validations; 0: only at the end
        every: u64 = at_least(0).or("0"),
    }
}

const STEPS: Key = whole(1, 1_000_000_000);
const PORTION: Key = whole(1, 65_536);

crate::keys! {
    /// [train]
    pub struct TrainTable {
        /// run folder; default runs/<config file name>
        out: Option<PathBuf> = text().on_resume(Harmless),
        /// optimizer steps
        steps: u64 = STEPS.required(),
        /// pairs that go through the towers together
        micro_batch: u64 = PORTION.or("16"),
        /// micro-batches per step
        grad_accum: u64 = PORTION.or("1"),
        /// of every random stream
        seed: u64 = at_least(0).or("0"),
        /// of libtorch
        threads: Auto<usize> = whole(1, 1024).or_auto().on_resume(Rounding),
        /// steps
        checkpoint_every: u64 = at_least(1).or("200").on_resume(Harmless),
        /// whole checkpoints kept
        keep_last: usize = at_least(1).or("2").on_resume(Harmless),
        /// scorers trained with other seeds and data; their mean weights are final/. 1: a single one, else at least 3
        members: u64 = whole(1, 100).or("1"),
        /// share of the training pairs of each member
        member_share: f64 = within(Range::SHARE).or("0.5"),
        /// delete what the run folder holds
        overwrite: bool = switch().or("false").on_resume(Harmless),
    }
}

/// Every table but [method].
pub const TABLES: &[Table] = &[
    Table { name: "model", parts: &[Part::of::<ModelTable>(&[])] },
    Table { name: "data", parts: &[Part::of::<DataTable>(&[])] },
    Table { name: "validate", parts: &[Part::of::<ValidateTable>(&[])] },
    Table { name: "optim", parts: &[Part::of::<optim::Parsed>(&[])] },
    Table { name: "train", parts: &[Part::of::<TrainTable>(&[])] },
];

/// `[method] name`
const NAME: Key =
    of(Kind::Choice(Objective::NAMES, NOT_BUILT)).named("name").helped(" objective of the scorer").required();

/// The values of a training, every "auto" resolved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    pub model: Model,
    pub method: Method,
    pub data: Data,
    pub validate: ValidateTable,
    pub optim: OptimConfig,
    pub train: Train,
}

/// `[model]` as run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Model {
    pub path: PathBuf,
    pub start: Start,
    pub new_users: bool,
    pub tune: Tune,
    pub image_blocks: u64,
    pub text_blocks: u64,
    pub preprocessing: Preprocessed,
    pub device: Device,
    pub saved_dtype: SavedDtype,
}

/// `[data]` as run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Data {
    pub path: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PathBuf>,
    pub ties: Ties,
    pub labels: Labels,
}

/// `[train]` as run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Train {
    pub out: PathBuf,
    pub steps: u64,
    pub micro_batch: u64,
    pub grad_accum: u64,
    pub seed: u64,
    pub threads: usize,
    pub checkpoint_every: u64,
    pub keep_last: usize,
    pub members: u64,
    pub member_share: f64,
    pub overwrite: bool,
}

impl Train {
    /// Pairs per optimizer step.
    pub fn pairs_per_step(&self) -> u64 {
        self.micro_batch * self.grad_accum
    }
}

/// Reads `path`, applies `sets` (`a.b=value`) in order and checks every key.
///
/// # Errors
/// What is wrong, with file, line and key.
pub fn load(path: &Path, sets: &[String]) -> Result<Settings, ConfigError> {
    let Written { file, text, mut table } = Written::read(path)?;
    let sets = sets.iter().map(|set| parse_set(set)).collect::<Result<Vec<_>, _>>()?;
    for (path, value) in &sets {
        apply_set(&mut table, path, value.clone())?;
    }
    let place = Place { file: &file, text: Some(&text), sets: &sets };
    refuse_method_of_models(&place, &table)?;
    refuse_unknown_tables(&place, &table, TABLES)?;
    let mut checked = toml::Table::new();
    for known in TABLES {
        let keys: Vec<Key> = known.keys().copied().collect();
        let given = sub_table(&place, &table, known.name)?;
        checked.insert(known.name.into(), Value::Table(check_table(&place, known.name, &keys, given)?));
    }
    let method = method(&place, &table)?;
    let refuse = |problem: String| ConfigError(format!("{file}: {problem}"));
    let optim: optim::Parsed = typed(&checked, "optim").map_err(refuse)?;
    let settings = Settings {
        model: resolve_model(&place, typed(&checked, "model").map_err(refuse)?, &method)?,
        data: resolve_data(typed(&checked, "data").map_err(refuse)?, &method),
        validate: typed(&checked, "validate").map_err(refuse)?,
        optim: optim.resolve(),
        train: resolve_train(path, typed(&checked, "train").map_err(refuse)?),
        method,
    };
    check_together(&place, &settings)?;
    Ok(settings)
}

/// A configuration of `train`, whose other tables and keys would only confuse the message.
fn refuse_method_of_models(place: &Place, table: &toml::Table) -> Result<(), ConfigError> {
    let name = sub_table(place, table, "method")?.and_then(|method| method.get("name")).and_then(Value::as_str);
    match name.filter(|name| objectives::find(name).is_some()) {
        Some(name) => {
            let text =
                format!("method.name = \"{name}\" trains a diffusion model: run `diffpref train {}`.", place.file);
            place.refuse("method", "name", text)
        }
        None => Ok(()),
    }
}

/// [method] by its own keys.
fn method(place: &Place, table: &toml::Table) -> Result<Method, ConfigError> {
    let given = sub_table(place, table, "method")?.cloned().unwrap_or_default();
    let named: toml::Table =
        given.iter().filter(|(key, _)| *key == "name").map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut values = check_table(place, "method", &[NAME], Some(&named))?;
    let name = values.get("name").and_then(Value::as_str).and_then(|name| name.parse::<Objective>().ok());
    let Some(objective) = name else { return place.refuse("method", "name", "method.name: expected a text".into()) };
    let own = given.into_iter().filter(|(key, _)| key != "name").collect();
    values.extend(check_table(place, "method", objective.keys(), Some(&own))?);
    Value::Table(values).try_into().map_err(|e: toml::de::Error| ConfigError(format!("{}: [method]: {e}", place.file)))
}

fn resolve_model(place: &Place, table: ModelTable, method: &Method) -> Result<Model, ConfigError> {
    let objective = method.objective();
    let device = table.device.given().unwrap_or_else(Device::best);
    if let Err(error) = device.open() {
        return place.refuse("model", "device", format!("model.device: {error}."));
    }
    // The heads of these two are small beside the towers, which do the work.
    let by_head = objective.has_weights() && ![Objective::Uncertainty, Objective::More].contains(&objective);
    let tune = table.tune.given().unwrap_or(if by_head { Tune::Head } else { Tune::Towers });
    let bars = objective == Objective::Hpsv2;
    Ok(Model {
        path: table.path,
        start: table.start,
        new_users: table.new_users,
        tune,
        image_blocks: table.image_blocks,
        text_blocks: table.text_blocks,
        preprocessing: table.preprocessing.given().unwrap_or(if bars {
            Preprocessed::Bars
        } else {
            Preprocessed::Crop
        }),
        device,
        saved_dtype: table.saved_dtype,
    })
}

fn resolve_data(table: DataTable, method: &Method) -> Data {
    let ties = if reads_ties(method) { Ties::Keep } else { Ties::Drop };
    let others = table.others.unwrap_or_default();
    Data { path: table.path, others, ties: table.ties.given().unwrap_or(ties), labels: table.labels }
}

/// Whether the loss is defined for a tie.
fn reads_ties(method: &Method) -> bool {
    !matches!(method, Method::Hpsv2(settings) if settings.labels == HpsLabels::Hard)
}

fn resolve_train(config: &Path, table: TrainTable) -> Train {
    let stem = config.file_stem().map_or("scorer".into(), |stem| stem.to_string_lossy().into_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Train {
        out: table.out.unwrap_or_else(|| Path::new("runs").join(stem)),
        steps: table.steps,
        micro_batch: table.micro_batch,
        grad_accum: table.grad_accum,
        seed: table.seed,
        threads: table.threads.given().unwrap_or(cores),
        checkpoint_every: table.checkpoint_every,
        keep_last: table.keep_last,
        members: table.members,
        member_share: table.member_share,
        overwrite: table.overwrite,
    }
}

/// Keys that exclude each other.
fn check_together(place: &Place, settings: &Settings) -> Result<(), ConfigError> {
    let Settings { model, method, data, train, .. } = settings;
    let objective = method.objective();
    let refuse = |table: &str, key: &str, text: String| place.refuse(table, key, text);
    if model.tune == Tune::Head && !objective.has_weights() {
        let text = format!(
            "model.tune = \"head\": \"{objective}\" has no weights of its own, so nothing would be trained. Take \"towers\" \
             or \"blocks\"."
        );
        return refuse("model", "tune", text);
    }
    let blocks = model.image_blocks + model.text_blocks;
    match model.tune {
        Tune::Blocks if blocks == 0 => {
            let text = "model.tune = \"blocks\" needs model.image_blocks or model.text_blocks above 0.".into();
            return refuse("model", "tune", text);
        }
        Tune::Towers | Tune::Head if blocks > 0 => {
            let text = format!(
                "model.image_blocks and text_blocks are read with tune = \"blocks\", and tune is \"{}\".",
                model.tune
            );
            return refuse("model", "image_blocks", text);
        }
        Tune::Towers | Tune::Blocks | Tune::Head => {}
    }
    if model.start == Start::Random && model.tune != Tune::Towers {
        let text = "model.start = \"random\": drawn towers are trained whole. Set model.tune = \"towers\".".into();
        return refuse("model", "start", text);
    }
    if model.new_users && (!objective.reads_users() || model.tune != Tune::Head) {
        let text =
            "model.new_users: users are added to heads of \"pal\" and \"lore\", with model.tune = \"head\".".into();
        return refuse("model", "new_users", text);
    }
    match (objective == Objective::More, data.others.is_empty()) {
        (true, true) => {
            let text = "data.others is missing: method.name = \"more\" trains on several data sets. Name further files, or take \
                        \"pickscore\"."
                .into();
            return refuse("data", "others", text);
        }
        (false, false) => {
            let text = format!(
                "data.others is read by method.name = \"more\", and the config has \"{objective}\". Remove the key, or take \
                 \"more\"."
            );
            return refuse("data", "others", text);
        }
        (true, false) | (false, true) => {}
    }
    if data.ties == Ties::Keep && !reads_ties(method) {
        let text =
            "data.ties = \"keep\": hard labels of hpsv2 have no ties. Set method.labels = \"soft\", or drop them."
                .into();
        return refuse("data", "ties", text);
    }
    if train.members == 2 {
        let text = "train.members = 2: the spread of two says little. Take 1, or at least 3.".into();
        return refuse("train", "members", text);
    }
    if train.members > 1 && objective == Objective::More {
        let text =
            "train.members: a member's share of the pairs may leave a data set of \"more\" empty. Take 1.".into();
        return refuse("train", "members", text);
    }
    if train.members > 1 && objective == Objective::Contrastive {
        let text = "train.members: captions have no pairs whose strength members could measure. Take 1.".into();
        return refuse("train", "members", text);
    }
    Ok(())
}
