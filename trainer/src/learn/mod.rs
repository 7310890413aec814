//! Learning, generic over the backend: burn-train's learner, metrics and event machinery around our own strategy.
//!
//! What burn-train 0.21 brings: the [`Learner`](burn::train::Learner) (model, optimizer, schedule), the metrics and
//! their event thread, the renderer or dashboard, the checkpointer's threads and the interrupter. What is ours,
//! because its own saves only at the end of an epoch, in place, and neither the position in the data nor the balance
//! of the losses: the loop ([`strategy`]), what a checkpoint is ([`checkpoint`]), the loaders ([`feed`]), the metric
//! logger, the schedule, and clipping by the norm of all gradients.
//!
//! How a batch travels:
//!
//! ```text
//! impasto_datasets::Loader     photos decoded, cropped, mirrored: bytes, a function of (seed, step)
//!   └► feed::Feed              a tensor on the device, with the criterion and the step's disturbance beside it
//!       └► trainee::Trainee    TransformNet paints it; criterion::Criterion judges the painting; gradients
//!           └► strategy::Loop  the optimizer's step; the losses to the logs; now and then a sample, a checkpoint, the model
//! ```

pub mod checkpoint;
pub mod clip;
pub mod criterion;
pub mod feed;
pub mod gain;
pub mod muon;
pub mod optimizer;
pub mod sample;
pub mod schedule;
pub mod session;
pub mod stability;
pub mod strategy;
pub mod trainee;
