//! The gradient of a convolution's weight.
//!
//! It is one matrix product, `[outputs, pixels] · [pixels, kernel² · inputs]`, whose sum runs over all pixels of a batch
//! and whose result is small: half a million times 32 by 243 in the first layer. Burn's kernel gives each tile of the
//! result to one cube, and a dozen cubes leave a large card idle. Here the sum is cut into parts, each a product of its
//! own in one batched product, and the parts are added up.
//!
//! All tensors here are channels last, `[batch, height, width, channels]`.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::cast;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::std::FastDivmod;
use cubecl::zspace::metadata::Metadata;

use super::forward::{addresses, empty};
use super::grid::{Extent, LINE, cubes, vector};

/// Fewer pixels than this are not worth cutting.
const FEWEST: usize = 2048;
/// Pixels of a part, at least.
const PART: usize = 512;
/// Tiles of all parts together that keep a large card busy.
const TILES: usize = 512;
/// A tile's side, about.
const TILE: usize = 64;
/// Bytes that are spread out at a time, about. In tests so few that it is done several times.
const SPREAD: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// Whether the sum is to be cut: where it is long, and not on CUDA, where this has not passed its test yet (there the
/// test alone takes it).
pub(super) fn is_cut<R: CubeRuntime>(upstream: &CubeTensor<R>) -> bool {
    let size = Extent::of(upstream);
    let passed = cfg!(test) || R::name(&upstream.client) != "cuda";
    passed && size.batch * size.pixels() >= FEWEST
}

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

    let tiles = rows.channels.div_ceil(TILE) * columns.div_ceil(TILE);
    let most = (SPREAD / (columns * input.dtype.size())).max(PART);
    let total = empty(input, &[outputs, kernel, kernel, inputs], DType::F32);
    let mut first = 0;
    while first < pixels {
        let count = (pixels - first).min(most);
        let parts = (TILES / tiles).min(count / PART).max(1);
        // Rows that vectors and tensor cores like; those beyond the last pixel are zeros.
        let part = count.div_ceil(parts).next_multiple_of(16);
        let place = Place { rows, first, count, parts, part };
        // Both row by row in memory, as products are most used (and tested) in the crates below.
        let left = turned(flat, place);
        let right = spread_out(spread, place, kernel, stride, seen_by);
        let product = matmul(left, right, None, MatmulStrategy::default(), DType::F32);
        add_parts(&product.expect("the product of two batches of matrices"), &total, first > 0, seen_by);
        first += count;
    }
    if input.dtype == DType::F32 { total } else { cast(total, input.dtype) }
}

/// Some of the pixels of a batch.
#[derive(Clone, Copy)]
struct Place {
    rows: Extent,
    first: usize,
    count: usize,
    parts: usize,
    /// Pixels of a part, with the zeros after the last.
    part: usize,
}

/// The channels of a place's pixels: `[parts, channels, part]`.
fn turned<R: CubeRuntime>(source: &CubeTensor<R>, place: Place) -> CubeTensor<R> {
    let channels = place.rows.channels;
    let output = empty(source, &[place.parts, channels, place.part], source.dtype);
    let values = place.parts * channels * place.part;
    // SAFETY: a unit below `values` writes its value, and reads a pixel below `first + count`.
    unsafe {
        turn_kernel::launch_unchecked(
            &source.client,
            cubes(values),
            CubeDim::new_1d(LINE),
            addresses(&[source, &output]),
            source.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            place.part as u32,
            channels as u32,
            place.rows.height as u32,
            place.rows.width as u32,
            place.first as u32,
            place.count as u32,
            values as u32,
            source.dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn turn_kernel<F: Float>(
    source: &Tensor<F>,
    output: &mut Tensor<F>,
    part: FastDivmod<u32>,
    channels: FastDivmod<u32>,
    height: FastDivmod<u32>,
    width: FastDivmod<u32>,
    first: u32,
    count: u32,
    values: u32,
    #[define(F)] _dtype: StorageType,
) {
    let unit = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM_X + UNIT_POS_X;
    if unit < values {
        let (rest, within) = part.div_mod(unit);
        let (number, channel) = channels.div_mod(rest);
        let row = number * output.shape(2) as u32 + within;
        let mut value = F::cast_from(0.0f32);
        if row < count {
            let (line, x) = width.div_mod(first + row);
            let (batch, y) = height.div_mod(line);
            let at = batch as usize * source.stride(0)
                + y as usize * source.stride(1)
                + x as usize * source.stride(2)
                + channel as usize * source.stride(3);
            value = source[at];
        }
        let at = number as usize * output.stride(0)
            + channel as usize * output.stride(1)
            + within as usize * output.stride(2);
        output[at] = value;
    }
}

/// A row for each of a place's pixels, `[parts, part, kernel² · channels]`: what a kernel that begins there sees of
/// `source`, or the pixels of `source` whose kernels see it.
fn spread_out<R: CubeRuntime>(
    source: &CubeTensor<R>,
    place: Place,
    kernel: usize,
    stride: usize,
    seen_by: bool,
) -> CubeTensor<R> {
    let channels = Extent::of(source).channels;
    let total = place.parts * place.part;
    let mut output = empty(source, &[1, 1, total, kernel * kernel * channels], source.dtype);
    let vector = vector(&[source, &output]);
    let columns = kernel * kernel * channels / vector;
    // SAFETY: a unit below `total · columns` writes its vector, and reads `source` inside it: where the kernel begins at
    // a pixel of the convolution's output it is inside by the output's size, else it is asked.
    unsafe {
        spread_kernel::launch_unchecked(
            &source.client,
            cubes(total * columns),
            CubeDim::new_1d(LINE),
            addresses(&[source, &output]),
            vector,
            source.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            columns as u32,
            (channels / vector) as u32,
            place.rows.height as u32,
            place.rows.width as u32,
            place.first as u32,
            place.count as u32,
            total as u32,
            kernel as u32,
            stride as u32,
            seen_by,
            source.dtype.into(),
        );
    }
    let stride = output.meta.strides()[2];
    *output.meta = Metadata::new(
        [place.parts, place.part, kernel * kernel * channels],
        [place.part * stride, stride, 1],
    );
    output
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn spread_kernel<F: Float, N: Size>(
    source: &Tensor<Vector<F, N>>,
    output: &mut Tensor<Vector<F, N>>,
    columns: FastDivmod<u32>,
    groups: FastDivmod<u32>,
    height: FastDivmod<u32>,
    width: FastDivmod<u32>,
    first: u32,
    count: u32,
    total: u32,
    #[comptime] kernel: u32,
    #[comptime] stride: u32,
    #[comptime] seen_by: bool,
    #[define(F)] _dtype: StorageType,
) {
    let vector = source.vector_size();
    let unit = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM_X + UNIT_POS_X;
    let (row, column) = columns.div_mod(unit);
    if row < total {
        let (tap, group) = groups.div_mod(column);
        let (down, right) = (tap / kernel, tap % kernel);
        let mut value = Vector::<F, N>::cast_from(0.0f32);
        if row < count {
            let (line, x) = width.div_mod(first + row);
            let (batch, y) = height.div_mod(line);
            let mut at_y = y * stride + down;
            let mut at_x = x * stride + right;
            let mut inside = true.runtime();
            if comptime![seen_by] {
                inside = y >= down
                    && x >= right
                    && y - down < source.shape(1) as u32
                    && x - right < source.shape(2) as u32;
                at_y = y - down;
                at_x = x - right;
            }
            if inside {
                let at = batch as usize * source.stride(0)
                    + at_y as usize * source.stride(1)
                    + at_x as usize * source.stride(2)
                    + group as usize * vector * source.stride(3);
                value = source[at / vector];
            }
        }
        output[(row as usize * output.stride(2) + column as usize * vector) / vector] = value;
    }
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
