//! The presets: where the settings of a run start from.

use std::path::PathBuf;

use clap::ValueEnum;
use impasto_burn::loss::{Balancing, StyleStatistic};
use impasto_burn::loss_network::Pooling;
use impasto_checkpoints::Dtype;
use serde::{Deserialize, Serialize};

use crate::config::{DEAD_LEAVES, LayerWeights, OptimizerKind, ScheduleKind, TrainConfig, TrainPrecision};

/// A set of settings that fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// For a GPU: width 16, batches of 4 at 256², VGG19, stability for video.
    Gpu,
    /// A style of your own within 15 minutes on 2 CPU cores: width 16, one crop of 160² a step, VGG19.
    Cpu,
    /// In the size of Johnson et al. 2016: width 32, batches of 4 at 256², two passes over COCO's 118,287 photos.
    Full,
    /// Does it work at all? Under 3 minutes on 2 cores, no photos, no downloads.
    Smoke,
}

impl Preset {
    /// The preset's settings.
    pub fn config(self) -> TrainConfig {
        let gpu = TrainConfig {
            preset: self,
            style: None,
            dataset: String::new(),
            output: PathBuf::new(),
            device: "cpu".into(),
            precision: TrainPrecision::F32,
            name: None,
            license: None,
            credit_work: None,
            credit_license: None,
            dtype: Dtype::F16,
            width: 16,
            output_gain: 64.0,
            image_size: 256,
            batch_size: 4,
            steps: 8000,
            steps_per_checkpoint: 500,
            keep_last: 2,
            sample_every: 250,
            validation_photos: 3,
            optimizer: OptimizerKind::Muon,
            learning_rate: 1e-3,
            schedule: ScheduleKind::Cosine,
            warmup_steps: 0,
            decay_every: 10_000,
            decay_factor: 0.5,
            clip_norm: 0.0,
            loss_net: "vgg19".into(),
            loss_weights: None,
            offline: false,
            pooling: Pooling::Max,
            statistic: StyleStatistic::Gram,
            balance: Balancing::Auto,
            content_weight: 1.0,
            style_weight: 3.0,
            tv_weight: 0.02,
            stability_weight: 0.02,
            stability_noise: 5.0,
            stability_shift: 4,
            style_size: 640,
            seed: 0,
            workers: 0,
            overfit: 0,
            log_dir: None,
            checkpoint_dir: None,
            content_layers: LayerWeights::even(&["relu3_3"]),
            style_layers: LayerWeights::even(&["relu1_2", "relu2_2", "relu3_3", "relu4_1"]),
        };
        match self {
            Preset::Gpu => gpu,
            // Steps teach more than large batches do, and the stability term's second pass costs a third of a step.
            Preset::Cpu => TrainConfig {
                image_size: 160,
                batch_size: 1,
                steps: 2000,
                steps_per_checkpoint: 100,
                sample_every: 100,
                validation_photos: 2,
                stability_weight: 0.0,
                ..gpu
            },
            Preset::Full => {
                TrainConfig { width: 32, steps: 59_144, steps_per_checkpoint: 2000, sample_every: 500, ..gpu }
            }
            Preset::Smoke => TrainConfig {
                dataset: DEAD_LEAVES.into(),
                output: PathBuf::from("smoke.safetensors"),
                width: 8,
                image_size: 64,
                batch_size: 2,
                steps: 120,
                steps_per_checkpoint: 40,
                sample_every: 20,
                validation_photos: 2,
                learning_rate: 3e-3,
                loss_net: "random-vgg16".into(),
                content_weight: 0.3,
                style_weight: 5.0,
                stability_weight: 0.0,
                style_size: 128,
                content_layers: LayerWeights::even(&["relu2_2"]),
                style_layers: LayerWeights::even(&["relu1_1", "relu1_2", "relu2_2"]),
                ..gpu
            },
        }
    }
}
