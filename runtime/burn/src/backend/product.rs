//! Matrix products that come out right on every backend.
//!
//! Burn 0.21's kernels for GPUs (CubeK 0.2) that load a stage of the sum while they multiply the one before take stages
//! in pairs, and look for the matrix's end only where the sum's length is no multiple of one stage. Where it is an odd
//! multiple they add up a stage that lies behind the matrices: the next of the batch, or whatever the memory holds
//! (tracel-ai/cubek, issue 434, mended in 441 and 443 for CubeK 0.3). Stages have 2 to 32 elements. Which kernel runs is
//! found by timing, so the same product may be right one day and wrong the next.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// `left · right`.
///
/// On a GPU the axis summed over is made longer by zeros where its length is among the dangerous ones. Products that
/// differentiation adds sum over the other axes, and are as Burn has them.
///
/// # Shapes
/// - left: `[…, rows, length]`
/// - right: `[…, length, columns]`
/// - output: `[…, rows, columns]`
pub fn matmul<B: Backend, const D: usize>(left: Tensor<B, D>, right: Tensor<B, D>) -> Tensor<B, D> {
    lengthened(left, D - 1).matmul(lengthened(right, D - 2))
}

/// Whether this tensor lives on a GPU.
pub(crate) fn is_on_gpu<B: Backend, const D: usize>(_tensor: &Tensor<B, D>) -> bool {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    let found = super::gpu::is_gpu::<B>();
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    let found = false;
    found
}

/// Sums of such a length, or a multiple of it, have whole pairs of stages.
pub(crate) const WHOLE: usize = 64;

/// The length itself where every kernel looks for the end: stages are powers of two up to half of [`WHOLE`]. Else the next
/// that is whole.
pub(crate) fn safe(length: usize) -> usize {
    if length.is_multiple_of(2) || length == 1 { length.next_multiple_of(WHOLE) } else { length }
}

/// A tensor with zeros at the end of the axis that is to be summed over, where a GPU needs them.
pub(crate) fn lengthened<B: Backend, const D: usize>(tensor: Tensor<B, D>, axis: usize) -> Tensor<B, D> {
    let mut shape = tensor.dims();
    shape[axis] = safe(shape[axis]) - shape[axis];
    if shape[axis] == 0 || !is_on_gpu(&tensor) {
        return tensor;
    }
    let zeros = Tensor::zeros(shape, (&tensor.device(), tensor.dtype()));
    Tensor::cat(vec![tensor, zeros], axis)
}

/// How many parts a product's sum may be cut into, each a product of its own: a kernel gives each tile of the result to
/// one of a GPU's multiprocessors, and a result of a few tiles keeps few of them busy.
pub(crate) fn most_parts(length: usize, batch: usize, [rows, columns]: [usize; 2]) -> usize {
    /// Elements of a part, at least.
    const PART: usize = 512;
    /// Tiles of all parts together that keep a large card busy.
    const BUSY: usize = 512;
    /// A tile's side, about.
    const TILE: usize = 64;
    let tiles = batch * rows.div_ceil(TILE) * columns.div_ceil(TILE);
    (BUSY / tiles).min(length / PART).max(1)
}

/// `left ᵀ · right` for two matrices `[batch, length, columns]`: a long sum is cut into parts.
pub(crate) fn turned_matmul<B: Backend>(left: Tensor<B, 3>, right: Tensor<B, 3>) -> Tensor<B, 3> {
    let ([batch, length, rows], [_, _, columns]) = (left.dims(), right.dims());
    let most = most_parts(length, batch, [rows, columns]);
    let fits = |parts: &usize| length.is_multiple_of(*parts) && safe(length / parts) == length / parts;
    let parts = (1..=most).rev().find(fits).unwrap_or(1);
    let left = left.reshape([batch * parts, length / parts, rows]).swap_dims(1, 2);
    let products = matmul(left, right.reshape([batch * parts, length / parts, columns]));
    if parts == 1 {
        return products;
    }
    products.reshape([batch, parts, rows, columns]).sum_dim(1).reshape([batch, rows, columns])
}

/// A convolution with a kernel of one pixel, which is a product; its gradients are products that are safe, too.
///
/// # Shapes
/// - input: `[batch, inputs, height, width]`
/// - weight: `[outputs, inputs, 1, 1]`
/// - output: `[batch, outputs, height, width]`
pub(crate) fn pointwise<B: Backend>(input: Tensor<B, 4>, weight: Tensor<B, 4>) -> Tensor<B, 4> {
    let ([batch, inputs, height, width], [outputs, ..]) = (input.dims(), weight.dims());
    let pixels = batch * height * width;
    // The gradients' products sum over the pixels and over the outputs.
    let rows = lengthened(input.permute([0, 2, 3, 1]).reshape([pixels, inputs]), 0);
    let weight = lengthened(weight.reshape([outputs, inputs]), 0).swap_dims(0, 1);
    let output = matmul(rows, weight).narrow(0, 0, pixels).narrow(1, 0, outputs);
    output.reshape([batch, height, width, outputs]).permute([0, 3, 1, 2])
}
