//! Opened scorers with names, and the checks of every table that they return.

use super::measure::{Better, Table};
use super::scorer::Scorer;
use super::spec::ScorerSpec;
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use pipelines::families::ModelFolder;
use pipelines::weights::LoadOptions;

/// An opened scorer, and its name in messages and metrics.
pub struct Named {
    pub name: String,
    pub scorer: Box<dyn Scorer>,
    /// Index of the measure that rewards weigh.
    pub measure: usize,
}

impl Named {
    /// Opens all of them. The second scorer of a name gets a number: style, style_2.
    ///
    /// # Errors
    /// A scorer with missing or damaged files, named in the text.
    pub fn open_all<'a>(
        specs: impl IntoIterator<Item = &'a ScorerSpec>,
        options: LoadOptions,
        model: Option<&ModelFolder>,
    ) -> Result<Vec<Self>> {
        let mut seen: Vec<&str> = Vec::new();
        let one = |spec: &'a ScorerSpec| {
            let before = seen.iter().filter(|name| **name == spec.name).count();
            seen.push(&spec.name);
            let name = if before == 0 { spec.name.clone() } else { format!("{}_{}", spec.name, before + 1) };
            let scorer = spec.open(options, model);
            let scorer = scorer.with_context(|| format!("cannot open the scorer \"{}\"", spec.name))?;
            Ok(Self { name, scorer, measure: 0 })
        };
        specs.into_iter().map(one).collect()
    }

    /// The scorer with this measure for rewards; `None`: the first one.
    ///
    /// # Errors
    /// A measure that the scorer does not have.
    pub fn of_measure(self, measure: Option<&str>) -> Result<Self> {
        let Some(wanted) = measure else { return Ok(self) };
        let names: Vec<&str> = self.scorer.measures().iter().map(|measure| measure.name.as_ref()).collect();
        let found = names.iter().position(|name| *name == wanted);
        let found = found.with_context(|| {
            format!("the scorer \"{}\" has no measure \"{wanted}\": expected {}", self.name, names.join(", "))
        })?;
        Ok(Self { measure: found, ..self })
    }

    /// Preference of the measure that rewards weigh.
    pub fn better(&self) -> Better {
        self.scorer.measures().get(self.measure).map_or(Better::Neither, |measure| measure.better)
    }

    /// Numbers of pictures by the measure that rewards weigh. Otherwise as [`rate`](Self::rate).
    ///
    /// # Errors
    /// Those of [`rate`](Self::rate).
    pub fn rate_one(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Vec<f64>> {
        Ok(self.rate(pictures, t, prompts)?.column(self.measure))
    }

    /// Checks whether pictures of all these prompts can be rated.
    ///
    /// # Errors
    /// An unsupported prompt: the text names scorer and prompt.
    pub fn check<'a>(&self, prompts: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let check = prompts.into_iter().try_for_each(|prompt| self.scorer.check(prompt));
        check.with_context(|| format!("scorer \"{}\" cannot rate", self.name))
    }

    /// A note about prompts whose ends the scorer does not read; `None`: it reads all of them.
    ///
    /// # Errors
    /// A prompt that cannot be split into tokens.
    pub fn note<'a>(&self, prompts: impl IntoIterator<Item = &'a str>) -> Result<Option<String>> {
        let mut cut = 0;
        for prompt in prompts {
            cut += usize::from(self.scorer.tokens_cut(prompt)? > 0);
        }
        let name = &self.name;
        Ok((cut > 0).then(|| {
            format!("note: {cut} prompts are longer than the text encoder of the scorer \"{name}\" reads, and are cut for it")
        }))
    }

    /// Numbers of pictures, one prompt per picture, `[pictures, measures]`. `t`: see [`Scorer::score`].
    ///
    /// # Errors
    /// Errors of the scorer; a table of another size, or a number that is not finite: the text names scorer, picture
    /// and prompt.
    pub fn rate(&self, pictures: &[RgbImage], t: i64, prompts: &[&str]) -> Result<Table> {
        let (name, n) = (&self.name, pictures.len());
        ensure!(n == prompts.len(), "{n} pictures with {} prompts: expected as many", prompts.len());
        let table =
            self.scorer.score(pictures, t, prompts).with_context(|| format!("scorer \"{name}\" cannot rate"))?;
        ensure!(
            table.0.len() == n,
            "scorer \"{name}\" rated {} of {n} pictures, the first for the prompt {:?}: expected one row per picture",
            table.0.len(),
            prompts.first().unwrap_or(&"")
        );
        for (i, row) in table.0.iter().enumerate() {
            let of = || {
                format!("scorer \"{name}\" rated picture {i} of {n} (counted from 0), for the prompt {:?}", prompts[i])
            };
            let measures = self.scorer.measures();
            ensure!(row.len() == measures.len(), "{}, by {} numbers: expected {}", of(), row.len(), measures.len());
            if let Some(number) = row.iter().find(|number| !number.is_finite()) {
                anyhow::bail!("{}, as {number}: expected a finite number", of());
            }
        }
        Ok(table)
    }
}
