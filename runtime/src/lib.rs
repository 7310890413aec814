//! Paints pictures in a learned style, in a single pass.
//!
//! Duty of this room: the [`Stylizer`], its CPU [`engine`], what keeps painted video calm ([`smooth`]), pictures in
//! and out ([`picture`], feature `pictures`), strength, strokes and colours around the network ([`paint`], the same
//! feature), videos (`video`, feature `video`), the server (`serve`, feature `serve`), and the `impasto` command
//! (feature `cli`). Without default features the crate is the lean library: style models, frames, the engine,
//! smoothing, and nothing else.
//!
//! What it must not do: train, or carry Burn in the default build (features `burn`, `cuda`, `wgpu` bring it).
//!
//! ```no_run
//! # fn main() -> Result<(), impasto::RuntimeError> {
//! let stylizer = impasto::Stylizer::open("wave.safetensors")?;
//! let photo = impasto::Frame::new(640, 480, vec![128; 640 * 480 * 3])?;
//! let painted = stylizer.stylize(&photo)?;
//! assert_eq!((painted.width(), painted.height()), (640, 480));
//! # Ok(())
//! # }
//! ```

mod ahead;
pub mod engine;
mod error;
mod frame;
mod lock;
#[cfg(feature = "pictures")]
pub mod paint;
#[cfg(feature = "pictures")]
pub mod picture;
mod pool;
mod post;
mod progress;
pub mod quality;
#[cfg(feature = "serve")]
pub mod serve;
pub mod smooth;
mod stylizer;
pub mod version;
#[cfg(feature = "video")]
pub mod video;

pub use ahead::Ahead;
pub use engine::{Precision, Tile};
pub use error::RuntimeError;
pub use frame::Frame;
pub use impasto_checkpoints as checkpoints;
pub use impasto_checkpoints::Device;
pub use progress::Progress;
pub use stylizer::{Stylizer, StylizerOptions};
