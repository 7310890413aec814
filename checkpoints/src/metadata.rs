//! What a style-model file says of itself beside its tensors: one JSON value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::error::CheckpointError;

/// Newest file format this version reads, and the one it writes.
pub const FORMAT_VERSION: u64 = 1;

/// Everything a style model knows of itself beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Version of this format, [`FORMAT_VERSION`].
    pub format_version: u64,
    /// Name of the style, `wave`.
    pub name: String,
    /// The network.
    pub architecture: Architecture,
    /// Licence of the weights, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Whom and what the weights come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credits: Vec<Credit>,
    /// How the model was trained, if it was trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// PSNR in dB of the bf16 path against f32 on 8-bit output, measured when trained or imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bf16_psnr: Option<f64>,
}

impl Metadata {
    /// Metadata of a model of which only the architecture and a name are known.
    pub fn new(name: impl Into<String>, architecture: Architecture) -> Self {
        Metadata {
            format_version: FORMAT_VERSION,
            name: name.into(),
            architecture,
            license: None,
            credits: Vec::new(),
            training: None,
            bf16_psnr: None,
        }
    }

    /// Parses the JSON value stored under the key `impasto`.
    ///
    /// # Errors
    /// [`CheckpointError::NewerVersion`] before anything else, so that a newer file's unknown keys are not
    /// what the reader hears about; else [`CheckpointError::Format`] or [`CheckpointError::Architecture`].
    pub fn from_json(text: &str) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u64,
        }
        let broken = |error: serde_json::Error| {
            CheckpointError::format(format!("metadata `impasto`: {}", one_line(&error.to_string())))
        };
        let version: Version = serde_json::from_str(text).map_err(broken)?;
        if version.format_version > FORMAT_VERSION {
            return Err(CheckpointError::NewerVersion {
                found: version.format_version,
                supported: FORMAT_VERSION,
            });
        }
        if version.format_version == 0 {
            return Err(CheckpointError::format("format version 0; versions start at 1"));
        }
        let metadata: Metadata = serde_json::from_str(text).map_err(broken)?;
        metadata.architecture.validate()?;
        Ok(metadata)
    }

    /// The JSON value as it is stored. The same metadata always gives the same text.
    ///
    /// # Errors
    /// [`CheckpointError::Format`] when it holds what JSON cannot.
    pub fn to_json(&self) -> Result<String, CheckpointError> {
        serde_json::to_string(self).map_err(|error| CheckpointError::format(error.to_string()))
    }
}

/// A source that wants to be named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credit {
    /// What it is: `The Great Wave off Kanagawa, Katsushika Hokusai`.
    pub work: String,
    /// Its licence: `public domain`, `CC BY 4.0`.
    pub license: String,
    /// What it gave: `style picture`, `loss network`, `weights`.
    pub role: String,
}

/// How a model was trained: enough to do it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Version of the trainer.
    pub tool: String,
    /// Loss network, `vgg19`.
    pub loss_network: String,
    /// SHA-256 of the style picture's file, in hexadecimal.
    pub style_sha256: String,
    /// Optimizer steps.
    pub steps: u64,
    /// Pictures a step.
    pub batch_size: usize,
    /// Height and width of a training crop.
    pub image_size: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Weight of the content loss.
    pub content_weight: f64,
    /// Weight of the style loss.
    pub style_weight: f64,
    /// Weight of the total variation.
    pub tv_weight: f64,
    /// What its losses were multiplied by, if they were balanced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<LossBalance>,
    /// The whole resolved configuration, as TOML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// Factors that bring the losses of different layers and networks, which differ by many powers of ten, to one size.
/// Measured on unpainted photos; with them
/// - every style layer's loss is 1 for an **unpainted** photo: the style losses count what part of the way to the
///   style is still to go;
/// - every content layer's loss is 1 for a picture **of which nothing is left** (features 0): the content losses
///   count what part of the features' energy has changed;
/// - the total variation is 1 for a picture **as rough as a photo**.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossBalance {
    /// For each content layer, 1 / mean square of its features.
    pub content: BTreeMap<String, f64>,
    /// For each style layer, 1 / style loss.
    pub style: BTreeMap<String, f64>,
    /// 1 / total variation.
    pub tv: f64,
}

/// Error texts of other crates may break lines; ours are one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
