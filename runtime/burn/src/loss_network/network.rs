//! A loss network on a device: its convolutions as constants, and the features of a picture by layer name.

use burn::tensor::activation::relu;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{FloatDType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::kind::LossNetworkKind;
use super::plan::{self, ConvSpec, Sight, Step};
use super::weights::LossWeights;
use crate::backend::{Kept, conv2d_kept};
use crate::error::BurnError;

/// How a loss network halves its planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The largest value, as the network was trained.
    #[default]
    Max,
    /// The mean: "gives slightly more appealing results" (Gatys et al. 2016, section 2).
    Average,
}

/// One convolution on a device.
#[derive(Debug, Clone)]
struct Conv<B: Backend> {
    /// OIHW.
    weight: Tensor<B, 4>,
    bias: Tensor<B, 1>,
    stride: usize,
    padding: usize,
    /// Of the weight, shared with the copies on other backends.
    kept: Kept,
}

impl<B: Backend> Conv<B> {
    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let options = ConvOptions::new([self.stride; 2], [self.padding; 2], [1, 1], 1);
        relu(conv2d_kept(x, self.weight.clone(), Some(self.bias.clone()), options, &self.kept))
    }

    fn to_autodiff<A: AutodiffBackend<InnerBackend = B>>(&self) -> Conv<A> {
        Conv {
            weight: Tensor::from_inner(self.weight.clone()),
            bias: Tensor::from_inner(self.bias.clone()),
            stride: self.stride,
            padding: self.padding,
            kept: self.kept.clone(),
        }
    }
}

/// One step on a device, as [`Step`].
#[derive(Debug, Clone)]
enum Stage<B: Backend> {
    Conv(Conv<B>),
    Pool { kernel: usize, ceil: bool },
    Fire { squeeze: Conv<B>, expand1x1: Conv<B>, expand3x3: Conv<B> },
}

/// Layers of one network, found by [`LossNetwork::layers`], in the order in which they were named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSet {
    names: Vec<String>,
    /// For each name its step.
    steps: Vec<usize>,
    /// Smallest height and width of a picture.
    smallest: usize,
}

impl LayerSet {
    /// The names, in the order asked for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The smallest height and width of a picture that reaches the deepest of these layers.
    pub fn smallest_size(&self) -> usize {
        self.smallest
    }

    /// How many steps have to be computed.
    fn depth(&self) -> usize {
        self.steps.iter().map(|step| step + 1).max().unwrap_or(0)
    }
}

/// The convolutional part of an ImageNet classifier with fixed weights.
///
/// The weights are constants: nothing tracks gradients for them. Pictures go in as RGB 0..255; the input
/// convention of the weights is applied inside.
#[derive(Debug, Clone)]
pub struct LossNetwork<B: Backend> {
    kind: LossNetworkKind,
    origin: String,
    pooling: Pooling,
    dtype: FloatDType,
    /// Subtracted from RGB 0..255, `[1, 3, 1, 1]`. The rest of the input convention (channel order, scale)
    /// is folded into the first convolution.
    mean: Tensor<B, 4>,
    plan: Vec<Step>,
    stages: Vec<Stage<B>>,
}

impl<B: Backend> LossNetwork<B> {
    /// Puts `weights` on `device`, computing in f32, with max pooling.
    ///
    /// # Errors
    /// None with weights made by [`LossWeights`]' own functions; [`BurnError::LossWeights`] for tensors put
    /// together by hand that miss one.
    pub fn new(weights: &LossWeights, device: &B::Device) -> Result<Self, BurnError> {
        Self::with_dtype(weights, FloatDType::F32, device)
    }

    /// The same, computing in `dtype`. With bf16, the picture minus the mean is rounded to bf16 on its way in,
    /// and features come out in bf16; the losses are f32 all the same.
    ///
    /// # Errors
    /// As [`LossNetwork::new`].
    pub fn with_dtype(
        weights: &LossWeights,
        dtype: FloatDType,
        device: &B::Device,
    ) -> Result<Self, BurnError> {
        let (mean, factor, source) = weights.convention.affine();
        let mut plan = plan::steps(weights.kind);
        plan.truncate(weights.depth());
        let mut first = true;
        let mut conv = |spec: &ConvSpec| -> Result<Conv<B>, BurnError> {
            let mut kernel = weights.values(&spec.weight(), &spec.shape())?.to_vec();
            if std::mem::take(&mut first) {
                fold_input(&mut kernel, spec, factor, source);
            }
            let bias = weights.values(&spec.bias(), &[spec.output])?.to_vec();
            Ok(Conv {
                weight: Tensor::<B, 4>::from_data(TensorData::new(kernel, spec.shape()), device).cast(dtype),
                bias: Tensor::<B, 1>::from_data(TensorData::new(bias, [spec.output]), device).cast(dtype),
                stride: spec.stride,
                padding: spec.padding,
                kept: Kept::default(),
            })
        };
        let stages = plan
            .iter()
            .map(|step| {
                Ok(match step {
                    Step::Conv { conv: spec, .. } => Stage::Conv(conv(spec)?),
                    Step::Pool { kernel, ceil } => Stage::Pool { kernel: *kernel, ceil: *ceil },
                    Step::Fire { squeeze, expand1x1, expand3x3, .. } => Stage::Fire {
                        squeeze: conv(squeeze)?,
                        expand1x1: conv(expand1x1)?,
                        expand3x3: conv(expand3x3)?,
                    },
                })
            })
            .collect::<Result<_, BurnError>>()?;
        Ok(LossNetwork {
            kind: weights.kind,
            origin: weights.origin.clone(),
            pooling: Pooling::default(),
            dtype,
            mean: Tensor::from_data(TensorData::new(mean.to_vec(), [1, 3, 1, 1]), device),
            plan,
            stages,
        })
    }

    /// The same network with another pooling.
    pub fn with_pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = pooling;
        self
    }

    /// The same network where gradients of the picture are wanted. The weights are shared, and constants there
    /// too: no gradient of them is ever computed.
    pub fn to_autodiff<A: AutodiffBackend<InnerBackend = B>>(&self) -> LossNetwork<A> {
        let stages = self.stages.iter().map(|stage| match stage {
            Stage::Conv(conv) => Stage::Conv(conv.to_autodiff()),
            Stage::Pool { kernel, ceil } => Stage::Pool { kernel: *kernel, ceil: *ceil },
            Stage::Fire { squeeze, expand1x1, expand3x3 } => Stage::Fire {
                squeeze: squeeze.to_autodiff(),
                expand1x1: expand1x1.to_autodiff(),
                expand3x3: expand3x3.to_autodiff(),
            },
        });
        LossNetwork {
            kind: self.kind,
            origin: self.origin.clone(),
            pooling: self.pooling,
            dtype: self.dtype,
            mean: Tensor::from_inner(self.mean.clone()),
            plan: self.plan.clone(),
            stages: stages.collect(),
        }
    }

    /// Which network it is.
    pub fn kind(&self) -> LossNetworkKind {
        self.kind
    }

    /// The pooling in use.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Looks layers up by name.
    ///
    /// # Errors
    /// [`BurnError::UnknownLayer`] with the known names; [`BurnError::LayerNotInWeights`] when the file of the
    /// weights ends before the layer.
    pub fn layers<S: AsRef<str>>(&self, names: &[S]) -> Result<LayerSet, BurnError> {
        let steps = names.iter().map(|name| self.step_of(name.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let depth = steps.iter().map(|step| step + 1).max().unwrap_or(0);
        Ok(LayerSet {
            names: names.iter().map(|name| name.as_ref().to_string()).collect(),
            steps,
            smallest: plan::smallest_size(self.plan[..depth].iter()),
        })
    }

    /// For each layer, what its values see of the picture.
    pub(crate) fn sights(&self, layers: &LayerSet) -> Vec<Sight> {
        layers.steps.iter().map(|&step| plan::sight(self.plan[..=step].iter())).collect()
    }

    /// For each layer, the height (or width) of its features of a picture of this height (or width).
    pub(crate) fn sizes(&self, layers: &LayerSet, size: usize) -> Vec<usize> {
        let size_at = |&step: &usize| plan::size_after(self.plan[..=step].iter(), size).unwrap_or(0);
        layers.steps.iter().map(size_at).collect()
    }

    fn step_of(&self, name: &str) -> Result<usize, BurnError> {
        if let Some(at) = self.plan.iter().position(|step| step.layer() == Some(name)) {
            return Ok(at);
        }
        let known = self.kind.layers();
        if !known.iter().any(|layer| layer == name) {
            return Err(BurnError::UnknownLayer {
                layer: name.escape_debug().to_string(),
                network: self.kind.name(),
                known: known.join(", "),
            });
        }
        Err(BurnError::LayerNotInWeights {
            layer: name.to_string(),
            origin: self.origin.clone(),
            deepest: self.plan.iter().rev().find_map(Step::layer).unwrap_or_default().to_string(),
        })
    }

    /// The features of pictures at `layers`, in the order in which the layers were named; nothing deeper than
    /// the deepest of them is computed.
    ///
    /// On an autodiff backend ([`LossNetwork::to_autodiff`]) gradients flow to the pictures.
    ///
    /// # Shapes
    /// - rgb255: `[batch, 3, height, width]`
    /// - each result: `[batch, channels, height', width']`
    ///
    /// # Units
    /// RGB 0..255 in; out, what the network computes in its own input convention.
    ///
    /// # Errors
    /// [`BurnError::PictureTooSmall`], [`BurnError::Channels`].
    pub fn features(&self, rgb255: Tensor<B, 4>, layers: &LayerSet) -> Result<Vec<Tensor<B, 4>>, BurnError> {
        let mut found: Vec<Option<Tensor<B, 4>>> = vec![None; layers.steps.len()];
        let mut x = self.input(rgb255, layers)?;
        for (step, stage) in self.stages.iter().enumerate().take(layers.depth()) {
            x = match stage {
                Stage::Conv(conv) => conv.forward(x),
                Stage::Pool { kernel, ceil } => match self.pooling {
                    Pooling::Max => max_pool(x, *kernel, *ceil),
                    Pooling::Average => avg_pool2d(x, [*kernel; 2], [2, 2], [0, 0], false, *ceil),
                },
                Stage::Fire { squeeze, expand1x1, expand3x3 } => {
                    let x = squeeze.forward(x);
                    Tensor::cat(vec![expand1x1.forward(x.clone()), expand3x3.forward(x)], 1)
                }
            };
            for (slot, wanted) in found.iter_mut().zip(&layers.steps) {
                if *wanted == step {
                    *slot = Some(x.clone());
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The input stage: RGB 0..255 to what the first convolution (with its folded kernel) expects.
    fn input(&self, rgb255: Tensor<B, 4>, layers: &LayerSet) -> Result<Tensor<B, 4>, BurnError> {
        let [_, channels, height, width] = rgb255.dims();
        if channels != 3 {
            return Err(BurnError::Channels { found: channels });
        }
        if height.min(width) < layers.smallest {
            return Err(BurnError::PictureTooSmall {
                width,
                height,
                smallest: layers.smallest,
                network: self.kind.name(),
                layer: self.plan[..layers.depth()]
                    .iter()
                    .rev()
                    .find_map(Step::layer)
                    .unwrap_or_default()
                    .to_string(),
            });
        }
        Ok((rgb255.cast(FloatDType::F32) - self.mean.clone()).cast(self.dtype))
    }
}

/// The maximum of each window of `kernel`×`kernel`, two apart; `ceil`: a last, broken window counts.
fn max_pool<B: Backend>(x: Tensor<B, 4>, kernel: usize, ceil: bool) -> Tensor<B, 4> {
    #[cfg(feature = "flex")]
    if (kernel, ceil) == (2, false)
        && let Some(halved) = crate::backend::cpu::max_pool(&x)
    {
        return halved;
    }
    max_pool2d(x, [kernel; 2], [2, 2], [0, 0], [1, 1], ceil)
}

/// Lets the first kernel take `rgb255 − mean`: its input channels are put into RGB order and scaled.
fn fold_input(kernel: &mut [f32], spec: &ConvSpec, factor: [f32; 3], source: [usize; 3]) {
    let plane = spec.kernel * spec.kernel;
    for filter in kernel.chunks_exact_mut(3 * plane) {
        let original = filter.to_vec();
        for (network_channel, rgb_channel) in source.into_iter().enumerate() {
            let from = &original[network_channel * plane..][..plane];
            for (to, value) in filter[rgb_channel * plane..][..plane].iter_mut().zip(from) {
                *to = value * factor[rgb_channel];
            }
        }
    }
}
