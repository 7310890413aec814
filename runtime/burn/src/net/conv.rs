//! Convolutions with their padding: ordinary, after nearest doubling, and transposed.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::module::conv_transpose2d;
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{DType, Tensor, TensorData};
use impasto_checkpoints::{CheckpointError, ConvKind, ConvSpec, Padding, StyleModel};

use crate::backend::{conv2d, lengthened};

/// A convolution and what it sees beyond the border.
///
/// # Shapes
/// - input: `[batch, in, height, width]`
/// - output: `[batch, out, ⌈height / stride⌉, ⌈width / stride⌉]`, for a transposed convolution twice the input's
#[derive(Module, Debug)]
pub struct ConvLayer<B: Backend> {
    /// `[out, in, kernel, kernel]`; `[in, out, kernel, kernel]` when transposed.
    pub weight: Param<Tensor<B, 4>>,
    /// `[out]`.
    pub bias: Param<Tensor<B, 1>>,
    #[module(skip)]
    kind: ConvKind,
    #[module(skip)]
    padding: Padding,
}

impl<B: Backend> ConvLayer<B> {
    /// The layer with the model's weights.
    pub(super) fn from_model(
        model: &StyleModel,
        spec: &ConvSpec,
        device: &B::Device,
    ) -> Result<Self, CheckpointError> {
        let weight = model.values(&format!("{}.weight", spec.name))?.to_vec();
        let bias = model.values(&format!("{}.bias", spec.name))?.to_vec();
        Ok(ConvLayer {
            weight: Param::from_data(TensorData::new(weight, spec.weight_shape()), device),
            bias: Param::from_data(TensorData::new(bias, [spec.output]), device),
            kind: spec.kind,
            padding: model.architecture().padding,
        })
    }

    /// Keeps the weights in another float type.
    pub(super) fn convert(&mut self, dtype: DType) {
        if self.weight.val().dtype() != dtype {
            self.weight = Param::from_tensor(self.weight.val().cast(dtype));
            self.bias = Param::from_tensor(self.bias.val().cast(dtype));
        }
    }

    /// Convolves. The arithmetic is in the input's float type; weights of another type are converted.
    pub fn forward(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let (weight, bias) = if weight.dtype() == input.dtype() {
            (weight, bias)
        } else {
            (weight.cast(input.dtype()), bias.cast(input.dtype()))
        };
        match self.kind {
            ConvKind::Strided(stride) => self.strided(input, weight, bias, stride),
            ConvKind::NearestDoubled => self.nearest_doubled(input, weight, bias),
            ConvKind::Transposed => self.transposed(input, weight, bias),
        }
    }

    fn strided(
        &self,
        input: Tensor<B, 4>,
        weight: Tensor<B, 4>,
        bias: Tensor<B, 1>,
        stride: usize,
    ) -> Tensor<B, 4> {
        let kernel = weight.dims()[2];
        #[cfg(feature = "flex")]
        let (input, weight, bias) = {
            use crate::backend::cpu::{Axis, Geometry, convolution};
            let geometry = |input: &Tensor<B, 4>| {
                let [_, _, height, width] = input.dims();
                let axis = |size| match self.padding {
                    Padding::Reflect => Axis::reflected(size, 1, kernel / 2),
                    Padding::ZeroSame => {
                        let (before, after) = same(size, kernel, stride);
                        Axis::zeros(size, before, after)
                    }
                };
                Geometry { rows: axis(height), columns: axis(width), kernel, stride }
            };
            match convolution(input, weight, bias, Default::default(), geometry) {
                Ok(output) => return output,
                Err(tensors) => tensors,
            }
        };
        let padded = self.padded_by(input, kernel, stride);
        conv2d(padded, weight, Some(bias), ConvOptions::new([stride; 2], [0; 2], [1; 2], 1))
    }

    /// Nearest ×2, then the convolution. Reflection after the doubling repeats what is at the edge before it.
    fn nearest_doubled(&self, input: Tensor<B, 4>, weight: Tensor<B, 4>, bias: Tensor<B, 1>) -> Tensor<B, 4> {
        let kernel = weight.dims()[2];
        #[cfg(feature = "flex")]
        let (input, weight, bias) = {
            use crate::backend::cpu::{Axis, Geometry, convolution};
            let pad = kernel / 2;
            let geometry = |input: &Tensor<B, 4>| {
                let [_, _, height, width] = input.dims();
                let axis = |size| match self.padding {
                    Padding::Reflect => Axis::reflected(size, 2, pad),
                    Padding::ZeroSame => Axis::doubled_zeros(size, pad),
                };
                Geometry { rows: axis(height), columns: axis(width), kernel, stride: 1 }
            };
            match convolution(input, weight, bias, Default::default(), geometry) {
                Ok(output) => return output,
                Err(tensors) => tensors,
            }
        };
        let padded = self.padded_by(double(input), kernel, 1);
        conv2d(padded, weight, Some(bias), ConvOptions::new([1; 2], [0; 2], [1; 2], 1))
    }

    /// Transposed with stride 2; of the 2n+1 rows and columns the last goes under zero padding (TensorFlow),
    /// the first under reflection (PyTorch's `padding=1, output_padding=1`).
    fn transposed(&self, input: Tensor<B, 4>, weight: Tensor<B, 4>, bias: Tensor<B, 1>) -> Tensor<B, 4> {
        #[cfg(feature = "flex")]
        let (input, weight, bias) = {
            use crate::backend::cpu::{Axis, Geometry, convolution};
            let crop = self.crop();
            let [_, _, height, width] = input.dims();
            let kernel = weight.dims()[2];
            // As an ordinary convolution over the spread-out input, the kernel turned by half a turn.
            let turned = weight.clone().swap_dims(0, 1).flip([2, 3]);
            let geometry = |_: &Tensor<B, 4>| {
                let axis =
                    |size| Axis::dilated(size, 2, kernel as isize - 1 - crop as isize, 2 * size + kernel - 1);
                Geometry { rows: axis(height), columns: axis(width), kernel, stride: 1 }
            };
            match convolution(input, turned, bias, Default::default(), geometry) {
                Ok(output) => return output,
                Err((input, _, bias)) => (input, weight, bias),
            }
        };
        self.transposed_by_burn(input, weight, Some(bias))
    }

    fn transposed_by_burn(
        &self,
        input: Tensor<B, 4>,
        weight: Tensor<B, 4>,
        bias: Option<Tensor<B, 1>>,
    ) -> Tensor<B, 4> {
        let [_, _, height, width] = input.dims();
        let crop = self.crop();
        let options = ConvTransposeOptions::new([2; 2], [0; 2], [0; 2], [1; 2], 1);
        // Burn's sums over the input's channels by a product.
        let (input, weight) = (lengthened(input, 1), lengthened(weight, 0));
        let whole = conv_transpose2d(input, weight, bias, options);
        whole.narrow(2, crop, 2 * height).narrow(3, crop, 2 * width)
    }

    /// The layer's kernel as the convolutions of a GPU read it, channels last in memory, laid out once.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(super) fn lay_out(&mut self) {
        use crate::backend::gpu::{Border, border};
        let weight = self.weight.val();
        if let Some(weight) = border(&weight, Border::NONE, weight.dtype()) {
            self.weight = Param::from_tensor(weight);
        }
    }

    /// What the kernel sees around its input.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(super) fn border(&self, input: &Tensor<B, 4>) -> crate::backend::gpu::Border {
        use crate::backend::gpu::Border;
        let kernel = self.weight.val().dims()[2];
        let [_, _, height, width] = input.dims();
        let (scale, stride) = match self.kind {
            ConvKind::Strided(stride) => (1, stride),
            ConvKind::NearestDoubled => (2, 1),
            ConvKind::Transposed => return Border::NONE,
        };
        let pair = |(before, after)| [before, after];
        let (rows, columns) = match self.padding {
            Padding::Reflect => ([kernel / 2; 2], [kernel / 2; 2]),
            Padding::ZeroSame => {
                (pair(same(scale * height, kernel, stride)), pair(same(scale * width, kernel, stride)))
            }
        };
        Border { rows, columns, scale, reflect: self.padding == Padding::Reflect }
    }

    /// Rows and columns that a transposed convolution leaves out before the picture.
    fn crop(&self) -> usize {
        match self.padding {
            Padding::Reflect => 1,
            Padding::ZeroSame => 0,
        }
    }

    /// The input with what the kernel sees beyond the border.
    fn padded_by(&self, input: Tensor<B, 4>, kernel: usize, stride: usize) -> Tensor<B, 4> {
        match self.padding {
            Padding::Reflect => pad_reflect(input, kernel / 2),
            Padding::ZeroSame => {
                let [_, _, height, width] = input.dims();
                pad_zeros(input, same(height, kernel, stride), same(width, kernel, stride))
            }
        }
    }
}

/// [`ConvLayer::forward`] by Burn's operations, one at a time: what a profile takes the time of.
impl<B: Backend> ConvLayer<B> {
    pub(super) fn doubles(&self) -> bool {
        self.kind == ConvKind::NearestDoubled
    }

    pub(super) fn doubled(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        if self.doubles() { double(input) } else { input }
    }

    pub(super) fn padded(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        let kernel = self.weight.val().dims()[2];
        match self.kind {
            ConvKind::Strided(stride) => self.padded_by(input, kernel, stride),
            ConvKind::NearestDoubled => self.padded_by(input, kernel, 1),
            ConvKind::Transposed => input,
        }
    }

    /// The convolution of what is doubled and padded.
    pub(super) fn convolved(&self, padded: Tensor<B, 4>) -> Tensor<B, 4> {
        self.convolved_with(padded, true)
    }

    /// The convolution of what is doubled and padded, with its bias or without.
    pub(super) fn convolved_with(&self, padded: Tensor<B, 4>, bias: bool) -> Tensor<B, 4> {
        let dtype = padded.dtype();
        let weight = self.weight.val();
        let weight = if weight.dtype() == dtype { weight } else { weight.cast(dtype) };
        let bias = bias.then(|| self.bias.val().cast(dtype));
        let stride = match self.kind {
            ConvKind::Strided(stride) => stride,
            ConvKind::NearestDoubled => 1,
            ConvKind::Transposed => return self.transposed_by_burn(padded, weight, bias),
        };
        conv2d(padded, weight, bias, ConvOptions::new([stride; 2], [0; 2], [1; 2], 1))
    }
}

/// TensorFlow's `SAME`: zeros before and after, so that `⌈size / stride⌉` values come out.
fn same(size: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
    (total / 2, total - total / 2)
}

fn pad_reflect<B: Backend>(input: Tensor<B, 4>, pad: usize) -> Tensor<B, 4> {
    if pad == 0 {
        return input;
    }
    let mirrored = |input: Tensor<B, 4>, axis: usize| {
        let size = input.dims()[axis];
        let before = input.clone().narrow(axis, 1, pad).flip([axis as isize]);
        let after = input.clone().narrow(axis, size - 1 - pad, pad).flip([axis as isize]);
        Tensor::cat(vec![before, input, after], axis)
    };
    mirrored(mirrored(input, 2), 3)
}

/// Zeros around the picture. (`Tensor::pad` makes its zeros in the backend's float type, not in the tensor's.)
fn pad_zeros<B: Backend>(input: Tensor<B, 4>, rows: (usize, usize), columns: (usize, usize)) -> Tensor<B, 4> {
    let padded = |input: Tensor<B, 4>, axis: usize, (before, after): (usize, usize)| {
        let zeros = |count: usize| {
            let mut shape = input.dims();
            shape[axis] = count;
            Tensor::zeros(shape, (&input.device(), input.dtype()))
        };
        let mut parts = Vec::with_capacity(3);
        let first = (before > 0).then(|| zeros(before));
        let last = (after > 0).then(|| zeros(after));
        parts.extend(first);
        parts.push(input);
        parts.extend(last);
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, axis) }
    };
    padded(padded(input, 2, rows), 3, columns)
}

/// Nearest neighbour ×2.
fn double<B: Backend>(input: Tensor<B, 4>) -> Tensor<B, 4> {
    let [batch, channels, height, width] = input.dims();
    input
        .reshape([batch, channels, height, 1, width, 1])
        .expand([batch, channels, height, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width])
}
