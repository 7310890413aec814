//! The one error type of this crate: each message says what failed and what was expected, in one line.

use impasto_checkpoints::CheckpointError;

/// Why something on Burn could not be set up or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BurnError {
    /// The text is not the name of a device.
    #[error("`{text}` is not a device: {reason}; hint: cpu, cuda, cuda:1, wgpu or wgpu:0")]
    BadDevice {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// This program was built without the backend for the device.
    #[error(
        "device {device}: this impasto was built without {name}; hint: cargo install --path runtime --features {feature}"
    )]
    NotBuilt {
        /// The device asked for.
        device: String,
        /// The backend's name for people, `CUDA`.
        name: &'static str,
        /// The Cargo feature that brings it.
        feature: &'static str,
    },
    /// The device is not there, or its driver is not.
    #[error("device {device}: {reason}; hint: {hint}")]
    Unavailable {
        /// The device asked for.
        device: String,
        /// What was looked for and not found.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The device cannot compute in this precision.
    #[error("device {device} does not paint in {precision} precision: {reason}; hint: --precision f32")]
    Precision {
        /// The device asked for.
        device: String,
        /// The precision asked for.
        precision: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// The computation on the device failed: out of memory, a lost device.
    #[error("device {device}: {reason}; hint: a smaller picture needs less memory (--size)")]
    Failed {
        /// The device.
        device: String,
        /// What the backend said.
        reason: String,
    },
    /// A picture's buffer does not have the size that its width and height ask for.
    #[error("a buffer of {found} values for a picture of {width} x {height}, expected {expected}")]
    BufferSize {
        /// Values found.
        found: usize,
        /// Values expected.
        expected: usize,
        /// The picture's width.
        width: usize,
        /// The picture's height.
        height: usize,
    },
    /// The weights are not a valid style model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Foreign messages may break lines; ours are one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
