//! The gradient of a convolution's weight.
//!
//! It is one matrix product, `[outputs, pixels] · [pixels, kernel² · inputs]`, whose sum runs over all pixels of a batch
//! and whose result is small: half a million times 32 by 243 in the first layer. Burn's kernel gives each tile of the
//! result to one cube, and a dozen cubes leave a large card idle. Here the sum is cut into parts, each a product of its
//! own in one batched product, and the parts are added up.
//!
//! (On the software card of `tests/card` one of the kernels that Burn chooses from, CubeK 0.2's cyclic one for tensor
//! cores, left out taps for some sizes. Whether a real card does is not known.)
//!
//! All tensors here are channels last, `[batch, height, width, channels]`.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::std::FastDivmod;

use super::forward::{addresses, empty};
use super::grid::{Extent, LINE, cubes};
use super::rows::{Place, SPREAD, in_parts, rows_of, spread_out};
use crate::backend::product::{WHOLE, most_parts};

/// `[outputs, kernel, kernel, inputs]` in the float type of `input`, which has its border.
///
/// What each pixel of the output saw is spread out in memory, `kernel² · inputs` values; where there are fewer outputs
/// than inputs and the stride is 1, it is what each pixel of the input was seen by, `kernel² · outputs` values.
pub(super) fn gradient<R: CubeRuntime>(
    input: &CubeTensor<R>,
    upstream: &CubeTensor<R>,
    kernel: usize,
    stride: usize,
) -> CubeTensor<R> {
    let (inputs, outputs) = (Extent::of(input).channels, Extent::of(upstream).channels);
    let seen_by = stride == 1 && outputs < inputs;
    let (flat, spread) = if seen_by { (input, upstream) } else { (upstream, input) };
    let rows = Extent::of(flat);
    let pixels = rows.batch * rows.pixels();
    let columns = kernel * kernel * Extent::of(spread).channels;

    let most = (SPREAD / (columns * input.dtype.size())).max(512);
    let total = empty(input, &[outputs, kernel, kernel, inputs], DType::F32);
    let mut first = 0;
    while first < pixels {
        let count = (pixels - first).min(most);
        let parts = most_parts(count, 1, [rows.channels, columns]);
        // The rows beyond the last pixel are zeros.
        let part = count.div_ceil(parts).next_multiple_of(WHOLE);
        let place = Place { rows, first, count, total: parts * part };
        let left = rows_of(flat, place);
        let right = spread_out(spread, place, kernel, stride, seen_by);
        let product = matmul(
            in_parts(left, parts, true),
            in_parts(right, parts, false),
            None,
            MatmulStrategy::default(),
            DType::F32,
        );
        add_parts(&product.expect("the product of two batches of matrices"), &total, first > 0, seen_by);
        first += count;
    }
    if input.dtype == DType::F32 { total } else { cast(total, input.dtype) }
}

/// Adds up the parts `[parts, rows, columns]`, onto `total` or as its first values.
fn add_parts<R: CubeRuntime>(parts: &CubeTensor<R>, total: &CubeTensor<R>, onto: bool, seen_by: bool) {
    let [outputs, kernel, _, inputs] = total.meta.shape().dims();
    let values = outputs * kernel * kernel * inputs;
    // SAFETY: a unit below `values` reads its value's place of each part, and writes its value.
    unsafe {
        add_kernel::launch_unchecked(
            &parts.client,
            cubes(values),
            CubeDim::new_1d(LINE),
            addresses(&[parts, total]),
            parts.clone().into_tensor_arg(),
            total.clone().into_tensor_arg(),
            inputs as u32,
            kernel as u32,
            outputs as u32,
            values as u32,
            onto,
            seen_by,
        );
    }
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn add_kernel(
    parts: &Tensor<f32>,
    total: &mut Tensor<f32>,
    inputs: FastDivmod<u32>,
    kernel: FastDivmod<u32>,
    outputs: u32,
    values: u32,
    #[comptime] onto: bool,
    #[comptime] seen_by: bool,
) {
    let unit = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM_X + UNIT_POS_X;
    if unit < values {
        let (rest, input) = inputs.div_mod(unit);
        let (rest, right) = kernel.div_mod(rest);
        let (output, down) = kernel.div_mod(rest);
        let side = total.shape(1) as u32;
        let tap = down * side + right;
        let mut row = output;
        let mut column = tap * total.shape(3) as u32 + input;
        if comptime![seen_by] {
            row = input;
            column = tap * outputs + output;
        }
        let at = row as usize * parts.stride(1) + column as usize * parts.stride(2);
        let mut sum = 0.0f32;
        for part in 0..parts.shape(0) {
            sum += parts[at + part * parts.stride(0)];
        }
        let place = output as usize * total.stride(0)
            + down as usize * total.stride(1)
            + right as usize * total.stride(2)
            + input as usize * total.stride(3);
        if comptime![onto] {
            sum += total[place];
        }
        total[place] = sum;
    }
}
