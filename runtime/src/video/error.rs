//! Why a video could not be painted: one line each.

use std::io;
use std::path::PathBuf;

use crate::RuntimeError;

/// What can go wrong with a video.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// A program that is needed is not on the PATH.
    #[error(
        "{program} was not found on the PATH; expected FFmpeg {} or newer; hint: {hint}",
        super::ffmpeg::OLDEST
    )]
    Missing {
        /// `ffmpeg` or `ffprobe`.
        program: &'static str,
        /// How to install it here.
        hint: &'static str,
    },
    /// A program is there and is not one that can be used.
    #[error("{program}: {found}; expected FFmpeg {} or newer; hint: {hint}", super::ffmpeg::OLDEST)]
    Unusable {
        /// `ffmpeg` or `ffprobe`.
        program: &'static str,
        /// What was found instead.
        found: String,
        /// How to install it here.
        hint: &'static str,
    },
    /// The source cannot be read, or holds no video.
    #[error("{path}: {reason}")]
    Source {
        /// The source as the user named it.
        path: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The result cannot be written as asked.
    #[error("{path}: {reason}")]
    Output {
        /// The result as the user named it.
        path: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// An option that this source, this container or this ffmpeg cannot fulfil.
    #[error("{0}")]
    Option(String),
    /// ffmpeg gave up while it decoded or encoded.
    #[error("{path}: ffmpeg failed to {action} it ({status}): {last_words}")]
    Ffmpeg {
        /// The file in question.
        path: String,
        /// `decode` or `encode`.
        action: &'static str,
        /// Its exit status.
        status: String,
        /// The last lines it wrote.
        last_words: String,
    },
    /// What ffmpeg sent is not what was asked of it.
    #[error("{path}: what ffmpeg decoded cannot be read: {source}")]
    Pipe {
        /// The source.
        path: String,
        /// What is wrong.
        source: io::Error,
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
    /// A frame could not be painted.
    #[error(transparent)]
    Paint(#[from] RuntimeError),
    /// It was abandoned; nothing is left.
    #[error("stopped before the video was done")]
    Stopped,
}
