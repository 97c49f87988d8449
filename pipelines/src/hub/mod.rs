//! Models of the Hugging Face hub: `org/name` to a folder or file of the usual cache.
//!
//! The cache is huggingface_hub's own (`$HF_HUB_CACHE`, `$HF_HOME/hub`, `~/.cache/huggingface/hub`): a model already
//! downloaded by Python is not downloaded again. `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are respected.

mod choice;

use crate::error::{Error, Result};
use choice::Wanted;
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use std::path::{Path, PathBuf};

const ENDPOINT: &str = "https://huggingface.co";
/// Number of times an interrupted download is resumed.
const RETRIES: usize = 3;
const MIB: f64 = (1 << 20) as f64;

/// Location and version of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    /// A folder, a file, or a hub id `org/name`.
    pub path: PathBuf,
    /// Branch, tag or commit of a hub id; None is `main`.
    pub revision: Option<String>,
    /// Variant of the weight files, for example `fp16`.
    pub variant: Option<String>,
}

impl Location {
    /// A path with default revision and variant.
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_path_buf(), revision: None, variant: None }
    }

    /// The folder or file on this machine; files of a hub id that the cache lacks are downloaded. `say` gets one line
    /// per downloaded file.
    ///
    /// # Errors
    /// A missing path that is no hub id, an unreachable hub or one without the model, a model without safetensors
    /// weights.
    pub fn fetch(&self, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        if self.path.exists() {
            return match &self.revision {
                Some(revision) => {
                    let problem = format!("this is a path on this machine, and revision {revision:?} is for hub ids");
                    Err(Error::unusable(&self.path, problem, "leave the revision out"))
                }
                None => Ok(self.path.clone()),
            };
        }
        let Some(id) = hub_id(&self.path) else {
            let hint = "give a model folder in the diffusers layout, a single .safetensors file, or a hub id org/name";
            return Err(Error::unusable(&self.path, "there is no such file or folder", hint));
        };
        let hub = Hub::from_environment(id, self.revision.as_deref().unwrap_or("main"))?;
        if hub.offline { hub.cached() } else { hub.download(self.variant.as_deref(), say) }
    }
}

/// `org/name`, without any sign of a path.
fn hub_id(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let (org, name) = text.split_once('/')?;
    let plain = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    let file = [".safetensors", ".ckpt", ".pt", ".pth", ".bin"].iter().any(|end| name.ends_with(end));
    (plain(org) && plain(name) && !file).then_some(text)
}

/// One model of the hub, with the access settings of the environment.
struct Hub<'a> {
    id: &'a str,
    revision: &'a str,
    cache: Cache,
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

impl<'a> Hub<'a> {
    fn from_environment(id: &'a str, revision: &'a str) -> Result<Self> {
        if revision.is_empty() || revision.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(Error::Invalid(format!("revision {revision:?}: expected a branch, a tag or a commit")));
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let under =
            |variable_name: &str, below: &str| variable(variable_name).map(|dir| PathBuf::from(dir).join(below));
        let home = under("HF_HOME", "").or_else(|| under("XDG_CACHE_HOME", "huggingface"));
        let home = home.or_else(|| under("HOME", ".cache/huggingface")).ok_or_else(|| {
            Error::Invalid(format!("{id}: there is no folder for the hub's cache; set HF_HOME to one"))
        })?;
        let stored = || std::fs::read_to_string(home.join("token")).ok().map(|token| token.trim().to_string());
        let yes = |value: &String| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str());
        Ok(Self {
            id,
            revision,
            cache: Cache::new(under("HF_HUB_CACHE", "").unwrap_or_else(|| home.join("hub"))),
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()).trim_end_matches('/').to_string(),
            token: variable("HF_TOKEN").or_else(stored).filter(|token| !token.is_empty()),
            offline: variable("HF_HUB_OFFLINE").as_ref().is_some_and(yes),
        })
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.to_string(), RepoType::Model, revision.to_string())
    }

    /// The cached snapshot of the revision, if any.
    fn snapshot(&self) -> Option<PathBuf> {
        let folder = self.cache.path().join(self.repo(self.revision).folder_name());
        let named = std::fs::read_to_string(folder.join("refs").join(self.revision)).ok();
        let commit = named.as_deref().map_or(self.revision, str::trim);
        // A ref is an untrusted text: it must not lead out of the cache.
        let inside = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric());
        let snapshot = folder.join("snapshots").join(commit);
        (inside && snapshot.is_dir()).then_some(snapshot)
    }

    fn cached(&self) -> Result<PathBuf> {
        let snapshot = self.snapshot().ok_or_else(|| {
            let problem =
                format!("{} (revision {}) is not in the cache, and HF_HUB_OFFLINE is set", self.id, self.revision);
            Error::unusable(self.cache.path(), problem, "unset HF_HUB_OFFLINE once to fetch it, or give a folder")
        })?;
        choice::of_snapshot(&snapshot)
    }

    fn download(&self, variant: Option<&str>, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
        let api = ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_retries(RETRIES)
            .with_progress(false)
            .build()
            .map_err(|e| self.failure(&e))?;
        let info = api.repo(self.repo(self.revision)).info().map_err(|e| self.failure(&e))?;
        // Every file of that one commit, even if the branch moves meanwhile.
        let snapshot = self.cache.repo(self.repo(&info.sha)).pointer_path(&info.sha);
        let repo = Pinned { hub: self, repo: api.repo(self.repo(&info.sha)), snapshot: &snapshot };
        let names = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let wanted = Wanted::among(&format!("{}/{}", self.endpoint, self.id), names, variant)?;
        for name in wanted.texts() {
            repo.get(name, say)?;
        }
        for name in wanted.weights(&snapshot)? {
            repo.get(&name, say)?;
        }
        let made = self.cache.repo(self.repo(self.revision)).create_ref(&info.sha);
        made.map_err(|e| Error::io("write into", self.cache.path(), e))?;
        Ok(wanted.in_snapshot(&snapshot))
    }

    /// The user's message for an error of the hub.
    fn failure(&self, error: &ApiError) -> Error {
        let (id, endpoint, text) = (self.id, &self.endpoint, error.to_string());
        let status = |code: &str| text.contains(&format!("status: {code}"));
        if status("404") || status("400") {
            return Error::Invalid(format!(
                "{id}: there is no such folder here, and {endpoint} has no model of that name with a revision {}; check the \
                 spelling, or give the path of a folder or file",
                self.revision
            ));
        }
        if status("401") || status("403") {
            let token = if self.token.is_some() { "the token has no access" } else { "there is no token" };
            return Error::Invalid(format!(
                "{id}: {endpoint} does not give this model to everyone ({text}), and {token}; accept its terms there, and set \
                 HF_TOKEN to a token of that account"
            ));
        }
        let cached = match self.snapshot() {
            Some(_) => "the cache holds this model: set HF_HUB_OFFLINE=1 to use it as it is",
            None => "the cache does not hold this model: connect once, or copy the model here and give its folder",
        };
        Error::Invalid(format!(
            "{id}: there is no such folder here, and {endpoint} cannot be asked for it ({text}); {cached}"
        ))
    }
}

/// The files of one commit.
struct Pinned<'a> {
    hub: &'a Hub<'a>,
    repo: ApiRepo,
    snapshot: &'a Path,
}

impl Pinned<'_> {
    fn get(&self, name: &str, say: &mut dyn FnMut(&str)) -> Result<()> {
        if self.snapshot.join(name).exists() {
            return Ok(());
        }
        let told = Told { say, name: name.to_string(), started: false };
        self.repo.download_with_progress(name, told).map(drop).map_err(|e| self.hub.failure(&e))
    }
}

/// Reports the download once.
struct Told<'a> {
    say: &'a mut dyn FnMut(&str),
    name: String,
    started: bool,
}

impl Progress for Told<'_> {
    fn init(&mut self, size: usize, _: &str) {
        if !std::mem::replace(&mut self.started, true) {
            (self.say)(&format!("downloading {} ({:.1} MiB)", self.name, size as f64 / MIB));
        }
    }

    fn update(&mut self, _: usize) {}

    fn finish(&mut self) {}
}
