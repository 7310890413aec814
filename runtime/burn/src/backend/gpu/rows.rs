//! Pixels as the rows of a matrix, for what of a convolution is a matrix product.
//!
//! Pictures are channels last, `[batch, height, width, channels]`; a matrix is `[1, 1, rows, columns]`.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::std::FastDivmod;
use cubecl::zspace::metadata::Metadata;

use super::forward::{addresses, empty};
use super::grid::{Extent, LINE, cubes, vector};

/// Bytes that are spread out at a time, about. In tests so few that it is done several times.
pub(super) const SPREAD: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// Some of the pixels of a batch.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub rows: Extent,
    pub first: usize,
    pub count: usize,
    /// With the zeros after them.
    pub total: usize,
}

/// The layout of a matrix whose rows follow each other in memory.
pub(super) fn one_matrix(rows: usize, columns: usize) -> Metadata {
    Metadata::new([1, 1, rows, columns], [rows * columns, rows * columns, columns, 1])
}

/// A matrix with a row for each pixel of `place`, its channels: `flat` itself where it lies in memory like that.
pub(super) fn rows_of<R: CubeRuntime>(flat: &CubeTensor<R>, place: Place) -> CubeTensor<R> {
    let Extent { batch, width, channels, .. } = place.rows;
    let pixels = place.rows.pixels();
    let strides = flat.meta.strides();
    let dense =
        strides[1..] == [width * channels, channels, 1] && (batch == 1 || strides[0] == pixels * channels);
    if !dense || place.total != batch * pixels {
        return spread_out(flat, place, 1, 1, false);
    }
    let mut view = flat.clone();
    *view.meta = one_matrix(place.total, channels);
    view
}

/// A matrix with a row for each pixel of `place`: what a kernel that begins there sees of `source`, or the pixels of
/// `source` whose kernels see it.
pub(super) fn spread_out<R: CubeRuntime>(
    source: &CubeTensor<R>,
    place: Place,
    kernel: usize,
    stride: usize,
    seen_by: bool,
) -> CubeTensor<R> {
    let channels = Extent::of(source).channels;
    let output = empty(source, &[1, 1, place.total, kernel * kernel * channels], source.dtype);
    let vector = vector(&[source, &output]);
    let columns = kernel * kernel * channels / vector;
    // SAFETY: a unit below `total · columns` writes its vector, and reads `source` inside it: where the kernel begins at
    // a pixel of the convolution's output it is inside by the output's size, else it is asked.
    unsafe {
        spread_kernel::launch_unchecked(
            &source.client,
            cubes(place.total * columns),
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
            place.total as u32,
            kernel as u32,
            stride as u32,
            seen_by,
            source.dtype.into(),
        );
    }
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

/// The rows as a batch of matrices, perhaps transposed.
pub(super) fn in_parts<R: CubeRuntime>(
    matrix: CubeTensor<R>,
    parts: usize,
    transposed: bool,
) -> CubeTensor<R> {
    let [_, _, rows, columns] = matrix.meta.shape().dims();
    let stride = matrix.meta.strides()[2];
    let part = rows / parts;
    let mut view = matrix;
    let (shape, strides) = match transposed {
        true => ([parts, columns, part], [part * stride, 1, stride]),
        false => ([parts, part, columns], [part * stride, stride, 1]),
    };
    *view.meta = Metadata::new(shape, strides);
    view
}

/// The matrix with zeros below its rows, or to the right of its columns, up to so many of them.
pub(super) fn widened<R: CubeRuntime>(matrix: CubeTensor<R>, [tall, wide]: [usize; 2]) -> CubeTensor<R> {
    let [_, _, rows, columns] = matrix.meta.shape().dims();
    if [rows, columns] == [tall, wide] {
        return matrix;
    }
    let output = empty(&matrix, &[1, 1, tall, wide], matrix.dtype);
    // SAFETY: a unit below `tall · wide` writes its value, and reads one of a row below `rows` and a column below
    // `columns`.
    unsafe {
        widen_kernel::launch_unchecked(
            &matrix.client,
            cubes(tall * wide),
            CubeDim::new_1d(LINE),
            addresses(&[&matrix, &output]),
            matrix.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            wide as u32,
            matrix.dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn widen_kernel<F: Float>(
    matrix: &Tensor<F>,
    output: &mut Tensor<F>,
    wide: FastDivmod<u32>,
    #[define(F)] _dtype: StorageType,
) {
    let unit = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM_X + UNIT_POS_X;
    let (row, column) = wide.div_mod(unit);
    if row < output.shape(2) as u32 {
        let (row, column) = (row as usize, column as usize);
        let mut value = F::cast_from(0.0f32);
        if row < matrix.shape(2) && column < matrix.shape(3) {
            value = matrix[row * matrix.stride(2) + column * matrix.stride(3)];
        }
        output[row * output.stride(2) + column * output.stride(3)] = value;
    }
}
