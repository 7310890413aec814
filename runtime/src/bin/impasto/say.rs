//! What the command says: on standard error one line an error, notes, and progress on a terminal only; on standard
//! output what was asked for.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

/// From this many pixels on, a single picture takes seconds and gets a bar of its own.
const LARGE: u64 = 8_000_000;

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
        tell(format_args!("impasto: {}", one_line(error)));
    }

    /// What a person wants to know of a job that went well.
    pub fn note(self, text: &str) {
        if !self.quiet {
            tell(format_args!("{text}"));
        }
    }

    /// What only `--verbose` shows: one line.
    pub fn detail(self, text: &str) {
        if self.verbose {
            tell(format_args!("{}", printable(text)));
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

    /// A progress bar over the frames of a video; invisible when stderr is no terminal.
    pub fn frames(self, length: u64) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {pos}/{len} frames  {per_sec} fps  {eta} left  {msg}")
        {
            let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{:.1}", state.per_sec());
            };
            bar.set_style(style.with_key("per_sec", rate));
        }
        bar
    }

    /// A progress bar in percent over the painting of one picture of so many pixels; invisible for a small one, and
    /// when stderr is no terminal.
    pub fn painting(self, pixels: u64) -> ProgressBar {
        if self.quiet || pixels < LARGE || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(100);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {eta} left") {
            bar.set_style(style);
        }
        bar
    }

    /// A progress bar over the bytes of a download; invisible when stderr is no terminal.
    #[cfg(feature = "reference")]
    pub fn download(self) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {eta} left") {
            bar.set_style(style);
        }
        bar
    }
}

/// One line on standard error; nothing where nobody listens any more (a terminal that was closed, a broken pipe).
fn tell(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// Writes to standard output; an error is the reader's going away, or a full disk.
pub fn print(text: String) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// An error and its causes as one line; a cause that the text before it has said already is not repeated. Names of files
/// may hold anything: what a terminal would obey is shown as �.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    printable(&line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A text without control characters.
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{FFFD}")
}

/// Whether the reader of our output has gone away, which is no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_each_cause_once() {
        let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such\nfile");
        let told = impasto::RuntimeError::Io { action: "read", path: "a.png".into(), source: missing() };
        assert_eq!(one_line(&told.into()), "a.png: cannot read: no such file");
        let untold = anyhow::Error::new(missing()).context("a folder");
        assert_eq!(one_line(&untold), "a folder: no such file");
        let coloured = anyhow::anyhow!("\u{1b}[31mred\n\u{7}.png: is no file");
        assert_eq!(one_line(&coloured), "\u{FFFD}[31mred \u{FFFD}.png: is no file");
    }
}
