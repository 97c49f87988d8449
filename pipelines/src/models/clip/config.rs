//! The shape of a whole CLIP, from transformers' config.json.

use super::text::ClipTextConfig;
use super::vision::ClipVisionConfig;
use crate::error::Result;
use crate::models::config::ConfigFile;
use serde_json::json;

/// Shapes of both towers and of their common space.
#[derive(Debug, Clone)]
pub struct ClipConfig {
    pub text: ClipTextConfig,
    pub vision: ClipVisionConfig,
    /// Width of the features.
    pub projection: i64,
}

impl ClipConfig {
    /// Parses the config.json of transformers' `CLIPModel`.
    ///
    /// # Errors
    /// Another kind of model; a value that is not implemented.
    pub fn from_file(file: &ConfigFile) -> Result<Self> {
        if file.get("model_type").is_none() {
            return Err(file.conflict("model_type", "\"clip\""));
        }
        file.only("model_type", &json!("clip"))?;
        let projection = file.size("projection_dim", Some(512))?;
        // Files by transformers before 4.31 hold the parts twice, and the second copy wins.
        let text = file.part("text_config")?.overlaid(file.part("text_config_dict")?);
        let vision = file.part("vision_config")?.overlaid(file.part("vision_config_dict")?);
        Ok(Self {
            text: ClipTextConfig::with_projection(text, Some(projection))?,
            vision: ClipVisionConfig::from_file(&vision)?,
            projection,
        })
    }
}
