//! Metrics line of a step: one JSON object per line of metrics.jsonl. Meaning of the keys: docs/train.md.

use super::named::Named;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Declares [`Line`]. An absent key is `None`, 0 or empty. A number that is not finite is null, which JSON can express.
macro_rules! line {
    (
        numbers { $($(#[$of_number:meta])* $number:ident,)* }
        counts { $($(#[$of_count:meta])* $count:ident,)* }
        flags { $($(#[$of_flag:meta])* $flag:ident,)* }
    ) => {
        /// Metrics of a step.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        pub struct Line {
            pub step: u64,
            $(
                $(#[$of_number])*
                #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
                pub $number: Option<f64>,
            )*
            $(
                $(#[$of_count])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $count: Option<u64>,
            )*
            $(
                $(#[$of_flag])*
                #[serde(default, skip_serializing_if = "std::ops::Not::not")]
                pub $flag: bool,
            )*
            /// Means of h over tenths of the noise levels; `None` for a tenth without a pair.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub margin_by_t: Vec<Option<f64>>,
            /// Shares of the effective weights below 0.1, 0.3, 1, 3, and above.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub weight_hist: Vec<f64>,
            /// Mean reward of each prompt of an iteration, 64 prompts at most.
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            pub rollout_reward_by_prompt: BTreeMap<String, f64>,
            /// Numbers of scorers and of the objective's own statistic.
            #[serde(flatten)]
            pub named: Named,
        }
    };
}

line! {
    numbers {
        /// Passes completed after the step.
        epoch,
        lr,
        /// Mean of the differentiated values.
        loss,
        loss_unweighted,
        /// Share of pairs with u > 0; one half of those with u = 0.
        implicit_acc,
        /// Means of h_w - h_l, h_w and h_l; h = e_ref - e_theta.
        margin,
        reward_w,
        reward_l,
        model_mse_w,
        model_mse_l,
        ref_mse_w,
        ref_mse_l,
        /// Means of e_theta - e_ref.
        gap_w,
        gap_l,
        /// Mean of sigma(-u): 0.5 at the start.
        gradient_factor,
        /// Share of pairs with h < 0.
        negative_margin,
        /// Mean log p_theta - log p_other of the transitions read, and half the mean of its square.
        log_ratio,
        approx_kl,
        /// Largest |rho - 1| before the first update of an iteration, for methods that compare with the sampling policy.
        fresh_ratio_error,
        noise_pred_drift,
        /// Mean of (mu_theta - mu_start)^2 / (2 sigma_t^2).
        start_kl,
        clamped_fraction,
        weight_mean,
        safeguard_lam,
        tau_rms,
        inversion_error,
        /// Distance of the reference from the start model, of the step and smoothed.
        divergence,
        divergence_smoothed,
        beta,
        /// Weighted sum of the scores of an iteration's samples, before shaping.
        rollout_reward,
        rollout_reward_std,
        diversity,
        rollout_s,
        grad_norm,
        pairs_per_s,
        s_per_step,
        data_wait_s,
        peak_mem_gib,
        val_loss,
        val_implicit_acc,
        val_margin,
        /// 95 % interval of val_margin over prompts.
        val_margin_lo,
        val_margin_hi,
        val_gap_w,
        val_gap_l,
        /// Mean of sigma(-u) over the held-out pairs.
        val_gradient_factor,
    }
    counts {
        iteration,
        kept_transitions,
        kept_units,
        /// Iterations just before this one without kept units.
        empty_iterations,
        /// Prompts of an iteration whose pictures are all worth the same.
        idle_groups,
        /// Forward passes so far, counted per row.
        network_evaluations,
    }
    flags {
        reference_copied,
        reference_frozen,
        spike,
        skipped,
    }
}

/// A number of a key that is present: null is a number that is not finite.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(Some(Option::deserialize(from)?.unwrap_or(f64::NAN)))
}

impl Line {
    /// One line of metrics.jsonl, without its end.
    ///
    /// # Errors
    /// None in practice: every field has a form in JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// All finite numbers with their keys, without `step`.
    ///
    /// # Errors
    /// Those of [`to_json`](Self::to_json).
    pub fn numbers(&self) -> serde_json::Result<Map<String, Value>> {
        let keys: Map<String, Value> = serde_json::from_value(serde_json::to_value(self)?)?;
        Ok(keys.into_iter().filter(|(key, value)| value.is_number() && key != "step").collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_null_and_an_absent_one_has_no_key() {
        let line = Line { step: 3, loss: Some(f64::NAN), ..Line::default() };
        let json = line.to_json().unwrap();
        assert_eq!(json, r#"{"step":3,"loss":null}"#);
        let read: Line = serde_json::from_str(&json).unwrap();
        assert!(read.loss.unwrap().is_nan());
        assert_eq!(read.beta, None);
    }

    #[test]
    fn a_line_reads_back_as_written() {
        let mut line = Line { step: 3, diversity: Some(0.25), iteration: Some(2), spike: true, ..Line::default() };
        line.margin_by_t = vec![None, Some(0.5)];
        line.named.put("wpo_mean", Some(1.5));
        assert_eq!(serde_json::from_str::<Line>(&line.to_json().unwrap()).unwrap(), line);
        let keys: Vec<String> = line.numbers().unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["diversity", "iteration", "wpo_mean"]);
    }

    #[test]
    fn keys_of_other_versions_do_not_stop_a_reader() {
        let read: Line = serde_json::from_str(r#"{"step":1,"new":[1,2],"other":null,"words":"x","more":4}"#).unwrap();
        assert_eq!(read.named.get("more"), Some(4.0));
        assert!(read.named.get("other").unwrap().is_nan());
        assert_eq!((read.named.get("new"), read.named.get("words")), (None, None));
        assert!(serde_json::from_str::<Line>(r#"{"loss":1}"#).is_err());
    }
}
