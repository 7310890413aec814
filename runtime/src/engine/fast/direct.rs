//! Direct convolution: weights in the order in which tiles read them, and the walk over a row's tiles.

use super::buffer::Buffer;
use super::kernels::{DotKernel, Kernels, Tile, TileFn};
use super::program::CHANNELS;
use crate::engine::lower::{Axis, Weights};

/// A convolution's packed weights.
pub(super) struct Direct {
    /// Kernel rows.
    pub(super) rows: usize,
    /// Products of a kernel row, as [`Tile::run`] counts them.
    run: usize,
    /// `[block][row][run][outputs]`, for bf16 `[…][outputs][2]`.
    weights: Buffer,
    /// Bytes of a block's weights.
    block_bytes: usize,
    /// Outputs of a block: one or two registers.
    block: usize,
    registers: usize,
    blocks: usize,
    /// Largest tile: pixels.
    pixels: usize,
    tile: TileFn,
}

/// One row, to be computed by [`Direct::row`].
pub(super) struct Row<'a> {
    /// A pointer for each kernel row, at the first input of the first pixel.
    pub(super) rows: &'a [*const u8],
    /// Bytes from one pixel's inputs to the next's.
    pub(super) pixel_bytes: usize,
    /// Inputs from one pixel to the next.
    pub(super) pixel: usize,
    pub(super) pixels: usize,
    pub(super) out: *mut f32,
    pub(super) out_pixel: usize,
}

impl Direct {
    /// Bytes past a row's last pixel that a tile may read, since runs are rounded up.
    pub(super) const OVERRUN: usize = 128;

    /// Packs a convolution whose axis has one phase; `inputs` are a prepared pixel's values, `outputs` a multiple
    /// of 16. `dot`: in bf16, by these tiles.
    pub(super) fn new(
        axis: &Axis,
        weights: &Weights<'_>,
        inputs: usize,
        outputs: usize,
        kernels: &Kernels,
        dot: Option<DotKernel>,
    ) -> Self {
        let taps = &axis.phases[0].taps;
        Self::pack(taps.len(), taps.len() * inputs, outputs, kernels, dot, |o, y, k| {
            weights.at(o, k % inputs, &taps[y], &taps[k / inputs])
        })
    }

    /// Packs a convolution to three colours with its horizontal taps as outputs: `3k + o` is tap k of colour o.
    pub(super) fn columns(
        axis: &Axis,
        weights: &Weights<'_>,
        inputs: usize,
        kernels: &Kernels,
        dot: Option<DotKernel>,
    ) -> Self {
        let taps = &axis.phases[0].taps;
        let outputs = (3 * taps.len()).next_multiple_of(CHANNELS);
        Self::pack(taps.len(), inputs, outputs, kernels, dot, |o, y, k| match taps.get(o / 3) {
            Some(x) => weights.at(o % 3, k, &taps[y], x),
            None => 0.0,
        })
    }

    /// Packs weights given by `at(output, kernel row, product of the row)`.
    pub(super) fn pack(
        rows: usize,
        products: usize,
        outputs: usize,
        kernels: &Kernels,
        dot: Option<DotKernel>,
        at: impl Fn(usize, usize, usize) -> f64,
    ) -> Self {
        let (lanes, depth) = if dot.is_some() { (16, 2) } else { (kernels.lanes, 1) };
        let registers = if outputs.is_multiple_of(2 * lanes) { 2 } else { 1 };
        let block = registers * lanes;
        let blocks = outputs / block;
        let run = products.div_ceil(depth).next_multiple_of(dot.map_or(1, |dot| dot.run));
        let block_bytes = rows * run * block * 4; // a float, or a pair of bf16
        let weights = Buffer::new(blocks * block_bytes);
        for o in 0..outputs {
            for y in 0..rows {
                for k in 0..products {
                    let value = at(o, y, k) as f32;
                    let word = ((o / block * rows + y) * run + k / depth) * block + o % block;
                    // SAFETY: within blocks · rows · run · block words.
                    unsafe {
                        if depth == 1 {
                            *weights.start().cast::<f32>().add(word) = value;
                        } else {
                            let half = weights.start().cast::<u16>().add(2 * word + k % 2);
                            *half = (value.to_bits() >> 16) as u16;
                        }
                    }
                }
            }
        }
        let (pixels, tile) = dot.map_or((kernels.pixels, kernels.tile), |dot| (dot.pixels, dot.tile));
        Direct { rows, run, weights, block_bytes, block, registers, blocks, pixels, tile }
    }

    /// Outputs of a pixel.
    pub(super) fn outputs(&self) -> usize {
        self.block * self.blocks
    }

    /// Computes one row.
    ///
    /// # Safety
    /// The instruction set that the weights were packed for; `row` holds [`Direct::rows`] pointers to rows with all
    /// the inputs of `row.pixels` pixels (and [`Direct::OVERRUN`] bytes more), and room for their outputs.
    pub(super) unsafe fn row(&self, row: &Row<'_>) {
        debug_assert_eq!(self.rows, row.rows.len());
        let pieces = row.pixels.div_ceil(self.pixels);
        let mut rows = [std::ptr::null::<u8>(); MAX_KERNEL];
        for block in 0..self.blocks {
            for piece in 0..pieces {
                let first = row.pixels * piece / pieces;
                let end = row.pixels * (piece + 1) / pieces;
                // SAFETY: the caller's promises; `first < row.pixels`.
                unsafe {
                    for (to, from) in rows.iter_mut().zip(row.rows) {
                        *to = from.add(first * row.pixel_bytes);
                    }
                    let tile = Tile {
                        rows: rows.as_ptr(),
                        kernel_rows: self.rows,
                        run: self.run,
                        pixel: row.pixel,
                        weights: self.weights.start().add(block * self.block_bytes),
                        out: row.out.add(first * row.out_pixel + block * self.block),
                        out_pixel: row.out_pixel,
                    };
                    (self.tile)(&tile, end - first, self.registers);
                }
            }
        }
    }
}

/// Largest kernel: its rows' pointers fit on the stack.
pub(super) const MAX_KERNEL: usize = 16;
