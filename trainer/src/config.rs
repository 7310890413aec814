//! What a training run is told: settings from a preset, a strict TOML file and flags, in this order of rank.

use std::fmt;
use std::path::{Path, PathBuf};

use impasto_burn::loss::{Balancing, StyleStatistic};
use impasto_burn::loss_network::Pooling;
use impasto_checkpoints::Dtype;
use serde::{Deserialize, Serialize};

pub use crate::choices::{LayerWeights, OptimizerKind, ScheduleKind, TrainPrecision};
use crate::error::TrainError;
use crate::presets::Preset;

/// The dataset's name that means synthetic scenes, which need no photos.
pub const DEAD_LEAVES: &str = "dead-leaves";

/// First line of the file of resolved settings beside the result. A file without it is a person's, and stays.
pub const WRITTEN_BY_US: &str = "# The settings of a run of impasto-train, all of them. Its next run replaces this file while this line is here.";

/// Widest first layer: the widest inner layer has four times as many channels.
const MAX_WIDTH: usize = impasto_checkpoints::MAX_CHANNELS / 4;

/// Declares each setting once: as a field of the resolved [`TrainConfig`], as an optional field of the
/// [`Overrides`] that a file and the flags are read into, in the merge of the two and in the comparison that a
/// resume makes.
macro_rules! settings {
    ($($(#[doc = $doc:expr])* [$($arg:tt)*] $name:ident: $full:ty = $inner:ty,)*) => {
        /// The resolved settings of a run: what is saved beside the result and in every checkpoint.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct TrainConfig {
            $($(#[doc = $doc])* pub $name: $full,)*
        }

        /// Settings that were given: by a TOML file (unknown keys are errors) or by flags.
        #[derive(Debug, Clone, Default, PartialEq, Deserialize, clap::Args)]
        #[serde(deny_unknown_fields, default)]
        pub struct Overrides {
            $($(#[doc = $doc])* #[arg($($arg)*)] pub $name: Option<$inner>,)*
        }

        impl TrainConfig {
            /// Puts what was given over what is there.
            pub fn apply(&mut self, given: &Overrides) {
                $(if let Some(value) = &given.$name {
                    self.$name = value.clone().into();
                })*
            }

            /// The settings in which two runs differ: name, value here, value there.
            pub fn differences(&self, other: &Self) -> Vec<Difference> {
                let mut found = Vec::new();
                $(if self.$name != other.$name {
                    found.push(Difference {
                        name: stringify!($name),
                        before: value_text(&self.$name),
                        after: value_text(&other.$name),
                    });
                })*
                found
            }
        }
    };
}

settings! {
    /// Where the other settings start from [default: gpu on a GPU, else cpu].
    [long, value_enum] preset: Preset = Preset,
    /// The painting; without it a synthetic one is used.
    [long, short, value_name = "PICTURE"] style: Option<PathBuf> = PathBuf,
    /// A folder of photos, or `dead-leaves` for synthetic scenes.
    [long, short, value_name = "FOLDER"] dataset: String = String,
    /// The style model to write.
    [long, short, value_name = "FILE"] output: PathBuf = PathBuf,
    /// `cpu`, `cuda`, `cuda:N`, `wgpu` or `wgpu:N` [default: cuda where build and machine have it, else cpu].
    [long] device: String = String,
    /// Number type of the convolutions.
    [long, value_enum] precision: TrainPrecision = TrainPrecision,
    /// Name of the style [default: the output's file name].
    [long] name: Option<String> = String,
    /// Licence of the trained weights, for the model's metadata.
    [long] license: Option<String> = String,
    /// What the style picture is: `The Great Wave off Kanagawa, Katsushika Hokusai`.
    [long, value_name = "TEXT"] credit_work: Option<String> = String,
    /// The style picture's licence: `public domain`.
    [long, value_name = "TEXT"] credit_license: Option<String> = String,
    /// Number type of the style model's file.
    [long, value_enum] dtype: Dtype = Dtype,
    /// Channels of the network's first layer.
    [long] width: usize = usize,
    /// While training, the network's output is multiplied by this (and set about mid-grey when it is not 1), which
    /// spares it hundreds of steps; in the style model the factor is part of the last layer's weights.
    [long] output_gain: f64 = f64,
    /// Height and width of a training crop, in pixels.
    [long] image_size: usize = usize,
    /// Photos a step.
    [long] batch_size: usize = usize,
    /// Optimizer steps.
    [long] steps: u64 = u64,
    /// Steps between checkpoints (an epoch of the dashboard).
    [long] steps_per_checkpoint: u64 = u64,
    /// Checkpoints that are kept.
    [long] keep_last: usize = usize,
    /// Steps between painted samples.
    [long] sample_every: u64 = u64,
    /// Held-out photos that are painted and measured; 0 for no samples and no measure.
    [long] validation_photos: usize = usize,
    /// What moves the weights.
    [long, value_enum] optimizer: OptimizerKind = OptimizerKind,
    /// How far a step moves a weight, about.
    [long] learning_rate: f64 = f64,
    /// How the learning rate moves.
    [long, value_enum] schedule: ScheduleKind = ScheduleKind,
    /// Steps over which the learning rate rises from 0.
    [long] warmup_steps: u64 = u64,
    /// Steps between decays, for `--schedule step`.
    [long] decay_every: u64 = u64,
    /// Factor of a decay, for `--schedule step`.
    [long] decay_factor: f64 = f64,
    /// Largest norm of all gradients together; larger ones are scaled down to it. 0 for no limit.
    [long] clip_norm: f64 = f64,
    /// `vgg16`, `vgg19`, `squeezenet`, or with seeded random weights `random-vgg16`, `random-vgg19`.
    [long] loss_net: String = String,
    /// File with the loss network's weights.
    [long, value_name = "FILE"] loss_weights: Option<PathBuf> = PathBuf,
    /// Do not download the loss network's weights.
    [long, num_args = 0..=1, default_missing_value = "true", require_equals = true] offline: bool = bool,
    /// How the loss network halves its planes.
    [long, value_enum] pooling: Pooling = Pooling,
    /// What of the features makes a style.
    [long, value_enum] statistic: StyleStatistic = StyleStatistic,
    /// Whether the losses are brought to one scale first.
    [long, value_enum] balance: Balancing = Balancing,
    /// Weight of the content loss.
    [long] content_weight: f64 = f64,
    /// Weight of the style loss.
    [long] style_weight: f64 = f64,
    /// Weight of the total variation.
    [long] tv_weight: f64 = f64,
    /// Weight of the stability loss; 0 leaves its second pass out.
    [long] stability_weight: f64 = f64,
    /// Standard deviation of the stability loss's noise, in grey levels of 255, above 0.
    [long] stability_noise: f64 = f64,
    /// Largest shift of the stability loss, in pixels.
    [long] stability_shift: usize = usize,
    /// Longer side of the style picture for its features, in pixels; the aspect is kept. 0: as it is.
    [long] style_size: usize = usize,
    /// Seed of everything random.
    [long] seed: u64 = u64,
    /// Threads that load photos; 0 for one a core.
    [long] workers: usize = usize,
    /// Train on this many photos only, again and again, also within a batch; 0 for all.
    [long] overfit: usize = usize,
    /// Folder for TensorBoard and the CSV [default: beside the output].
    [long, value_name = "FOLDER"] log_dir: Option<PathBuf> = PathBuf,
    /// Folder for the checkpoints [default: beside the output].
    [long, value_name = "FOLDER"] checkpoint_dir: Option<PathBuf> = PathBuf,
    /// Layers of the content loss: `relu3_3` or `relu2_2=1,relu3_3=0.5`.
    [long, value_name = "LAYERS"] content_layers: LayerWeights = LayerWeights,
    /// Layers of the style loss.
    [long, value_name = "LAYERS"] style_layers: LayerWeights = LayerWeights,
}

/// A setting that two runs have differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting.
    pub name: &'static str,
    /// Its value in the checkpoint.
    pub before: String,
    /// Its value now.
    pub after: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (was {}, now {})", self.name, self.before, self.after)
    }
}

/// Settings that may change between a run and its resume without changing what is learned at a step. Of the painting,
/// the photos and the loss network the checkpoint knows the content, which a resume compares: they may have moved.
const FREE: [&str; 17] = [
    "style",
    "dataset",
    "output",
    "name",
    "license",
    "credit_work",
    "credit_license",
    "dtype",
    "steps_per_checkpoint",
    "keep_last",
    "sample_every",
    "validation_photos",
    "workers",
    "log_dir",
    "checkpoint_dir",
    "offline",
    "loss_weights",
];

impl Difference {
    /// Whether a resumed run still takes the same steps as the uninterrupted one.
    pub fn is_free(&self) -> bool {
        FREE.contains(&self.name)
    }
}

/// A setting's value for people, on one line.
fn value_text<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Null) => "not set".to_owned(),
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    }
}

impl Overrides {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`TrainError::Config`] with the file's name, for unknown keys too; [`TrainError::Io`].
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(|source| TrainError::io("read", path, source))?;
        toml::from_str(&text).map_err(|error| TrainError::Config {
            reason: format!("{}: {}", path.display(), toml_line(&text, &error)),
        })
    }
}

/// A TOML error in one line, with the line's number.
fn toml_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    match error.span() {
        Some(span) => {
            let line = text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

impl TrainConfig {
    /// The same settings with files and folders by their last name only: a style model travels, and says what it was
    /// trained on, but not where that lay on somebody's disk.
    pub fn without_folders(&self) -> Self {
        let last = |path: &PathBuf| path.file_name().map_or_else(|| path.clone(), PathBuf::from);
        TrainConfig {
            style: self.style.as_ref().map(last),
            dataset: last(&PathBuf::from(&self.dataset)).display().to_string(),
            output: last(&self.output),
            loss_weights: self.loss_weights.as_ref().map(last),
            log_dir: None,
            checkpoint_dir: None,
            ..self.clone()
        }
    }

    /// The settings of a preset with a file's over them, and flags' over those.
    pub fn resolve(default: Preset, file: &Overrides, flags: &Overrides) -> Self {
        let preset = flags.preset.or(file.preset).unwrap_or(default);
        let mut config = preset.config();
        config.apply(file);
        config.apply(flags);
        config
    }

    /// Reads settings that [`TrainConfig::to_toml`] wrote.
    ///
    /// # Errors
    /// [`TrainError::Config`] when a key is unknown, missing or of the wrong kind.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        toml::from_str(text).map_err(|error| TrainError::Config { reason: toml_line(text, &error) })
    }

    /// The settings as TOML, every one of them.
    ///
    /// # Errors
    /// [`TrainError::Config`] when a value has no TOML form.
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|error| TrainError::Config { reason: error.to_string() })
    }

    /// Where the checkpoints are: as told, or `NAME.checkpoints` beside the output.
    pub fn checkpoint_folder(&self) -> PathBuf {
        self.checkpoint_dir.clone().unwrap_or_else(|| self.beside_output("checkpoints"))
    }

    /// Where TensorBoard's files and the CSV are: as told, or `NAME.log` beside the output.
    pub fn log_folder(&self) -> PathBuf {
        self.log_dir.clone().unwrap_or_else(|| self.beside_output("log"))
    }

    /// Where the resolved settings are saved: `NAME.toml` beside the output, or `NAME.resolved.toml` when a file of
    /// somebody else's is there: one that does not begin with [`WRITTEN_BY_US`].
    pub fn settings_file(&self) -> PathBuf {
        let path = self.beside_output("toml");
        let ours = || std::fs::read(&path).is_ok_and(|text| text.starts_with(WRITTEN_BY_US.as_bytes()));
        if !path.exists() || ours() { path } else { self.beside_output("resolved.toml") }
    }

    fn beside_output(&self, extension: &str) -> PathBuf {
        self.output.with_extension(extension)
    }

    /// The style's name: as told, or the output's file name without its extension.
    pub fn style_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            self.output
                .file_stem()
                .map_or_else(|| "style".to_owned(), |stem| stem.to_string_lossy().into_owned())
        })
    }

    /// Checks every number against its range.
    ///
    /// # Errors
    /// [`TrainError::Config`] names the setting, its value and what is expected.
    pub fn validate(&self) -> Result<(), TrainError> {
        let positive = [
            ("width", self.width as u64),
            ("batch_size", self.batch_size as u64),
            ("steps", self.steps),
            ("steps_per_checkpoint", self.steps_per_checkpoint),
            ("keep_last", self.keep_last as u64),
            ("sample_every", self.sample_every),
            ("decay_every", self.decay_every),
        ];
        for (name, value) in positive {
            if value == 0 {
                return Err(out_of_range(name, "0", "at least 1"));
            }
        }
        if self.width > MAX_WIDTH {
            return Err(out_of_range("width", &self.width.to_string(), &format!("at most {MAX_WIDTH}")));
        }
        if !(16..=4096).contains(&self.image_size) {
            return Err(out_of_range("image_size", &self.image_size.to_string(), "16 to 4096 pixels"));
        }
        if self.style_size != 0 && !(16..=8192).contains(&self.style_size) {
            let expected = "16 to 8192 pixels, or 0 for the picture as it is";
            return Err(out_of_range("style_size", &self.style_size.to_string(), expected));
        }
        if self.stability_weight != 0.0 && self.image_size < 4 * self.stability_shift + 16 {
            let expected = "at most a quarter of image_size less 4";
            return Err(out_of_range("stability_shift", &self.stability_shift.to_string(), expected));
        }
        if self.stability_weight != 0.0 && self.stability_noise == 0.0 {
            // The term is a ratio to the noise: without it there is no scale, with shifts or not.
            let expected = "more than 0 grey levels; hint: stability_weight 0 leaves the stability loss out";
            return Err(out_of_range("stability_noise", "0", expected));
        }
        if !(self.output_gain.is_finite() && self.output_gain > 0.0) {
            return Err(out_of_range("output_gain", &self.output_gain.to_string(), "a positive number"));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(out_of_range("learning_rate", &self.learning_rate.to_string(), "a positive number"));
        }
        let weights = [
            ("decay_factor", self.decay_factor),
            ("clip_norm", self.clip_norm),
            ("content_weight", self.content_weight),
            ("style_weight", self.style_weight),
            ("tv_weight", self.tv_weight),
            ("stability_weight", self.stability_weight),
            ("stability_noise", self.stability_noise),
        ];
        let layers = [("content_layers", &self.content_layers), ("style_layers", &self.style_layers)];
        let layers = layers.iter().flat_map(|(name, map)| map.0.values().map(|weight| (*name, *weight)));
        for (name, value) in weights.into_iter().chain(layers) {
            if !(value.is_finite() && value >= 0.0) {
                return Err(out_of_range(name, &value.to_string(), "a number, 0 or more"));
            }
        }
        if self.content_layers.0.is_empty() && self.style_layers.0.is_empty() {
            return Err(TrainError::Config {
                reason: "no content and no style layers, expected at least one".into(),
            });
        }
        Ok(())
    }
}

fn out_of_range(name: &str, value: &str, expected: &str) -> TrainError {
    TrainError::Config { reason: format!("{name} is {value}, expected {expected}") }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_preset_survives_toml_and_is_valid() {
        for preset in Preset::value_variants() {
            let config = preset.config();
            config.validate().unwrap();
            assert_eq!(TrainConfig::from_toml(&config.to_toml().unwrap()).unwrap(), config, "{preset:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it_and_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "width = 8\nstepz = 5\n").unwrap();
        let error = Overrides::read(&path).unwrap_err().to_string();
        assert!(error.contains("a.toml: line 2: unknown field `stepz`"), "{error}");
        assert!(!error.contains('\n'));
        std::fs::write(&path, "width = \"wide\"\n").unwrap();
        assert!(Overrides::read(&path).unwrap_err().to_string().contains("line 1"), "wrong kind");
    }

    #[test]
    fn flags_rank_over_the_file_and_the_file_over_the_preset() {
        let file: Overrides = toml::from_str("preset = 'full'\nwidth = 8\nseed = 1").unwrap();
        let flags = Overrides { seed: Some(2), ..Overrides::default() };
        let config = TrainConfig::resolve(Preset::Cpu, &file, &flags);
        assert_eq!((config.preset, config.width, config.seed), (Preset::Full, 8, 2));
        assert_eq!(config.image_size, Preset::Full.config().image_size);
    }

    #[test]
    fn differences_name_the_setting_and_both_values() {
        let before = Preset::Cpu.config();
        let mut after = before.clone();
        after.width = 64;
        after.workers = 7;
        let found = before.differences(&after);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].to_string(), format!("width (was {}, now 64)", before.width));
        assert!(!found[0].is_free() && found[1].is_free());
    }

    #[test]
    fn every_free_setting_exists() {
        let text = Preset::Cpu.config().to_toml().unwrap();
        let mut given: toml::Table = toml::from_str(&text).unwrap();
        for name in FREE {
            given.entry(name).or_insert(toml::Value::String("x".into()));
        }
        toml::from_str::<Overrides>(&toml::to_string(&given).unwrap()).unwrap();
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        type Change = fn(&mut TrainConfig);
        let cases: [(&str, Change); 7] = [
            ("steps", |c| c.steps = 0),
            ("image_size", |c| c.image_size = 8),
            ("learning_rate", |c| c.learning_rate = f64::NAN),
            ("style_weight", |c| c.style_weight = -1.0),
            ("style_layers", |c| c.style_layers = "relu1_1=-1".parse().unwrap()),
            ("stability_noise", |c| (c.stability_weight, c.stability_noise) = (0.02, 0.0)),
            ("stability_shift", |c| {
                c.stability_weight = 1.0;
                c.stability_shift = c.image_size;
            }),
        ];
        for (name, change) in cases {
            let mut config = Preset::Cpu.config();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("expected"), "{name}: {error}");
        }
    }
}
