//! The shape of a CLIP in OpenCLIP's layout: from open_clip_config.json, or from the weights of a published model.

use super::config::ClipConfig;
use crate::error::{Error, Result};
use crate::models::config::ConfigFile;
use crate::weights::TensorFile;
use serde_json::json;
use std::path::Path;

pub(super) const CONFIG: &str = "open_clip_config.json";
/// Mean and standard deviation of red, green and blue, by which pictures are normalised.
const MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
/// Width of a tower and its heads in published models; other widths need a configuration.
const VISION_HEADS: [(i64, i64); 4] = [(768, 12), (1024, 16), (1280, 16), (1664, 16)];
const TEXT_HEADS: [(i64, i64); 4] = [(512, 8), (768, 12), (1024, 16), (1280, 20)];
/// Vision towers at least this wide exist only with exact GELU; below, files of both activations are published.
const GELU_FROM: i64 = 1280;

/// Parses open_clip_config.json.
pub(super) fn read(path: &Path) -> Result<ClipConfig> {
    let file = ConfigFile::read_file(path)?;
    let preprocessing = file.part("preprocess_cfg")?;
    preprocessing.only("mean", &json!(MEAN))?;
    preprocessing.only("std", &json!(STD))?;
    preprocessing.only("interpolation", &json!("bicubic"))?;
    preprocessing.only("resize_mode", &json!("shortest"))?;
    let model = file.part("model_cfg")?;
    model.only_keys(&["embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"])?;
    let (vision, text) = (model.part("vision_cfg")?, model.part("text_cfg")?);
    let vision_keys = ["image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "patch_dropout"];
    vision.only_keys(&vision_keys)?;
    text.only_keys(&["context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"])?;
    let activation = if model.flag("quick_gelu", false)? { "quick_gelu" } else { "gelu" };
    let width = vision.size("width", Some(768))?;
    let text_width = text.size("width", Some(512))?;
    let wide = |part: &ConfigFile, width: i64| Ok::<_, Error>((width as f64 * part.number("mlp_ratio", 4.0)?) as i64);
    let written = json!({
        "model_type": "clip",
        "projection_dim": model.size("embed_dim", None)?,
        "text_config": {
            "hidden_act": activation,
            "hidden_size": text_width,
            "intermediate_size": wide(&text, text_width)?,
            "num_hidden_layers": text.size("layers", Some(12))?,
            "num_attention_heads": text.size("heads", Some(8))?,
            "max_position_embeddings": text.size("context_length", Some(77))?,
            "vocab_size": text.size("vocab_size", Some(49408))?,
            // The largest id: OpenCLIP pools there.
            "eos_token_id": 2,
        },
        "vision_config": {
            "hidden_act": activation,
            "hidden_size": width,
            "intermediate_size": wide(&vision, width)?,
            "num_hidden_layers": vision.size("layers", Some(12))?,
            "num_attention_heads": width / vision.size("head_width", Some(64))?.min(width),
            "image_size": vision.size("image_size", Some(224))?,
            "patch_size": vision.size("patch_size", Some(16))?,
        },
    });
    ClipConfig::from_file(&ConfigFile::parse(path, &written.to_string())?)
}

/// The shape of a published model without a configuration, from its weights. `text`: prefix of the text tower's names.
///
/// # Errors
/// Weights of a width that is not published, or whose activation they do not tell.
pub(super) fn known(file: &TensorFile, text: &str) -> Result<ClipConfig> {
    let unknown = |problem: String| {
        let hint = format!("put the model's {CONFIG} or config.json into the folder");
        Error::unusable(file.path(), problem, hint)
    };
    let size = |name: &str, at: usize| {
        let found = file.shape(name).and_then(|shape| shape.get(at)).copied().filter(|size| *size > 0);
        found.ok_or_else(|| unknown(format!("the weights lack {name}, or it has another shape than in a CLIP")))
    };
    let heads = |table: &[(i64, i64)], tower: &str, width: i64| {
        let found = table.iter().find(|(known, _)| *known == width).map(|(_, heads)| *heads);
        found.ok_or_else(|| unknown(format!("the {tower} tower is {width} wide, like none of the published models")))
    };
    let layers = |prefix: &str| {
        let count = |i: &usize| file.shape(&format!("{prefix}transformer.resblocks.{i}.ln_1.weight")).is_some();
        (0..).take_while(count).count()
    };
    let (width, patch) = (size("visual.conv1.weight", 0)?, size("visual.conv1.weight", 3)?);
    let (vocabulary, text_width) =
        (format!("{text}token_embedding.weight"), size(&format!("{text}ln_final.weight"), 0)?);
    if width < GELU_FROM {
        let problem = format!(
            "a vision tower {width} wide is published with quick_gelu and with gelu, and weights do not tell which"
        );
        return Err(unknown(problem));
    }
    let side = ((size("visual.positional_embedding", 0)? - 1) as f64).sqrt().round() as i64;
    let written = json!({
        "model_type": "clip",
        "projection_dim": size("visual.proj", 1)?,
        "text_config": {
            "hidden_act": "gelu",
            "hidden_size": text_width,
            "intermediate_size": size(&format!("{text}transformer.resblocks.0.mlp.c_fc.weight"), 0)?,
            "num_hidden_layers": layers(text),
            "num_attention_heads": heads(&TEXT_HEADS, "text", text_width)?,
            "max_position_embeddings": size(&format!("{text}positional_embedding"), 0)?,
            "vocab_size": size(&vocabulary, 0)?,
            "eos_token_id": 2,
        },
        "vision_config": {
            "hidden_act": "gelu",
            "hidden_size": width,
            "intermediate_size": size("visual.transformer.resblocks.0.mlp.c_fc.weight", 0)?,
            "num_hidden_layers": layers("visual."),
            "num_attention_heads": heads(&VISION_HEADS, "vision", width)?,
            "image_size": side * patch,
            "patch_size": patch,
        },
    });

    ClipConfig::from_file(&ConfigFile::parse(file.path(), &written.to_string())?)
}
