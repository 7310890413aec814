//! The one error type of this crate: each message says what failed and what was expected, in one line.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

/// Why a style could not be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is outside its range, unknown, or does not go with another.
    #[error("bad settings: {reason}")]
    Config {
        /// The setting, its value and what is expected.
        reason: String,
    },
    /// The style picture cannot be learned from.
    #[error("{}: {reason}", path.display())]
    Style {
        /// The picture.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// The dataset gives no pictures.
    #[error(transparent)]
    Dataset(#[from] impasto_datasets::DatasetError),
    /// The style model could not be made, read or written.
    #[error(transparent)]
    Model(#[from] impasto_checkpoints::CheckpointError),
    /// A picture could not be read or written.
    #[error(transparent)]
    Picture(#[from] impasto::RuntimeError),
    /// The loss network, the losses or the device.
    #[error(transparent)]
    Burn(#[from] impasto_burn::BurnError),
    /// A file could not be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A checkpoint is not what it should be.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint's folder or file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// Something exists already.
    #[error("{}: {what} exists already; hint: {hint}", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// The ways out.
        hint: &'static str,
    },
    /// A resume was asked for with settings other than the checkpoint's.
    #[error(
        "{}: the checkpoint was made with other settings: {differences}; hint: leave them out to go on with the \
         checkpoint's, or start anew with --overwrite",
        path.display()
    )]
    OtherSettings {
        /// The checkpoint.
        path: PathBuf,
        /// The settings that differ, with both values.
        differences: String,
    },
    /// The loss left the finite numbers.
    #[error("the loss is not finite at step {step} ({terms}); {kept}; hint: {hint}")]
    NotFinite {
        /// The step.
        step: u64,
        /// The terms at that step.
        terms: String,
        /// Which checkpoint is the last good one.
        kept: String,
        /// What to try.
        hint: String,
    },
    /// The device has no memory left.
    #[error(
        "{device} is out of memory ({reason}); hint: lower --batch-size (now {batch_size}), --image-size (now \
         {image_size}) or --width (now {width})"
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// What its driver said.
        reason: String,
        /// Batch size in force.
        batch_size: usize,
        /// Crop size in force.
        image_size: usize,
        /// Width in force.
        width: usize,
    },
    /// The dataset gave pictures, and then no more.
    #[error("{failure}; {kept}")]
    Starved {
        /// Why.
        failure: impasto_datasets::DatasetError,
        /// Which checkpoint is there, and how to go on with it.
        kept: String,
    },
    /// Somebody pressed q and k in the dashboard.
    #[error("stopped at once from the dashboard; {kept}; hint: q, then s, saves a checkpoint first")]
    Killed {
        /// What is lost, and how to go on with the rest.
        kept: String,
    },
    /// The training came to its end, but one of its threads panicked and nobody was told.
    #[error(
        "{}: the training came to its end, but a part of its work failed on the way ({message}), so the model may be \
         wrong; hint: judge it by its sample, and please report this",
        output.display()
    )]
    Doubtful {
        /// The style model.
        output: PathBuf,
        /// What the panic said.
        message: String,
    },
    /// The training thread panicked, for a reason that is not the device's memory.
    #[error("training failed: {message}; hint: this is an error in impasto or in a driver, please report it")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// `--smoke` ran and the result is not good enough.
    #[error("smoke test failed: {reason}")]
    Smoke {
        /// What was measured and what was expected.
        reason: String,
    },
}

impl TrainError {
    /// An [`TrainError::Io`].
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        TrainError::Io { action, path: path.as_ref().to_path_buf(), source }
    }
}

/// What a panic said, in one line.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    one_line(text)
}

/// Foreign texts in a message: line ends become blanks.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
