//! The network as burn-train's model: one step forward and back, and one validation.

use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use impasto_burn::TransformNet;

use crate::learn::clip::clip_by_global_norm;
use crate::learn::criterion::Criterion;
use crate::learn::stability::Disturbance;
use crate::log::row::LazyRow;

/// The network that learns.
#[derive(Module, Debug)]
pub struct Trainee<B: Backend> {
    /// The network.
    pub net: TransformNet<B>,
}

/// What one training step needs.
pub struct TrainBatch<B: AutodiffBackend> {
    /// The step, from 0.
    pub step: u64,
    /// Photos, RGB 0..255, `[batch, 3, size, size]`.
    pub photos: Tensor<B::InnerBackend, 4>,
    /// What is asked of the painted photos.
    pub criterion: Arc<Criterion<B::InnerBackend>>,
    /// How the photos are disturbed for the stability loss.
    pub disturbance: Option<Disturbance<B::InnerBackend>>,
}

/// What one validation step needs.
pub struct ValidBatch<B: Backend> {
    /// Photos, RGB 0..255, `[batch, 3, size, size]`.
    pub photos: Tensor<B, 4>,
    /// What is asked of the painted photos.
    pub criterion: Arc<Criterion<B>>,
}

/// burn-train's steps cannot return an error. Names and sizes were checked when the criterion was made, so what
/// is left is a failing driver; the panic is caught around the whole training and becomes an error there.
fn expect_judged<T>(judged: Result<T, impasto_burn::BurnError>) -> T {
    judged.unwrap_or_else(|error| panic!("{error}"))
}

impl<B: AutodiffBackend> TrainStep for Trainee<B> {
    type Input = TrainBatch<B>;
    type Output = LazyRow<B::InnerBackend>;

    fn step(&self, batch: TrainBatch<B>) -> TrainOutput<Self::Output> {
        let TrainBatch { step, photos, criterion, disturbance } = batch;
        let compute = criterion.compute_type();
        let painted = self.net.forward_in(Tensor::from_inner(photos.clone()), compute);
        let instability = disturbance.map(|disturbance| {
            let again = self.net.forward_in(Tensor::from_inner(disturbance.photos(&photos)), compute);
            disturbance.loss(painted.clone(), again)
        });
        let (total, values) = expect_judged(criterion.train::<B>(painted, photos, instability));
        let mut grads = GradientsParams::from_grads(total.backward(), self);
        if criterion.clip_norm() > 0.0 {
            grads = clip_by_global_norm(self, grads, criterion.clip_norm());
        }
        let item = LazyRow { step, names: criterion.names(), values, host: Vec::new() };
        TrainOutput { grads, item }
    }
}

impl<B: Backend> InferenceStep for Trainee<B> {
    type Input = ValidBatch<B>;
    type Output = LazyRow<B>;

    fn step(&self, batch: ValidBatch<B>) -> LazyRow<B> {
        let ValidBatch { photos, criterion } = batch;
        let painted = self.net.forward_in(photos.clone(), criterion.compute_type());
        let values = expect_judged(criterion.values(painted, photos));
        LazyRow { step: 0, names: criterion.names(), values, host: Vec::new() }
    }
}
