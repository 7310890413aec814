//! The one error type of this crate: each message says what failed and what was expected, in one line.

use std::io;
use std::path::PathBuf;

use impasto_checkpoints::CheckpointError;

/// Why a picture could not be painted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The style model could not be read or understood.
    #[error(transparent)]
    Model(#[from] CheckpointError),
    /// Bytes and size of a frame do not fit each other.
    #[error(
        "a frame of {width}×{height} with {bytes} bytes; expected width · height · 3 bytes and no side of 0"
    )]
    FrameSize {
        /// Width given.
        width: usize,
        /// Height given.
        height: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// A picture could not be decoded or encoded.
    #[error("{path}: {reason}")]
    Picture {
        /// The file as the user named it, or `standard input`.
        path: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A picture declares more pixels than allowed; it was not decoded.
    #[error(
        "{path}: {width}×{height} is {pixels} pixels, over the limit of {limit}; hint: raise --max-pixels if you trust the file"
    )]
    TooManyPixels {
        /// The file as the user named it.
        path: String,
        /// Declared width.
        width: u64,
        /// Declared height.
        height: u64,
        /// Declared pixels.
        pixels: u64,
        /// The limit in force.
        limit: u64,
    },
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
    /// A picture's activations take too much memory, and the folder for them failed.
    #[error(
        "{}: cannot keep {:.1} GB of the network's activations there: {reason}; hint: IMPASTO_SCRATCH=DIR names another folder, --size N paints a smaller picture",
        folder.display(),
        *bytes as f64 / 1e9
    )]
    Scratch {
        /// The folder of the scratch file.
        folder: PathBuf,
        /// What the file takes.
        bytes: u64,
        /// The system's reason (not a source: the message says it).
        reason: io::Error,
    },
    /// A picture takes more memory than this path may use.
    #[error(
        "a picture of {width}×{height} takes {:.1} GB of memory on the portable path, over its limit of {:.1} GB; hint: --size N paints a smaller picture, --tile off lifts the limit",
        *bytes as f64 / 1e9,
        *limit as f64 / 1e9
    )]
    Memory {
        /// The picture's width.
        width: usize,
        /// The picture's height.
        height: usize,
        /// What it would take.
        bytes: u64,
        /// The limit in force.
        limit: u64,
    },
    /// The painting was stopped through [`Progress::stop_when`](crate::Progress::stop_when).
    #[error("stopped before the picture was done")]
    Stopped,
    /// The server could not be set up.
    #[cfg(feature = "serve")]
    #[error("{0}")]
    Serve(String),
    /// The device asked for is not in this build or not on this machine.
    #[error("{0}")]
    Device(String),
}
