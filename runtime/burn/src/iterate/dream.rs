//! DeepDream: what a layer sees in a picture, amplified, from small octaves to the picture's own size.

use std::ops::ControlFlow;
use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor};
use impasto_checkpoints::random::uniform;

use super::field::{Amplified, Field};
use super::picture::RgbPicture;
use crate::backend::{Work, run_on};
use crate::device::Device;
use crate::error::BurnError;
use crate::loss_network::{LossNetwork, LossWeights, Pooling};

/// One picture to dream about.
#[derive(Debug, Clone)]
pub struct DreamJob {
    /// Weights of the network that dreams.
    pub weights: LossWeights,
    /// Its pooling.
    pub pooling: Pooling,
    /// The picture.
    pub picture: RgbPicture,
    /// What is amplified.
    pub targets: Vec<Amplified>,
    /// Amplifies what resembles this picture instead of whatever is there.
    pub guide: Option<RgbPicture>,
    /// Sizes gone through, the last being the picture's own. Those too small for the layers, and those at which they see
    /// nothing, are left out.
    pub octaves: usize,
    /// From one octave's side to the next.
    pub octave_scale: f64,
    /// Steps an octave.
    pub iterations: usize,
    /// What values change by in a step, in the mean, in grey levels.
    pub step_size: f64,
    /// Each step sees the picture rolled by up to so many pixels either way, so that neither the network's grid nor the
    /// tiles' leaves a trace.
    pub jitter: usize,
    /// Side of the tiles that gradients are computed in, 0 for the whole picture at once.
    pub tile: usize,
    /// Seed of the jitter.
    pub seed: u64,
}

/// What is known after one step.
pub struct DreamStep<'a> {
    /// Which octave, from 1.
    pub octave: usize,
    /// How many octaves.
    pub octaves: usize,
    /// Width at this octave.
    pub width: usize,
    /// Height at this octave.
    pub height: usize,
    /// Which step at this octave, from 1.
    pub iteration: usize,
    /// How many.
    pub iterations: usize,
    /// The objective before the step.
    pub objective: f64,
    /// From the last step's end to this one's.
    pub seconds: f64,
    picture: &'a dyn Fn() -> Result<RgbPicture, BurnError>,
}

impl DreamStep<'_> {
    /// The picture after the step.
    ///
    /// # Errors
    /// [`BurnError::Iteration`] when the device does not give it back.
    pub fn picture(&self) -> Result<RgbPicture, BurnError> {
        (self.picture)()
    }
}

/// What became of the objective at one octave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Octave {
    /// Width at this octave.
    pub width: usize,
    /// Height at this octave.
    pub height: usize,
    /// The objective before the first step.
    pub before: f64,
    /// The objective after the last one.
    pub after: f64,
}

/// Dreams about a picture. `observe` is called after every step and ends the work with [`ControlFlow::Break`]; the
/// dream as far as it got is returned, at the picture's size, with what became of the objective at every octave.
///
/// The objective is `Σ weight · energy / energy of the picture itself at this size`: the sum of the weights before
/// anything is done, twice that when all layers' energies have doubled. A layer's energy is the mean of its
/// squared features (Google's script climbs the same, unscaled); with a guide, the mean product with the guide's
/// most similar position. Layers that see nothing at some size are left out there. A step adds
/// `step_size · gradient / mean |gradient|` and clamps to 0..255.
///
/// # Errors
/// Those of [`check`](crate::device::check); unknown layers and channels, weights that are negative, a picture or guide
/// too small for the layers, settings out of range, and [`BurnError::NotFinite`].
///
/// # Source
/// Mordvintsev, Olah, Tyka 2015, "Inceptionism: Going Deeper into Neural Networks", and its `dream.ipynb`.
pub fn dream(
    device: Device,
    job: &DreamJob,
    observe: &mut dyn FnMut(&DreamStep<'_>) -> ControlFlow<()>,
) -> Result<(RgbPicture, Vec<Octave>), BurnError> {
    run_on(device, Sleep { job, observe })
}

/// The octaves' sizes, smallest first; those below `smallest` are left out, the picture's own never.
pub fn octave_sizes(
    picture: &RgbPicture,
    octaves: usize,
    scale: f64,
    smallest: usize,
) -> Vec<(usize, usize)> {
    let side = |side: usize, octave: usize| (side as f64 / scale.powi(octave as i32)).round() as usize;
    let mut sizes = vec![(picture.width(), picture.height())];
    for octave in 1..octaves {
        let size = (side(picture.width(), octave), side(picture.height(), octave));
        if size.0.min(size.1) < smallest.max(1) {
            break;
        }
        sizes.push(size);
    }
    sizes.reverse();
    sizes
}

struct Sleep<'a> {
    job: &'a DreamJob,
    observe: &'a mut dyn FnMut(&DreamStep<'_>) -> ControlFlow<()>,
}

impl Work for Sleep<'_> {
    type Output = (RgbPicture, Vec<Octave>);

    fn run<B: Backend>(self, place: &B::Device) -> Result<Self::Output, BurnError> {
        let Sleep { job, observe } = self;
        check(job)?;
        let network = LossNetwork::<B>::new(&job.weights, place)?.with_pooling(job.pooling);
        let field = Field::new(&network, &job.targets, job.guide.as_ref(), job.tile, place)?;
        let sizes = octave_sizes(&job.picture, job.octaves, job.octave_scale, field.smallest_size());
        let mut octaves = Vec::with_capacity(sizes.len());
        for (width, height) in sizes {
            let own = job.picture.resized(width, height).to_tensor(place);
            // One channel of a deep layer may find nothing in a small picture, and much in the whole one.
            if let Some(factors) = factors(&job.targets, &field.energies(&own)?)? {
                octaves.push((width, height, factors));
            }
        }
        if octaves.is_empty() {
            return Err(sees_nothing(&job.targets));
        }
        let (mut details, mut reports) = (None::<RgbPicture>, Vec::new());
        let mut shifts = uniform(job.seed, "jitter", 2 * octaves.len() * job.iterations);
        let mut shift = |size: usize| {
            let reach = job.jitter.min(size / 2) as f32;
            // From −1..1 to whole pixels; `rem_euclid` because a roll goes one way.
            let pixels = (shifts.next().unwrap_or(0.0) * reach).round() as isize;
            pixels.rem_euclid(size as isize) as usize
        };
        let mut step = 0;
        for (at, &(width, height, ref factors)) in octaves.iter().enumerate() {
            let base = job.picture.resized(width, height);
            let objective = |energies: &[f64]| -> f64 {
                energies.iter().zip(factors).map(|(energy, factor)| energy * factor).sum()
            };
            let start = match &details {
                Some(details) => base.clone().plus(&details.resized(width, height)),
                None => base.clone(),
            };
            let mut x: Tensor<B, 4> = start.to_tensor(place);
            let before = objective(&field.energies(&x)?);
            let mut last = Instant::now();
            let mut stopped = false;
            for iteration in 1..=job.iterations {
                step += 1;
                let (down, right) = (shift(height), shift(width));
                let seen = rolled(rolled(x, 2, down), 3, right);
                let (energies, gradient) = field.climb(&seen, factors)?;
                let size = gradient.clone().abs().mean().into_scalar().elem::<f64>();
                if !(size.is_finite() && energies.iter().all(|energy| energy.is_finite())) {
                    return Err(not_finite(step, &job.targets, &energies));
                }
                // A gradient of exactly 0 leaves the picture as it is.
                let scale = if size > 0.0 { job.step_size / size } else { 0.0 };
                let next = (seen + gradient * scale).clamp(0.0, 255.0);
                x = rolled(rolled(next, 2, height - down), 3, width - right);
                let now = Instant::now();
                let flow = observe(&DreamStep {
                    octave: at + 1,
                    octaves: octaves.len(),
                    width,
                    height,
                    iteration,
                    iterations: job.iterations,
                    objective: objective(&energies),
                    seconds: (now - last).as_secs_f64(),
                    picture: &|| RgbPicture::from_tensor(x.clone()),
                });
                last = now;
                if flow.is_break() {
                    stopped = true;
                    break;
                }
            }
            let after = objective(&field.energies(&x)?);
            reports.push(Octave { width, height, before, after });
            details = Some(RgbPicture::from_tensor(x)?.minus(&base));
            if stopped {
                break;
            }
        }
        let (width, height) = (job.picture.width(), job.picture.height());
        let dreamt = match details {
            Some(details) => job.picture.clone().plus(&details.resized(width, height)),
            None => job.picture.clone(),
        };
        Ok((dreamt, reports))
    }
}

fn check(job: &DreamJob) -> Result<(), BurnError> {
    let fail = |reason: String| Err(BurnError::Iteration { reason });
    if job.octaves == 0 {
        return fail("0 octaves, expected at least 1".to_string());
    }
    if !(job.octave_scale.is_finite() && job.octave_scale > 1.0) {
        return fail(format!("an octave scale of {}, expected a number above 1", job.octave_scale));
    }
    if !(job.step_size.is_finite() && job.step_size > 0.0) {
        return fail(format!("a step size of {}, expected a number above 0", job.step_size));
    }
    Ok(())
}

/// Weights by the energies of the undreamt picture. A target that sees nothing of it is left out; none when all of them
/// are.
fn factors(targets: &[Amplified], energies: &[f64]) -> Result<Option<Vec<f64>>, BurnError> {
    if !energies.iter().all(|energy| energy.is_finite()) {
        return Err(not_finite(0, targets, energies));
    }
    let factor =
        |(target, &energy): (&Amplified, &f64)| if energy > 0.0 { target.weight / energy } else { 0.0 };
    let factors: Vec<f64> = targets.iter().zip(energies).map(factor).collect();
    Ok(factors.iter().any(|factor| *factor > 0.0).then_some(factors))
}

fn sees_nothing(targets: &[Amplified]) -> BurnError {
    let names = targets.iter().map(|target| match target.channel {
        Some(channel) => format!("{}:{channel}", target.layer),
        None => target.layer.clone(),
    });
    let names = names.collect::<Vec<_>>().join(", ");
    BurnError::Iteration {
        reason: format!(
            "{names} sees nothing in this picture, expected something to amplify; hint: another channel or layer, or another picture"
        ),
    }
}

fn not_finite(step: usize, targets: &[Amplified], energies: &[f64]) -> BurnError {
    let broken = targets.iter().zip(energies).filter(|(_, energy)| !energy.is_finite());
    let mut terms: Vec<String> =
        broken.map(|(target, energy)| format!("energy of {} {energy}", target.layer)).collect();
    if terms.is_empty() {
        terms.push("the gradient".to_string());
    }
    BurnError::NotFinite {
        step,
        terms: terms.join(", "),
        hint: "another layer, or other weights".to_string(),
    }
}

/// Moves the picture by `by` along an axis; what leaves at the end comes in at the start.
fn rolled<B: Backend>(x: Tensor<B, 4>, axis: usize, by: usize) -> Tensor<B, 4> {
    let size = x.dims()[axis];
    let by = by % size;
    if by == 0 {
        return x;
    }
    Tensor::cat(vec![x.clone().narrow(axis, size - by, by), x.narrow(axis, 0, size - by)], axis)
}
