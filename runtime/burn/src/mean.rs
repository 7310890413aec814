//! Means over many values.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The mean of each plane: row by row, then over the rows. Through wgpu (Mesa's llvmpipe, CubeCL 0.10) a sum along an
/// axis of 65,536 values came out 0.2 % off, one of 262,144 as 0. `Tensor::mean` takes a picture's axes one after the
/// other by itself; a plane must not be flattened before it.
///
/// # Shapes
/// - planes: `[batch, channels, height, width]`
/// - output: `[batch, channels, 1, 1]`
pub(crate) fn plane_mean<B: Backend>(planes: Tensor<B, 4>) -> Tensor<B, 4> {
    planes.mean_dim(3).mean_dim(2)
}
