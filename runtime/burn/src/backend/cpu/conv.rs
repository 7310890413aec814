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

    fn stored_plane(&self) -> usize {
        self.rows.stored * self.columns.stored
    }

    /// The geometry of the convolution over the output's gradient that gives the seen plane's gradient:
    /// `dSeen[y] = Σ_j D[y + j] · W[k − 1 − j]`, D the output's gradient dilated by the stride behind `k − 1` zeros.
    fn adjoint(&self) -> Geometry {
        let (height, width) = self.output();
        let axis = |output: usize, seen: usize| {
            Axis::dilated(output, self.stride, self.kernel as isize - 1, seen + self.kernel - 1)
        };
        Geometry {
            rows: axis(height, self.rows.seen()),
            columns: axis(width, self.columns.seen()),
            kernel: self.kernel,
            stride: 1,
        }
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

/// Calls `work` with the patches of some output rows: `[channels · k · k, rows · output width]`.
///
/// `picture` holds `[channels, height, width]`.
fn with_patches<R>(
    picture: &[f32],
    channels: usize,
    geometry: &Geometry,
    tile: Range<usize>,
    work: impl FnOnce(&[f32]) -> R,
) -> R {
    let Geometry { rows, columns, kernel, stride } = geometry;
    let (kernel, stride) = (*kernel, *stride);
    let (_, width) = geometry.output();
    let size = tile.len() * width;
    let first = tile.start * stride;
    let seen_rows = (tile.len() - 1) * stride + kernel;
    let seen_width = columns.seen();
    SCRATCH.with_borrow_mut(|(patches, seen)| {
        if patches.len() < channels * kernel * kernel * size {
            patches.resize(channels * kernel * kernel * size, 0.0);
        }
        if seen.len() < seen_rows * seen_width {
            seen.resize(seen_rows * seen_width, 0.0);
        }
        for (channel, plane) in picture.chunks_exact(geometry.stored_plane()).take(channels).enumerate() {
            for (row, line) in seen.chunks_exact_mut(seen_width).take(seen_rows).enumerate() {
                match rows.source(first + row) {
                    Some(source) => columns.gather(&plane[source * columns.stored..][..columns.stored], line),
                    None => line.fill(0.0),
                }
            }
            for ky in 0..kernel {
                for kx in 0..kernel {
                    let patch = &mut patches[((channel * kernel + ky) * kernel + kx) * size..][..size];
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
            }
        }
        work(&patches[..channels * kernel * kernel * size])
    })
}

/// A matrix in a slice: element (r, c) at `r · row_stride + c · column_stride`.
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// `out = left · right`, or `out += left · right` when `add`; `out` is row-major without gaps.
fn multiply(out: &mut [f32], left: &Matrix, right: &Matrix, add: bool) {
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
            with_patches(&input[at * picture..][..picture], channels, geometry, tile.clone(), |patches| {
                let mut product = vec![0.0; filters * size];
                let weights = Matrix { values: weight, rows: filters, columns: patch, row_stride: patch, column_stride: 1 };
                let patches = Matrix { values: patches, rows: patch, columns: size, row_stride: size, column_stride: 1 };
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
    channels: usize,
    geometry: &Geometry,
) -> Vec<f32> {
    let taps = geometry.kernel * geometry.kernel;
    let filters = weight.len() / (channels * taps);
    // W'[c, m, i, j] = W[m, c, k−1−i, k−1−j]
    let mut turned = vec![0.0; weight.len()];
    for filter in 0..filters {
        for channel in 0..channels {
            let from = &weight[(filter * channels + channel) * taps..][..taps];
            let to = &mut turned[(channel * filters + filter) * taps..][..taps];
            to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
        }
    }
    let seen = forward(output_gradient, &turned, None, filters, &geometry.adjoint());
    let Geometry { rows, columns, .. } = geometry;
    let mut gradient = vec![0.0; seen.len() / (rows.seen() * columns.seen()) * geometry.stored_plane()];
    gradient
        .par_chunks_exact_mut(geometry.stored_plane())
        .zip(seen.par_chunks_exact(rows.seen() * columns.seen()))
        .for_each(|(plane, seen)| {
            for (row, line) in seen.chunks_exact(columns.seen()).enumerate() {
                if let Some(to) = rows.source(row) {
                    columns.scatter_add(line, &mut plane[to * columns.stored..][..columns.stored]);
                }
            }
        });
    gradient
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
                with_patches(&input[at * picture..][..picture], channels, geometry, tile.clone(), |patches| {
                    let gradient = Matrix {
                        values: &output_gradient[at * filters * height * width + tile.start * width..],
                        rows: filters,
                        columns: size,
                        row_stride: height * width,
                        column_stride: 1,
                    };
                    let patches =
                        Matrix { values: patches, rows: size, columns: patch, row_stride: 1, column_stride: size };
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
    let planes: Vec<f32> =
        output_gradient.par_chunks_exact(height * width).map(|plane| super::norm::sum(plane) as f32).collect();
    let mut total = vec![0.0; filters];
    for picture in planes.chunks_exact(filters) {
        total.iter_mut().zip(picture).for_each(|(total, plane)| *total += plane);
    }
    total
}
