//! The verdict on curves whose state is known.

use diffpref::report::State;
use diffpref::report::metrics::Metrics;
use diffpref::report::verdict::{Verdict, judge};
use serde_json::{Map, Value, json};

/// A run of 400 steps, validated every 20: `row(progress, noise)` gives a step's metrics, `validation(progress)` those
/// of a validated one; progress goes from 0 to 1, noise is within [-1, 1].
fn run(row: impl Fn(f64, f64) -> Value, validation: impl Fn(f64) -> Value) -> Verdict {
    let object = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let rows = (1..=400u32).map(|step| {
        let progress = f64::from(step) / 400.0;
        // A fixed jitter without a generator: fractions of a multiple of the golden ratio.
        let noise = (f64::from(step) * 0.618_033_988_75).fract() * 2.0 - 1.0;
        let mut row = object(row(progress, noise));
        row.insert("step".into(), json!(step));
        if step % 20 == 0 {
            row.extend(object(validation(progress)));
        }
        row
    });
    judge(&metrics(rows))
}

fn metrics(rows: impl Iterator<Item = Map<String, Value>>) -> Metrics {
    let mut metrics = Metrics::default();
    rows.for_each(|row| metrics.push(serde_json::from_value(Value::Object(row)).unwrap()));
    metrics
}

fn margin(value: f64, half_band: f64) -> Value {
    json!({"val_margin": value, "val_margin_lo": value - half_band, "val_margin_hi": value + half_band})
}

fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

fn steady(_: f64, noise: f64) -> Value {
    json!({"implicit_acc": 0.6 + 0.2 * noise, "margin": 1e-4 + 1e-3 * noise, "ref_mse_w": 0.1, "gap_w": -1e-3, "gap_l": 1e-3,
           "gradient_factor": 0.45})
}

#[test]
fn a_held_out_margin_that_rises_out_of_its_band_is_learning() {
    let verdict = run(steady, |p| margin(1e-3 * p, 2e-4));
    assert_eq!(verdict.state, State::Learning, "{verdict:?}");
    assert!(verdict.reasons[0].contains("1.000e-3") && verdict.reasons[0].contains("8.000e-4"), "{verdict:?}");
}

#[test]
fn a_band_that_holds_zero_is_nothing_learnt_yet() {
    let verdict = run(steady, |p| margin(1e-4 * p, 2e-4));
    assert_eq!(verdict.state, State::NothingLearntYet, "{verdict:?}");
}

#[test]
fn spent_pairs_are_saturated() {
    let spent = |p: f64, noise: f64| with(steady(p, noise), json!({"gradient_factor": 0.5 * (1.0 - p) * 0.2}));
    let verdict = run(spent, |p| margin(1e-3 * p, 2e-4));
    assert_eq!(verdict.state, State::Saturated, "{verdict:?}");
}

#[test]
fn a_held_out_margin_that_stopped_rising_is_saturated() {
    let verdict = run(steady, |p| margin(1e-3 * p.min(0.4) - 1e-5 * p, 2e-4));
    assert_eq!(verdict.state, State::Saturated, "{verdict:?}");
}

#[test]
fn errors_that_grow_on_winners_and_losers_are_diverging_even_while_the_margin_grows() {
    let verdict = run(steady, |p| with(margin(1e-2 * p, 1e-3), json!({"val_gap_w": 0.03 * p, "val_gap_l": 0.04 * p})));
    assert_eq!(verdict.state, State::Diverging, "{verdict:?}");
}

#[test]
fn without_validation_the_gaps_of_training_pairs_show_divergence() {
    let growing =
        |p: f64, noise: f64| with(steady(p, noise), json!({"gap_w": 0.03 * p + 0.01 * noise, "gap_l": 0.05 * p}));
    assert_eq!(run(growing, |_| json!({})).state, State::Diverging);
}

#[test]
fn losers_that_get_worse_alone_are_not_diverging() {
    let verdict = run(steady, |p| with(margin(1e-3 * p, 2e-4), json!({"val_gap_w": -0.01 * p, "val_gap_l": 0.05 * p})));
    assert_eq!(verdict.state, State::Learning, "{verdict:?}");
}

#[test]
fn training_accuracy_that_leaves_the_held_out_one_is_overfitting() {
    let row = |p: f64, noise: f64| with(steady(p, noise), json!({"implicit_acc": 0.5 + 0.5 * p}));
    let rise_and_fall = |p: f64| with(margin(1e-3 * p * (1.0 - p), 5e-4), json!({"val_implicit_acc": 0.55}));
    let verdict = run(row, rise_and_fall);
    assert_eq!(verdict.state, State::Overfitting, "{verdict:?}");
    assert!(verdict.reasons[1].contains("at step 200"), "{verdict:?}");
}

#[test]
fn a_training_lead_while_the_held_out_margin_still_rises_is_learning() {
    let row = |p: f64, noise: f64| with(steady(p, noise), json!({"implicit_acc": 0.5 + 0.5 * p}));
    let verdict = run(row, |p| with(margin(1e-3 * p, 2e-4), json!({"val_implicit_acc": 0.6})));
    assert_eq!(verdict.state, State::Learning, "{verdict:?}");
}

#[test]
fn without_validation_the_training_margin_has_to_stand_out_from_its_noise() {
    let clear = |_: f64, noise: f64| json!({"margin": 5e-4 + 1e-3 * noise});
    assert_eq!(run(clear, |_| json!({})).state, State::Learning);
    let lost = |_: f64, noise: f64| json!({"margin": 1e-5 + 1e-3 * noise});
    assert_eq!(run(lost, |_| json!({})).state, State::NothingLearntYet);
}

#[test]
fn sft_without_validation_cannot_be_judged() {
    assert_eq!(run(|_, _| json!({"loss": 0.1, "model_mse_w": 0.1}), |_| json!({})).state, State::Unmeasured);
}

#[test]
fn a_run_without_a_step_has_learnt_nothing() {
    assert_ne!(judge(&Metrics::default()).state, State::Learning);
}

#[test]
fn values_that_are_no_numbers_are_left_out() {
    let verdict = run(
        |p, noise| with(steady(p, noise), json!({"gap_w": null, "margin_by_t": [null, 1.0]})),
        |p| with(margin(1e-3 * p, 2e-4), json!({"val_gap_w": null})),
    );
    assert_eq!(verdict.state, State::Learning, "{verdict:?}");
}

/// A run that samples every 20 steps.
fn sampling(iteration: impl Fn(f64) -> Value) -> Verdict {
    run(|_, _| json!({"loss": 0.69}), iteration)
}

#[test]
fn samples_whose_reward_rises_and_stays_honest_are_said_to_rise() {
    let verdict = sampling(|p| json!({"rollout_reward": p, "watch_content": 0.9, "diversity": 1.0}));
    assert_eq!(verdict.state, State::RewardRising, "{verdict:?}");
    let verdict = sampling(|p| json!({"rollout_reward": 0.1 * (40.0 * p).sin(), "watch_content": 0.9}));
    assert_eq!(verdict.state, State::NothingLearntYet, "{verdict:?}");
}

#[test]
fn a_reward_that_rises_while_a_watched_score_falls_is_hacked_by_name() {
    let verdict = sampling(|p| json!({"rollout_reward": p, "watch_content": 0.9 - 0.5 * p, "watch_style": p}));
    assert_eq!(verdict.state, State::RewardHacked, "{verdict:?}");
    assert!(verdict.headline.starts_with("Reward hacked"));
    assert!(verdict.reasons[1].starts_with("content, which is not trained on, fell from 0."), "{verdict:?}");
    assert_eq!(verdict.reasons.len(), 2, "style rose");
}

#[test]
fn samples_that_grow_alike_while_the_reward_rises_are_hacked() {
    let verdict = sampling(|p| json!({"rollout_reward": p, "diversity": 1.0 - 0.6 * p}));
    assert_eq!(verdict.state, State::RewardHacked, "{verdict:?}");
    assert!(verdict.reasons[1].contains("diversity"), "{verdict:?}");
}

#[test]
fn a_few_iterations_tell_nothing() {
    let verdict =
        judge(&metrics((1..=5).map(|step| json!({"step": step, "rollout_reward": step}).as_object().unwrap().clone())));
    assert_eq!(verdict.state, State::NothingLearntYet);
    assert!(verdict.reasons[0].contains("5 iterations were sampled; 6 are needed"), "{verdict:?}");
}

/// A held-out score against the start model's: how far it lies from it at the end, and half its interval.
fn held_out(name: &str, gain: f64, half: f64) -> Value {
    json!({
        format!("val_{name}_gain"): gain, format!("val_{name}_gain_lo"): gain - half, format!("val_{name}_gain_hi"): gain + half,
    })
}

#[test]
fn held_out_prompts_decide_whether_a_reward_rose() {
    let noise = |p: f64| json!({"rollout_reward": 0.1 * (40.0 * p).sin()});
    let rises = sampling(|p| with(noise(p), held_out("reward", 0.5 * p, 0.1)));
    assert_eq!(rises.state, State::RewardRising, "{rises:?}");
    assert!(rises.reasons[0].starts_with("The reward on held-out prompts differs by +0.5000 from"), "{rises:?}");
    let uncertain = sampling(|p| with(json!({"rollout_reward": p}), held_out("reward", 0.5 * p, 0.6)));
    assert_eq!(uncertain.state, State::NothingLearntYet, "the samples' prompts became easier: {uncertain:?}");
}

#[test]
fn held_out_prompts_show_a_hacked_reward_too() {
    let judged = |half: f64| {
        sampling(|p| {
            let reward = with(json!({"rollout_reward": 0.0}), held_out("reward", p, 0.1));
            with(reward, held_out("watch_content", -0.4 * p, half))
        })
    };
    let hacked = judged(0.1);
    assert_eq!(hacked.state, State::RewardHacked, "{hacked:?}");
    assert!(
        hacked.reasons[2].starts_with("content, which is not trained on, on held-out prompts differs by -0.4000"),
        "{hacked:?}"
    );
    assert_eq!(judged(0.5).state, State::RewardRising);
}
