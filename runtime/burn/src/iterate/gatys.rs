//! The iterative method: a picture optimized to have the content of one and the style of others.

use std::ops::ControlFlow;
use std::time::Instant;

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use impasto_checkpoints::random::uniform;

use super::criterion::Criterion;
use super::optimizer::{Evaluation, Method, minimize};
use super::picture::RgbPicture;
use crate::backend::{Work, run_on};
use crate::device::Device;
use crate::error::BurnError;
use crate::loss::LossValues;
use crate::loss_network::plan::{self, Step};

/// What the optimization starts from.
#[derive(Debug, Clone)]
pub enum Start {
    /// The content picture: the result keeps the most of it, and the way is the shortest.
    Content,
    /// Uniform noise over 0..255 from the seed, as Gatys et al. start (theirs is Gaussian).
    Noise,
    /// A picture, brought to the content's size.
    Picture(RgbPicture),
}

/// One picture to optimize.
#[derive(Debug, Clone)]
pub struct GatysJob {
    /// The losses.
    pub criterion: Criterion,
    /// The content picture, at the size of the result.
    pub content: RgbPicture,
    /// Where to start.
    pub start: Start,
    /// How to go on.
    pub method: Method,
    /// Longer sides to go through, coarse to fine, each starting from the one before; the last should be the
    /// content's own. Empty: the content as it is.
    pub scales: Vec<usize>,
    /// Evaluations of loss and gradient at each scale.
    pub steps: usize,
    /// Seed of the noise.
    pub seed: u64,
}

impl GatysJob {
    /// About how many bytes of memory the optimization takes on the CPU at its largest: the features of the content
    /// picture and their gradients, L-BFGS's memory, or the features of the largest style picture alone. The weights
    /// come on top. Measured were 4.8 KB a pixel for VGG19 to relu5_1, 1.2 for SqueezeNet to fire8.
    pub fn peak_bytes(&self) -> u64 {
        /// Floats a feature: with its gradient and what the convolutions need meanwhile, and without.
        const TRACKED: f64 = 3.75;
        const UNTRACKED: f64 = 0.75;
        let losses = &self.criterion.losses;
        let steps = plan::steps(self.criterion.weights.kind);
        let named = |step: &Step| {
            let mut layers = losses.content_layers.iter().chain(&losses.style_layers);
            layers.any(|(layer, _)| step.layer() == Some(layer))
        };
        let depth = steps.iter().rposition(named).map_or(0, |last| last + 1);
        let values =
            |(width, height): (usize, usize)| plan::values(steps[..depth].iter(), height, width) as f64;
        let longer = self.scales.iter().copied().max().unwrap_or(self.content.longer_side());
        let own = self.content.size_for(longer);
        let history = match self.method {
            Method::Lbfgs { history } => 2 * 3 * history.min(self.steps) * own.0 * own.1,
            Method::Adam { .. } => 2 * 3 * own.0 * own.1,
        };
        let styles = self
            .criterion
            .styles
            .iter()
            .map(|style| UNTRACKED * values(self.criterion.style_size.of(&style.picture, longer)));
        let floats = styles.fold(TRACKED * values(own) + history as f64, f64::max);
        (4.0 * floats) as u64
    }
}

/// What is known after one evaluation of loss and gradient.
pub struct GatysStep<'a> {
    /// Which scale, from 1.
    pub scale: usize,
    /// How many scales.
    pub scales: usize,
    /// Width at this scale.
    pub width: usize,
    /// Height at this scale.
    pub height: usize,
    /// Which evaluation at this scale, from 1. The first is that of the start.
    pub step: usize,
    /// Most evaluations at this scale.
    pub steps: usize,
    /// The losses of the picture evaluated; with L-BFGS it may be a trial of its line search that is above the one before.
    pub losses: LossValues,
    /// From the last evaluation's end to this one's: the optimizer's own work included.
    pub seconds: f64,
    picture: &'a dyn Fn() -> Result<RgbPicture, BurnError>,
}

impl GatysStep<'_> {
    /// The best picture so far at this scale.
    ///
    /// # Errors
    /// [`BurnError::Iteration`] when the device does not give it back.
    pub fn picture(&self) -> Result<RgbPicture, BurnError> {
        (self.picture)()
    }
}

/// Optimizes a picture, and returns the one with the lowest total of the last scale reached. `observe` is called after
/// every evaluation and ends the work with [`ControlFlow::Break`]; what there is by then is returned.
///
/// What is minimized is the total times `values / total of the start`, so that the optimizers meet
/// gradients of the same size whatever the weights.
///
/// # Errors
/// Those of [`check`](crate::device::check), [`PerceptualLoss::new`](crate::loss::PerceptualLoss::new) (unknown
/// layers, negative weights), pictures too small for the layers, and [`BurnError::NotFinite`] when a loss is not finite.
///
/// # Source
/// Gatys, Ecker, Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks".
pub fn gatys(
    device: Device,
    job: &GatysJob,
    observe: &mut dyn FnMut(&GatysStep<'_>) -> ControlFlow<()>,
) -> Result<RgbPicture, BurnError> {
    run_on(device, Descent { job, observe })
}

struct Descent<'a> {
    job: &'a GatysJob,
    observe: &'a mut dyn FnMut(&GatysStep<'_>) -> ControlFlow<()>,
}

impl Work for Descent<'_> {
    type Output = RgbPicture;

    fn run<B: Backend>(self, place: &B::Device) -> Result<RgbPicture, BurnError> {
        let Descent { job, observe } = self;
        check(job)?;
        let network = job.criterion.network::<B>(place)?;
        let own = [job.content.longer_side()];
        let scales = if job.scales.is_empty() { &own[..] } else { &job.scales };
        let mut picture = match &job.start {
            Start::Content => None,
            Start::Noise => Some(noise(job, scales[0])?),
            Start::Picture(picture) => Some(picture.clone()),
        };
        for (at, &longer) in scales.iter().enumerate() {
            let (width, height) = job.content.size_for(longer);
            let content = job.content.resized(width, height);
            let (loss, target) = job.criterion.open(&network, &content, place)?;
            let start = picture.as_ref().unwrap_or(&content).resized(width, height);
            let mut best: Option<(f64, Tensor<B, 4>)> = None;
            let (mut first_total, mut step, mut stopped) = (None, 0, false);
            let mut before = Instant::now();
            minimize(job.method, start.to_tensor(place), job.steps, &mut |x: Tensor<B, 4>| {
                step += 1;
                let (losses, gradient) = loss.value_and_gradient::<Autodiff<B>>(x.clone(), &target)?;
                let losses = loss.values(&losses)?;
                if !losses.is_finite() {
                    return Err(not_finite(step, &losses, job.method));
                }
                if best.as_ref().is_none_or(|(total, _)| losses.total < *total) {
                    best = Some((losses.total, x.clone()));
                }
                let first = *first_total.get_or_insert(losses.total);
                let factor = x.shape().num_elements() as f64 / if first > 0.0 { first } else { 1.0 };
                let value = losses.total * factor;
                let now = Instant::now();
                let seconds = (now - before).as_secs_f64();
                before = now;
                let best = best.as_ref().map_or(x, |(_, best)| best.clone());
                let flow = observe(&GatysStep {
                    scale: at + 1,
                    scales: scales.len(),
                    width,
                    height,
                    step,
                    steps: job.steps,
                    losses,
                    seconds,
                    picture: &|| RgbPicture::from_tensor(best.clone()),
                });
                if flow.is_break() {
                    stopped = true;
                    return Ok(None);
                }
                Ok(Some(Evaluation { value, gradient: gradient * factor }))
            })?;
            picture = Some(match best {
                Some((_, best)) => RgbPicture::from_tensor(best)?,
                None => start,
            });
            if stopped {
                break;
            }
        }
        Ok(picture.unwrap_or_else(|| job.content.clone()))
    }
}

fn check(job: &GatysJob) -> Result<(), BurnError> {
    if let Method::Adam { learning_rate } = job.method
        && !(learning_rate.is_finite() && learning_rate > 0.0)
    {
        let reason = format!("a learning rate of {learning_rate}, expected a number above 0");
        return Err(BurnError::Iteration { reason });
    }
    Ok(())
}

fn noise(job: &GatysJob, longer: usize) -> Result<RgbPicture, BurnError> {
    let (width, height) = job.content.size_for(longer);
    let values = uniform(job.seed, "noise", width * height * 3).map(|value| 127.5 * (1.0 + value));
    RgbPicture::new(width, height, values.collect())
}

fn not_finite(step: usize, losses: &LossValues, method: Method) -> BurnError {
    let layers = losses.content.iter().map(|layer| ("content", layer));
    let layers = layers.chain(losses.style.iter().map(|layer| ("style", layer)));
    let mut terms: Vec<String> = layers
        .filter(|(_, layer)| !layer.loss.is_finite())
        .map(|(kind, layer)| format!("{kind} {} {}", layer.layer, layer.loss))
        .collect();
    if !losses.tv.is_finite() {
        terms.push(format!("total variation {}", losses.tv));
    }
    if terms.is_empty() {
        terms.push(format!("total {}", losses.total));
    }
    let hint = match method {
        Method::Adam { learning_rate } => format!("lower --learning-rate (now {learning_rate})"),
        Method::Lbfgs { .. } => "lower the weights, or take --optimizer adam".to_string(),
    };
    BurnError::NotFinite { step, terms: terms.join(", "), hint }
}
