//! BERT's tokenizer (WordPiece, lower-cased words) as transformers' `BertTokenizer` builds it from vocab.txt.

use crate::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::Tensor;
use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece as Model;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

const VOCABULARY: &str = "vocab.txt";
const START: &str = "[CLS]";
const END: &str = "[SEP]";
/// Recognised where a prompt has them.
const SPECIAL: [&str; 5] = ["[UNK]", END, "[PAD]", START, "[MASK]"];
const HINT: &str = "copy vocab.txt of bert-base-uncased";

/// Text to token ids.
pub struct WordPiece {
    inner: tokenizers::Tokenizer,
    length: usize,
    start: i64,
    end: i64,
}

impl WordPiece {
    /// The file of the vocabulary below a folder.
    pub fn file(dir: &Path) -> PathBuf {
        dir.join(VOCABULARY)
    }

    /// Reads `vocab.txt`, one token per line. Texts get at most `length` ids, start and end included.
    ///
    /// # Errors
    /// A missing file, or one without the special tokens.
    pub fn open(dir: &Path, length: usize) -> Result<Self> {
        let path = Self::file(dir);
        if !path.is_file() {
            return Err(Error::missing(dir, VOCABULARY, HINT));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        let vocabulary: HashMap<String, u32> = text.lines().map(str::to_string).zip(0..).collect();
        let id = |token: &str| {
            let absent = || Error::unusable(&path, format!("there is no token {token}"), HINT);
            vocabulary.get(token).map(|id| i64::from(*id)).ok_or_else(absent)
        };
        let (start, end) = (id(START)?, id(END)?);
        SPECIAL.iter().try_for_each(|token| id(token).map(drop))?;
        let broken = |e: tokenizers::Error| Error::unusable(&path, format!("no tokenizer can be made: {e}"), HINT);
        let model = Model::builder().vocab(vocabulary.into_iter().collect::<Vocab>());
        let mut inner = tokenizers::Tokenizer::new(model.build().map_err(broken)?);
        inner.with_normalizer(Some(BertNormalizer::new(true, true, None, true))).map_err(broken)?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        inner.add_special_tokens(SPECIAL.map(|token| AddedToken::from(token, true))).map_err(broken)?;
        Ok(Self { inner, length, start, end })
    }

    /// Token ids `[1, L]` int64: start, the prompt's, end; longer prompts are cut, and there is no padding.
    ///
    /// # Errors
    /// A prompt that cannot be split into tokens.
    pub fn encode(&self, prompt: &str) -> Result<Tensor> {
        let tokens = self.tokens(prompt)?;
        let kept = tokens.iter().take(self.length.saturating_sub(2)).map(|id| i64::from(*id));
        let ids: Vec<i64> = std::iter::once(self.start).chain(kept).chain([self.end]).collect();
        Ok(Tensor::f_from_slice(&ids)?.f_unsqueeze(0)?)
    }

    /// Number of tokens of `prompt` that `encode` cuts off.
    ///
    /// # Errors
    /// A prompt that cannot be split into tokens.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        text: String,
        ids: Vec<i64>,
    }

    #[test]
    fn ids_are_those_of_the_reference() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scorers/imagereward");
        let tokenizer = WordPiece::open(&dir, 35).unwrap();
        let text = std::fs::read_to_string(dir.join("tokens.jsonl")).unwrap();
        let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(cases.len() >= 20);
        for Case { text, ids } in cases {
            let got = Vec::<i64>::try_from(tokenizer.encode(&text).unwrap().view(-1)).unwrap();
            assert_eq!(got, ids, "{text:?}");
        }
    }

    #[test]
    fn a_vocabulary_without_a_special_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let said = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(dir.path().join(VOCABULARY), text).unwrap();
            }
            WordPiece::open(dir.path(), 35).err().unwrap().to_string()
        };
        assert!(said(None).contains("vocab.txt"));
        let absent = said(Some("[PAD]\n[UNK]\n[CLS]\ncat\n"));
        assert!(absent.contains("there is no token [SEP]") && absent.contains("bert-base-uncased"), "{absent}");
    }
}
