//! Instance norm whose statistics are f32 whatever the tensor's float type.

use burn::module::{Module, Param};
use burn::tensor::activation;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use impasto_checkpoints::{CheckpointError, NormSpec, StyleModel};

use crate::mean::plane_mean;

/// `y = (x − mean) / √(variance + ε) · weight + bias`, mean and biased variance over each picture's channel.
///
/// Burn's own divides a sum by the count in the tensor's type: 65,536 values overflow f16. Here the statistics
/// are f32, taken about the plane's first value, and the variance is the mean of squares about the mean, so that a
/// flat or smooth picture keeps its digits.
///
/// # Shapes
/// - input, output: `[batch, channels, height, width]`
///
/// # Source
/// Ulyanov, Vedaldi, Lempitsky 2016, "Instance Normalization".
#[derive(Module, Debug)]
pub struct InstanceNorm<B: Backend> {
    /// `[channels]`.
    pub weight: Param<Tensor<B, 1>>,
    /// `[channels]`.
    pub bias: Param<Tensor<B, 1>>,
    epsilon: f32,
}

impl<B: Backend> InstanceNorm<B> {
    /// A norm with these factors and summands.
    ///
    /// # Panics
    /// When the two do not have the same length.
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, epsilon: f32, device: &B::Device) -> Self {
        assert_eq!(weight.len(), bias.len(), "factors and summands of an instance norm");
        let channels = weight.len();
        InstanceNorm {
            weight: Param::from_data(TensorData::new(weight, [channels]), device),
            bias: Param::from_data(TensorData::new(bias, [channels]), device),
            epsilon,
        }
    }

    /// The norm with the model's weights.
    pub(super) fn from_model(
        model: &StyleModel,
        spec: &NormSpec,
        device: &B::Device,
    ) -> Result<Self, CheckpointError> {
        let weight = model.values(&format!("{}.weight", spec.name))?.to_vec();
        let bias = model.values(&format!("{}.bias", spec.name))?.to_vec();
        Ok(Self::new(weight, bias, model.architecture().norm_epsilon, device))
    }

    /// Normalizes.
    pub fn forward(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        self.apply(input, false)
    }

    /// Normalizes, then ReLU.
    pub fn forward_relu(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        self.apply(input, true)
    }

    /// Normalizes, with what follows and what the next convolution sees around it; on a GPU only.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(super) fn forward_bordered(
        &self,
        input: &Tensor<B, 4>,
        after: crate::backend::gpu::After<'_, B>,
        border: crate::backend::gpu::Border,
    ) -> Option<Tensor<B, 4>> {
        let parameters = [&self.weight.val(), &self.bias.val()];
        crate::backend::gpu::norm(input, parameters, self.epsilon, after, border)
    }

    fn apply(&self, input: Tensor<B, 4>, relu: bool) -> Tensor<B, 4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        #[cfg(feature = "flex")]
        if let Some(output) = crate::backend::cpu::instance_norm(&input, &weight, &bias, self.epsilon, relu) {
            return output;
        }
        let dtype = input.dtype();
        let channels = input.dims()[1];
        let full = |tensor: Tensor<B, 1>| {
            let tensor = if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(DType::F32) };
            tensor.reshape([1, channels, 1, 1])
        };
        let input = if dtype == DType::F32 { input } else { input.cast(DType::F32) };
        // About the plane's first value: a flat plane is then 0 exactly, where the rounding of a long sum of large
        // values, divided by √ε, would be noise of many grey levels. The result does not depend on it, nor does any
        // gradient.
        let first = input.clone().narrow(2, 0, 1).narrow(3, 0, 1).detach();
        let shifted = input - first;
        let centred = shifted.clone() - plane_mean(shifted);
        let variance = plane_mean(centred.clone() * centred.clone());
        let factor = (variance + self.epsilon).sqrt().recip() * full(weight);
        let output = centred * factor + full(bias);
        let output = if relu { activation::relu(output) } else { output };
        if dtype == DType::F32 { output } else { output.cast(dtype) }
    }
}
