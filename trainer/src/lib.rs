//! Learns a style: a painting and photos in, a style model out.
//!
//! Duty of this room: from settings ([`config`]) to a validated [`job`], and from there through burn-train's learner
//! ([`learn`]) to a `.safetensors` style model; checkpoints that resume, logs ([`log`]), samples to look at. The
//! command `impasto-train` is a thin layer over [`train`].
//!
//! What it must not do: decode photos itself (datasets), define networks or losses (runtime/burn), or name a
//! concrete backend outside of [`backends`].
//!
//! What `impasto-train --style painting.jpg --dataset photos/ -o my.safetensors --preset cpu` does:
//!
//! ```no_run
//! use impasto_trainer::config::Overrides;
//! use impasto_trainer::report::Reporter;
//! use impasto_trainer::{Interrupter, Job, Preset, Request, train};
//!
//! let flags = Overrides {
//!     style: Some("painting.jpg".into()),
//!     dataset: Some("photos".into()),
//!     output: Some("my.safetensors".into()),
//!     ..Overrides::default()
//! };
//! let request = Request { flags, ..Request::default() };
//! let interrupter = Interrupter::new(); // a clone of it, kept by another thread, stops the run after its step
//! let job = Job::prepare(&request, Preset::Cpu, "cpu", Reporter::new(false), interrupter)?;
//! let outcome = train(&job)?;
//! println!("{:?} after {:.0} s", outcome.ending, outcome.seconds);
//! # Ok::<(), impasto_trainer::TrainError>(())
//! ```

pub mod backends;
mod choices;
pub mod config;
mod error;
pub mod job;
pub mod learn;
pub mod log;
mod panics;
mod presets;
pub mod report;
mod resume;
pub mod style_picture;

pub use backends::train;
/// Stops a run after its step.
pub use burn::train::Interrupter;
pub use error::TrainError;
pub use job::{Job, Outcome, Request, StyleDistance};
pub use presets::Preset;
pub use resume::resume_command;

/// Name and version of the trainer, as metadata records it.
pub const TOOL: &str = concat!("impasto-train ", env!("CARGO_PKG_VERSION"));
