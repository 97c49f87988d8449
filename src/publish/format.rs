//! The formats in which models and LoRAs are written.

/// Format of a written model or LoRA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A UNet folder.
    Unet,
    /// A model folder in the diffusers layout.
    Diffusers,
    /// A single-file checkpoint for A1111, ComfyUI and kohya.
    Checkpoint,
    /// A LoRA in PEFT naming, for diffusers.
    LoraPeft,
    /// A LoRA in kohya naming, for ComfyUI and A1111.
    LoraKohya,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unet => "unet",
            Self::Diffusers => "diffusers",
            Self::Checkpoint => "checkpoint",
            Self::LoraPeft => "lora-peft",
            Self::LoraKohya => "lora-kohya",
        })
    }
}

impl Format {
    pub fn is_lora(self) -> bool {
        matches!(self, Self::LoraPeft | Self::LoraKohya)
    }

    /// Whether the result is a single file.
    pub fn is_file(self) -> bool {
        self.is_lora() || self == Self::Checkpoint
    }
}
