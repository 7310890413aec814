//! Everything on Burn: the network as a module, loss networks, losses, and the concrete backends.
//!
//! Duty of this room: what needs automatic differentiation or a GPU. The transform network
//! ([`TransformNet`]), the loss networks ([`loss_network`]), the losses ([`loss`]), the iterative methods
//! ([`iterate`]), the devices a user can name ([`Device`]), and each concrete backend, named once in [`backend`].
//!
//! What it must not do: read or write files of pictures, run a training loop, or let generic Burn code be
//! compiled elsewhere for a GPU backend: what leaves this crate for painting is behind non-generic functions
//! ([`open_painter`]), so that an edit elsewhere never recompiles the CUDA stack.

pub mod backend;
#[cfg(any(feature = "cuda", feature = "download", feature = "wgpu"))]
mod cache;
pub mod device;
mod error;
pub mod iterate;
pub mod loss;
pub mod loss_network;
mod mean;
pub mod measure;
pub mod net;
pub mod painter;
mod post;
mod queue;
mod rgb8;

pub use device::{Device, DeviceInfo, available};
pub use error::BurnError;
pub use net::{Operations, TransformNet};
pub use painter::{Painter, Precision, open_painter, open_painter_with};
pub use post::PostSteps;
pub use queue::{FrameQueue, IN_FLIGHT};
