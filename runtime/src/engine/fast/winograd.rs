//! Winograd convolution F(6×6, 3×3): the weights' transform, and the walk over a strip of patches.
//!
//! A doubling's phases are 2×2 kernels seen as 3×3 ones with a row and a column of zeros. A missing first tap
//! empties the point 0 of its axis, a missing last one the point ∞: 49 of 64 products are left for each phase, and
//! all four share one input transform. Per source pixel and pair of channels that is 5.4 products instead of 16.

use super::buffer::Buffer;
use super::kernels::{InputTransform, Kernels, OutputTransform, Tile, TileFn};
pub(super) use super::kernels::{PATCH, POINTS, REACH};
use crate::engine::lower::{Axis, AxisPhase, Weights};

/// `90 · G`, from three taps to eight points. In whole numbers, so that what is equal before stays equal: all phases of
/// a doubling have the same sum of taps, and must give a flat plane the same value to the last bit.
const G90: [[f64; 3]; REACH] = [
    [90.0, 0.0, 0.0],
    [-20.0, -20.0, -20.0],
    [-20.0, 20.0, -20.0],
    [1.0, 2.0, 4.0],
    [1.0, -2.0, 4.0],
    [64.0, 32.0, 16.0],
    [64.0, -32.0, 16.0],
    [0.0, 0.0, 90.0],
];

/// A convolution's transformed weights.
pub(super) struct Winograd {
    inputs: usize,
    up: usize,
    /// By vertical, then horizontal phase.
    phases: Vec<Phase>,
    /// Outputs of a block: one or two registers.
    block: usize,
    registers: usize,
    blocks: usize,
    /// Largest tile: patches.
    pixels: usize,
    tile: TileFn,
    input_transform: unsafe fn(&InputTransform),
    output_transform: unsafe fn(&OutputTransform),
}

struct Phase {
    /// The points whose weights are not all zero.
    points: Vec<usize>,
    /// `[block][point][input][output of the block]`.
    weights: Buffer,
}

/// A line of patches to compute.
pub(super) struct Strip<'a> {
    /// The prepared rows, f32, at the first patch's first pixel.
    pub(super) rows: [*const f32; REACH],
    pub(super) patches: usize,
    /// Transformed inputs: room for [`Winograd::input_floats`].
    pub(super) input: &'a Buffer,
    /// Products: room for [`Winograd::product_floats`].
    pub(super) products: &'a Buffer,
    /// `PATCH · up` rows of `PATCH · up · patches` pixels.
    pub(super) out: *mut f32,
    /// Floats from one row to the next.
    pub(super) out_row: usize,
    /// Floats from one pixel to the next.
    pub(super) out_pixel: usize,
}

impl Winograd {
    /// For a kernel of 3 with stride 1, or a doubling.
    pub(super) fn new(
        axis: &Axis,
        weights: &Weights<'_>,
        inputs: usize,
        outputs: usize,
        kernels: &Kernels,
    ) -> Self {
        let phase = |phase: usize| (&axis.phases[phase / axis.up()], &axis.phases[phase % axis.up()]);
        let points_of = |index| {
            let (vertical, horizontal) = phase(index);
            let columns = points(horizontal);
            points(vertical).iter().flat_map(|y| columns.iter().map(move |x| y * REACH + x)).collect()
        };
        Self::pack(axis.up(), inputs, outputs, kernels, points_of, |index, o, i| {
            let (vertical, horizontal) = phase(index);
            transform(vertical, horizontal, |y, x| weights.at(o, i, y, x))
        })
    }

    /// For stride 1, with transformed weights given by `at(output, input)`.
    pub(super) fn whole(
        inputs: usize,
        outputs: usize,
        kernels: &Kernels,
        at: impl Fn(usize, usize) -> [f32; POINTS],
    ) -> Self {
        Self::pack(1, inputs, outputs, kernels, |_| (0..POINTS).collect(), |_, o, i| at(o, i))
    }

    /// Packs `up²` phases with the points that each has and its transformed weights `at(phase, output, input)`.
    fn pack(
        up: usize,
        inputs: usize,
        outputs: usize,
        kernels: &Kernels,
        points: impl Fn(usize) -> Vec<usize>,
        at: impl Fn(usize, usize, usize) -> [f32; POINTS],
    ) -> Self {
        let registers = if outputs.is_multiple_of(2 * kernels.lanes) { 2 } else { 1 };
        let block = registers * kernels.lanes;
        let blocks = outputs / block;
        let phase = |phase| {
            let points = points(phase);
            let buffer = Buffer::new(blocks * points.len() * inputs * block * 4);
            for i in 0..inputs {
                for o in 0..outputs {
                    let transformed = at(phase, o, i);
                    for (p, &point) in points.iter().enumerate() {
                        let at = ((o / block * points.len() + p) * inputs + i) * block + o % block;
                        // SAFETY: within blocks · points · inputs · block floats.
                        unsafe { *buffer.start().cast::<f32>().add(at) = transformed[point] };
                    }
                }
            }
            Phase { points, weights: buffer }
        };
        Winograd {
            inputs,
            up,
            phases: (0..up * up).map(phase).collect(),
            block,
            registers,
            blocks,
            pixels: kernels.pixels,
            tile: kernels.tile,
            input_transform: kernels.input_transform,
            output_transform: kernels.output_transform,
        }
    }

    /// Floats from one point to the next: one line more than they hold, or all points would meet in a few lines
    /// of the cache.
    fn input_point(&self, patches: usize) -> usize {
        patches * self.inputs + 16
    }

    fn product_point(&self, patches: usize) -> usize {
        patches * self.block + 16
    }

    /// Floats of a strip's transformed inputs.
    pub(super) fn input_floats(&self, patches: usize) -> usize {
        POINTS * self.input_point(patches)
    }

    /// Floats of a block's products.
    pub(super) fn product_floats(&self, patches: usize) -> usize {
        POINTS * self.product_point(patches)
    }

    /// Computes a strip.
    ///
    /// # Safety
    /// The instruction set that the weights were packed for; the strip's rows hold PATCH · patches + 2 pixels, its
    /// buffers and rows have the room they say.
    pub(super) unsafe fn strip(&self, strip: &Strip<'_>) {
        let patches = strip.patches;
        let (input_point, product_point) = (self.input_point(patches), self.product_point(patches));
        debug_assert!(strip.input.bytes() >= 4 * self.input_floats(patches));
        debug_assert!(strip.products.bytes() >= 4 * self.product_floats(patches));
        let input = strip.input.start().cast::<f32>();
        let products = strip.products.start().cast::<f32>();
        // SAFETY: the caller's promises.
        unsafe {
            (self.input_transform)(&InputTransform {
                rows: strip.rows,
                channels: self.inputs,
                patches,
                to: input,
                point: input_point,
            });
        }
        for (index, phase) in self.phases.iter().enumerate() {
            let (vertical, horizontal) = (index / self.up, index % self.up);
            for point in (0..POINTS).filter(|point| !phase.points.contains(point)) {
                // SAFETY: the room was checked above. What no point writes is zero.
                unsafe { products.add(point * product_point).write_bytes(0, patches * self.block) };
            }
            let panel = self.inputs * self.block;
            for block in 0..self.blocks {
                for (p, &point) in phase.points.iter().enumerate() {
                    // SAFETY: within the buffer by its construction.
                    let weights =
                        unsafe { phase.weights.start().add((block * phase.points.len() + p) * panel * 4) };
                    let pieces = patches.div_ceil(self.pixels);
                    for piece in 0..pieces {
                        let first = patches * piece / pieces;
                        let end = patches * (piece + 1) / pieces;
                        // SAFETY: patches `first..end` of the point's inputs and products.
                        unsafe {
                            let row = input
                                .add(point * input_point + first * self.inputs)
                                .cast::<u8>()
                                .cast_const();
                            let tile = Tile {
                                rows: &row,
                                kernel_rows: 1,
                                run: self.inputs,
                                pixel: self.inputs,
                                weights,
                                out: products.add(point * product_point + first * self.block),
                                out_pixel: self.block,
                            };
                            (self.tile)(&tile, end - first, self.registers);
                        }
                    }
                }
                // SAFETY: output row PATCH · up − 1 is the last; the pixels of a phase are `up` apart.
                unsafe {
                    let at = strip.out.add(horizontal * strip.out_pixel + block * self.block);
                    let rows = std::array::from_fn(|y| at.add((y * self.up + vertical) * strip.out_row));
                    (self.output_transform)(&OutputTransform {
                        from: products,
                        point: product_point,
                        patches,
                        outputs: self.block,
                        rows,
                        out_pixel: self.up * strip.out_pixel,
                    });
                }
            }
        }
    }
}

/// The points of an axis that a phase's taps reach.
fn points(phase: &AxisPhase) -> Vec<usize> {
    let first = phase.offset == 0;
    let last = phase.offset + phase.taps.len() == 3;
    (0..REACH).filter(|&point| (point != 0 || first) && (point != REACH - 1 || last)).collect()
}

/// `G g Gᵀ` for one pair of channels; taps past a phase's are zero.
pub(super) fn transform(
    vertical: &AxisPhase,
    horizontal: &AxisPhase,
    at: impl Fn(&[usize], &[usize]) -> f64,
) -> [f32; POINTS] {
    let mut kernel = [[0.0; 3]; 3];
    for (y, rows) in vertical.taps.iter().enumerate() {
        for (x, columns) in horizontal.taps.iter().enumerate() {
            kernel[vertical.offset + y][horizontal.offset + x] = at(rows, columns);
        }
    }
    let mut half = [[0.0; 3]; REACH];
    for (line, g) in half.iter_mut().zip(G90) {
        for (x, value) in line.iter_mut().enumerate() {
            *value = (0..3).map(|y| g[y] * kernel[y][x]).sum();
        }
    }
    std::array::from_fn(|point| {
        let (line, g) = (half[point / REACH], G90[point % REACH]);
        ((0..3).map(|x| g[x] * line[x]).sum::<f64>() / (90.0 * 90.0)) as f32
    })
}
