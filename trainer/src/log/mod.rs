//! What a run tells about itself: burn-train's metrics, TensorBoard and CSV files, and the progress line.

pub mod csv;
pub mod logger;
pub mod progress;
pub mod row;
pub mod tensorboard;
