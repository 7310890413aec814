//! The gradient of a convolution's input.
//!
//! With stride 1 it is a convolution itself: of the upstream gradient with zeros around it, by the kernel turned around.
//! With more it is one matrix product, `[pixels, outputs] · [outputs, kernel² · inputs]`: what each pixel of the output
//! tells each of the pixels that it saw. A pixel of the input then adds up what it is told.
//!
//! Burn's own kernels do not look for the edge of the upstream gradient where the convolution has no padding (CubeK 0.2
//! looks for it where there is some), and are wrong then; its other way goes through a product that may not be safe (see
//! `backend/product.rs`).
//!
//! All tensors here are channels last, `[batch, height, width, channels]`.

use burn::tensor::ops::ConvOptions;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::std::FastDivmod;
use cubecl::zspace::metadata::Metadata;

use super::forward::{addresses, empty};
use super::grid::{Deal, Extent, Grid, LINE, cubes, index, vector};
use super::half;
use super::rows::{Place, SPREAD, in_parts, one_matrix, rows_of, widened};
use crate::backend::product::safe;

/// `[batch, height, width, inputs]` with the `size` of the input, its border included, in the float type of `upstream`;
/// `weight` is `[outputs, kernel, kernel, inputs]`, `padding` zeros were around the input.
pub(super) fn gradient<R: CubeRuntime>(
    upstream: &CubeTensor<R>,
    weight: CubeTensor<R>,
    size: [usize; 2],
    [stride, padding]: [usize; 2],
) -> CubeTensor<R> {
    if stride > 1 {
        debug_assert_eq!(padding, 0, "a border of zeros comes with stride 1 only");
        return added_up(upstream, weight, size, stride);
    }
    let kernel = weight.meta.shape()[1];
    let options = ConvOptions::new([1; 2], [kernel - 1 - padding; 2], [1; 2], 1);
    half::convolution(upstream.clone(), turned(&weight), options)
}

/// `[outputs, kernel, kernel, inputs]` as `[inputs, kernel, kernel, outputs]`, its rows and columns in reverse.
fn turned<R: CubeRuntime>(weight: &CubeTensor<R>) -> CubeTensor<R> {
    let [outputs, kernel, _, inputs] = weight.meta.shape().dims();
    let output = empty(weight, &[inputs, kernel, kernel, outputs], weight.dtype);
    // SAFETY: a unit below the number of values writes its value, and reads one of the same number of values.
    unsafe {
        turn_kernel::launch_unchecked(
            &weight.client,
            cubes(outputs * kernel * kernel * inputs),
            CubeDim::new_1d(LINE),
            addresses(&[weight, &output]),
            weight.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            outputs as u32,
            kernel as u32,
            inputs as u32,
            weight.dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn turn_kernel<F: Float>(
    weight: &Tensor<F>,
    output: &mut Tensor<F>,
    outputs: FastDivmod<u32>,
    kernel: FastDivmod<u32>,
    inputs: u32,
    #[define(F)] _dtype: StorageType,
) {
    let unit = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM_X + UNIT_POS_X;
    let (rest, to) = outputs.div_mod(unit);
    let (rest, right) = kernel.div_mod(rest);
    let (from, down) = kernel.div_mod(rest);
    if from < inputs {
        let last = output.shape(1) as u32 - 1;
        let value = weight[index(weight, to as usize, last - down, last - right, from as usize)];
        let at = index(output, from as usize, down, right, to as usize);
        output[at] = value;
    }
}

/// The gradient by a product and what each pixel is told by it.
fn added_up<R: CubeRuntime>(
    upstream: &CubeTensor<R>,
    weight: CubeTensor<R>,
    [height, width]: [usize; 2],
    stride: usize,
) -> CubeTensor<R> {
    let [outputs, kernel, _, inputs] = weight.meta.shape().dims();
    let rows = Extent::of(upstream);
    let columns = kernel * kernel * inputs;
    let long = safe(outputs);
    let mut weight = into_contiguous(weight);
    *weight.meta = one_matrix(outputs, columns);
    let weight = in_parts(widened(weight, [long, columns]), 1, false);

    let output = empty(upstream, &[rows.batch, height, width, inputs], upstream.dtype);
    let most = (SPREAD / (rows.pixels() * columns * upstream.dtype.size())).max(1);
    for first in (0..rows.batch).step_by(most) {
        let batch = most.min(rows.batch - first);
        let count = batch * rows.pixels();
        let pixels = rows_of(upstream, Place { rows, first: first * rows.pixels(), count, total: count });
        let pixels = in_parts(widened(pixels, [count, long]), 1, false);
        let told = matmul(pixels, weight.clone(), None, MatmulStrategy::default(), upstream.dtype);
        let told = told.expect("the product of two matrices");
        gather(&told, &output, Extent { batch, ..rows }, first, [kernel, stride]);
    }
    output
}

/// Adds up, for the pictures from `first` on, what their pixels are told, `[1, pixels, kernel² · inputs]`.
fn gather<R: CubeRuntime>(
    told: &CubeTensor<R>,
    output: &CubeTensor<R>,
    rows: Extent,
    first: usize,
    [kernel, stride]: [usize; 2],
) {
    let size = Extent { batch: rows.batch, ..Extent::of(output) };
    // With a batch's shape its vectors are those along the channels.
    let mut told = told.clone();
    let line = told.meta.strides()[1];
    let taps = kernel * kernel;
    *told.meta = Metadata::new(
        [rows.batch * rows.height, rows.width, taps, size.channels],
        [rows.width * line, line, size.channels, 1],
    );
    let grid = Grid::mapping(size, vector(&[&told, output]));
    // SAFETY: units write pixels below `pixels` of channels below `channels` of pictures below `first + batch`, and read
    // taps of rows and columns that are asked to be there.
    unsafe {
        gather_kernel::launch_unchecked(
            &output.client,
            grid.count(),
            grid.units(),
            addresses(&[&told, output]),
            grid.vector,
            told.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            grid.deal(size),
            first as u32,
            rows.height as u32,
            kernel as u32,
            stride as u32,
            output.dtype.into(),
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gather_kernel<F: Float, N: Size>(
    told: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<F, N>>,
    deal: &Deal,
    first: u32,
    height: u32,
    #[comptime] kernel: u32,
    #[comptime] stride: u32,
    #[define(F)] _dtype: StorageType,
) {
    let (picture, channel) = (deal.picture(), deal.channel(told.vector_size()));
    if channel < output.shape(3) {
        let columns = told.shape(1) as u32;
        let (start, end) = deal.pixels();
        for pixel in range_stepped(start, end, deal.rows as u32) {
            let (y, x) = deal.place(pixel);
            let mut sum = Vector::<f32, N>::new(0.0);
            #[unroll]
            for down in 0..kernel {
                // Where the kernel's row `down` lies on row y, it begins at y − down: a multiple of the stride.
                let row = (y - down) / stride;
                if y >= down && (y - down) % stride == 0 && row < height {
                    #[unroll]
                    for right in 0..kernel {
                        let column = (x - right) / stride;
                        if x >= right && (x - right) % stride == 0 && column < columns {
                            let line = picture * height as usize + row as usize;
                            let at = index(told, line, column, down * kernel + right, channel);
                            sum += Vector::<f32, N>::cast_from(told[at]);
                        }
                    }
                }
            }
            let at = index(output, first as usize + picture, y, x, channel);
            output[at] = Vector::cast_from(sum);
        }
    }
}
