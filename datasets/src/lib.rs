//! Where training pictures come from.
//!
//! Duty of this room: square 8-bit pictures in batches, from a folder of photos as found in the wild
//! ([`PhotoFolder`]) or from synthetic scenes that need no files at all ([`DeadLeaves`]). A batch is a pure
//! function of the source, the seed and the step ([`Source::batch`]); [`Loader`] only makes that function
//! fast, with worker threads and a bounded queue, so a resumed run sees what an uninterrupted one would.
//!
//! What it must not do: know about networks, losses or devices, or stop a training run over a bad file.
//!
//! ```
//! use impasto_datasets::{DeadLeaves, Loader, LoaderConfig, Source};
//!
//! let source = Source::from(DeadLeaves::default());
//! let config = LoaderConfig { batch_size: 2, image_size: 32, workers: 1, ..LoaderConfig::default() };
//! let mut loader = Loader::new(source, config)?;
//! let batch = loader.next_batch()?;
//! assert_eq!(batch.step, 0);
//! assert_eq!(batch.images.len(), 2 * 32 * 32 * 3);
//! # Ok::<(), impasto_datasets::DatasetError>(())
//! ```

mod dead_leaves;
mod error;
mod folder;
mod index;
mod jpeg;
mod loader;
mod order;
mod photo;
mod rng;
mod source;
mod texture;
mod walk;

pub use dead_leaves::{DeadLeaves, DeadLeavesOptions};
pub use error::DatasetError;
pub use folder::{BadFile, FolderOptions, Holdout, PhotoFolder};
pub use loader::{Loader, LoaderConfig};
pub use source::{Batch, MAX_BATCH_BYTES, Source, ValidationPicture, ValidationPictures};
pub use walk::EXTENSIONS;
