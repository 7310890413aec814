//! From the last layer's values to a frame: `activation(x) · scale + offset`, then bytes.

use impasto_checkpoints::{Activation, Output};

/// `activation(x) · scale + offset`: values in RGB 0..255, neither rounded nor clamped.
pub(super) fn values(from: &[f32], output: Output, to: &mut [f32]) {
    match output.activation {
        Activation::Linear => {
            for (value, &x) in to.iter_mut().zip(from) {
                *value = x * output.scale + output.offset;
            }
        }
        Activation::Tanh => {
            for (value, &x) in to.iter_mut().zip(from) {
                *value = x.tanh() * output.scale + output.offset;
            }
        }
    }
}

/// Rounds to the nearest byte; values outside 0..255 become its ends, NaN becomes 0.
pub(super) fn bytes(from: &[f32], to: &mut [u8]) {
    for (byte, &value) in to.iter_mut().zip(from) {
        *byte = (value + 0.5) as u8; // saturates at 0 and 255
    }
}
