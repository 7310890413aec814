//! Winograd convolution F(4×4, 3×3) (Lavin and Gray 2016): 3×3 kernels at stride 1 with a quarter of the products.
//!
//! An output patch of 4×4 sees 6×6 inputs. Both axes of inputs and kernel are taken to six points, where a
//! convolution is one product a point: `Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A`, the products over all channels being 36
//! matrix products. Patches are worked on in blocks that the third-level cache holds; within a block, channels, then
//! points, then filters go to threads. Sums run in an order that depends on shapes alone.
//!
//! On AVX-512, VGG19's layers at 256² take half the time of patches and products. Loads and stores are pulp's partial
//! ones throughout: whole registers through `as_simd_f32s` came out slower.
//!
//! Rounding is about ten times that of the plain sum (1e-6 of the largest value), since inputs are added and
//! subtracted before the products: below what the losses' tests ask for.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::conv::{Geometry, Matrix, multiply, turned};

/// Outputs of a patch along an axis.
const PATCH: usize = 4;
/// Inputs of a patch along an axis, and points.
const REACH: usize = 6;
/// Products of a patch.
const POINTS: usize = REACH * REACH;

/// Floats of inputs and products at the points that a block may have, about.
const BLOCK: usize = 1 << 20;
/// Fewest and most patches of a block: with fewer, reading the weights costs more than the products.
const PATCHES: Range<usize> = 128..1024;

/// Outputs below which the plain way is taken: the weights, four times as many at the points, are read once a call.
const FEWEST_OUTPUTS: usize = 1 << 10;
/// Channels and filters below which the transforms cost more than they save.
const FEWEST_CHANNELS: usize = 16;

/// `G`: three taps to six points (0, 1, −1, 2, −2, ∞).
const KERNEL: [[f32; 3]; REACH] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// A kernel at the points, for the convolution and for its input's gradient: computed when first asked for, and kept
/// as long as this is. For a kernel that changes, one is made for each call.
#[derive(Debug, Default)]
pub(crate) struct Transformed {
    forward: OnceLock<Vec<f32>>,
    adjoint: OnceLock<Vec<f32>>,
}

impl Transformed {
    /// `[point, filter, channel]` of a kernel `[filters, channels, 3, 3]`.
    pub(super) fn forward(&self, weight: &[f32]) -> &[f32] {
        self.forward.get_or_init(|| transform_kernel(weight))
    }

    /// `[point, channel, filter]` of the same kernel, turned by half a turn.
    pub(super) fn adjoint(&self, weight: &[f32], channels: usize) -> &[f32] {
        self.adjoint.get_or_init(|| transform_kernel(&turned(weight, channels, 9)))
    }
}

/// Whether a convolution is faster this way.
pub(super) fn pays(channels: usize, filters: usize, geometry: &Geometry) -> bool {
    let (height, width) = geometry.output();
    geometry.kernel == 3
        && geometry.stride == 1
        && channels.min(filters) >= FEWEST_CHANNELS
        && height * width >= FEWEST_OUTPUTS
}

fn transform_kernel(weight: &[f32]) -> Vec<f32> {
    let pairs = weight.len() / 9;
    let mut points = vec![0.0; POINTS * pairs];
    // A row of points at a time: it is all that a task writes, and reads every kernel for.
    points.par_chunks_exact_mut(REACH * pairs).zip(KERNEL).for_each(|(row, down)| {
        for (pair, taps) in weight.chunks_exact(9).enumerate() {
            let column = |at: usize| down[0] * taps[at] + down[1] * taps[3 + at] + down[2] * taps[6 + at];
            let line = [column(0), column(1), column(2)];
            for (point, across) in KERNEL.iter().enumerate() {
                row[point * pairs + pair] = across[0] * line[0] + across[1] * line[1] + across[2] * line[2];
            }
        }
    });
    points
}

/// How the outputs are cut into patches: lines of patches, counted over all pictures of a batch.
struct Cut {
    /// Lines of patches in a picture.
    lines: usize,
    /// Patches in a line.
    across: usize,
}

/// What a thread needs for one channel or filter; kept, because fresh memory costs a page fault per page.
#[derive(Default)]
struct Scratch {
    line: Vec<f32>,
    phases: Vec<f32>,
    between: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Inputs and products at the points, of the block in work.
    static BLOCKS: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// [`super::conv::forward`] for what [`pays`], with the kernel at the points.
pub(super) fn forward(
    input: &[f32],
    kernel: &[f32],
    bias: Option<&[f32]>,
    channels: usize,
    geometry: &Geometry,
) -> Vec<f32> {
    let filters = kernel.len() / (POINTS * channels);
    let (height, width) = geometry.output();
    let cut = Cut { lines: height.div_ceil(PATCH), across: width.div_ceil(PATCH) };
    let picture = channels * geometry.stored_plane();
    let batch = input.len() / picture;
    let mut output = vec![0.0; batch * filters * height * width];

    let patches = (BLOCK / (POINTS * (channels + filters))).clamp(PATCHES.start, PATCHES.end);
    let lines = patches.div_ceil(cut.across);
    // Taken, not borrowed: while this thread waits for others it may begin another convolution.
    let (mut inputs, mut products) = BLOCKS.take();
    for first in (0..batch * cut.lines).step_by(lines) {
        let block = first..(first + lines).min(batch * cut.lines);
        let patches = block.len() * cut.across;
        grow(&mut inputs, channels * POINTS * patches);
        grow(&mut products, filters * POINTS * patches);
        let (inputs, products) =
            (&mut inputs[..channels * POINTS * patches], &mut products[..filters * POINTS * patches]);

        // `[point, channel, patch]`, and each channel's rows of it for its task.
        let mut rows: Vec<Vec<&mut [f32]>> = (0..channels).map(|_| Vec::with_capacity(POINTS)).collect();
        for (row, points) in inputs.chunks_exact_mut(patches).enumerate() {
            rows[row % channels].push(points);
        }
        rows.into_par_iter().enumerate().for_each(|(channel, mut points)| {
            let points = &mut points[..];
            SCRATCH.with_borrow_mut(|scratch| {
                for (at, line) in block.clone().enumerate() {
                    let plane = (line / cut.lines * channels + channel) * geometry.stored_plane();
                    let plane = &input[plane..][..geometry.stored_plane()];
                    let again = at > 0 && line % cut.lines > 0;
                    input_line(plane, geometry, &cut, line % cut.lines, again, scratch);
                    let Scratch { phases, between, .. } = scratch;
                    let (first, across) = (at * cut.across, cut.across);
                    Arch::new().dispatch(InputPoints { phases, between, points, first, across });
                }
            });
        });

        products.par_chunks_exact_mut(filters * patches).enumerate().for_each(|(point, product)| {
            let weights = &kernel[point * filters * channels..][..filters * channels];
            let values = &inputs[point * channels * patches..][..channels * patches];
            let weights = Matrix::new(weights, filters, channels);
            multiply(product, &weights, &Matrix::new(values, channels, patches), false);
        });

        let pictures = block.start / cut.lines..(block.end - 1) / cut.lines + 1;
        let planes = &mut output[pictures.start * filters * height * width..];
        let planes = &mut planes[..pictures.len() * filters * height * width];
        planes.par_chunks_exact_mut(height * width).enumerate().for_each(|(plane, out)| {
            let (at, filter) = (pictures.start + plane / filters, plane % filters);
            let own = at * cut.lines..(at + 1) * cut.lines;
            let bias = bias.map_or(0.0, |bias| bias[filter]);
            SCRATCH.with_borrow_mut(|scratch| {
                for line in block.start.max(own.start)..block.end.min(own.end) {
                    let Scratch { phases, between, line: merged } = scratch;
                    let (across, row_length) = (cut.across, cut.across * PATCH);
                    grow(phases, PATCH * row_length);
                    grow(merged, row_length);
                    let (phases, merged) = (&mut phases[..PATCH * row_length], &mut merged[..row_length]);
                    let products = &products[filter * patches + (line - block.start) * across..];
                    let pitch = filters * patches;
                    Arch::new().dispatch(OutputPoints { products, pitch, across, between, phases });
                    let row = (line - own.start) * PATCH;
                    for (row, phases) in (row..height.min(row + PATCH)).zip(phases.chunks_exact(row_length)) {
                        Arch::new().dispatch(|| merge(phases, bias, merged));
                        out[row * width..][..width].copy_from_slice(&merged[..width]);
                    }
                }
            });
        });
    }
    BLOCKS.replace((inputs, products));
    output
}

fn grow(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
}

/// Values of one phase of a seen line: every fourth one, one more than there are patches.
fn pitch(across: usize) -> usize {
    across + 1
}

/// Brings the six seen rows of a line of patches into `scratch.phases`: `[row, phase, pitch]`. `again`: the line
/// before was the last one brought, and two of its rows are in this one too.
fn input_line(
    plane: &[f32],
    geometry: &Geometry,
    cut: &Cut,
    line: usize,
    again: bool,
    scratch: &mut Scratch,
) {
    let Geometry { rows, columns, .. } = geometry;
    let row_length = PATCH * pitch(cut.across);
    grow(&mut scratch.phases, REACH * row_length);
    scratch.line.clear();
    scratch.line.resize(row_length.max(columns.seen()), 0.0); // what is past the seen plane stays zero
    let kept = if again { REACH - PATCH } else { 0 };
    if again {
        scratch.phases.copy_within(PATCH * row_length..REACH * row_length, 0);
    }
    for row in kept..REACH {
        let seen = line * PATCH + row;
        let phases = &mut scratch.phases[row * row_length..][..row_length];
        match (seen < rows.seen()).then(|| rows.source(seen)).flatten() {
            Some(source) => {
                let stored = &plane[source * columns.stored..][..columns.stored];
                columns.gather(stored, &mut scratch.line[..columns.seen()]);
                Arch::new().dispatch(|| split(&scratch.line[..row_length], phases));
            }
            None => phases.fill(0.0),
        }
    }
}

/// Patches whose values are sorted at once.
const SORTED: usize = 16;

/// Sorts a line's values by their place modulo four: `[phase, pitch]` of `[pitch, phase]`.
#[inline(always)]
fn split(line: &[f32], phases: &mut [f32]) {
    let pitch = phases.len() / PATCH;
    let whole = pitch / SORTED * SORTED;
    for (at, from) in line.chunks_exact(PATCH * SORTED).enumerate() {
        for phase in 0..PATCH {
            let sorted: [f32; SORTED] = std::array::from_fn(|place| from[place * PATCH + phase]);
            phases[phase * pitch + at * SORTED..][..SORTED].copy_from_slice(&sorted);
        }
    }
    for at in whole..pitch {
        for phase in 0..PATCH {
            phases[phase * pitch + at] = line[at * PATCH + phase];
        }
    }
}

/// The inverse of [`split`], with something added to every value. (An array of all 64 values would be built in memory
/// and copied, which takes longer than the sums.)
#[inline(always)]
fn merge(phases: &[f32], bias: f32, line: &mut [f32]) {
    let pitch = phases.len() / PATCH;
    let whole = pitch / SORTED * SORTED;
    for (at, to) in line.chunks_exact_mut(PATCH * SORTED).enumerate() {
        let phase = |phase: usize| &phases[phase * pitch + at * SORTED..][..SORTED];
        let all = [phase(0), phase(1), phase(2), phase(3)];
        for (place, to) in to.chunks_exact_mut(PATCH).enumerate() {
            for (to, from) in to.iter_mut().zip(all) {
                *to = from[place] + bias;
            }
        }
    }
    for at in whole..pitch {
        for phase in 0..PATCH {
            line[at * PATCH + phase] = phases[phase * pitch + at] + bias;
        }
    }
}

/// `Bᵀ` along one axis.
#[inline(always)]
fn to_points<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; REACH]) -> [S::f32s; REACH] {
    let times = |factor: f32, a, b| simd.mul_add_f32s(simd.splat_f32s(factor), a, b);
    let (even, odd) = (times(-4.0, c, e), times(-4.0, b, d));
    let (wide, tall) = (simd.sub_f32s(e, c), simd.sub_f32s(d, b));
    [
        times(4.0, a, times(-5.0, c, e)),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        times(2.0, tall, wide),
        times(-2.0, tall, wide),
        times(4.0, b, times(-5.0, d, f)),
    ]
}

/// `Aᵀ` along one axis.
#[inline(always)]
fn from_points<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; REACH]) -> [S::f32s; PATCH] {
    let times = |factor: f32, a, b| simd.mul_add_f32s(simd.splat_f32s(factor), a, b);
    let (near, apart) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
    let (far, between) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
    [
        simd.add_f32s(a, simd.add_f32s(near, far)),
        times(2.0, between, apart),
        times(4.0, far, near),
        simd.add_f32s(times(8.0, between, apart), f),
    ]
}

/// `Bᵀ d B` of a line of patches.
struct InputPoints<'a, 'b> {
    /// `[row, phase, pitch]`.
    phases: &'a [f32],
    /// Room for as many.
    between: &'a mut Vec<f32>,
    /// A row of patches for each point, written from patch `first` on.
    points: &'a mut [&'b mut [f32]],
    first: usize,
    across: usize,
}

impl WithSimd for InputPoints<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let pitch = pitch(self.across);
        let row = PATCH * pitch;
        grow(self.between, REACH * row);
        let between = &mut self.between[..REACH * row];
        for at in (0..row).step_by(S::F32_LANES) {
            let end = (at + S::F32_LANES).min(row);
            let values = std::array::from_fn(|y| simd.partial_load_f32s(&self.phases[y * row..][at..end]));
            for (y, value) in to_points(simd, values).into_iter().enumerate() {
                simd.partial_store_f32s(&mut between[y * row..][at..end], value);
            }
        }
        for (y, line) in between.chunks_exact(row).enumerate() {
            for at in (0..self.across).step_by(S::F32_LANES) {
                let end = (at + S::F32_LANES).min(self.across);
                let values = std::array::from_fn(|x| {
                    simd.partial_load_f32s(&line[x % PATCH * pitch + x / PATCH..][at..end])
                });
                for (x, value) in to_points(simd, values).into_iter().enumerate() {
                    let points = &mut self.points[y * REACH + x][self.first..];
                    simd.partial_store_f32s(&mut points[at..end], value);
                }
            }
        }
    }
}

/// `Aᵀ m A` of a line of patches.
struct OutputPoints<'a> {
    /// Point `i`'s products from `i · pitch` on.
    products: &'a [f32],
    pitch: usize,
    across: usize,
    between: &'a mut Vec<f32>,
    /// `[row, phase, across]`.
    phases: &'a mut [f32],
}

impl WithSimd for OutputPoints<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let across = self.across;
        grow(self.between, PATCH * REACH * across);
        let between = &mut self.between[..PATCH * REACH * across];
        for x in 0..REACH {
            for at in (0..across).step_by(S::F32_LANES) {
                let end = (at + S::F32_LANES).min(across);
                let values = std::array::from_fn(|y| {
                    simd.partial_load_f32s(&self.products[(y * REACH + x) * self.pitch..][at..end])
                });
                for (y, value) in from_points(simd, values).into_iter().enumerate() {
                    simd.partial_store_f32s(&mut between[(y * REACH + x) * across..][at..end], value);
                }
            }
        }
        for (line, phases) in
            between.chunks_exact(REACH * across).zip(self.phases.chunks_exact_mut(PATCH * across))
        {
            for at in (0..across).step_by(S::F32_LANES) {
                let end = (at + S::F32_LANES).min(across);
                let values = std::array::from_fn(|x| simd.partial_load_f32s(&line[x * across..][at..end]));
                for (phase, value) in from_points(simd, values).into_iter().enumerate() {
                    simd.partial_store_f32s(&mut phases[phase * across..][at..end], value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use impasto_checkpoints::random;

    use super::super::axis::Axis;
    use super::super::conv;
    use super::*;

    fn largest_difference(own: &[f32], plain: &[f32]) -> f32 {
        assert_eq!(own.len(), plain.len());
        let scale = plain.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        own.iter().zip(plain).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / scale
    }

    #[test]
    fn it_is_the_plain_convolution() {
        for (batch, channels, filters, rows, columns) in [
            (1, 16, 16, Axis::zeros(32, 1, 1), Axis::zeros(32, 1, 1)),
            // Sizes that fill no patch, several pictures a block, and more than one block.
            (3, 17, 33, Axis::zeros(13, 1, 1), Axis::zeros(7, 1, 1)),
            (2, 64, 48, Axis::reflected(67, 1, 1), Axis::reflected(130, 1, 1)),
            (1, 16, 24, Axis::reflected(9, 2, 1), Axis::reflected(21, 2, 1)),
            (1, 20, 16, Axis::doubled_zeros(5, 1), Axis::zeros(70, 0, 2)),
            (1, 16, 16, Axis::zeros(3, 0, 0), Axis::zeros(3, 0, 0)),
        ] {
            let geometry = Geometry { rows, columns, kernel: 3, stride: 1 };
            let noise = |name, length| random::uniform(3, name, length).collect::<Vec<f32>>();
            let input = noise("input", batch * channels * geometry.stored_plane());
            let weight = noise("weight", filters * channels * 9);
            let bias = noise("bias", filters);
            let kernel = Transformed::default();
            for bias in [None, Some(&bias[..])] {
                let own = forward(&input, kernel.forward(&weight), bias, channels, &geometry);
                let plain = conv::plain_forward(&input, &weight, bias, channels, &geometry);
                let difference = largest_difference(&own, &plain);
                assert!(difference < 1e-5, "{difference} of the largest value, {geometry:?}");
            }
        }
    }

    #[test]
    fn sorting_and_merging_are_inverse() {
        for pitch in [1, 3, 15, 16, 17, 40] {
            let line: Vec<f32> = (0..pitch * PATCH).map(|at| at as f32).collect();
            let (mut phases, mut back) = (vec![0.0; line.len()], vec![0.0; line.len()]);
            split(&line, &mut phases);
            assert_eq!(phases[..pitch], (0..pitch).map(|at| (at * PATCH) as f32).collect::<Vec<_>>());
            merge(&phases, 1.0, &mut back);
            assert_eq!(back, line.iter().map(|value| value + 1.0).collect::<Vec<_>>());
        }
    }
}
