//! The CPU's own kernels behind Burn's tensors, differentiable.
//!
//! The functions here take a tensor of any backend and answer `None` unless it lives on the CPU in f32 (as
//! [`Cpu`](super::Cpu) or `Autodiff<Cpu>`): then the caller takes Burn's operations. A look at the tensor's type
//! keeps the bound of every module at `B: Backend`.

mod axis;
mod conv;
mod gram;
mod norm;
mod pool;
mod winograd;

use std::any::Any;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::tensor::backend::{Backend, BackendTypes};
use burn::tensor::{DType, Tensor, TensorData, TensorMetadata, TensorPrimitive};

use super::Cpu;
pub(crate) use axis::Axis;
pub(crate) use conv::Geometry;
pub(crate) use winograd::Transformed;

/// A tensor of `Autodiff<Cpu>`.
type Tracked = <Autodiff<Cpu> as BackendTypes>::FloatTensorPrimitive;

/// Runs `plain` or `tracked`, whichever fits the tensors' backend; `None` when neither does.
fn dispatch<B: Backend, const N: usize, const D: usize>(
    inputs: [B::FloatTensorPrimitive; N],
    plain: impl FnOnce([FlexTensor; N]) -> FlexTensor,
    tracked: impl FnOnce([Tracked; N]) -> Tracked,
) -> Option<Tensor<B, D>> {
    if inputs.iter().any(|input| input.dtype() != DType::F32) {
        return None;
    }
    let inputs: Box<dyn Any> = Box::new(inputs);
    let output: Box<dyn Any> = match inputs.downcast::<[FlexTensor; N]>() {
        Ok(inputs) => Box::new(plain(inputs.map(|input| input.to_contiguous()))),
        Err(inputs) => Box::new(tracked(*inputs.downcast::<[Tracked; N]>().ok()?)),
    };
    let output = output.downcast::<B::FloatTensorPrimitive>().ok()?;
    Some(Tensor::from_primitive(TensorPrimitive::Float(*output)))
}

/// Whether [`dispatch`] would find a kernel, asked before anything is built for it.
fn is_cpu<B: Backend>() -> bool {
    use std::any::TypeId;
    let own = TypeId::of::<B::FloatTensorPrimitive>();
    own == TypeId::of::<FlexTensor>() || own == TypeId::of::<Tracked>()
}

/// An operation's output in the graph of its inputs, where `state` waits for the gradient if one is wanted.
fn track<O: Backward<Cpu, N>, const N: usize>(
    operation: O,
    inputs: [Tracked; N],
    state: O::State,
    output: FlexTensor,
) -> Tracked {
    let nodes = inputs.map(|input| input.node);
    match operation.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(operation) => operation.finish(state, output),
        OpsKind::UnTracked(operation) => operation.finish(output),
    }
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The values of a tensor that [`FlexTensor::to_contiguous`] has gone over.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.storage()
}

/// Input, weight and bias of a convolution, given back when there is no kernel for their backend.
pub(crate) type Operands<B> = (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 1>);

/// [`conv::forward`] as an operation.
///
/// # Shapes
/// - input: `[batch, channels, height, width]`, the geometry's stored plane
/// - weight: `[filters, channels, kernel, kernel]`
/// - bias: `[filters]`
///
/// `transformed` is this weight's, or fresh for a weight that changes.
pub(crate) fn convolution<B: Backend>(
    input: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Tensor<B, 1>,
    transformed: Arc<Transformed>,
    geometry: impl FnOnce(&Tensor<B, 4>) -> Geometry,
) -> Result<Tensor<B, 4>, Operands<B>> {
    if !is_cpu::<B>() {
        return Err((input, weight, bias));
    }
    let geometry = geometry(&input);
    let inputs = [primitive(input.clone()), primitive(weight.clone()), primitive(bias.clone())];
    let kernel = Kernel { geometry, transformed };
    let output = dispatch::<B, 3, 4>(
        inputs,
        |[input, weight, bias]| convolve(&input, &weight, &bias, &kernel),
        |tensors| tracked_convolution(tensors, kernel.clone()),
    );
    output.ok_or((input, weight, bias))
}

/// What a convolution is given beside its tensors.
#[derive(Debug, Clone)]
struct Kernel {
    geometry: Geometry,
    transformed: Arc<Transformed>,
}

fn convolve(input: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor, kernel: &Kernel) -> FlexTensor {
    let Kernel { geometry, transformed } = kernel;
    let [batch, channels, _, _] = input.shape().dims();
    let [filters, ..] = weight.shape().dims::<4>();
    let (height, width) = geometry.output();
    let output =
        conv::forward(values(input), values(weight), transformed, Some(values(bias)), channels, geometry);
    tensor(output, &[batch, filters, height, width])
}

fn tracked_convolution(tensors: [Tracked; 3], kernel: Kernel) -> Tracked {
    let [input, weight, bias] = tensors.each_ref().map(|tensor| tensor.primitive.to_contiguous());
    let output = convolve(&input, &weight, &bias, &kernel);
    track(Convolution, tensors, (input, weight, kernel), output)
}

#[derive(Debug)]
struct Convolution;

impl Backward<Cpu, 3> for Convolution {
    type State = (FlexTensor, FlexTensor, Kernel);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [of_input, of_weight, of_bias] = ops.parents;
        let (input, weight, Kernel { geometry, transformed }) = ops.state;
        let upstream = gradients.consume::<Cpu>(&ops.node).to_contiguous();
        let [filters, channels, kernel, _] = weight.shape().dims();
        let [batch, ..] = input.shape().dims::<4>();
        if let Some(node) = of_input {
            let gradient =
                conv::input_gradient(values(&upstream), values(&weight), &transformed, channels, &geometry);
            let shape = [batch, channels, geometry.rows.stored, geometry.columns.stored];
            gradients.register::<Cpu>(node.id, tensor(gradient, &shape));
        }
        if let Some(node) = of_weight {
            let gradient = conv::weight_gradient(values(&input), values(&upstream), channels, &geometry);
            gradients.register::<Cpu>(node.id, tensor(gradient, &[filters, channels, kernel, kernel]));
        }
        if let Some(node) = of_bias {
            let gradient = conv::bias_gradient(values(&upstream), filters, &geometry);
            gradients.register::<Cpu>(node.id, tensor(gradient, &[filters]));
        }
    }
}

/// [`norm::forward`] as an operation.
///
/// # Shapes
/// - input, output: `[batch, channels, height, width]`
/// - weight, bias: `[channels]`
pub(crate) fn instance_norm<B: Backend>(
    input: &Tensor<B, 4>,
    weight: &Tensor<B, 1>,
    bias: &Tensor<B, 1>,
    epsilon: f32,
    relu: bool,
) -> Option<Tensor<B, 4>> {
    if !is_cpu::<B>() {
        return None;
    }
    dispatch::<B, 3, 4>(
        [primitive(input.clone()), primitive(weight.clone()), primitive(bias.clone())],
        |[input, weight, bias]| normalize(&input, &weight, &bias, epsilon, relu).0,
        |tensors| tracked_instance_norm(tensors, epsilon, relu),
    )
}

fn normalize(
    input: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    epsilon: f32,
    relu: bool,
) -> (FlexTensor, Vec<norm::Statistics>) {
    let shape: [usize; 4] = input.shape().dims();
    let (output, statistics) =
        norm::forward(values(input), values(weight), values(bias), shape[2] * shape[3], epsilon, relu);
    (tensor(output, &shape), statistics)
}

fn tracked_instance_norm(tensors: [Tracked; 3], epsilon: f32, relu: bool) -> Tracked {
    let [input, weight, bias] = tensors.each_ref().map(|tensor| tensor.primitive.to_contiguous());
    let (output, statistics) = normalize(&input, &weight, &bias, epsilon, relu);
    let gate = relu.then(|| output.clone());
    track(InstanceNorm, tensors, (input, gate, weight, statistics), output)
}

#[derive(Debug)]
struct InstanceNorm;

impl Backward<Cpu, 3> for InstanceNorm {
    type State = (FlexTensor, Option<FlexTensor>, FlexTensor, Vec<norm::Statistics>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [of_input, of_weight, of_bias] = ops.parents;
        let (input, gate, weight, statistics) = ops.state;
        let upstream = gradients.consume::<Cpu>(&ops.node).to_contiguous();
        let shape: [usize; 4] = input.shape().dims();
        let (dinput, dweight, dbias) = norm::backward(
            values(&input),
            gate.as_ref().map(values),
            &statistics,
            values(&weight),
            values(&upstream),
            shape[2] * shape[3],
        );
        for (node, gradient, shape) in [
            (of_input, dinput, &shape[..]),
            (of_weight, dweight, &shape[1..2]),
            (of_bias, dbias, &shape[1..2]),
        ] {
            if let Some(node) = node {
                gradients.register::<Cpu>(node.id, tensor(gradient, shape));
            }
        }
    }
}

/// [`gram::forward`] as an operation.
///
/// # Shapes
/// - features: `[batch, channels, height, width]`
/// - output: `[batch, channels, channels]`
pub(crate) fn gram_matrix<B: Backend>(features: &Tensor<B, 4>, scale: f32) -> Option<Tensor<B, 3>> {
    if !is_cpu::<B>() {
        return None;
    }
    dispatch::<B, 1, 3>(
        [primitive(features.clone())],
        |[features]| correlate(&features, scale),
        |[features]| tracked_gram_matrix(features, scale),
    )
}

fn correlate(features: &FlexTensor, scale: f32) -> FlexTensor {
    let [batch, channels, height, width] = features.shape().dims();
    let gram = gram::forward(values(features), channels, height * width, scale);
    tensor(gram, &[batch, channels, channels])
}

fn tracked_gram_matrix(features: Tracked, scale: f32) -> Tracked {
    let values = features.primitive.to_contiguous();
    let output = correlate(&values, scale);
    track(GramMatrix, [features], (values, scale), output)
}

#[derive(Debug)]
struct GramMatrix;

impl Backward<Cpu, 1> for GramMatrix {
    type State = (FlexTensor, f32);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [of_features] = ops.parents;
        let (features, scale) = ops.state;
        let upstream = gradients.consume::<Cpu>(&ops.node).to_contiguous();
        let shape: [usize; 4] = features.shape().dims();
        if let Some(node) = of_features {
            let gradient =
                gram::backward(values(&features), values(&upstream), shape[1], shape[2] * shape[3], scale);
            gradients.register::<Cpu>(node.id, tensor(gradient, &shape));
        }
    }
}

/// [`pool::forward`] as an operation: the maximum of each 2×2 window.
///
/// # Shapes
/// - input: `[batch, channels, height, width]`, 2×2 at least
/// - output: `[batch, channels, height / 2, width / 2]`
pub(crate) fn max_pool<B: Backend>(input: &Tensor<B, 4>) -> Option<Tensor<B, 4>> {
    if !is_cpu::<B>() {
        return None;
    }
    dispatch::<B, 1, 4>(
        [primitive(input.clone())],
        |[input]| halve(&input),
        |[input]| tracked_max_pool(input),
    )
}

fn halve(input: &FlexTensor) -> FlexTensor {
    let [batch, channels, height, width] = input.shape().dims();
    tensor(pool::forward(values(input), height, width), &[batch, channels, height / 2, width / 2])
}

fn tracked_max_pool(input: Tracked) -> Tracked {
    let values = input.primitive.to_contiguous();
    let output = halve(&values);
    track(MaxPool, [input], values, output)
}

#[derive(Debug)]
struct MaxPool;

impl Backward<Cpu, 1> for MaxPool {
    type State = FlexTensor;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let ([of_input], input) = (ops.parents, ops.state);
        let upstream = gradients.consume::<Cpu>(&ops.node).to_contiguous();
        let shape: [usize; 4] = input.shape().dims();
        if let Some(node) = of_input {
            let gradient = pool::backward(values(&input), values(&upstream), shape[2], shape[3]);
            gradients.register::<Cpu>(node.id, tensor(gradient, &shape));
        }
    }
}
