//! What a dream climbs: the energy of chosen layers, and its gradient by the picture, tile by tile.
//!
//! The objective is a sum over the positions of the features, so its gradient at a pixel comes from the features
//! that see it. A tile is computed with a margin wide enough for all of those to be whole, at a place where
//! the network's strides fall as in the whole picture: tiles change how much memory it takes, not the result.

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::picture::RgbPicture;
use crate::backend::{Work, matmul, run_on};
use crate::device::Device;
use crate::error::BurnError;
use crate::loss_network::{LayerSet, LossNetwork, LossWeights, Pooling};

/// Positions of a guide's features that are compared with; more are thinned out evenly.
const GUIDE_POSITIONS: usize = 1024;
/// Positions compared at a time, so that the products stay small.
const CHUNK: usize = 4096;

/// Something to amplify.
#[derive(Debug, Clone, PartialEq)]
pub struct Amplified {
    /// The layer.
    pub layer: String,
    /// One of its channels, or all of them.
    pub channel: Option<usize>,
    /// How much it counts.
    pub weight: f64,
}

/// The layers of a dream on a device.
pub(super) struct Field<'a, B: Backend> {
    network: &'a LossNetwork<B>,
    tracked: LossNetwork<Autodiff<B>>,
    targets: &'a [Amplified],
    layers: LayerSet,
    /// For each target the guide's features, `[positions, channels]`.
    guide: Option<Vec<Tensor<B, 2>>>,
    tile: usize,
}

/// One tile along one axis: its own pixels, and those computed for it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    start: usize,
    end: usize,
    seen_start: usize,
    seen_end: usize,
}

impl<'a, B: Backend> Field<'a, B> {
    /// `tile` is the side of a tile without its margin; 0 for the whole picture at once.
    pub(super) fn new(
        network: &'a LossNetwork<B>,
        targets: &'a [Amplified],
        guide: Option<&RgbPicture>,
        tile: usize,
        place: &B::Device,
    ) -> Result<Self, BurnError> {
        let fail = |reason: String| Err(BurnError::Iteration { reason });
        for target in targets {
            if !(target.weight.is_finite() && target.weight >= 0.0) {
                let layer = target.layer.escape_debug();
                return fail(format!("layer {layer}: weight {}, expected a number from 0 up", target.weight));
            }
        }
        if !targets.iter().any(|target| target.weight > 0.0) {
            return fail("no layer of a weight above 0 to amplify, expected one".to_string());
        }
        let names: Vec<&str> = targets.iter().map(|target| target.layer.as_str()).collect();
        let layers = network.layers(&names)?;
        // The smallest picture is enough to count the channels.
        let smallest = layers.smallest_size();
        let probe = network.features(Tensor::zeros([1, 3, smallest, smallest], place), &layers)?;
        for (target, features) in targets.iter().zip(&probe) {
            let channels = features.dims()[1];
            match target.channel {
                Some(channel) if channel >= channels => {
                    return fail(format!(
                        "{} has no channel {channel}, expected 0 to {}",
                        target.layer,
                        channels - 1
                    ));
                }
                Some(_) if guide.is_some() => {
                    return fail(format!(
                        "{}: one channel and a guide, expected one or the other; hint: leave the channel out",
                        target.layer
                    ));
                }
                _ => {}
            }
        }
        let guide = match guide {
            Some(guide) => {
                let features = network.features(guide.to_tensor(place), &layers)?;
                Some(features.into_iter().map(positions::<B>).map(thinned).collect())
            }
            None => None,
        };
        Ok(Field { network, tracked: network.to_autodiff(), targets, layers, guide, tile })
    }

    /// Smallest height and width of a picture.
    pub(super) fn smallest_size(&self) -> usize {
        self.layers.smallest_size()
    }

    /// For each target, its mean energy: of `F²` over its channels and positions; with a guide, of the best match `max_q F·G_q / channels`.
    pub(super) fn energies(&self, x: &Tensor<B, 4>) -> Result<Vec<f64>, BurnError> {
        let mut energies = vec![0.0; self.targets.len()];
        self.each_tile(x, |window, rows, columns| {
            let features = self.network.features(window, &self.layers)?;
            self.add_energies(x, features, rows, columns, &mut energies)?;
            Ok(())
        })?;
        Ok(energies)
    }

    /// The energies, and the gradient of `Σ factor · energy` by the picture.
    pub(super) fn climb(
        &self,
        x: &Tensor<B, 4>,
        factors: &[f64],
    ) -> Result<(Vec<f64>, Tensor<B, 4>), BurnError> {
        let mut energies = vec![0.0; self.targets.len()];
        let mut bands: Vec<Tensor<B, 4>> = Vec::new();
        let mut band: Vec<Tensor<B, 4>> = Vec::new();
        let [_, _, _, width] = x.dims();
        self.each_tile(x, |window, rows, columns| {
            let leaf = Tensor::<Autodiff<B>, 4>::from_inner(window).require_grad();
            let features = self.tracked.features(leaf.clone(), &self.layers)?;
            let inner: Vec<_> = features.iter().map(|features| features.clone().inner()).collect();
            let mut total = Tensor::zeros([1], &leaf.device());
            for (at, (features, factor)) in features.into_iter().zip(factors).enumerate() {
                let count = self.count(at, x, features.dims()[1]);
                let matches = self.matches(at, &inner[at]).map(Tensor::from_inner);
                total = total + energy(&self.targets[at], features, matches) * (factor / count);
            }
            self.add_energies(x, inner, rows, columns, &mut energies)?;
            let gradient = leaf.grad(&total.backward()).unwrap_or_else(|| leaf.inner().zeros_like());
            let gradient = gradient.narrow(2, rows.start - rows.seen_start, rows.end - rows.start).narrow(
                3,
                columns.start - columns.seen_start,
                columns.end - columns.start,
            );
            band.push(gradient);
            if columns.end == width {
                bands.push(Tensor::cat(std::mem::take(&mut band), 3));
            }
            Ok(())
        })?;
        Ok((energies, Tensor::cat(bands, 2)))
    }

    /// Calls `work` with every tile, row by row: the pixels with the margin, and where they are.
    fn each_tile(
        &self,
        x: &Tensor<B, 4>,
        mut work: impl FnMut(Tensor<B, 4>, Span, Span) -> Result<(), BurnError>,
    ) -> Result<(), BurnError> {
        let [_, _, height, width] = x.dims();
        let sights = self.network.sights(&self.layers);
        let stride = sights.iter().map(|sight| sight.stride).max().unwrap_or(1);
        let extent = sights.iter().map(|sight| sight.extent).max().unwrap_or(1);
        for rows in spans(height, self.tile, stride, extent) {
            for columns in spans(width, self.tile, stride, extent) {
                let window = x.clone().narrow(2, rows.seen_start, rows.seen_end - rows.seen_start).narrow(
                    3,
                    columns.seen_start,
                    columns.seen_end - columns.seen_start,
                );
                work(window, rows, columns)?;
            }
        }
        Ok(())
    }

    /// What the mean of a target is taken over, in the whole picture.
    fn count(&self, at: usize, x: &Tensor<B, 4>, channels: usize) -> f64 {
        let [_, _, height, width] = x.dims();
        let positions =
            self.network.sizes(&self.layers, height)[at] * self.network.sizes(&self.layers, width)[at];
        let channels = if self.targets[at].channel.is_some() { 1 } else { channels };
        (positions * channels) as f64
    }

    /// Adds a tile's own part to the energies: the features that begin in it.
    fn add_energies(
        &self,
        x: &Tensor<B, 4>,
        features: Vec<Tensor<B, 4>>,
        rows: Span,
        columns: Span,
        energies: &mut [f64],
    ) -> Result<(), BurnError> {
        let [_, _, height, width] = x.dims();
        let sights = self.network.sights(&self.layers);
        for (at, features) in features.into_iter().enumerate() {
            let [_, channels, seen_height, seen_width] = features.dims();
            let stride = sights[at].stride;
            let own = |span: Span, size: usize, seen: usize| {
                let first = (span.start - span.seen_start) / stride;
                let last = if span.end == size { seen } else { (span.end - span.seen_start) / stride };
                (first.min(seen), last.min(seen).saturating_sub(first.min(seen)))
            };
            let (top, tall) = own(rows, height, seen_height);
            let (left, wide) = own(columns, width, seen_width);
            if tall > 0 && wide > 0 {
                let own = features.narrow(2, top, tall).narrow(3, left, wide);
                let matches = self.matches(at, &own);
                let energy = energy(&self.targets[at], own, matches).into_data();
                energies[at] += energy.iter::<f64>().next().unwrap_or(f64::NAN) / self.count(at, x, channels);
            }
        }
        Ok(())
    }

    /// The guide's best match for every position of a target's features, `[1, channels, height, width]`.
    fn matches(&self, at: usize, features: &Tensor<B, 4>) -> Option<Tensor<B, 4>> {
        let guide = &self.guide.as_ref()?[at];
        let [_, channels, height, width] = features.dims();
        let flat = positions(features.clone());
        let chosen = (0..height * width).step_by(CHUNK).map(|start| {
            let some = flat.clone().narrow(0, start, CHUNK.min(height * width - start));
            let products = matmul(some, guide.clone().transpose());
            let best = products.argmax(1).reshape([-1]);
            guide.clone().select(0, best)
        });
        let chosen = Tensor::cat(chosen.collect(), 0);
        Some(chosen.reshape([1, height, width, channels]).permute([0, 3, 1, 2]))
    }
}

/// A target's energy summed over features `[1, channels, height, width]`, as a `[1]`.
fn energy<A: Backend>(
    target: &Amplified,
    features: Tensor<A, 4>,
    matches: Option<Tensor<A, 4>>,
) -> Tensor<A, 1> {
    match (matches, target.channel) {
        (Some(matches), _) => (features * matches).sum(),
        (None, Some(channel)) => features.narrow(1, channel, 1).square().sum(),
        (None, None) => features.square().sum(),
    }
}

/// Features as `[positions, channels]`.
fn positions<B: Backend>(features: Tensor<B, 4>) -> Tensor<B, 2> {
    let [_, channels, height, width] = features.dims();
    features.permute([0, 2, 3, 1]).reshape([height * width, channels])
}

/// At most [`GUIDE_POSITIONS`] rows, evenly taken.
fn thinned<B: Backend>(features: Tensor<B, 2>) -> Tensor<B, 2> {
    let [count, _] = features.dims();
    let kept = count.min(GUIDE_POSITIONS);
    let rows = (0..kept).map(|at| features.clone().narrow(0, at * count / kept, 1));
    Tensor::cat(rows.collect(), 0)
}

/// Cuts an axis into tiles that begin at multiples of `stride`, each seen with what the features that see it see.
fn spans(size: usize, tile: usize, stride: usize, extent: usize) -> Vec<Span> {
    let tile = if tile == 0 { size } else { tile.next_multiple_of(stride).min(size) };
    let margin = (extent - 1).next_multiple_of(stride);
    (0..size)
        .step_by(tile)
        .map(|start| {
            let end = (start + tile).min(size);
            Span { start, end, seen_start: start.saturating_sub(margin), seen_end: (end + margin).min(size) }
        })
        .collect()
}

/// The energies of a picture's layers and their gradient, whole or in tiles: what one step of [`dream`](super::dream()) climbs.
#[derive(Debug, Clone, Copy)]
pub struct TiledField<'a> {
    /// Weights of the network.
    pub weights: &'a LossWeights,
    /// Its pooling.
    pub pooling: Pooling,
    /// What is amplified.
    pub targets: &'a [Amplified],
    /// The picture to find in the other one.
    pub guide: Option<&'a RgbPicture>,
    /// Side of the tiles, 0 for the whole picture.
    pub tile: usize,
}

/// The mean energy of each target, and the gradient of `Σ weight · energy` by the picture's values.
///
/// # Errors
/// As [`dream`](super::dream()).
pub fn field(
    device: Device,
    settings: TiledField<'_>,
    picture: &RgbPicture,
) -> Result<(Vec<f64>, RgbPicture), BurnError> {
    struct Once<'a>(TiledField<'a>, &'a RgbPicture);

    impl Work for Once<'_> {
        type Output = (Vec<f64>, RgbPicture);

        fn run<B: Backend>(self, place: &B::Device) -> Result<Self::Output, BurnError> {
            let Once(settings, picture) = self;
            let network = LossNetwork::<B>::new(settings.weights, place)?.with_pooling(settings.pooling);
            let field = Field::new(&network, settings.targets, settings.guide, settings.tile, place)?;
            let factors: Vec<f64> = settings.targets.iter().map(|target| target.weight).collect();
            let (energies, gradient) = field.climb(&picture.to_tensor(place), &factors)?;
            Ok((energies, RgbPicture::from_tensor(gradient)?))
        }
    }

    run_on(device, Once(settings, picture))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_the_axis_and_begin_where_the_strides_do() {
        for (size, tile, stride, extent) in
            [(100, 32, 8, 20), (33, 7, 4, 5), (64, 0, 16, 196), (5, 512, 16, 9)]
        {
            let spans = spans(size, tile, stride, extent);
            assert_eq!((spans[0].start, spans[spans.len() - 1].end), (0, size));
            for pair in spans.windows(2) {
                assert_eq!(pair[0].end, pair[1].start);
            }
            for span in &spans {
                assert!(span.start % stride == 0 && span.seen_start % stride == 0, "{span:?}");
                assert!(span.seen_start == 0 || span.start - span.seen_start >= extent - 1, "{span:?}");
                assert!(span.seen_end == size || span.seen_end - span.end >= extent - 1, "{span:?}");
            }
        }
    }
}
