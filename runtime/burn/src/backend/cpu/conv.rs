//! Convolution on the CPU, and its gradients: patches gathered tile by tile, then one matrix product a tile.
//!
//! Burn's CPU backend gathers channels-last patches and takes the gradient of a kernel as a convolution whose
//! kernel is the whole picture, with one thread. Training spends nearly all its time here, so this crate brings
//! its own. Sums run in an order that depends on shapes alone, never on the number of threads: a resumed
//! training must end with the same bits.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::axis::Axis;
use super::winograd::{self, Transformed};

/// What a convolution does besides its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// What the kernel sees down the picture.
    pub(crate) rows: Axis,
    /// What the kernel sees across the picture.
    pub(crate) columns: Axis,
    /// Kernel height and width.
    pub(crate) kernel: usize,
    /// Steps between outputs, both ways.
    pub(crate) stride: usize,
}

impl Geometry {
    /// Height and width of the output.
    pub(crate) fn output(&self) -> (usize, usize) {
        (self.rows.output(self.kernel, self.stride), self.columns.output(self.kernel, self.stride))
    }

    pub(super) fn stored_plane(&self) -> usize {
        self.rows.stored * self.columns.stored
    }

    /// The geometry of the convolution over the output's gradient that gives the seen plane's gradient (or the stored
    /// one's: [`Geometry::folds`]):
    /// `dSeen[y] = Σ_j D[y + j] · W[k − 1 − j]`, D the output's gradient dilated by the stride behind `k − 1` zeros.
    fn adjoint(&self) -> Geometry {
        let (height, width) = self.output();
        let reach = self.kernel - 1;
        let axis = |output: usize, axis: &Axis| match axis.zeros_before() {
            Some(before) if !self.folds() => {
                Axis::dilated(output, 1, reach as isize - before as isize, axis.stored + reach)
            }
            _ => Axis::dilated(output, self.stride, reach as isize, axis.seen() + reach),
        };
        Geometry {
            rows: axis(height, &self.rows),
            columns: axis(width, &self.columns),
            kernel: self.kernel,
            stride: 1,
        }
    }

    /// Whether the adjoint gives the gradient of the seen plane, which is folded back to the stored one. With zeros
    /// around it, it gives that of the stored plane at once: what the zeros would get is of no use to anybody.
    fn folds(&self) -> bool {
        self.stride != 1 || self.rows.zeros_before().is_none() || self.columns.zeros_before().is_none()
    }

    /// Output rows a tile: patches of about 1 MiB, so that they stay in the second-level cache, but not fewer
    /// than some hundred columns, so that packing the weights for the product pays.
    fn tiles(&self, patch: usize) -> Vec<Range<usize>> {
        let (height, width) = self.output();
        let columns = ((1 << 18) / patch).clamp(256, 2048);
        let rows = columns.div_ceil(width).clamp(1, height);
        (0..height).step_by(rows).map(|start| start..(start + rows).min(height)).collect()
    }
}

thread_local! {
    /// Patches and seen rows of the tile in work; kept, because fresh memory costs a page fault per page.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Brings the rows that some output rows see into `seen`: `[channels, rows, seen width]`. Returns their number.
///
/// `picture` holds `[channels, height, width]`.
fn gather_rows(
    picture: &[f32],
    channels: usize,
    geometry: &Geometry,
    tile: &Range<usize>,
    seen: &mut Vec<f32>,
) -> usize {
    let Geometry { rows, columns, kernel, stride } = geometry;
    let first = tile.start * stride;
    let count = (tile.len() - 1) * stride + kernel;
    let plane = count * columns.seen();
    if seen.len() < channels * plane {
        seen.resize(channels * plane, 0.0);
    }
    for (stored, seen) in
        picture.chunks_exact(geometry.stored_plane()).zip(seen.chunks_exact_mut(plane)).take(channels)
    {
        for (row, line) in seen.chunks_exact_mut(columns.seen()).enumerate() {
            match rows.source(first + row) {
                Some(source) => columns.gather(&stored[source * columns.stored..][..columns.stored], line),
                None => line.fill(0.0),
            }
        }
    }
    count
}

/// Calls `work` with the patches of some output rows, a line a tap: `[channels · k · k, rows · output width]`.
fn with_taps<R>(
    picture: &[f32],
    channels: usize,
    geometry: &Geometry,
    tile: &Range<usize>,
    work: impl FnOnce(&[f32]) -> R,
) -> R {
    let (kernel, stride, seen_width) = (geometry.kernel, geometry.stride, geometry.columns.seen());
    let (_, width) = geometry.output();
    let size = tile.len() * width;
    SCRATCH.with_borrow_mut(|(patches, seen)| {
        let seen_rows = gather_rows(picture, channels, geometry, tile, seen);
        let length = channels * kernel * kernel * size;
        if patches.len() < length {
            patches.resize(length, 0.0);
        }
        for (tap, patch) in patches[..length].chunks_exact_mut(size).enumerate() {
            let (channel, ky, kx) = (tap / (kernel * kernel), tap / kernel % kernel, tap % kernel);
            let seen = &seen[channel * seen_rows * seen_width..];
            for (row, line) in patch.chunks_exact_mut(width).enumerate() {
                let from = &seen[(row * stride + ky) * seen_width + kx..];
                if stride == 1 {
                    line.copy_from_slice(&from[..width]);
                } else {
                    for (to, from) in line.iter_mut().zip(from.iter().step_by(stride)) {
                        *to = *from;
                    }
                }
            }
        }
        work(&patches[..length])
    })
}

/// Calls `work` with the patches of some output rows, a line a place: `[rows · output width, channels · k · k]`.
fn with_places<R>(
    picture: &[f32],
    channels: usize,
    geometry: &Geometry,
    tile: &Range<usize>,
    work: impl FnOnce(&[f32]) -> R,
) -> R {
    let (kernel, stride, seen_width) = (geometry.kernel, geometry.stride, geometry.columns.seen());
    let (_, width) = geometry.output();
    SCRATCH.with_borrow_mut(|(patches, seen)| {
        let seen_rows = gather_rows(picture, channels, geometry, tile, seen);
        let patch = channels * kernel * kernel;
        let length = patch * tile.len() * width;
        if patches.len() < length {
            patches.resize(length, 0.0);
        }
        for (place, line) in patches[..length].chunks_exact_mut(patch).enumerate() {
            let start = place / width * stride * seen_width + place % width * stride;
            for (channel, line) in line.chunks_exact_mut(kernel * kernel).enumerate() {
                let from = &seen[channel * seen_rows * seen_width + start..];
                // The sizes in use, known to the compiler: copies of a few values must not be calls.
                match kernel {
                    3 => copy_taps::<3>(from, seen_width, line),
                    9 => copy_taps::<9>(from, seen_width, line),
                    _ => line
                        .chunks_exact_mut(kernel)
                        .enumerate()
                        .for_each(|(ky, to)| to.copy_from_slice(&from[ky * seen_width..][..kernel])),
                }
            }
        }
        work(&patches[..length])
    })
}

/// Copies a K×K window of rows that are `pitch` apart.
fn copy_taps<const K: usize>(from: &[f32], pitch: usize, to: &mut [f32]) {
    for (ky, to) in to.chunks_exact_mut(K).enumerate() {
        to.copy_from_slice(&from[ky * pitch..][..K]);
    }
}

/// A matrix in a slice: element (r, c) at `r · row_stride + c · column_stride`.
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row, without gaps.
    #[inline]
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix::with_pitch(values, rows, columns, columns)
    }

    /// Row after row, each `pitch` behind the one before.
    #[inline]
    pub(super) fn with_pitch(values: &'a [f32], rows: usize, columns: usize, pitch: usize) -> Self {
        Matrix { values, rows, columns, row_stride: pitch, column_stride: 1 }
    }

    /// Rows for columns.
    #[inline]
    pub(super) fn transposed(self) -> Self {
        let Matrix { values, rows, columns, row_stride, column_stride } = self;
        Matrix { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// `out = left · right`, or `out += left · right` when `add`; `out` is row-major without gaps.
pub(super) fn multiply(out: &mut [f32], left: &Matrix, right: &Matrix, add: bool) {
    let (m, n, k) = (left.rows, right.columns, left.columns);
    assert_eq!(right.rows, k, "inner sizes of a matrix product");
    assert_eq!(out.len(), m * n, "size of a matrix product");
    for matrix in [left, right] {
        let last = (matrix.rows - 1) * matrix.row_stride + (matrix.columns - 1) * matrix.column_stride;
        assert!(last < matrix.values.len(), "a matrix reaches past its slice");
    }
    // SAFETY: the pointers come from live slices, and the asserts above keep every element that the sizes and
    // strides name inside them; `out` is borrowed mutably, so it overlaps neither operand. Strides are positive
    // and far below isize::MAX, being inside a slice. f32 is a type that `gemm` knows.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `output[b, m, y, x] = bias[m] + Σ_c,i,j weight[m, c, i, j] · seen[b, c, y·s + i, x·s + j]`.
///
/// # Shapes
/// - input: `[batch, channels, rows.stored, columns.stored]`
/// - weight: `[filters, channels, kernel, kernel]`
/// - bias: `[filters]`, or none
/// - output: `[batch, filters, height, width]` of [`Geometry::output`]
pub(crate) fn forward(
    input: &[f32],
    weight: &[f32],
    transformed: &Transformed,
    bias: Option<&[f32]>,
    channels: usize,
    geometry: &Geometry,
) -> Vec<f32> {
    let filters = weight.len() / (channels * geometry.kernel * geometry.kernel);
    if winograd::pays(channels, filters, geometry) {
        return winograd::forward(input, transformed.forward(weight), bias, channels, geometry);
    }
    plain_forward(input, weight, bias, channels, geometry)
}

/// [`forward`] by patches.
pub(super) fn plain_forward(
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    channels: usize,
    geometry: &Geometry,
) -> Vec<f32> {
    let patch = channels * geometry.kernel * geometry.kernel;
    let filters = weight.len() / patch;
    let (height, width) = geometry.output();
    let picture = channels * geometry.stored_plane();
    let batch = input.len() / picture;
    let tiles = geometry.tiles(patch);
    let products: Vec<Vec<f32>> = (0..batch * tiles.len())
        .into_par_iter()
        .map(|job| {
            let (at, tile) = (job / tiles.len(), &tiles[job % tiles.len()]);
            let size = tile.len() * width;
            with_taps(&input[at * picture..][..picture], channels, geometry, tile, |patches| {
                let mut product = vec![0.0; filters * size];
                let (weights, patches) =
                    (Matrix::new(weight, filters, patch), Matrix::new(patches, patch, size));
                multiply(&mut product, &weights, &patches, false);
                product
            })
        })
        .collect();
    // The tiles' products are [filters, tile]; brought together plane by plane, the bias on the way.
    let mut output = vec![0.0; batch * filters * height * width];
    output.par_chunks_exact_mut(height * width).enumerate().for_each(|(plane, out)| {
        let (at, filter) = (plane / filters, plane % filters);
        for (tile, product) in tiles.iter().zip(&products[at * tiles.len()..]) {
            let size = tile.len() * width;
            let values = &product[filter * size..][..size];
            let out = &mut out[tile.start * width..][..size];
            match bias {
                Some(bias) => out.iter_mut().zip(values).for_each(|(out, value)| *out = value + bias[filter]),
                None => out.copy_from_slice(values),
            }
        }
    });
    output
}

/// Gradient of [`forward`]'s input, given the output's.
pub(crate) fn input_gradient(
    output_gradient: &[f32],
    weight: &[f32],
    transformed: &Transformed,
    channels: usize,
    geometry: &Geometry,
) -> Vec<f32> {
    if geometry.stride == 1 {
        gathered_input_gradient(output_gradient, weight, transformed, channels, geometry)
    } else {
        scattered_input_gradient(output_gradient, weight, channels, geometry)
    }
}

/// `W'[c, m, i, j] = W[m, c, k−1−i, k−1−j]`
pub(super) fn turned(weight: &[f32], channels: usize, taps: usize) -> Vec<f32> {
    let filters = weight.len() / (channels * taps);
    let mut turned = vec![0.0; weight.len()];
    for filter in 0..filters {
        for channel in 0..channels {
            let from = &weight[(filter * channels + channel) * taps..][..taps];
            let to = &mut turned[(channel * filters + filter) * taps..][..taps];
            to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
        }
    }
    turned
}

/// At stride 1: the gradient is a convolution of the output's, folded back where the seen plane is not the stored one.
fn gathered_input_gradient(
    output_gradient: &[f32],
    weight: &[f32],
    transformed: &Transformed,
    channels: usize,
    geometry: &Geometry,
) -> Vec<f32> {
    let taps = geometry.kernel * geometry.kernel;
    let filters = weight.len() / (channels * taps);
    let adjoint = geometry.adjoint();
    let seen = if winograd::pays(filters, channels, &adjoint) {
        let kernel = transformed.adjoint(weight, channels);
        winograd::forward(output_gradient, kernel, None, filters, &adjoint)
    } else {
        plain_forward(output_gradient, &turned(weight, channels, taps), None, filters, &adjoint)
    };
    if !geometry.folds() {
        return seen;
    }
    let seen_plane = geometry.rows.seen() * geometry.columns.seen();
    let mut gradient = vec![0.0; seen.len() / seen_plane * geometry.stored_plane()];
    gradient
        .par_chunks_exact_mut(geometry.stored_plane())
        .zip(seen.par_chunks_exact(seen_plane))
        .for_each(|(plane, seen)| fold(seen, 0, geometry, plane));
    gradient
}

/// At stride 2 the convolution above would multiply three zeros in four. Instead each channel's patches get their
/// gradient, `Wᵀ · output's`, which is added to the rows that they were gathered from.
fn scattered_input_gradient(
    output_gradient: &[f32],
    weight: &[f32],
    channels: usize,
    geometry: &Geometry,
) -> Vec<f32> {
    let Geometry { kernel, stride, .. } = *geometry;
    let seen_width = geometry.columns.seen();
    let taps = kernel * kernel;
    let filters = weight.len() / (channels * taps);
    let (height, width) = geometry.output();
    let batch = output_gradient.len() / (filters * height * width);
    // A group of channels a task: enough for a product worth the name, and tasks for many threads.
    let group = 8.min(channels);
    let tiles = geometry.tiles(group * taps);
    let mut gradient = vec![0.0; batch * channels * geometry.stored_plane()];
    let mut tasks: Vec<(usize, usize, &mut [f32])> = Vec::new();
    for (at, picture) in gradient.chunks_exact_mut(channels * geometry.stored_plane()).enumerate() {
        let groups = picture.chunks_mut(group * geometry.stored_plane()).enumerate();
        tasks.extend(groups.map(|(index, planes)| (at, index * group, planes)));
    }
    tasks.into_par_iter().for_each(|(at, first, planes)| {
        let count = planes.len() / geometry.stored_plane();
        let (mut patches, mut seen) = (Vec::new(), Vec::new());
        for tile in &tiles {
            let size = tile.len() * width;
            patches.resize(count * taps * size, 0.0);
            let weights = Matrix::with_pitch(&weight[first * taps..], filters, count * taps, channels * taps)
                .transposed();
            let upstream = &output_gradient[at * filters * height * width + tile.start * width..];
            let upstream = Matrix::with_pitch(upstream, filters, size, height * width);
            multiply(&mut patches, &weights, &upstream, false);
            let rows = (tile.len() - 1) * stride + kernel;
            for (channel, plane) in planes.chunks_exact_mut(geometry.stored_plane()).enumerate() {
                seen.clear();
                seen.resize(rows * seen_width, 0.0);
                for tap in 0..taps {
                    let patch = &patches[(channel * taps + tap) * size..][..size];
                    for (row, line) in patch.chunks_exact(width).enumerate() {
                        let to = &mut seen[(row * stride + tap / kernel) * seen_width + tap % kernel..];
                        to.iter_mut().step_by(stride).zip(line).for_each(|(to, value)| *to += value);
                    }
                }
                fold(&seen, tile.start * stride, geometry, plane);
            }
        }
    });
    gradient
}

/// Adds seen rows, from row `first` on, to the stored plane that they show.
fn fold(seen: &[f32], first: usize, geometry: &Geometry, plane: &mut [f32]) {
    let Geometry { rows, columns, .. } = geometry;
    for (row, line) in seen.chunks_exact(columns.seen()).enumerate() {
        if let Some(to) = rows.source(first + row) {
            columns.scatter_add(line, &mut plane[to * columns.stored..][..columns.stored]);
        }
    }
}

/// Gradient of [`forward`]'s weight, given the output's.
pub(crate) fn weight_gradient(
    input: &[f32],
    output_gradient: &[f32],
    channels: usize,
    geometry: &Geometry,
) -> Vec<f32> {
    /// Partial sums that are computed on their own: enough for any desktop's cores, and fixed.
    const PARTS: usize = 16;
    let patch = channels * geometry.kernel * geometry.kernel;
    let (height, width) = geometry.output();
    let picture = channels * geometry.stored_plane();
    let batch = input.len() / picture;
    let filters = output_gradient.len() / (batch * height * width);
    let tiles = geometry.tiles(patch);
    let jobs: Vec<usize> = (0..batch * tiles.len()).collect();
    let parts: Vec<Vec<f32>> = jobs
        .par_chunks(jobs.len().div_ceil(PARTS))
        .map(|jobs| {
            let mut sum = vec![0.0; filters * patch];
            for job in jobs {
                let (at, tile) = (job / tiles.len(), &tiles[job % tiles.len()]);
                let size = tile.len() * width;
                with_places(&input[at * picture..][..picture], channels, geometry, tile, |patches| {
                    let gradient = &output_gradient[at * filters * height * width + tile.start * width..];
                    let gradient = Matrix::with_pitch(gradient, filters, size, height * width);
                    let patches = Matrix::new(patches, size, patch);
                    multiply(&mut sum, &gradient, &patches, true);
                });
            }
            sum
        })
        .collect();
    let mut total = vec![0.0; filters * patch];
    for part in &parts {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    total
}

/// Gradient of [`forward`]'s bias: the output's gradient, summed over pictures and places.
pub(crate) fn bias_gradient(output_gradient: &[f32], filters: usize, geometry: &Geometry) -> Vec<f32> {
    let (height, width) = geometry.output();
    let planes: Vec<f32> = output_gradient
        .par_chunks_exact(height * width)
        .map(|plane| super::norm::sum(plane) as f32)
        .collect();
    let mut total = vec![0.0; filters];
    for picture in planes.chunks_exact(filters) {
        total.iter_mut().zip(picture).for_each(|(total, plane)| *total += plane);
    }
    total
}
