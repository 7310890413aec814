//! Tiles in f32 and in bf16.

use super::super::{Tile, TileFn};
use super::{Dice, Guarded, UNTOUCHED, from_bf16, kernels, to_bf16, values};

/// One tile's shape.
struct Shape {
    pixels: usize,
    registers: usize,
    lanes: usize,
    kernel_rows: usize,
    run: usize,
    /// Products in a step of the run: 1 in f32, 2 in bf16.
    depth: usize,
    pixel: usize,
    out_pixel: usize,
}

impl Shape {
    fn new(
        dice: &mut Dice,
        pixels: usize,
        registers: usize,
        lanes: usize,
        depth: usize,
        unit: usize,
    ) -> Self {
        let run = unit * dice.within(1..48usize.div_ceil(unit) + 1);
        Shape {
            pixels,
            registers,
            lanes,
            kernel_rows: dice.within(1..10),
            run,
            depth,
            // Pixels overlap, follow each other, or are apart.
            pixel: dice.within(1..2 * depth * run + 1),
            out_pixel: registers * lanes + [0, 0, 5, 48][dice.within(0..4)],
        }
    }

    fn block(&self) -> usize {
        self.registers * self.lanes
    }

    /// Inputs of a kernel row, to the last one.
    fn inputs(&self) -> usize {
        (self.pixels - 1) * self.pixel + self.run * self.depth
    }

    fn weights(&self) -> usize {
        self.kernel_rows * self.run * self.block() * self.depth
    }

    /// Sums of products in f64, and of their sizes, by pixel and output.
    fn expected(&self, rows: &[Vec<f32>], weights: &[f32], pixel: usize, output: usize) -> (f64, f64) {
        let (mut sum, mut size) = (0.0, 0.0);
        for (y, row) in rows.iter().enumerate() {
            for k in 0..self.run * self.depth {
                let step = (y * self.run + k / self.depth) * self.block() + output;
                let weight = weights[step * self.depth + k % self.depth];
                let product = f64::from(row[pixel * self.pixel + k]) * f64::from(weight);
                sum += product;
                size += product.abs();
            }
        }
        (sum, size)
    }

    /// Runs a tile on inputs and weights as they lie in memory, and compares.
    fn check<T>(&self, tile: TileFn, convert: impl Fn(f32) -> (T, f32), seed: u64, name: &str) {
        let take = |values: Vec<f32>| -> (Vec<T>, Vec<f32>) { values.into_iter().map(&convert).unzip() };
        let (rows, plain): (Vec<_>, Vec<_>) =
            (0..self.kernel_rows).map(|y| take(values(seed, &format!("row {y}"), self.inputs()))).unzip();
        let (weights, plain_weights) = take(values(seed, "weights", self.weights()));
        let pointers: Vec<*const u8> = rows.iter().map(|row| row.as_ptr().cast()).collect();
        let room = (self.pixels - 1) * self.out_pixel + self.block();
        let mut out = Guarded::new(room, UNTOUCHED);
        let args = Tile {
            rows: pointers.as_ptr(),
            kernel_rows: self.kernel_rows,
            run: self.run,
            pixel: self.pixel,
            weights: weights.as_ptr().cast(),
            out: out.pointer(),
            out_pixel: self.out_pixel,
        };
        // SAFETY: the instruction set is here, and everything is as long as the tile's documentation says.
        unsafe { tile(&args, self.pixels, self.registers) };
        for (i, &value) in out.written().iter().enumerate() {
            let (pixel, output) = (i / self.out_pixel, i % self.out_pixel);
            if output >= self.block() {
                assert_eq!(value, UNTOUCHED, "{name}: written between the pixels, at {i}");
                continue;
            }
            let (sum, size) = self.expected(&plain, &plain_weights, pixel, output);
            assert!(
                (f64::from(value) - sum).abs() <= 1e-5 * size + 1e-12,
                "{name}, {} pixels × {} registers, {} rows of {}: {value} at {pixel}, {output}, expected {sum}",
                self.pixels,
                self.registers,
                self.kernel_rows,
                self.run
            );
        }
    }
}

#[test]
fn f32_tiles_of_every_size() {
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(1);
        for registers in [1, 2] {
            for pixels in 1..=kernels.pixels {
                for seed in 0..6 {
                    let shape = Shape::new(&mut dice, pixels, registers, kernels.lanes, 1, 1);
                    shape.check(kernels.tile, |value| (value, value), seed, isa);
                }
            }
        }
    }
}

/// Products of bf16 are exact in f32, so that only the order of summation is left.
#[test]
fn bf16_tiles_of_every_size() {
    for (isa, kernels) in kernels() {
        let Some(dot) = kernels.dot else { continue };
        let mut dice = Dice::new(2);
        for registers in [1, 2] {
            for pixels in 1..=dot.pixels {
                for seed in 0..6 {
                    let shape = Shape::new(&mut dice, pixels, registers, 16, 2, dot.run);
                    let convert = |value| (to_bf16(value), from_bf16(to_bf16(value)));
                    shape.check(dot.tile, convert, seed, isa);
                }
            }
        }
    }
}
