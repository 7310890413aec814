//! The single losses, each a few lines: content, style (Gram matrix; mean and deviation), total variation.

use burn::tensor::backend::Backend;
use burn::tensor::{FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use crate::backend::turned_matmul;
use crate::mean::plane_mean;

/// Added to the variance under the root of [`mean_and_std`], so that a flat plane has a gradient.
pub const MEAN_STD_EPSILON: f64 = 1e-5;

/// What of a layer's features is its style: [`gram_matrix`] or [`mean_and_std`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum StyleStatistic {
    /// Which channels are active together: Gram matrices (Gatys et al. 2016).
    #[default]
    Gram,
    /// Each channel's mean and standard deviation (Huang & Belongie 2017).
    ///
    /// Li et al. 2017, "Demystifying neural style transfer", arXiv:1701.01036, say why it is a style.
    MeanStd,
}

/// The style of one layer, as [`StyleStatistic`] says: what [`style_loss`] compares with.
#[derive(Debug, Clone)]
pub enum StyleTarget<B: Backend> {
    /// `[batch or 1, channels, channels]`.
    Gram(Tensor<B, 3>),
    /// Mean and standard deviation, each `[batch or 1, channels]`.
    MeanStd(Tensor<B, 2>, Tensor<B, 2>),
}

impl<B: Backend> StyleTarget<B> {
    /// The style of `features` `[batch, channels, height, width]`.
    pub fn of(features: Tensor<B, 4>, statistic: StyleStatistic) -> Self {
        match statistic {
            StyleStatistic::Gram => StyleTarget::Gram(gram_matrix(features)),
            StyleStatistic::MeanStd => {
                let (mean, std) = mean_and_std(features);
                StyleTarget::MeanStd(mean, std)
            }
        }
    }
}

/// The Gram matrix of each picture's features, `G = F Fᵀ / (C·H·W)` with `F` as `[C, H·W]`, always in f32: sums
/// over a whole plane overflow half precision.
///
/// Gatys et al. divide in the loss instead (equation 5, by `4 N² M²`); Johnson et al. divide here, as this does.
///
/// # Shapes
/// - features: `[batch, channels, height, width]`
/// - result: `[batch, channels, channels]`
///
/// # Source
/// Johnson et al. 2016, arXiv:1603.08155, equation 4.
pub fn gram_matrix<B: Backend>(features: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, channels, height, width] = features.dims();
    let features = features.cast(FloatDType::F32);
    let count = (channels * height * width) as f64;
    #[cfg(feature = "flex")]
    if let Some(gram) = crate::backend::cpu::gram_matrix(&features, (1.0 / count) as f32) {
        return gram;
    }
    // A row for each pixel, as a GPU's convolutions leave them in memory.
    let rows = features.permute([0, 2, 3, 1]).reshape([batch, height * width, channels]);
    let product = turned_matmul(rows.clone().detach(), rows) / count;
    // Both factors are F. The first's share of the gradient is the second's with G's gradient turned around.
    let turned = product.clone().swap_dims(1, 2);
    product + (turned.clone() - turned.detach())
}

/// Mean and standard deviation of each channel over the plane, `√(biased variance + 1e-5)`, in f32.
///
/// # Shapes
/// - features: `[batch, channels, height, width]`
/// - results: `[batch, channels]` each
pub fn mean_and_std<B: Backend>(features: Tensor<B, 4>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let [batch, channels, _, _] = features.dims();
    let features = features.cast(FloatDType::F32);
    let mean = plane_mean(features.clone());
    let variance = plane_mean((features - mean.clone()).square());
    (mean.reshape([batch, channels]), (variance + MEAN_STD_EPSILON).sqrt().reshape([batch, channels]))
}

/// The content loss of one layer: the mean over all elements of `(features − target)²`.
///
/// # Shapes
/// - features, target: `[batch, channels, height, width]`
/// - result: `[1]`
///
/// # Source
/// Johnson et al. 2016, equation 2. (Gatys et al. 2016, equation 1, take half the sum.)
pub fn content_loss<B: Backend>(features: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 1> {
    (features.cast(FloatDType::F32) - target.cast(FloatDType::F32)).square().mean()
}

/// The style loss of one layer against the style `target`:
/// - Gram: the mean over pictures and matrix entries of `(G − G_target)²`;
/// - mean and deviation: the mean over pictures and channels of `(μ − μ_target)² + (σ − σ_target)²`.
///
/// # Shapes
/// - features: `[batch, channels, height, width]`; a target of one picture serves the whole batch
/// - result: `[1]`
///
/// # Source
/// Gatys et al. 2016, equations 3 to 5; Johnson et al. 2016, equation 5. Both sum over the entries where this
/// takes their mean.
pub fn style_loss<B: Backend>(features: Tensor<B, 4>, target: &StyleTarget<B>) -> Tensor<B, 1> {
    match target {
        StyleTarget::Gram(target) => (gram_matrix(features) - target.clone()).square().mean(),
        StyleTarget::MeanStd(target_mean, target_std) => {
            let (mean, std) = mean_and_std(features);
            (mean - target_mean.clone()).square().mean() + (std - target_std.clone()).square().mean()
        }
    }
}

/// Total variation: the mean squared difference of horizontal neighbours plus that of vertical ones. A picture
/// one pixel wide has no horizontal neighbours, and their share is 0.
///
/// Johnson et al. (and Mahendran & Vedaldi) sum; the mean makes the weight independent of the picture's size.
///
/// # Shapes
/// - rgb255: `[batch, 3, height, width]`
/// - result: `[1]`
///
/// # Units
/// RGB 0..255 in; differences are taken of RGB 0..1.
pub fn total_variation<B: Backend>(rgb255: Tensor<B, 4>) -> Tensor<B, 1> {
    let [_, _, height, width] = rgb255.dims();
    let rgb01 = rgb255.cast(FloatDType::F32) / 255.0;
    let mut total = Tensor::zeros([1], &rgb01.device());
    for (dim, size) in [(3, width), (2, height)] {
        if size > 1 {
            let difference = rgb01.clone().narrow(dim, 1, size - 1) - rgb01.clone().narrow(dim, 0, size - 1);
            total = total + difference.square().mean();
        }
    }
    total
}

#[cfg(all(test, feature = "flex", any(feature = "cuda", feature = "wgpu")))]
mod tests {
    use burn::backend::Autodiff;
    use burn::tensor::TensorData;
    use impasto_checkpoints::random;
    use impasto_test_support::skipped;

    use super::*;
    use crate::backend::{Work, run_on};
    use crate::device::{Device, available};
    use crate::error::BurnError;

    type Found = (&'static str, Vec<f32>);

    /// Every term and statistic of seeded features and pictures, with the terms' gradients.
    struct Terms {
        channels: usize,
        size: [usize; 2],
    }

    impl Work for Terms {
        type Output = Vec<Found>;

        fn run<B: Backend>(self, place: &B::Device) -> Result<Vec<Found>, BurnError> {
            let noise = |seed: u64, channels: usize, scale: f32| {
                let shape = [2, channels, self.size[0], self.size[1]];
                let values = random::uniform(seed, "noise", shape.iter().product());
                let values: Vec<f32> = values.map(|value| (value + 1.0) * scale).collect();
                Tensor::<Autodiff<B>, 4>::from_data(TensorData::new(values, shape), place)
            };
            let read = |data: TensorData| data.to_vec::<f32>().expect("f32");
            let mut found = Vec::new();
            let mut term =
                |names: [&'static str; 2],
                 leaf: Tensor<Autodiff<B>, 4>,
                 term: &dyn Fn(Tensor<Autodiff<B>, 4>) -> Tensor<Autodiff<B>, 1>| {
                    let leaf = leaf.require_grad();
                    let loss = term(leaf.clone());
                    let gradient = leaf.grad(&loss.clone().backward()).expect("a gradient");
                    found.push((names[0], read(loss.into_data())));
                    found.push((names[1], read(gradient.into_data())));
                };
            let (features, other) = (noise(1, self.channels, 1.0), noise(2, self.channels, 0.4));
            let content = |features| content_loss(features, other.clone());
            term(["content", "content's gradient"], features.clone(), &content);
            for (statistic, names) in [
                (StyleStatistic::Gram, ["style by Gram", "style by Gram's gradient"]),
                (StyleStatistic::MeanStd, ["style by mean and deviation", "its gradient"]),
            ] {
                let target = StyleTarget::of(other.clone(), statistic);
                term(names, features.clone(), &|features| style_loss(features, &target));
            }
            let names = ["total variation", "total variation's gradient"];
            term(names, noise(3, 3, 127.5), &total_variation);
            let (mean, std) = mean_and_std(features.clone());
            found.push(("Gram matrix", read(gram_matrix(features).into_data())));
            found.push(("mean", read(mean.into_data())));
            found.push(("deviation", read(std.into_data())));
            Ok(found)
        }
    }

    /// A GPU's kernels sum in parts, by ways that are tuned for each length: long sums are where they go wrong.
    #[test]
    fn on_a_gpu_long_sums_are_those_of_the_cpu() {
        let devices = available().into_iter().map(|info| info.device);
        let gpus: Vec<_> = devices.filter(|device| *device != Device::Cpu).collect();
        if gpus.is_empty() {
            skipped("long sums", "no GPU is here, and no software Vulkan device");
        }
        let mut bad = Vec::new();
        // Planes of 520, 528 and 544 pixels: odd multiples of 8, 16 and 32.
        let cases = [(2, [256, 256]), (2, [512, 512]), (64, [20, 26]), (64, [24, 22]), (64, [16, 34])];
        for (channels, size) in cases {
            let here = run_on(Device::Cpu, Terms { channels, size }).unwrap();
            for &gpu in &gpus {
                let there = run_on(gpu, Terms { channels, size }).unwrap();
                for ((name, here), (_, there)) in here.iter().zip(&there) {
                    assert_eq!(here.len(), there.len());
                    let differences = here.iter().zip(there).map(|(here, there)| (here - there).abs());
                    // What is no number counts as far off.
                    let off = differences.fold(0.0_f32, |most, off| if off <= most { most } else { off });
                    let largest = here.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                    // CUDA's matrix products may round to TF32's 11 bits.
                    let rounded = matches!(gpu, Device::Cuda(_)) && name.contains("Gram");
                    let tolerance = if rounded { 1e-3 } else { 1e-4 };
                    if !(largest > 0.0 && off <= tolerance * largest) {
                        bad.push(format!(
                            "{gpu}, {channels} of {size:?}: {name} is off by {off} of {largest}"
                        ));
                    }
                }
            }
        }
        assert!(bad.is_empty(), "{bad:#?}");
    }
}
