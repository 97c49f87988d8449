//! CLIP tokenizers: byte-level BPE with `</w>` at the end of words, as transformers' `CLIPTokenizer` builds it
//! (tokenization_clip.py) from vocab.json and merges.txt or from tokenizer.json.

use crate::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;
use tch::Tensor;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

const BOS: &str = "<|startoftext|>";
const EOS: &str = "<|endoftext|>";
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
/// The order in which transformers adds named special tokens.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const RESTORE: &str = "restore the tokenizer folder from where the model came";

/// Text to token ids of one text encoder, always `length()` of them.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    length: usize,
    bos: i64,
    eos: i64,
    pad: i64,
}

impl Tokenizer {
    /// Reads a `tokenizer` folder: tokenizer.json, or vocab.json and merges.txt; special tokens from
    /// tokenizer_config.json and special_tokens_map.json (SD2 pads with `!`, which then is special in prompts too).
    ///
    /// `max_position_embeddings` is the text encoder's; sequences get min(model_max_length, max_position_embeddings) ids.
    pub fn open(dir: &Path, max_position_embeddings: i64) -> Result<Self> {
        Self::from_texts(dir, &|name| read_text(&dir.join(name)), max_position_embeddings)
    }

    /// Reads a tokenizer from `text`, which returns the text of a file by its name, or None; `dir` is for messages.
    pub fn from_texts(dir: &Path, text: TextOf, max_position_embeddings: i64) -> Result<Self> {
        let files = Files { dir, text };
        let config = files.object("tokenizer_config.json")?.unwrap_or_default();
        let words = Words::read(&files)?;
        let special = SpecialTokens::read(&files, &config, &words)?;
        let length = length_of(dir, &config, max_position_embeddings)?;
        // Looked up in the vocabulary itself: the crate would give an unknown special token a new id, past the
        // embedding.
        let id =
            |name: &str| {
                let content = special.content(name);
                words.vocab.get(content).map(|id| i64::from(*id)).ok_or_else(|| {
                    Error::unusable(dir, format!("{name} `{content}` is not in the vocabulary"), RESTORE)
                })
            };
        let (bos, eos, pad) = (id("bos_token")?, id("eos_token")?, id("pad_token")?);
        id("unk_token")?;
        Ok(Self { inner: build(dir, words, &special)?, length, bos, eos, pad })
    }

    /// Ids per prompt, with start, end and padding.
    pub fn length(&self) -> i64 {
        self.length as i64
    }

    /// Token ids `[B, L]` int64 of `prompts`: start, at most L - 2 tokens, end, padding. Longer prompts are cut.
    pub fn encode(&self, prompts: &[&str]) -> Result<Tensor> {
        let mut ids = Vec::with_capacity(prompts.len() * self.length);
        for prompt in prompts {
            let row_end = ids.len() + self.length;
            ids.push(self.bos);
            ids.extend(self.tokens(prompt)?.iter().take(self.length - 2).map(|&id| i64::from(id)));
            ids.push(self.eos);
            ids.resize(row_end, self.pad);
        }
        Ok(Tensor::f_from_slice(&ids)?.f_reshape([prompts.len() as i64, self.length as i64])?)
    }

    /// Number of tokens of `prompt` that `encode` cuts off. 0 for nearly every prompt.
    pub fn tokens_cut(&self, prompt: &str) -> Result<usize> {
        Ok((self.tokens(prompt)?.len() + 2).saturating_sub(self.length))
    }

    fn tokens(&self, prompt: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(prompt, false);
        let encoding =
            encoding.map_err(|e| Error::Invalid(format!("the prompt {prompt:?} cannot be tokenized: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The text of a tokenizer's file by its name; None if absent.
pub type TextOf<'a> = &'a dyn Fn(&str) -> Result<Option<String>>;

/// The files of a tokenizer: those of a folder, or texts in memory.
struct Files<'a> {
    dir: &'a Path,
    text: TextOf<'a>,
}

impl Files<'_> {
    fn object(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        let Some(text) = (self.text)(name)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|source| Error::Json { path: self.dir.join(name), source })
    }
}

/// Vocabulary and merges of either source.
struct Words {
    vocab: HashMap<String, u32>,
    merges: Vec<(String, String)>,
    /// `added_tokens` of tokenizer.json: flags of special tokens that no other file states.
    added: Vec<AddedTokenEntry>,
}

impl Words {
    fn read(files: &Files) -> Result<Self> {
        let dir = files.dir;
        if let Some(object) = files.object("tokenizer.json")? {
            return Self::from_tokenizer_json(&dir.join("tokenizer.json"), object);
        }
        let vocab_path = dir.join("vocab.json");
        let hint = "a CLIP tokenizer is vocab.json and merges.txt, or tokenizer.json";
        let Some(text) = (files.text)("vocab.json")? else {
            return Err(Error::missing(dir, "tokenizer.json or vocab.json", hint));
        };
        let vocab = serde_json::from_str(&text).map_err(|source| Error::Json { path: vocab_path, source })?;
        let merges_path = dir.join("merges.txt");
        let Some(text) = (files.text)("merges.txt")? else {
            return Err(Error::missing(dir, "merges.txt", hint));
        };
        let mut merges = Vec::new();
        for (row, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version")) {
            let merge = line.split_once(' ').filter(|(_, b)| !b.contains(' '));
            let Some((a, b)) = merge else {
                let problem = format!("line {} is {line:?}, expected two tokens and a space between them", row + 1);
                return Err(Error::unusable(&merges_path, problem, RESTORE));
            };
            merges.push((a.to_string(), b.to_string()));
        }
        Self { vocab, merges, added: Vec::new() }.checked(&merges_path)
    }

    fn from_tokenizer_json(path: &Path, object: Map<String, Value>) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Merge {
            Pair(String, String),
            Joined(String),
        }
        #[derive(Deserialize)]
        struct Model {
            #[serde(rename = "type", default)]
            kind: Option<String>,
            vocab: HashMap<String, u32>,
            merges: Vec<Merge>,
        }
        #[derive(Deserialize)]
        struct File {
            model: Model,
            #[serde(default)]
            added_tokens: Vec<AddedTokenEntry>,
        }
        let file: File = serde_json::from_value(Value::Object(object))
            .map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
        if let Some(kind) = file.model.kind.filter(|k| k != "BPE") {
            return Err(Error::config(path, "model.type", "\"BPE\"", format!("{kind:?}")));
        }
        let merges = file.model.merges.into_iter().map(|merge| match merge {
            Merge::Pair(a, b) => Ok((a, b)),
            Merge::Joined(text) => match text.split_once(' ') {
                Some((a, b)) => Ok((a.to_string(), b.to_string())),
                None => Err(Error::unusable(path, format!("the merge {text:?} is no pair"), RESTORE)),
            },
        });
        let merges = merges.collect::<Result<Vec<_>>>()?;
        Self { vocab: file.model.vocab, merges, added: file.added_tokens }.checked(path)
    }

    /// Every merge must join two words of the vocabulary into a third: the tokenizers crate panics on some that do not.
    fn checked(self, path: &Path) -> Result<Self> {
        for (a, b) in &self.merges {
            let joined = format!("{a}{b}");
            if let Some(absent) = [a, b, &joined].into_iter().find(|w| !self.vocab.contains_key(*w)) {
                let problem = format!("the merge `{a} {b}` needs `{absent}`, which the vocabulary lacks");
                return Err(Error::unusable(path, problem, RESTORE));
            }
        }
        Ok(self)
    }
}

/// A special token in the JSON files; `normalized` means that it is searched in the lower-cased prompt.
#[derive(Deserialize, Clone)]
struct AddedTokenEntry {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: Option<bool>,
    #[serde(default)]
    special: Option<bool>,
}

impl AddedTokenEntry {
    fn token(&self, special: bool) -> AddedToken {
        AddedToken::from(self.content.clone(), special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!special))
    }
}

/// The tokens that are cut out of a prompt before BPE, in the order transformers adds them.
struct SpecialTokens {
    /// bos_token -> content
    named: HashMap<&'static str, String>,
    tokens: Vec<AddedToken>,
}

impl SpecialTokens {
    /// transformers' order of precedence (tokenization_utils_base.py): `added_tokens_decoder` of
    /// tokenizer_config.json; without it special_tokens_map.json over tokenizer_config.json, then the flags in
    /// tokenizer.json.
    fn read(files: &Files, config: &Map<String, Value>, words: &Words) -> Result<Self> {
        let config_path = files.dir.join("tokenizer_config.json");
        let parse = |path: &Path, value: &Value| -> Result<AddedTokenEntry> {
            let value = match value {
                Value::String(content) => serde_json::json!({ "content": content }),
                other => other.clone(),
            };
            serde_json::from_value(value).map_err(|source| Error::Json { path: path.to_path_buf(), source })
        };
        let mut listed: Vec<AddedTokenEntry> = Vec::new();
        let mut named_entries: HashMap<&'static str, AddedTokenEntry> = HashMap::new();
        for name in NAMED {
            if let Some(value) = config.get(name).filter(|v| !v.is_null()) {
                named_entries.insert(name, parse(&config_path, value)?);
            }
        }
        if let Some(Value::Object(decoder)) = config.get("added_tokens_decoder") {
            let mut by_id: Vec<(i64, AddedTokenEntry)> = Vec::new();
            for (id, value) in decoder {
                let number = id.parse().map_err(|_| {
                    Error::config(&config_path, "added_tokens_decoder", "token ids as keys", format!("{id:?}"))
                })?;
                by_id.push((number, parse(&config_path, value)?));
            }
            by_id.sort_by_key(|(id, _)| *id);
            listed.extend(by_id.into_iter().map(|(_, entry)| entry));
        } else {
            let map_path = files.dir.join("special_tokens_map.json");
            let map = files.object("special_tokens_map.json")?.unwrap_or_default();
            for name in NAMED {
                if let Some(value) = map.get(name).filter(|v| !v.is_null()) {
                    named_entries.insert(name, parse(&map_path, value)?);
                }
            }
            listed.extend(words.added.iter().cloned());
        }
        Ok(Self::ordered(listed, named_entries))
    }

    fn ordered(listed: Vec<AddedTokenEntry>, mut named_entries: HashMap<&'static str, AddedTokenEntry>) -> Self {
        for (name, content) in [("bos_token", BOS), ("eos_token", EOS), ("unk_token", EOS), ("pad_token", EOS)] {
            named_entries.entry(name).or_insert_with(|| AddedTokenEntry {
                content: content.to_string(),
                single_word: false,
                lstrip: false,
                rstrip: false,
                normalized: None,
                special: Some(true),
            });
        }
        let named: HashMap<_, _> = named_entries.iter().map(|(name, e)| (*name, e.content.clone())).collect();
        let mut tokens: Vec<AddedToken> = Vec::new();
        for entry in &listed {
            let special = entry.special.unwrap_or(false) || named.values().any(|c| *c == entry.content);
            tokens.push(entry.token(special));
        }
        let named_tokens = NAMED.iter().filter_map(|name| named_entries.get(name)).map(|entry| entry.token(true));
        for token in named_tokens {
            // Equal content with other flags is added again, and the last one counts. SD1.5's pad_token is a bare
            // text, so its end token is not searched in the lower-cased prompt, whatever eos_token states.
            let is_listed = listed.iter().any(|entry| entry.content == token.content);
            if !is_listed && !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        Self { named, tokens }
    }

    fn content(&self, name: &str) -> &str {
        self.named.get(name).map_or(EOS, String::as_str)
    }
}

/// min(model_max_length, max_position_embeddings); transformers writes 1e30 for a tokenizer without a limit.
fn length_of(dir: &Path, config: &Map<String, Value>, max_position_embeddings: i64) -> Result<usize> {
    let limit = match config.get("model_max_length") {
        None | Some(Value::Null) => max_position_embeddings,
        Some(value) => match value.as_f64() {
            Some(limit) => limit.min(max_position_embeddings as f64) as i64,
            None => {
                let path = dir.join("tokenizer_config.json");
                return Err(Error::config(&path, "model_max_length", "a number", value.to_string()));
            }
        },
    };
    if limit < 3 {
        let path = dir.join("tokenizer_config.json");
        return Err(Error::config(&path, "model_max_length", "at least 3 (start, one token, end)", limit.to_string()));
    }
    Ok(limit as usize)
}

fn build(dir: &Path, words: Words, special: &SpecialTokens) -> Result<tokenizers::Tokenizer> {
    let broken = |e: tokenizers::Error| Error::unusable(dir, format!("no tokenizer can be made: {e}"), RESTORE);
    let unk = special.content("unk_token").to_string();
    let bpe = BPE::builder()
        .vocab_and_merges(words.vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), words.merges)
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".to_string())
        .unk_token(unk)
        .build()
        .map_err(broken)?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_string()), " ").map_err(broken)?;
    let normalizers = Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()]);
    inner.with_normalizer(Some(normalizers)).map_err(broken)?;
    let split = Split::new(SplitPattern::Regex(WORDS.to_string()), SplitDelimiterBehavior::Removed, true);
    let split = split.map_err(broken)?;
    let bytes = ByteLevel::new(false, true, true);
    inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), bytes.into()])));
    inner.add_tokens(special.tokens.iter().cloned()).map_err(broken)?;
    Ok(inner)
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}
