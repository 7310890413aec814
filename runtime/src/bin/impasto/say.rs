//! What the command says on standard error: one line an error, notes, and progress on a terminal only.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// How much is said.
#[derive(Clone, Copy)]
pub struct Say {
    quiet: bool,
    verbose: bool,
}

impl Say {
    pub fn new(quiet: bool, verbose: bool) -> Self {
        Say { quiet, verbose }
    }

    /// An error, with its causes, in one line.
    pub fn error(self, error: &anyhow::Error) {
        eprintln!("impasto: {}", one_line(error));
    }

    /// What a person wants to know of a job that went well.
    pub fn note(self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// What only `--verbose` shows.
    pub fn detail(self, text: &str) {
        if self.verbose {
            eprintln!("{text}");
        }
    }

    /// A progress bar over `length` pictures; invisible when stderr is no terminal, or for a single picture.
    pub fn progress(self, length: usize) -> ProgressBar {
        if self.quiet || self.verbose || length < 2 || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {eta} left  {wide_msg}") {
            bar.set_style(style);
        }
        bar
    }
}

/// An error and its causes as one line.
pub fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the reader of our output has gone away, which is no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
