//! Record of a picture: its line in images.jsonl, and the settings text for other programs.

use pipelines::schedulers::Scheduler;
use serde_json::{Map, Value, json};

/// Keys without effect on a picture beyond that of other keys: a resumed run may differ in them.
const FREE: [&str; 5] = ["model", "unet", "vae", "batch", "program"];

/// The program and its version, as written into pictures.
pub const PROGRAM: &str = concat!("diffpref ", env!("CARGO_PKG_VERSION"));

/// The first key in which two records must not differ but do: its value in `there` and in `asked`. Where the request
/// leaves tiling to the memory (null), a picture may be tiled or not.
pub fn first_difference(there: &Value, asked: &Value) -> Option<(String, Value, Value)> {
    let (Value::Object(old), Value::Object(new)) = (comparable(there), comparable(asked)) else {
        return Some(("record".to_string(), there.clone(), asked.clone()));
    };
    let keys = new.keys().chain(old.keys().filter(|key| !new.contains_key(*key)));
    let value = |map: &Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
    keys.map(|key| (key.clone(), value(&old, key), value(&new, key)))
        .find(|(key, old, new)| old != new && !(key == "vae_tiling" && new.is_null()))
}

/// The record without keys that may differ: free keys, and paths of files whose hash is recorded.
fn comparable(record: &Value) -> Value {
    let mut record = record.clone();
    if let Some(object) = record.as_object_mut() {
        FREE.iter().for_each(|key| drop(object.shift_remove(*key)));
        forget_lora_places(object);
        if let Some(negative) = object.get_mut("negative").and_then(Value::as_object_mut) {
            negative.shift_remove("unet");
            forget_lora_places(negative);
        }
    }
    record
}

fn forget_lora_places(side: &mut Map<String, Value>) {
    let loras = side.get_mut("loras").and_then(Value::as_array_mut);
    for lora in loras.into_iter().flatten().filter_map(Value::as_object_mut) {
        lora.shift_remove("file");
    }
}

/// The `parameters` text in the format of A1111: prompt, negative prompt, one line of settings.
pub fn parameters(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    let mut lines = vec![text("prompt").to_string()];
    if !text("negative_prompt").is_empty() {
        lines.push(format!("Negative prompt: {}", text("negative_prompt")));
    }
    let model = std::path::Path::new(text("model")).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut settings = vec![
        ("Steps", record["steps"].to_string()),
        ("Sampler", sampler_title(record)),
        match record["cfg_plus_plus"].is_number() {
            true => ("CFG++", record["cfg_plus_plus"].to_string()),
            false => ("CFG scale", record["guidance_scale"].to_string()),
        },
        ("Seed", record["seed"].to_string()),
        ("Size", format!("{}x{}", record["width"], record["height"])),
        ("Model hash", unet_hash(&record["weights"])),
        ("Model", model),
    ];
    if record["eta"] != json!(0.0) {
        settings.push(("Eta", record["eta"].to_string()));
    }
    if record["guidance_rescale"] != json!(0.0) {
        settings.push(("CFG rescale", record["guidance_rescale"].to_string()));
    }
    if record["prediction_type"] != "epsilon" {
        settings.push(("Prediction type", text("prediction_type").to_string()));
    }
    if record["zero_terminal_snr"] == true {
        settings.push(("Noise Schedule", "Zero Terminal SNR".to_string()));
    }
    if record["vae_tiling"] == true {
        settings.push(("VAE tiling", "true".to_string()));
    }
    settings.extend(lora_hashes(&record["loras"]).map(|loras| ("Lora hashes", loras)));
    let negative = &record["negative"];
    if !negative.is_null() {
        settings.push(("Negative model hash", unet_hash(&negative["weights"])));
        settings.extend(lora_hashes(&negative["loras"]).map(|loras| ("Negative Lora hashes", loras)));
        if let [alpha, beta] = negative["merge"].as_array().map(Vec::as_slice).unwrap_or_default() {
            settings.push(("Negative merge", format!("{alpha}, {beta}")));
        }
    }
    settings.push(("Version", PROGRAM.to_string()));
    let settings: Vec<String> = settings.into_iter().map(|(key, value)| format!("{key}: {}", quoted(&value))).collect();
    lines.push(settings.join(", "));
    lines.join("\n")
}

/// A1111's name of the sampler: `DPM++ 2M Karras`.
fn sampler_title(record: &Value) -> String {
    let name = record["scheduler"].as_str().unwrap_or_default();
    let title = Scheduler::by_name(name).map_or(name, |scheduler| scheduler.title);
    let levels = if record["karras"] == true { " Karras" } else { "" };
    format!("{title}{levels}")
}

/// The first digits of the hash of a UNet's first file.
fn unet_hash(weights: &Value) -> String {
    let mut files = weights.as_object().into_iter().flatten();
    let unet = files.find(|(name, _)| name.starts_with("unet/") && name.ends_with(".safetensors"));
    unet.and_then(|(_, hash)| hash.as_str()).unwrap_or_default().chars().take(10).collect()
}

fn lora_hashes(loras: &Value) -> Option<String> {
    let loras = loras.as_array().filter(|loras| !loras.is_empty())?;
    Some(loras.iter().map(lora_hash).collect::<Vec<_>>().join(", "))
}

fn lora_hash(lora: &Value) -> String {
    let name = std::path::Path::new(lora["file"].as_str().unwrap_or_default()).file_stem().unwrap_or_default();
    let hash: String = lora["sha256"].as_str().unwrap_or_default().chars().take(10).collect();
    format!("{}: {hash}", name.to_string_lossy())
}

/// A1111 reads a value with comma, colon or newline only as JSON text.
fn quoted(value: &str) -> String {
    match value.contains([',', ':', '\n']) {
        true => Value::String(value.to_string()).to_string(),
        false => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Value {
        json!({"file": "000000-00.png", "prompt": "a cat", "negative_prompt": "blur", "seed": 7, "model": "models/tiny", "loras": [],
               "guidance_scale": 7.5, "guidance_rescale": 0.0, "cfg_plus_plus": null, "scheduler": "ddim", "eta": 0.0, "karras": false,
               "prediction_type": "epsilon", "zero_terminal_snr": false, "steps": 50, "width": 64, "height": 32,
               "weights": {"text_encoder/model.safetensors": "ff", "unet/diffusion_pytorch_model.safetensors": "0123456789abcdef"}})
    }

    #[test]
    fn parameters_are_written_as_other_programs_read_them() {
        let expected = format!(
            "a cat\nNegative prompt: blur\nSteps: 50, Sampler: DDIM, CFG scale: 7.5, Seed: 7, Size: 64x32, \
             Model hash: 0123456789, Model: tiny, Version: {PROGRAM}"
        );
        assert_eq!(parameters(&record()), expected);
        let mut other = record();
        other["negative_prompt"] = Value::Null;
        other["model"] = json!("a, b");
        other["loras"] = json!([{"file": "x/style.safetensors", "scale": 0.5, "sha256": "aabbccddeeff"}]);
        let text = parameters(&other);
        assert!(!text.contains("Negative prompt"), "{text}");
        assert!(text.contains("Model: \"a, b\", Lora hashes: \"style: aabbccddee\", Version"), "{text}");
    }

    #[test]
    fn whatever_changes_a_picture_is_in_its_parameters() {
        let settings = |changes: Value| {
            let mut record = record();
            record.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            parameters(&record).lines().last().unwrap().to_string()
        };
        for (name, karras, title) in [
            ("pndm", false, "PLMS"),
            ("ddim", false, "DDIM"),
            ("dpmpp_2m", false, "DPM++ 2M"),
            ("dpmpp_2m", true, "DPM++ 2M Karras"),
            ("euler", false, "Euler"),
            ("euler", true, "Euler Karras"),
            ("euler_a", false, "Euler a"),
        ] {
            let text = settings(json!({"scheduler": name, "karras": karras}));
            assert!(text.starts_with(&format!("Steps: 50, Sampler: {title}, CFG scale: 7.5, ")), "{text}");
        }
        let text = settings(json!({"eta": 0.5, "guidance_rescale": 0.7}));
        assert!(text.contains(", Eta: 0.5, CFG rescale: 0.7, Version: "), "{text}");
        let text = settings(json!({"guidance_scale": null, "cfg_plus_plus": 0.4}));
        assert!(text.contains("Sampler: DDIM, CFG++: 0.4, Seed: 7") && !text.contains("CFG scale"), "{text}");
        let text = settings(json!({"prediction_type": "v_prediction", "zero_terminal_snr": true}));
        assert!(
            text.contains(", Prediction type: v_prediction, Noise Schedule: Zero Terminal SNR, Version: "),
            "{text}"
        );
    }

    #[test]
    fn records_differ_in_what_changes_a_picture_only() {
        let mut moved = record();
        moved["model"] = json!("elsewhere/tiny");
        moved["batch"] = json!(4);
        assert_eq!(first_difference(&record(), &moved), None);
        moved["steps"] = json!(20);
        moved["seed"] = json!(8);
        assert_eq!(first_difference(&record(), &moved), Some(("seed".to_string(), json!(7), json!(8))));
        let mut fewer = record();
        fewer.as_object_mut().unwrap().shift_remove("eta");
        assert_eq!(first_difference(&fewer, &record()), Some(("eta".to_string(), Value::Null, json!(0.0))));
    }
}
