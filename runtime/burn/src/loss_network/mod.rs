//! The loss networks (VGG16, VGG19, SqueezeNet 1.0): features of a picture by layer name, and their weights.
//!
//! ```text
//! file, cache, download or seed ──► LossWeights ──► LossNetwork<B> ──► features by name
//! ```
//!
//! [`LossWeights`] knows nothing of Burn: named tensors and the [`InputConvention`] they were trained with.
//! [`LossNetwork`] holds them as constants on a device. Nothing is learned here.

mod kind;
mod network;
pub(crate) mod plan;
pub mod weights;

pub use kind::{InputConvention, LossNetworkChoice, LossNetworkKind};
pub use network::{LayerSet, LossNetwork, Pooling};
pub use weights::LossWeights;
