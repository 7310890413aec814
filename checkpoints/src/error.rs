//! The one error type of this crate: each message says what failed and what was expected, in one line.

use std::io;
use std::path::PathBuf;

/// Why a style model could not be read, written or understood, or a device's name not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file could not be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was tried, `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An error inside a file, with the file's name put before it.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<CheckpointError>,
    },
    /// The architecture is not one this version can run.
    #[error("bad architecture: {reason}")]
    Architecture {
        /// The rule that is broken.
        reason: String,
    },
    /// The file is not what its format says.
    #[error("not a style model: {reason}")]
    Format {
        /// What was found and what was expected.
        reason: String,
    },
    /// A pickle mentions something that is neither a tensor nor a dictionary.
    #[error(
        "the pickle wants to call `{name}`; only tensors are read, nothing was run; hint: save `model.state_dict()`"
    )]
    PickleCall {
        /// What it mentions, `os.system`.
        name: String,
    },
    /// A tensor is missing, surplus, of the wrong shape or not finite.
    #[error("tensor `{key}`: {reason}")]
    Tensor {
        /// Its key.
        key: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error(
        "format version {found} is newer than {supported}, the newest this version reads; hint: update impasto"
    )]
    NewerVersion {
        /// Version in the file.
        found: u64,
        /// Newest version this build reads.
        supported: u64,
    },
    /// No shipped style has this name.
    #[error(
        "no style is called `{name}`; hint: the shipped styles are {known}; a model file is given with --model"
    )]
    UnknownStyle {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The text is not the name of a device.
    #[error("`{text}` is not a device: {reason}; hint: cpu, cuda, cuda:1, wgpu or wgpu:1")]
    Device {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
}

impl CheckpointError {
    pub(crate) fn in_file(self, path: &std::path::Path) -> Self {
        match self {
            named @ (CheckpointError::Io { .. } | CheckpointError::InFile { .. }) => named,
            other => CheckpointError::InFile { path: path.to_path_buf(), source: Box::new(other) },
        }
    }

    pub(crate) fn format(reason: impl Into<String>) -> Self {
        CheckpointError::Format { reason: reason.into() }
    }

    pub(crate) fn tensor(key: impl Into<String>, reason: impl Into<String>) -> Self {
        CheckpointError::Tensor { key: key.into(), reason: reason.into() }
    }
}
