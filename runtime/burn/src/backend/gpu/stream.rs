//! Work of our own in the stream of operations that Burn's fusion keeps: what comes before it is done first, and its
//! outputs are tensors like any.

use std::fmt;

use burn::tensor::{DType, Shape};
use burn_cubecl::fusion::FusionCubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use burn_fusion::stream::{Operation, OperationStreams};
use burn_fusion::{FusionRuntime, FusionTensor};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, OperationOutput, TensorIr};

/// A tensor that may still wait for the operations that make it.
pub(super) type Waiting<R> = FusionTensor<FusionCubeRuntime<R>>;

/// Does `work` on the inputs' memory when its turn comes. `outputs` says the shape and type of what it gives.
pub(super) fn enqueue<R: CubeRuntime, const I: usize, const O: usize>(
    name: &'static str,
    inputs: [Waiting<R>; I],
    outputs: [(Vec<usize>, DType); O],
    work: impl Fn([CubeTensor<R>; I]) -> [CubeTensor<R>; O] + Send + Sync + 'static,
) -> [Waiting<R>; O] {
    let client = inputs[0].client.clone();
    let streams = OperationStreams::with_inputs(inputs.iter());
    let outputs = outputs
        .map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), Shape::from(shape), dtype));
    let description = CustomOpIr::new(name, &inputs.map(FusionTensor::into_ir), &outputs);
    let operation = Turn { description: description.clone(), work };
    client.register(streams, OperationIr::Custom(description), operation).outputs()
}

/// Work that waits for its turn.
struct Turn<W, const I: usize, const O: usize> {
    description: CustomOpIr,
    work: W,
}

impl<W, const I: usize, const O: usize> fmt::Debug for Turn<W, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Turn").field(&self.description.id).finish()
    }
}

impl<R, W, const I: usize, const O: usize> Operation<FusionCubeRuntime<R>> for Turn<W, I, O>
where
    R: CubeRuntime,
    W: Fn([CubeTensor<R>; I]) -> [CubeTensor<R>; O] + Send + Sync,
{
    fn execute(&self, handles: &mut HandleContainer<<FusionCubeRuntime<R> as FusionRuntime>::FusionHandle>) {
        // The types of numbers and truths play no part: a handle says its own.
        type Inner<R> = CubeBackend<R, f32, i32, u32>;
        let (inputs, outputs) = self.description.as_fixed::<I, O>();
        let inputs = inputs.each_ref().map(|input| handles.get_float_tensor::<Inner<R>>(input));
        for (output, tensor) in outputs.iter().zip((self.work)(inputs)) {
            handles.register_float_tensor::<Inner<R>>(&output.id, tensor);
        }
    }
}
