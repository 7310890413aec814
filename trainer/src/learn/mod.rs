//! Learning, generic over the backend: burn-train's learner, metrics and event machinery around our own strategy.
//!
//! What burn-train 0.21 brings: the [`Learner`](burn::train::Learner) (model, optimizer, schedule), the metrics and
//! their event thread, the renderer or dashboard, the checkpointer's threads and the interrupter. What is ours,
//! because its own falls short (the design page says where): the loop ([`strategy`]), what a checkpoint is
//! ([`checkpoint`]), the loaders ([`feed`]), the metric logger, the schedule, and clipping by the norm of all
//! gradients.

pub mod checkpoint;
pub mod clip;
pub mod criterion;
pub mod feed;
pub mod gain;
pub mod sample;
pub mod schedule;
pub mod session;
pub mod stability;
pub mod strategy;
pub mod trainee;
