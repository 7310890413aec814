//! A run's raw settings become a validated job: files found and read, folders checked, a checkpoint chosen.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::train::Interrupter;
use impasto_burn::Device;
use impasto_burn::loss_network::{LossNetworkChoice, LossWeights};
use impasto_checkpoints::Credit;
use impasto_datasets::{DeadLeaves, FolderOptions, Holdout, PhotoFolder, Source};
use sha2::{Digest, Sha256};

use crate::backends::usable_device;
use crate::config::{DEAD_LEAVES, Difference, Overrides, TrainConfig};
use crate::error::TrainError;
use crate::learn::checkpoint::{CheckpointFolder, Manifest, RunIdentity};
use crate::learn::sample::latest_sample;
use crate::learn::strategy::Ending;
use crate::presets::Preset;
use crate::report::Reporter;
use crate::style_picture::StylePicture;

/// Share of a folder's photos that is kept from training. Fixed, so that it never differs between a run and its
/// resume.
const HELD_OUT_SHARE: f64 = 0.02;

/// What the command line says beside settings.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Settings from `--config`.
    pub file: Overrides,
    /// Settings from flags.
    pub flags: Overrides,
    /// Go on with a checkpoint.
    pub resume: bool,
    /// Replace an output and checkpoints that are there.
    pub overwrite: bool,
    /// Show burn-train's dashboard.
    pub dashboard: bool,
}

/// A run that can begin.
pub struct Job {
    /// The resolved settings.
    pub config: TrainConfig,
    /// The painting.
    pub style: StylePicture,
    /// The photos.
    pub source: Source,
    /// The loss network's weights.
    pub weights: LossWeights,
    /// Which loss network it is.
    pub loss_network: LossNetworkChoice,
    /// The checkpoint to go on from.
    pub resume: Option<Manifest>,
    /// Show burn-train's dashboard.
    pub dashboard: bool,
    /// Stops the run after its step.
    pub interrupter: Interrupter,
    /// News and warnings.
    pub reporter: Reporter,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Finished, or interrupted at a step.
    pub ending: Ending,
    /// Time in the loop.
    pub seconds: f64,
    /// How far the held-out photos are from the style, if there are any.
    pub style_distance: Option<StyleDistance>,
}

/// Mean distances of pictures to the style: the weighted style loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StyleDistance {
    /// Of the photos as they are.
    pub unpainted: f64,
    /// Of the same, painted.
    pub painted: f64,
}

impl Job {
    /// Resolves a request: settings, painting, photos, loss network, and the checkpoint to go on from.
    ///
    /// # Errors
    /// Any [`TrainError`] that can be known before the first step.
    pub fn prepare(
        request: &Request,
        default_preset: Preset,
        default_device: &str,
        reporter: Reporter,
        interrupter: Interrupter,
    ) -> Result<Self, TrainError> {
        let mut config = TrainConfig::resolve(default_preset, &request.file, &request.flags);
        if request.flags.device.is_none() && request.file.device.is_none() {
            default_device.clone_into(&mut config.device);
        }
        let mut resume = None;
        if request.resume {
            let (resumed, manifest) = resumed(request, &config, &reporter)?;
            (config, resume) = (resumed, Some(manifest));
        }
        config.validate()?;
        usable_device(&config)?; // before anything is walked or downloaded for it
        check_output(&config, request, resume.is_some())?;
        let style = match &config.style {
            Some(path) => StylePicture::open(path, config.style_size)?,
            None => StylePicture::synthetic(config.style_size)?,
        };
        let source = open_source(&config, &reporter)?;
        let loss_network: LossNetworkChoice = config.loss_net.parse()?;
        let weights = loss_weights(&config, loss_network, &reporter)?;
        let job = Job {
            config,
            style,
            source,
            weights,
            loss_network,
            resume,
            dashboard: request.dashboard,
            interrupter,
            reporter,
        };
        job.check_same_data()?;
        Ok(job)
    }

    /// What every checkpoint of the run repeats.
    pub fn identity(&self) -> RunIdentity {
        RunIdentity {
            config: self.config.clone(),
            style_sha256: self.style.sha256.clone(),
            dataset: dataset_fingerprint(&self.source),
            loss_weights: weights_fingerprint(&self.weights),
        }
    }

    /// The painting, the photos and the loss network are those of the checkpoint.
    fn check_same_data(&self) -> Result<(), TrainError> {
        let Some(manifest) = &self.resume else { return Ok(()) };
        let identity = self.identity();
        let mut differ = Vec::new();
        if manifest.style_sha256 != identity.style_sha256 {
            differ.push("the style picture's content");
        }
        if manifest.dataset != identity.dataset {
            differ.push("the list of photos in the dataset");
        }
        if manifest.loss_weights != identity.loss_weights {
            differ.push("the loss network's weights");
        }
        if differ.is_empty() {
            return Ok(());
        }
        Err(TrainError::OtherSettings {
            path: self.config.checkpoint_folder(),
            differences: differ.join(", "),
        })
    }

    /// Whom and what the weights come from.
    pub fn credits(&self) -> Vec<Credit> {
        let mut credits = Vec::new();
        if let Some(work) = &self.config.credit_work {
            credits.push(Credit {
                work: work.clone(),
                license: self.config.credit_license.clone().unwrap_or_else(|| "unknown".to_owned()),
                role: "style picture".to_owned(),
            });
        }
        if !self.loss_network.random {
            let (work, license) = match self.loss_network.kind {
                impasto_burn::loss_network::LossNetworkKind::SqueezeNet => {
                    ("SqueezeNet 1.0, Forrest Iandola et al.", "BSD")
                }
                _ => ("VGG, Karen Simonyan and Andrew Zisserman, University of Oxford", "CC BY 4.0"),
            };
            credits.push(Credit { work: work.into(), license: license.into(), role: "loss network".into() });
        }
        credits
    }
}

fn dataset_fingerprint(source: &Source) -> String {
    match source {
        Source::Folder(folder) => format!("{} photos, {:016x}", folder.training_len(), folder.fingerprint()),
        Source::DeadLeaves(_) => DEAD_LEAVES.to_owned(),
    }
}

/// SHA-256 of the tensors' names and values: the same for a file, its copy and its cached, trimmed form only if
/// the values are.
fn weights_fingerprint(weights: &LossWeights) -> String {
    let mut hash = Sha256::new();
    for (name, (_, values)) in &weights.tensors {
        hash.update(name);
        for chunk in values.chunks(1024) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
            hash.update(bytes);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The settings of a resumed run: the checkpoint's, with what may change taken from the request.
fn resumed(
    request: &Request,
    asked: &TrainConfig,
    reporter: &Reporter,
) -> Result<(TrainConfig, Manifest), TrainError> {
    if asked.checkpoint_dir.is_none() {
        check_named(&asked.output)?; // what is beside no output is not said to be missing
    }
    let root = asked.checkpoint_folder();
    let folder = CheckpointFolder::new(root.clone(), asked.keep_last);
    let Some((manifest, damaged)) = folder.latest()? else {
        let mut reason =
            "no complete checkpoint to resume from; hint: leave --resume out to start anew".to_owned();
        if asked.checkpoint_dir.is_none() {
            reason.push_str(", or give --checkpoint-dir as the run had it");
        }
        return Err(TrainError::Checkpoint { path: root, reason });
    };
    for error in damaged {
        reporter.warn(&format!("{error}; the checkpoint before it is taken"));
    }
    let before = TrainConfig::from_toml(&manifest.config)?;
    let mut config = before.clone();
    config.apply(&request.file);
    config.apply(&request.flags);
    if same_device(&before.device, &config.device) {
        config.device.clone_from(&before.device);
    }
    let differences = before.differences(&config);
    let list = |which: Vec<&Difference>| which.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (free, strict): (Vec<&Difference>, Vec<_>) =
        differences.iter().partition(|difference| difference.is_free());
    if !strict.is_empty() {
        return Err(TrainError::OtherSettings {
            path: folder.step_folder(manifest.step),
            differences: list(strict),
        });
    }
    if !free.is_empty() {
        reporter.note(&format!("settings changed since the checkpoint: {}", list(free)));
    }
    Ok((config, manifest))
}

/// Whether two names are one device's: `cuda` is `cuda:0`.
fn same_device(one: &str, other: &str) -> bool {
    match (one.parse::<Device>(), other.parse::<Device>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The output can be written, and nothing is overwritten unasked. What `--overwrite` gives up stays until everything
/// else was checked: `learn` lets go of it when the loop begins.
fn check_output(config: &TrainConfig, request: &Request, resumes: bool) -> Result<(), TrainError> {
    let output = &config.output;
    check_named(output)?;
    if output.is_dir() || output.extension().is_none_or(|extension| extension != "safetensors") {
        let reason = format!("output {}: expected a file name that ends in .safetensors", output.display());
        return Err(TrainError::Config { reason });
    }
    let checkpoints = CheckpointFolder::new(config.checkpoint_folder(), config.keep_last);
    if !resumes && !request.overwrite {
        if !checkpoints.complete().is_empty() {
            return Err(TrainError::Exists {
                path: checkpoints.root().to_path_buf(),
                what: "a run with checkpoints",
                hint: "--resume goes on with it, --overwrite starts anew",
            });
        }
        if output.exists() {
            let hint = "--overwrite replaces it";
            return Err(TrainError::Exists { path: output.clone(), what: "a file", hint });
        }
    }
    for folder in [parent(output), config.checkpoint_folder(), config.log_folder()] {
        fs::create_dir_all(&folder).map_err(|source| TrainError::io("create the folder", &folder, source))?;
    }
    check_writable(&parent(output))?;
    check_writable(&config.checkpoint_folder())
}

fn check_named(output: &Path) -> Result<(), TrainError> {
    if output.as_os_str().is_empty() {
        return Err(TrainError::Config { reason: "no output; hint: -o my.safetensors".to_owned() });
    }
    Ok(())
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Says now what would be said after hours.
fn check_writable(folder: &Path) -> Result<(), TrainError> {
    let probe = folder.join(format!(".impasto-{}.part", std::process::id()));
    File::create(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|source| TrainError::io("write to the folder", folder, source))
}

/// Where the run writes pictures, or files at each checkpoint: inside the folder of photos they would be photos of the
/// next resume, which then refuses the changed list. (A log folder that is the photos' own still has its samples here.)
fn written_by_the_run(config: &TrainConfig) -> Vec<PathBuf> {
    let log = config.log_folder();
    vec![log.join("samples"), log, config.checkpoint_folder(), latest_sample(config)]
}

fn open_source(config: &TrainConfig, reporter: &Reporter) -> Result<Source, TrainError> {
    if config.dataset.is_empty() {
        let reason = format!("no dataset; hint: --dataset FOLDER, or --dataset {DEAD_LEAVES} without photos");
        return Err(TrainError::Config { reason });
    }
    if config.dataset == DEAD_LEAVES {
        return Ok(DeadLeaves::default().into());
    }
    let options = FolderOptions {
        cache: Some(config.checkpoint_folder().join("photos.index")),
        leave_out: written_by_the_run(config),
        holdout: Holdout::Fraction(HELD_OUT_SHARE),
    };
    let folder = PhotoFolder::open(&config.dataset, &options)?;
    for warning in folder.warnings() {
        reporter.warn(warning);
    }
    reporter.note(&format!(
        "{}: {} photos to train on, {} held out",
        config.dataset,
        folder.training_len(),
        folder.validation_len()
    ));
    Ok(folder.into())
}

/// The loss network's weights: seeded random ones, the file that was named, the cache, or a download.
fn loss_weights(
    config: &TrainConfig,
    choice: LossNetworkChoice,
    reporter: &Reporter,
) -> Result<LossWeights, TrainError> {
    if let Some(weights) = LossWeights::if_random(choice, config.loss_weights.as_deref())? {
        return Ok(weights);
    }
    let weights = find_weights(config, choice, reporter)?;
    reporter.note(&format!("loss network {choice}: {}", weights.origin));
    Ok(weights)
}

#[cfg(feature = "download")]
fn find_weights(
    config: &TrainConfig,
    choice: LossNetworkChoice,
    reporter: &Reporter,
) -> Result<LossWeights, TrainError> {
    use impasto_burn::loss_network::weights::{FindOptions, find};
    use indicatif::{ProgressBar, ProgressDrawTarget};

    let target =
        if reporter.shows_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    let mut begun = false;
    let mut progress = |done: u64, total: Option<u64>| {
        if !std::mem::replace(&mut begun, true) {
            // What an earlier try left is gone on from.
            let rest = if done > 0 { "the rest of " } else { "" };
            reporter.note(&format!("downloading {rest}the weights of {choice}"));
        }
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    };
    let options = FindOptions {
        file: config.loss_weights.clone(),
        offline: config.offline,
        progress: Some(&mut progress),
        ..FindOptions::default()
    };
    let found = find(choice.kind, options);
    bar.finish_and_clear();
    Ok(found?)
}

#[cfg(not(feature = "download"))]
fn find_weights(
    config: &TrainConfig,
    choice: LossNetworkChoice,
    _reporter: &Reporter,
) -> Result<LossWeights, TrainError> {
    let Some(path) = &config.loss_weights else {
        let reason =
            format!("no weights for {choice}; hint: --loss-weights FILE, or --loss-net random-{choice}");
        return Err(TrainError::Config { reason });
    };
    let weights = LossWeights::load(path)?;
    if weights.kind != choice.kind {
        let reason = format!("{} holds {}, expected {choice}", weights.origin, weights.kind);
        return Err(TrainError::Config { reason });
    }
    Ok(weights)
}
