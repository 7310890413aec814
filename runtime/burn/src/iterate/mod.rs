//! The slow originals: a picture optimized by its own gradient, with the very losses that train the networks.
//!
//! ```text
//! picture + targets ──► image tensor ──► PerceptualLoss (or a layer's energy) ──► optimizer ──► picture
//! ```
//!
//! - [`gatys`]: content of one picture, style of others (Gatys, Ecker & Bethge 2016).
//! - [`dream`]: what a layer sees, amplified (Mordvintsev, Olah & Tyka 2015, "DeepDream").
//! - [`evaluate`]: the losses of finished pictures, to compare fast networks with the iterative method.
//!
//! All are behind non-generic functions that take a [`Device`](crate::Device). Pictures come and go as
//! [`RgbPicture`]; nothing here reads or writes files.

mod criterion;
mod dream;
mod field;
mod gatys;
mod optimizer;
mod picture;
mod trained;

pub use criterion::{Balanced, Criterion, Style, StyleSize, evaluate};
pub use dream::{DreamJob, DreamStep, Octave, dream, octave_sizes};
pub use field::{Amplified, TiledField, field};
pub use gatys::{GatysJob, GatysStep, Start, gatys};
pub use optimizer::{Method, default_history};
pub use picture::RgbPicture;
pub use trained::TrainedLosses;
