//! The transform network as a Burn module, for every architecture that a style model can name.

mod blocks;
mod conv;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod fused;
mod norm;
mod profile;

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use impasto_checkpoints::{
    Activation, Architecture, Block, ConvSpec, InputRange, Metadata, NormSpec, StyleModel,
    Tensor as FileTensor,
};

use crate::error::{BurnError, one_line};

pub use blocks::{ConvBlock, ResidualBlock, Step, UpsampleConv};
pub use conv::ConvLayer;
pub use norm::InstanceNorm;
pub use profile::Operation;
pub(crate) use profile::{Watch, finish};

/// A transform network: RGB 0..255 in, the painted picture out, of the same size.
///
/// # Shapes
/// - input, output: `[batch, 3, height, width]`, any height and width from 1
///
/// # Units
/// RGB 0..255. The output is neither rounded nor clamped.
///
/// # Source
/// Johnson, Alahi, Fei-Fei 2016, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", with
/// instance norm (Ulyanov et al. 2016) and nearest doubling before a convolution (Odena et al. 2016).
#[derive(Module, Debug)]
pub struct TransformNet<B: Backend> {
    /// The steps in order.
    pub steps: Vec<Step<B>>,
    #[module(skip)]
    architecture: Architecture,
    #[module(skip)]
    operations: Operations,
}

/// How a network is computed on a GPU. The CPU has its own kernels anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operations {
    /// Norm, ReLU, sum, doubling and border in one kernel between two convolutions.
    #[default]
    Fused,
    /// Burn's general operations, to compare with; the gradients of convolutions are ours in both.
    General,
}

impl<B: Backend> TransformNet<B> {
    /// The network with the model's weights, in the backend's float type. Training starts from
    /// [`StyleModel::initial`].
    ///
    /// # Errors
    /// None for a [`StyleModel`] that keeps its word: its tensors are those of its architecture.
    pub fn from_model(model: &StyleModel, device: &B::Device) -> Result<Self, BurnError> {
        let architecture = model.architecture().clone();
        let blocks = architecture.blocks();
        let steps =
            blocks.iter().map(|block| Step::from_model(model, block, device)).collect::<Result<_, _>>()?;
        Ok(TransformNet { steps, architecture, operations: Operations::default() })
    }

    /// The network's weights as a style model; those of an f32 network come back bit for bit.
    ///
    /// # Errors
    /// [`BurnError::Checkpoint`] names the tensor that is not finite, or whose shape a loaded record changed.
    /// [`BurnError::Failed`] when the device does not give its data.
    pub fn to_model(&self, metadata: Metadata) -> Result<StyleModel, BurnError> {
        let metadata = Metadata { architecture: self.architecture.clone(), ..metadata };
        let mut tensors = BTreeMap::new();
        for (step, block) in self.steps.iter().zip(self.architecture.blocks()) {
            let (conv_specs, norm_specs): (Vec<ConvSpec>, Vec<NormSpec>) = match block {
                Block::Conv { conv, norm, .. } => (vec![conv], norm.into_iter().collect()),
                Block::Residual { convs, norms } => (convs.into(), norms.into()),
            };
            let (convs, norms) = step.parts();
            for (spec, conv) in conv_specs.iter().zip(convs) {
                tensors.insert(format!("{}.weight", spec.name), to_file(conv.weight.val())?);
                tensors.insert(format!("{}.bias", spec.name), to_file(conv.bias.val())?);
            }
            for (spec, norm) in norm_specs.iter().zip(norms) {
                tensors.insert(format!("{}.weight", spec.name), to_file(norm.weight.val())?);
                tensors.insert(format!("{}.bias", spec.name), to_file(norm.bias.val())?);
            }
        }
        Ok(StyleModel::new(metadata, tensors)?)
    }

    /// The network with the weights of its convolutions in another float type, so that painting in that type need not
    /// convert them for every picture. Norms keep f32.
    pub fn with_kernels_in(mut self, dtype: DType) -> Self {
        for step in &mut self.steps {
            for conv in step.convs_mut() {
                conv.convert(dtype);
                #[cfg(any(feature = "cuda", feature = "wgpu"))]
                if self.operations == Operations::Fused {
                    conv.lay_out();
                }
            }
        }
        self
    }

    /// The network computed in another way.
    pub fn with_operations(mut self, operations: Operations) -> Self {
        self.operations = operations;
        self
    }

    /// The network without its weights.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Paints.
    pub fn forward(&self, rgb255: Tensor<B, 4>) -> Tensor<B, 4> {
        let dtype = rgb255.dtype();
        self.forward_in(rgb255, dtype)
    }

    /// Paints with the convolutions in the float type `compute`; input and output keep theirs, norms take their
    /// statistics in f32, and weights of another type are converted (so f32 weights train under bf16 arithmetic).
    pub fn forward_in(&self, rgb255: Tensor<B, 4>, compute: DType) -> Tensor<B, 4> {
        let dtype = rgb255.dtype();
        let [_, _, height, width] = rgb255.dims();
        let x = to_range(self.at_least_minimum(rgb255), self.architecture.input);
        let mut x = self.forward_steps(x, compute);
        if compute != dtype {
            x = x.cast(dtype);
        }
        self.to_rgb255(x, height, width)
    }

    fn forward_steps(&self, input: Tensor<B, 4>, compute: DType) -> Tensor<B, 4> {
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        if self.operations == Operations::Fused {
            let nothing = |_, _| Ok::<(), std::convert::Infallible>(());
            let Ok(output) = self.forward_fused(&input, compute, nothing);
            if let Some(output) = output {
                return output;
            }
        }
        let input = if input.dtype() == compute { input } else { input.cast(compute) };
        self.steps.iter().fold(input, |x, step| step.forward(x))
    }

    /// From the last layer's values to the picture, cropped to its size.
    fn to_rgb255(&self, mut x: Tensor<B, 4>, height: usize, width: usize) -> Tensor<B, 4> {
        let output = self.architecture.output;
        if output.activation == Activation::Tanh {
            x = x.tanh();
        }
        if output.scale != 1.0 {
            x = x * output.scale;
        }
        if output.offset != 0.0 {
            x = x + output.offset;
        }
        let [_, _, painted_height, painted_width] = x.dims();
        if (painted_height, painted_width) == (height, width) {
            x
        } else {
            x.narrow(2, 0, height).narrow(3, 0, width)
        }
    }

    /// Repeats the last row and column until reflection has enough of them.
    fn at_least_minimum(&self, rgb255: Tensor<B, 4>) -> Tensor<B, 4> {
        let minimum = self.architecture.minimum_size();
        (2..4).fold(rgb255, |x, axis| match minimum.checked_sub(x.dims()[axis]) {
            None | Some(0) => x,
            Some(missing) => {
                let edge = x.clone().narrow(axis, x.dims()[axis] - 1, 1).repeat_dim(axis, missing);
                Tensor::cat(vec![x, edge], axis)
            }
        })
    }
}

/// Brings RGB 0..255 into the range the network was trained to see.
fn to_range<B: Backend>(rgb255: Tensor<B, 4>, range: InputRange) -> Tensor<B, 4> {
    let factors = range.from_rgb255();
    match range {
        InputRange::Rgb255 => rgb255,
        InputRange::Rgb01 => rgb255 * factors[0].0,
        InputRange::ImagenetNormalized => {
            let constant = |part: fn(&(f32, f32)) -> f32| {
                let values: Vec<f32> = factors.iter().map(part).collect();
                Tensor::<B, 4>::from_data(TensorData::new(values, [1, 3, 1, 1]), &rgb255.device())
                    .cast(rgb255.dtype())
            };
            let (factor, summand) = (constant(|pair| pair.0), constant(|pair| pair.1));
            rgb255 * factor + summand
        }
    }
}

/// A weight as it goes into the file.
fn to_file<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<FileTensor, BurnError> {
    let shape = tensor.dims();
    let device = tensor.device();
    let failed =
        |reason: String| BurnError::Failed { device: format!("{device:?}"), reason: one_line(&reason) };
    let data = tensor.try_into_data().map_err(|error| failed(error.to_string()))?;
    let values = data.convert::<f32>().into_vec::<f32>().map_err(|error| failed(format!("{error:?}")))?;
    Ok(FileTensor::f32(shape, values))
}
