//! The command line of `impasto-train`, and how it becomes a request.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::Parser;
use impasto_trainer::config::Overrides;
use impasto_trainer::{Preset, Request, TrainError};

/// Learns a style: a painting and photos in, a style model out.
///
/// Settings come from a preset, then from --config FILE.toml, then from flags; --print-config shows what that makes, all
/// defaults among it. The resolved ones are saved beside the result and in every checkpoint.
#[derive(Debug, Parser)]
// The last of repeated flags counts, so that a script's flags can be followed by one's own.
#[command(name = "impasto-train", version, long_version = long_version())]
#[command(after_help = AFTER_HELP, args_override_self = true)]
pub struct Args {
    /// Settings as TOML; flags rank over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on with the newest complete checkpoint of the output.
    #[arg(long)]
    pub resume: bool,
    /// Replace the output and its checkpoints.
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Try everything in under 3 minutes: no photos, no downloads; checks that a style was learned.
    #[arg(long, conflicts_with = "preset")]
    pub smoke: bool,
    /// Show the terminal dashboard (q, then s, saves and stops; Ctrl-C does not reach it).
    #[arg(long)]
    pub dashboard: bool,
    /// Print the resolved settings as TOML and stop.
    #[arg(long)]
    pub print_config: bool,
    /// Print warnings and errors only.
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub settings: Overrides,
}

/// The features of this build that change what it can do, and whether they are in it.
const FEATURES: [(&str, bool); 4] = [
    ("flex", cfg!(feature = "flex")),
    ("download", cfg!(feature = "download")),
    ("cuda", cfg!(feature = "cuda")),
    ("wgpu", cfg!(feature = "wgpu")),
];

/// [`impasto::version::describe`], kept for clap.
fn long_version() -> &'static str {
    static LONG: LazyLock<String> =
        LazyLock::new(|| impasto::version::describe(env!("CARGO_PKG_VERSION"), &FEATURES));
    &LONG
}

const AFTER_HELP: &str = "Examples:
  impasto-train --smoke
  impasto-train --style painting.jpg --dataset photos/ -o my.safetensors
  impasto-train --style painting.jpg --dataset photos/ -o my.safetensors --preset cpu
  impasto-train -o my.safetensors --resume";

impl Args {
    /// The request: files read, `--smoke` spelled out.
    ///
    /// # Errors
    /// [`TrainError`] when the settings file cannot be read or understood.
    pub fn request(&self) -> Result<Request, TrainError> {
        let file = match &self.config {
            Some(path) => Overrides::read(path)?,
            None => Overrides::default(),
        };
        let mut flags = self.settings.clone();
        let mut overwrite = self.overwrite;
        if self.smoke {
            flags.preset = Some(Preset::Smoke);
            // The smoke test's own output is nobody's work.
            overwrite |= !self.resume && flags.output.is_none() && file.output.is_none();
        }
        Ok(Request { file, flags, resume: self.resume, overwrite, dashboard: self.dashboard })
    }
}
