//! The one error type of this crate: each message says what failed and what was expected, in one line.

use std::io;
use std::path::{Path, PathBuf};

/// Why no training pictures can be had. A single bad or missing file is never an error: see [`crate::BadFile`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The path exists, but is a file.
    #[error(
        "{}: not a folder, expected a folder of photos; hint: give the folder that holds the photo",
        shown(path)
    )]
    NotAFolder {
        /// The path that was given.
        path: PathBuf,
    },
    /// The folder does not exist or may not be read.
    #[error("{}: cannot read the folder of photos: {source}; hint: {}", shown(path), folder_hint(source))]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The folder holds no file that looks like a photo.
    #[error(
        "{}: no photos in this folder, expected files ending in {}{}; hint: sub-folders are searched too, \
         hidden files are not",
        shown(path),
        crate::walk::EXTENSIONS.join(", "),
        not_read(warnings)
    )]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What could not be read while searching: perhaps the photos.
        warnings: Vec<String>,
    },
    /// The folder holds files that look like photos, and none of them decodes.
    #[error(
        "{}: none of the {tried} training photos can be decoded, the first to fail was {}: {reason}; \
         hint: check that the download is complete",
        shown(path),
        shown(example)
    )]
    NothingDecodes {
        /// The folder.
        path: PathBuf,
        /// How many files were tried: all of them.
        tried: usize,
        /// The first file that was found to be bad, relative to the folder.
        example: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The photos that were listed can no longer be read.
    #[error(
        "{}: the photos can no longer be read, of {tried} that were tried not one, among them {}: {reason}; expected \
         them as they were listed; hint: check that the disk is mounted and the folder where it was",
        shown(path),
        shown(example)
    )]
    Withheld {
        /// The folder.
        path: PathBuf,
        /// How many photos in a row the system did not give.
        tried: usize,
        /// The last of them, relative to the folder.
        example: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// An option is outside its range.
    #[error("bad data option: {reason}")]
    Config {
        /// The option, what it was and what was expected.
        reason: String,
    },
    /// The system refused a worker thread.
    #[error("cannot start a loader thread: {source}; hint: ask for fewer workers")]
    Thread {
        /// The system's reason.
        source: io::Error,
    },
    /// A worker panicked: an error in this crate, not in the photos.
    #[error(
        "the loader failed at step {step}: {message}; hint: this is an error in impasto, please report it"
    )]
    Panicked {
        /// The batch it was making.
        step: u64,
        /// What the panic said.
        message: String,
    },
}

/// The first of what could not be read, and how much more there is.
fn not_read(warnings: &[String]) -> String {
    match warnings {
        [] => String::new(),
        [only] => format!("; not read: {only}"),
        [first, rest @ ..] => format!("; not read: {first}; and {} more", rest.len()),
    }
}

fn folder_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "check the spelling; relative paths start at the working folder",
        io::ErrorKind::PermissionDenied => "the folder must be readable and searchable by this user",
        _ => "check that the disk is mounted",
    }
}

/// The text of a panic, for a message of one line.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    one_line(text)
}

/// Foreign texts in a message: line ends become spaces, so that one file stays one line of a log.
pub(crate) fn one_line(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Names of files may hold anything: what a terminal would obey, line ends too, is shown as �.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{FFFD}")
}

/// A path in a message.
pub(crate) fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}
