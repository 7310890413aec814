//! A GPU's own kernels behind Burn's tensors, differentiable, for every GPU that CubeCL compiles for.
//!
//! Burn's operations pass over a picture many times between two convolutions: instance norm reads it four times, a
//! reflected border copies it twice, doubling and ReLU once more each, and the convolution, which keeps its channels
//! last, turns the result around before it begins. Here it is read twice (statistics, then everything else) and
//! written once, with its border and channels last, ready for the next convolution.
//!
//! The functions here take a tensor of any backend and answer `None` unless it lives on a GPU (as [`Cuda`](super::Cuda)
//! or [`Wgpu`](super::Wgpu), or `Autodiff` of these): then the caller takes Burn's operations.

mod backward;
mod border;
mod bytes;
mod forward;
mod grid;
mod half;
mod input;
mod rows;
mod stream;
mod weight;

use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::{Backend, BackendTypes};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Int, Tensor, TensorPrimitive};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::conv::{ConvStrategy, conv_weight_backward};
use burn_cubecl::ops::{permute_nchw_to_nhwc, permute_nhwc_to_nchw};

pub(crate) use border::Border;
use stream::{Waiting, enqueue};

/// A GPU's backend.
trait Gpu: Backend<FloatTensorPrimitive = Waiting<<Self as Gpu>::Runtime>> {
    /// What compiles and runs its kernels.
    type Runtime: CubeRuntime;
}

#[cfg(feature = "cuda")]
impl Gpu for super::Cuda {
    type Runtime = cubecl::cuda::CudaRuntime;
}

#[cfg(feature = "wgpu")]
impl Gpu for super::Wgpu {
    type Runtime = cubecl::wgpu::WgpuRuntime;
}

/// A tensor of `Autodiff<G>`.
type Tracked<G> = <Autodiff<G> as BackendTypes>::FloatTensorPrimitive;

/// Whether a tensor of this backend has kernels here.
pub(crate) fn is_gpu<B: Backend>() -> bool {
    fn same<B: Backend, G: Gpu>() -> bool {
        let own = TypeId::of::<B::FloatTensorPrimitive>();
        own == TypeId::of::<Waiting<G::Runtime>>() || own == TypeId::of::<Tracked<G>>()
    }
    let mut found = false;
    #[cfg(feature = "cuda")]
    {
        found |= same::<B, super::Cuda>();
    }
    #[cfg(feature = "wgpu")]
    {
        found |= same::<B, super::Wgpu>();
    }
    found
}

/// Something to do with tensors of a GPU, `[batch, channels, height, width]` as everywhere in Burn.
trait Operation<const N: usize>: Clone + Send + Sync + fmt::Debug + 'static {
    /// As many of the first inputs are kept for the backward pass.
    const KEPT: usize;

    /// Does it, and gives what else the backward pass needs.
    fn forward<R: CubeRuntime>(&self, inputs: [Waiting<R>; N]) -> (Waiting<R>, Option<Waiting<R>>);

    /// The gradients of those inputs for which one is `wanted`; of others as it comes.
    fn backward<R: CubeRuntime>(
        &self,
        inputs: Vec<Waiting<R>>,
        kept: Option<Waiting<R>>,
        upstream: Waiting<R>,
        wanted: [bool; N],
    ) -> [Option<Waiting<R>>; N];
}

/// Does an operation where the inputs live.
fn dispatch<B: Backend, O: Operation<N>, const N: usize>(
    operation: &O,
    inputs: [B::FloatTensorPrimitive; N],
) -> Option<Tensor<B, 4>> {
    fn on<G: Gpu, O: Operation<N>, const N: usize>(
        operation: &O,
        inputs: Box<dyn Any>,
    ) -> Result<Box<dyn Any>, Box<dyn Any>> {
        let inputs = match inputs.downcast::<[Waiting<G::Runtime>; N]>() {
            Ok(inputs) => return Ok(Box::new(operation.forward(*inputs).0)),
            Err(inputs) => inputs,
        };
        let inputs = *inputs.downcast::<[Tracked<G>; N]>()?;
        Ok(Box::new(tracked::<G, O, N>(operation.clone(), inputs)))
    }
    let inputs: Result<Box<dyn Any>, Box<dyn Any>> = Err(Box::new(inputs));
    #[cfg(feature = "cuda")]
    let inputs = inputs.or_else(|inputs| on::<super::Cuda, O, N>(operation, inputs));
    #[cfg(feature = "wgpu")]
    let inputs = inputs.or_else(|inputs| on::<super::Wgpu, O, N>(operation, inputs));
    let output = inputs.ok()?.downcast::<B::FloatTensorPrimitive>().ok()?;
    Some(Tensor::from_primitive(TensorPrimitive::Float(*output)))
}

/// An operation in the graph of its inputs.
fn tracked<G: Gpu, O: Operation<N>, const N: usize>(operation: O, inputs: [Tracked<G>; N]) -> Tracked<G> {
    let plain = inputs.each_ref().map(|input| input.primitive.clone());
    let first = plain[..O::KEPT].to_vec();
    let (output, kept) = operation.forward(plain);
    let nodes = inputs.map(|input| input.node);
    match Step(PhantomData::<O>).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(State { operation, inputs: first, kept }, output),
        OpsKind::UnTracked(step) => step.finish(output),
    }
}

#[derive(Debug)]
struct Step<O>(PhantomData<O>);

#[derive(Clone, Debug)]
struct State<O, R: CubeRuntime> {
    operation: O,
    inputs: Vec<Waiting<R>>,
    kept: Option<Waiting<R>>,
}

impl<G: Gpu, O: Operation<N>, const N: usize> Backward<G, N> for Step<O> {
    type State = State<O, G::Runtime>;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<G>(&ops.node);
        let State { operation, inputs, kept } = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = operation.backward(inputs, kept, upstream, wanted);
        for (node, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                gradients.register::<G>(node.id, gradient);
            }
        }
    }
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

/// What follows a norm at once.
pub(crate) enum After<'a, B: Backend> {
    Nothing,
    Relu,
    /// A tensor of the norm's shape is added, which has this border around it.
    Sum(&'a Tensor<B, 4>, Border),
}

/// `(x − mean) / √(variance + ε) · weight + bias` and what follows it, doubled and with its border.
///
/// Mean and biased variance are over each picture's channel, and f32 like all arithmetic here.
///
/// # Shapes
/// - input: `[batch, channels, height, width]`
/// - weight, bias: `[channels]`
/// - output: the border around the input
pub(crate) fn norm<B: Backend>(
    input: &Tensor<B, 4>,
    [weight, bias]: [&Tensor<B, 1>; 2],
    epsilon: f32,
    after: After<'_, B>,
    border: Border,
) -> Option<Tensor<B, 4>> {
    if !is_gpu::<B>() {
        return None;
    }
    let full = |tensor: &Tensor<B, 1>| match tensor.dtype() {
        DType::F32 => primitive(tensor.clone()),
        _ => primitive(tensor.clone().cast(DType::F32)),
    };
    let relu = matches!(after, After::Relu);
    let around = match &after {
        After::Sum(_, around) => *around,
        After::Nothing | After::Relu => Border::NONE,
    };
    let operation = Normalize { epsilon, relu, around, border };
    let [input, weight, bias] = [primitive(input.clone()), full(weight), full(bias)];
    match after {
        After::Nothing | After::Relu => dispatch(&operation, [input, weight, bias]),
        After::Sum(other, _) => dispatch(&operation, [input, weight, bias, primitive(other.clone())]),
    }
}

#[derive(Clone, Debug)]
struct Normalize {
    epsilon: f32,
    relu: bool,
    /// Around what is added.
    around: Border,
    border: Border,
}

/// Input, weight, bias, and perhaps what is added (then there is no ReLU).
impl<const N: usize> Operation<N> for Normalize {
    const KEPT: usize = 3;

    fn forward<R: CubeRuntime>(&self, inputs: [Waiting<R>; N]) -> (Waiting<R>, Option<Waiting<R>>) {
        let Normalize { epsilon, relu, around, border } = *self;
        let [batch, channels, height, width] = inputs[0].shape.dims();
        let dtype = inputs[0].dtype;
        let [tall, wide] = border.around([height, width]);
        let outputs = [(vec![batch, channels, tall, wide], dtype), (vec![2, batch, channels], DType::F32)];
        let [output, statistics] = enqueue("impasto norm", inputs, outputs, move |inputs| {
            let [input, weight, bias] = [0, 1, 2].map(|at| inputs[at].clone());
            let input = permute_nchw_to_nhwc(input);
            let skip = inputs.get(3).cloned().map(permute_nchw_to_nhwc);
            let statistics = forward::statistics(&input, epsilon);
            let norm = forward::Norm { statistics: &statistics, weight: &weight, bias: &bias, relu };
            let skip = skip.as_ref().map(|skip| (skip, &around));
            let output = forward::normalized(&input, &norm, skip, &border, dtype);
            [permute_nhwc_to_nchw(output), statistics]
        });
        (output, Some(statistics))
    }

    fn backward<R: CubeRuntime>(
        &self,
        inputs: Vec<Waiting<R>>,
        kept: Option<Waiting<R>>,
        upstream: Waiting<R>,
        _: [bool; N],
    ) -> [Option<Waiting<R>>; N] {
        let Normalize { relu, around, border, .. } = *self;
        let statistics = kept.expect("the forward pass kept them");
        let [batch, channels, height, width] = inputs[0].shape.dims();
        let dtype = inputs[0].dtype;
        let of_channel = (vec![channels], DType::F32);
        let [tall, wide] = around.around([height, width]);
        let outputs = [
            (vec![batch, channels, height, width], dtype),
            of_channel.clone(),
            of_channel,
            (vec![batch, channels, tall, wide], dtype),
        ];
        let [input, weight, bias] = inputs.try_into().expect("as many as are kept");
        let inputs = [input, statistics, weight, bias, upstream];
        let found = enqueue("impasto norm backward", inputs, outputs, move |inputs| {
            let [input, statistics, weight, bias, upstream] = inputs;
            let (input, upstream) = (permute_nchw_to_nhwc(input), permute_nchw_to_nhwc(upstream));
            let norm = forward::Norm { statistics: &statistics, weight: &weight, bias: &bias, relu };
            let found = backward::normalized(&input, &norm, &upstream, &border);
            // Nothing is learnt about the border of what was added: it was not looked at.
            let zeros = Border { reflect: false, ..around };
            let summand = match zeros {
                Border::NONE => found.output,
                _ => forward::bordered(&found.output, &zeros, dtype),
            };
            [permute_nhwc_to_nchw(found.input), found.weight, found.bias, permute_nhwc_to_nchw(summand)]
        });
        std::array::from_fn(|at| Some(found[at].clone()))
    }
}

/// The picture doubled and with its border, channels last in memory, in the float type `compute`.
///
/// # Shapes
/// - input: `[batch, channels, height, width]`
/// - output: the border around it
pub(crate) fn border<B: Backend>(
    input: &Tensor<B, 4>,
    border: Border,
    compute: DType,
) -> Option<Tensor<B, 4>> {
    if !is_gpu::<B>() {
        return None;
    }
    let [_, _, height, width] = input.dims();
    let operation = Frame { border, size: [height, width], dtype: input.dtype(), compute };
    dispatch(&operation, [primitive(input.clone())])
}

#[derive(Clone, Debug)]
struct Frame {
    border: Border,
    size: [usize; 2],
    /// Of the input.
    dtype: DType,
    /// Of the output.
    compute: DType,
}

impl Operation<1> for Frame {
    const KEPT: usize = 0;

    fn forward<R: CubeRuntime>(&self, inputs: [Waiting<R>; 1]) -> (Waiting<R>, Option<Waiting<R>>) {
        let Frame { border, size, compute, .. } = *self;
        let [batch, channels, _, _] = inputs[0].shape.dims();
        let [tall, wide] = border.around(size);
        let [output] = enqueue(
            "impasto border",
            inputs,
            [(vec![batch, channels, tall, wide], compute)],
            move |[input]| {
                let output = forward::bordered(&permute_nchw_to_nhwc(input), &border, compute);
                [permute_nhwc_to_nchw(output)]
            },
        );
        (output, None)
    }

    fn backward<R: CubeRuntime>(
        &self,
        _: Vec<Waiting<R>>,
        _: Option<Waiting<R>>,
        upstream: Waiting<R>,
        _: [bool; 1],
    ) -> [Option<Waiting<R>>; 1] {
        let Frame { border, size, dtype, .. } = *self;
        let [batch, channels, _, _] = upstream.shape.dims();
        let [gradient] = enqueue(
            "impasto border backward",
            [upstream],
            [(vec![batch, channels, size[0], size[1]], dtype)],
            move |[upstream]| {
                let gradient = backward::bordered(&permute_nchw_to_nhwc(upstream), &border, size, dtype);
                [permute_nhwc_to_nchw(gradient)]
            },
        );
        [Some(gradient)]
    }
}

/// A convolution with gradients of our own, its sums in f32. `None` where Burn's is as good: in f32 where there is
/// nothing to differentiate or zeros are around the input.
///
/// # Shapes
/// - input: `[batch, inputs, height, width]`
/// - weight: `[outputs, inputs, kernel, kernel]`
/// - output: `[batch, outputs, (height + 2 · padding − kernel) / stride + 1, …]`
pub(crate) fn convolution<B: Backend>(
    input: &Tensor<B, 4>,
    weight: &Tensor<B, 4>,
    [stride, padding]: [usize; 2],
) -> Option<Tensor<B, 4>> {
    let bare = padding == 0 && B::ad_enabled(&input.device());
    if !is_gpu::<B>() || !(bare || half::is_half(input.dtype())) {
        return None;
    }
    let [_, _, height, width] = input.dims();
    let [.., kernel] = weight.dims();
    // What our own gradients are for.
    if padding > 0 && (stride > 1 || padding >= kernel) {
        return None;
    }
    let operation = Convolve { size: [height, width], kernel, stride, padding };
    dispatch(&operation, [primitive(input.clone()), primitive(weight.clone())])
}

#[derive(Clone, Debug)]
struct Convolve {
    /// Of the input.
    size: [usize; 2],
    kernel: usize,
    stride: usize,
    /// Zeros around the input.
    padding: usize,
}

impl Convolve {
    fn options(&self) -> ConvOptions<2> {
        ConvOptions::new([self.stride; 2], [self.padding; 2], [1; 2], 1)
    }
}

impl Operation<2> for Convolve {
    const KEPT: usize = 2;

    fn forward<R: CubeRuntime>(&self, inputs: [Waiting<R>; 2]) -> (Waiting<R>, Option<Waiting<R>>) {
        let [tall, wide] = self.size.map(|size| (size + 2 * self.padding - self.kernel) / self.stride + 1);
        let ([batch, ..], [outputs, ..]) = (inputs[0].shape.dims::<4>(), inputs[1].shape.dims::<4>());
        let shape = (vec![batch, outputs, tall, wide], inputs[0].dtype);
        let options = self.options();
        let [output] = enqueue("impasto convolution", inputs, [shape], move |inputs| {
            let [input, weight] = inputs.map(permute_nchw_to_nhwc);
            [permute_nhwc_to_nchw(half::convolution(input, weight, options.clone()))]
        });
        (output, None)
    }

    fn backward<R: CubeRuntime>(
        &self,
        inputs: Vec<Waiting<R>>,
        _: Option<Waiting<R>>,
        upstream: Waiting<R>,
        [of_input, of_weight]: [bool; 2],
    ) -> [Option<Waiting<R>>; 2] {
        let Convolve { size, kernel, stride, padding } = *self;
        let [input, weight]: [_; 2] = inputs.try_into().expect("as many as are kept");
        let shapes = [&input, &weight].map(|tensor: &Waiting<R>| (tensor.shape.to_vec(), tensor.dtype));
        let [input_shape, weight_shape] = shapes;
        let of_input = of_input.then(|| {
            let [gradient] = enqueue(
                "impasto convolution input",
                [upstream.clone(), weight],
                [input_shape],
                move |inputs| {
                    let [upstream, weight] = inputs.map(permute_nchw_to_nhwc);
                    [permute_nhwc_to_nchw(input::gradient(&upstream, weight, size, [stride, padding]))]
                },
            );
            gradient
        });
        let of_weight = of_weight.then(|| {
            let (options, shape) = (self.options(), weight_shape.0.clone());
            let [gradient] =
                enqueue("impasto convolution weight", [input, upstream], [weight_shape], move |inputs| {
                    let [input, upstream] = inputs;
                    if padding > 0 {
                        let (options, shape) = (options.clone(), shape.clone().into());
                        let gradient =
                            conv_weight_backward(input, upstream, shape, options, ConvStrategy::default());
                        return [gradient.expect("a gradient as Burn has them")];
                    }
                    let [input, upstream] = [input, upstream].map(permute_nchw_to_nhwc);
                    [permute_nhwc_to_nchw(weight::gradient(&input, &upstream, kernel, stride))]
                });
            gradient
        });
        [of_input, of_weight]
    }
}

/// Does `work` on a tensor of a GPU's backend itself (not `Autodiff` of it), where it lives.
fn plain<B: Backend>(input: Box<dyn Any>, work: impl PlainWork) -> Option<Box<dyn Any>> {
    fn on<B: Backend, G: Gpu>(
        input: Box<dyn Any>,
        work: &impl PlainWork,
    ) -> Result<Box<dyn Any>, Box<dyn Any>> {
        if TypeId::of::<B::FloatTensorPrimitive>() != TypeId::of::<Waiting<G::Runtime>>() {
            return Err(input);
        }
        let input = input.downcast::<Waiting<G::Runtime>>()?;
        Ok(Box::new(work.run(*input)))
    }
    let input: Result<Box<dyn Any>, Box<dyn Any>> = Err(input);
    #[cfg(feature = "cuda")]
    let input = input.or_else(|input| on::<B, super::Cuda>(input, &work));
    #[cfg(feature = "wgpu")]
    let input = input.or_else(|input| on::<B, super::Wgpu>(input, &work));
    input.ok()
}

trait PlainWork {
    fn run<R: CubeRuntime>(&self, input: Waiting<R>) -> Waiting<R>;
}

/// Pictures of bytes, four to a word.
///
/// # Shapes
/// - words: `[words]`, 32-bit
/// - output: `[batch, 3, height, width]`, f32, channels last in memory
pub(crate) fn unpack<B: Backend>(words: &Tensor<B, 1, Int>, size: [usize; 3]) -> Option<Tensor<B, 4>> {
    struct Unpack([usize; 3]);
    impl PlainWork for Unpack {
        fn run<R: CubeRuntime>(&self, input: Waiting<R>) -> Waiting<R> {
            let size @ [batch, height, width] = self.0;
            let outputs = [(vec![batch, 3, height, width], DType::F32)];
            let [output] = enqueue("impasto unpack", [input], outputs, move |[words]| {
                [permute_nhwc_to_nchw(bytes::unpacked(&words, size))]
            });
            output
        }
    }
    let output = plain::<B>(Box::new(words.clone().into_primitive()), Unpack(size))?;
    let output = output.downcast::<B::FloatTensorPrimitive>().ok()?;
    Some(Tensor::from_primitive(TensorPrimitive::Float(*output)))
}

/// A painting's bytes, four to a word: `⌊value + ½⌋` within 0..255.
///
/// # Shapes
/// - painted: `[1, 3, height, width]`
/// - output: `[words]`, 32-bit: of one axis, or it would come down row by row
pub(crate) fn pack<B: Backend>(painted: &Tensor<B, 4>) -> Option<Tensor<B, 1, Int>> {
    struct Pack(usize);
    impl PlainWork for Pack {
        fn run<R: CubeRuntime>(&self, input: Waiting<R>) -> Waiting<R> {
            let words = self.0;
            let outputs = [(vec![words], DType::I32)];
            let [output] = enqueue("impasto pack", [input], outputs, move |[painted]| {
                [bytes::packed(&permute_nchw_to_nhwc(painted), words)]
            });
            output
        }
    }
    let words = painted.dims().into_iter().product::<usize>().div_ceil(4);
    let output = plain::<B>(Box::new(primitive(painted.clone())), Pack(words))?;
    Some(Tensor::from_primitive(*output.downcast::<B::IntTensorPrimitive>().ok()?))
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
