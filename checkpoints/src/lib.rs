//! The style model as a file.
//!
//! Duty of this room: what a style model is ([`Architecture`], [`StyleModel`], [`Metadata`]), how it is
//! written and read (safetensors), how foreign models come in (`import`, behind a feature) and go out (`export`,
//! likewise), the styles that ship with the project ([`shipped`]), and the one name that the engine and Burn share
//! ([`Device`]): both build on this crate and neither on the other.
//!
//! What it must not do: run a network, decode a picture, or depend on Burn.
//!
//! ```
//! use impasto_checkpoints::{Dtype, StyleModel, shipped};
//!
//! let wave = shipped::load("wave")?; // a file: StyleModel::load("my.safetensors")
//! assert_eq!(wave.architecture().parameter_count(), 424_899);
//! let bytes = wave.to_dtype(Dtype::F32)?.to_bytes()?; // into a file: save("my.safetensors")
//! assert_eq!(StyleModel::from_bytes(&bytes)?.metadata().name, "wave");
//! # Ok::<(), impasto_checkpoints::CheckpointError>(())
//! ```

mod architecture;
mod atomic;
mod device;
mod error;
#[cfg(feature = "export")]
pub mod export;
mod file;
#[cfg(feature = "import")]
pub mod import;
mod layers;
mod metadata;
pub mod random;
pub mod shipped;
mod style_model;

pub use architecture::{
    Activation, Architecture, Block, ConvKind, ConvSpec, InputRange, NormSpec, Output, Padding, Role,
    TensorSpec, Upsampling,
};
pub use atomic::{temporary_beside, write_atomically};
pub use device::Device;
pub use error::CheckpointError;
pub use file::{MAX_FILE_BYTES, read_metadata};
pub use layers::{Layer, Layers, MAX_CHANNELS, MAX_KERNEL, MAX_LAYERS};
pub use metadata::{Credit, FORMAT_VERSION, LossBalance, Metadata, Training};
pub use style_model::{Dtype, StyleModel, Tensor};
