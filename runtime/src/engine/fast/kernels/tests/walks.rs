//! The walks over a row's tiles and a strip's patches, with packed weights, against plain sums over the kernel.

use impasto_checkpoints::{ConvKind, ConvSpec, Padding};

use super::super::{Kernels, SumColumns, SumPieces};
use super::{Dice, Guarded, UNTOUCHED, from_bf16, kernels, nearest_bf16, to_bf16, values};
use crate::engine::fast::buffer::Buffer;
use crate::engine::fast::decomposed::{Colors, Decomposed, Line};
use crate::engine::fast::direct::{Direct, Row};
use crate::engine::fast::winograd::{PATCH, REACH, Strip, Winograd};
use crate::engine::lower::{Axis, Weights};

/// A convolution with its weights as a file holds them.
struct Conv {
    spec: ConvSpec,
    weights: Vec<f32>,
    bf16: bool,
}

impl Conv {
    fn new(seed: u64, kernel: usize, input: usize, output: usize, kind: ConvKind, bf16: bool) -> Self {
        let weights = values(seed, "weights", kernel * kernel * input * output);
        Conv { spec: ConvSpec { name: String::new(), kernel, input, output, kind }, weights, bf16 }
    }

    fn weights(&self) -> Weights<'_> {
        Weights::new(&self.spec, &self.weights, self.bf16)
    }

    /// The value of one output over prepared rows with `inputs` values a pixel; and the sum of its products' sizes.
    /// `y`, `x`: output, of which there are `up` per base.
    fn expected(
        &self,
        axis: &Axis,
        rows: &[Vec<f32>],
        inputs: usize,
        (y, x): (usize, usize),
        output: usize,
    ) -> (f64, f64) {
        let weights = self.weights();
        let (up, stride) = (axis.up(), axis.stride());
        let (vertical, horizontal) = (&axis.phases[y % up], &axis.phases[x % up]);
        let (mut sum, mut size) = (0.0, 0.0);
        for (i, ky) in vertical.taps.iter().enumerate() {
            let row = &rows[y / up * stride + vertical.offset + i];
            for (j, kx) in horizontal.taps.iter().enumerate() {
                let pixel = x / up * stride + horizontal.offset + j;
                for channel in 0..self.spec.input {
                    let weight = weights.at(output, channel, ky, kx);
                    let product = f64::from(row[pixel * inputs + channel]) * weight;
                    sum += product;
                    size += product.abs();
                }
            }
        }
        (sum, size)
    }
}

/// Prepared rows as a direct convolution reads them; for bf16 also as bf16, with what a tile may read past their end.
struct Prepared {
    plain: Vec<Vec<f32>>,
    halves: Vec<Vec<u16>>,
    floats: Vec<Vec<f32>>,
    bf16: bool,
}

impl Prepared {
    fn new(seed: u64, rows: usize, length: usize, bf16: bool) -> Self {
        let plain: Vec<Vec<f32>> = (0..rows)
            .map(|y| {
                let row = values(seed, &format!("row {y}"), length).into_iter();
                row.map(|value| if bf16 { nearest_bf16(value) } else { value }).collect()
            })
            .collect();
        let with_room = |row: &Vec<f32>, bytes: usize| {
            let mut row = row.clone();
            row.resize(length + Direct::OVERRUN / bytes, 7.0);
            row
        };
        let halves = plain.iter().map(|row| with_room(row, 2).into_iter().map(to_bf16).collect()).collect();
        let floats = plain.iter().map(|row| with_room(row, 4)).collect();
        Prepared { plain, halves, floats, bf16 }
    }

    fn pointers(&self) -> Vec<*const u8> {
        if self.bf16 {
            self.halves.iter().map(|row| row.as_ptr().cast()).collect()
        } else {
            self.floats.iter().map(|row| row.as_ptr().cast()).collect()
        }
    }

    fn bytes(&self) -> usize {
        if self.bf16 { 2 } else { 4 }
    }
}

fn assert_near(value: f32, (sum, size): (f64, f64), tolerance: f64, what: &str) {
    assert!((f64::from(value) - sum).abs() <= tolerance * size + 1e-9, "{what}: {value}, expected {sum}");
}

/// In f32, and in bf16 where there are tiles for it.
fn precisions(kernels: &Kernels) -> impl Iterator<Item = bool> {
    [false, true].into_iter().filter(|&bf16| !bf16 || kernels.dot.is_some())
}

#[test]
fn direct_rows() {
    for (isa, kernels) in kernels() {
        for bf16 in precisions(kernels) {
            let mut dice = Dice::new(11);
            for seed in 0..25 {
                let kernel = 1 + 2 * dice.within(0..8);
                let stride = dice.within(1..3);
                let (input, output) = (dice.within(1..40), dice.within(1..100));
                // The frame's three colours lie side by side, other inputs are padded.
                let inputs = if input == 3 { 3 } else { input.next_multiple_of(16) };
                let outputs = output.next_multiple_of(16);
                let conv = Conv::new(seed, kernel, input, output, ConvKind::Strided(stride), bf16);
                let axis = Axis::new(&conv.spec, Padding::Reflect);
                let dot = kernels.dot.filter(|_| bf16);
                let direct = Direct::new(&axis, &conv.weights(), inputs, outputs, kernels, dot);
                let pixels = dice.within(1..40);
                let columns = (pixels - 1) * stride + kernel;
                let prepared = Prepared::new(seed, kernel, columns * inputs, bf16);
                let out_pixel = outputs + [0, 16][dice.within(0..2)];
                let mut out = Guarded::new((pixels - 1) * out_pixel + outputs, UNTOUCHED);
                let row = Row {
                    rows: &prepared.pointers(),
                    pixel_bytes: stride * inputs * prepared.bytes(),
                    pixel: stride * inputs,
                    pixels,
                    out: out.pointer(),
                    out_pixel,
                };
                // SAFETY: the instruction set is here; the rows hold all pixels and the overrun, `out` its pixels.
                unsafe { direct.row(&row) };
                for (i, &value) in out.written().iter().enumerate() {
                    let (x, o) = (i / out_pixel, i % out_pixel);
                    if o >= outputs {
                        assert_eq!(value, UNTOUCHED, "{isa}: written between the pixels");
                        continue;
                    }
                    let what =
                        format!("{isa}, bf16 {bf16}, kernel {kernel}, stride {stride}, {input} to {output}");
                    assert_near(value, conv.expected(&axis, &prepared.plain, inputs, (0, x), o), 1e-5, &what);
                }
            }
        }
    }
}

#[test]
fn convolutions_to_colours() {
    for (isa, kernels) in kernels() {
        for bf16 in precisions(kernels) {
            let mut dice = Dice::new(12);
            for kernel in (1..16).step_by(2) {
                let input = [3, dice.within(4..60)][dice.within(0..2)];
                let inputs = if input == 3 { 3 } else { input.next_multiple_of(16) };
                let conv = Conv::new(kernel as u64, kernel, input, 3, ConvKind::Strided(1), bf16);
                let axis = Axis::new(&conv.spec, Padding::ZeroSame);
                let dot = kernels.dot.filter(|_| bf16);
                let direct = Direct::columns(&axis, &conv.weights(), inputs, kernels, dot);
                let pixels = dice.within(1..50);
                let prepared = Prepared::new(kernel as u64, kernel, (pixels + kernel - 1) * inputs, bf16);
                let mut columns = Guarded::new((pixels + kernel - 1) * direct.outputs(), UNTOUCHED);
                let mut colours = Guarded::new(3 * pixels + 1, UNTOUCHED);
                let row = Row {
                    rows: &prepared.pointers(),
                    pixel_bytes: inputs * prepared.bytes(),
                    pixel: inputs,
                    pixels: pixels + kernel - 1,
                    out: columns.pointer(),
                    out_pixel: direct.outputs(),
                };
                let sums = SumColumns {
                    columns: columns.pointer(),
                    pixel: direct.outputs(),
                    kernel,
                    pixels,
                    bias: [0.0; 3],
                    to: colours.pointer(),
                };
                // SAFETY: the instruction set is here; rows, columns and colours have their pixels.
                unsafe {
                    direct.row(&row);
                    (kernels.sum_columns)(&sums);
                }
                columns.written();
                for (i, &value) in colours.written()[..3 * pixels].iter().enumerate() {
                    let what = format!("{isa}, bf16 {bf16}, kernel {kernel}, {input} inputs");
                    let expected = conv.expected(&axis, &prepared.plain, inputs, (0, i / 3), i % 3);
                    assert_near(value, expected, 1e-5, &what);
                }
            }
        }
    }
}

/// Strips of every kind of convolution that Winograd's algorithm computes; the doublings in their four phases.
#[test]
fn winograd_strips() {
    let kinds = [
        (ConvKind::Strided(1), Padding::Reflect),
        (ConvKind::NearestDoubled, Padding::Reflect),
        (ConvKind::Transposed, Padding::Reflect),
        (ConvKind::Transposed, Padding::ZeroSame),
    ];
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(13);
        for seed in 0..24 {
            let (kind, padding) = kinds[seed as usize % kinds.len()];
            let (input, output) = (dice.within(1..40), dice.within(1..70));
            let (inputs, outputs) = (input.next_multiple_of(16), output.next_multiple_of(16));
            let conv = Conv::new(seed, 3, input, output, kind, false);
            let axis = Axis::new(&conv.spec, padding);
            let winograd = Winograd::new(&axis, &conv.weights(), inputs, outputs, kernels);
            let patches = dice.within(1..18);
            let mut rows: Vec<_> = (0..REACH)
                .map(|y| values(seed, &format!("row {y}"), (PATCH * patches + 2) * inputs))
                .collect();
            // Channels past the model's hold zeros.
            for (i, value) in rows.iter_mut().flat_map(|row| row.iter_mut().enumerate()) {
                if i % inputs >= input {
                    *value = 0.0;
                }
            }
            let up = axis.up();
            let out_row = PATCH * patches * up * outputs;
            let mut out = Guarded::new(PATCH * up * out_row, UNTOUCHED);
            let strip = Strip {
                rows: std::array::from_fn(|y| rows[y].as_ptr()),
                patches,
                input: &Buffer::new(4 * winograd.input_floats(patches)),
                products: &Buffer::new(4 * winograd.product_floats(patches)),
                out: out.pointer(),
                out_row,
                out_pixel: outputs,
            };
            // SAFETY: the instruction set is here; rows, buffers and results have the strip's sizes.
            unsafe { winograd.strip(&strip) };
            for (i, &value) in out.written().iter().enumerate() {
                let (y, x, o) = (i / out_row, i % out_row / outputs, i % outputs);
                let what = format!("{isa}, {kind:?} {padding:?}, {input} to {output}, at {y}, {x}, {o}");
                // An output's rounding comes from its whole patch, of which its own products may be a small part.
                let (sum, _) = conv.expected(&axis, &rows, inputs, (y, x), o);
                assert_near(value, (sum, 9.0 * input as f64), 2e-6, &what);
            }
        }
    }
}

/// Lines of patches of large kernels, whose last pieces may have a tap or two.
#[test]
fn decomposed_lines() {
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(14);
        for seed in 0..18 {
            let kernel = 4 + seed as usize % 9;
            let (input, output) = ([3, dice.within(4..40)][dice.within(0..2)], dice.within(1..40));
            let inputs = if input == 3 { 3 } else { input.next_multiple_of(16) };
            let outputs = output.next_multiple_of(16);
            let conv = Conv::new(seed, kernel, input, output, ConvKind::Strided(1), false);
            let axis = Axis::new(&conv.spec, Padding::Reflect);
            let decomposed = Decomposed::new(&axis, &conv.weights(), inputs, outputs, kernels);
            let patches = dice.within(1..18);
            let columns = decomposed.columns(patches);
            let prepared = Prepared::new(seed, decomposed.reach(), columns * inputs, false);
            let rows: Vec<_> = prepared.floats.iter().map(|row| row.as_ptr()).collect();
            let out_row = PATCH * patches * outputs;
            let mut out = Guarded::new(PATCH * out_row, UNTOUCHED);
            let line = Line {
                rows: &rows,
                patches,
                input: &Buffer::new(4 * decomposed.input_floats(patches)),
                products: &Buffer::new(4 * decomposed.product_floats(patches)),
                out: out.pointer(),
                out_row,
            };
            // SAFETY: the instruction set is here; rows, buffers and results have the line's sizes.
            unsafe { decomposed.line(&line) };
            for (i, &value) in out.written().iter().enumerate() {
                let (y, x, o) = (i / out_row, i % out_row / outputs, i % outputs);
                let what = format!("{isa}, kernel {kernel}, {input} to {output}, at {y}, {x}, {o}");
                // An output's rounding comes from its whole patch, of which its own products may be a small part.
                let (sum, _) = conv.expected(&axis, &prepared.plain, inputs, (y, x), o);
                assert_near(value, (sum, (kernel * kernel * input) as f64), 2e-6, &what);
            }
        }
    }
}

/// Rows of large kernels to three colours, added up from their pieces a line of patches at a time.
#[test]
fn colours_in_pieces() {
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(15);
        for seed in 0..18 {
            let kernel = 4 + seed as usize % 9;
            let input = dice.within(1..50);
            let inputs = input.next_multiple_of(16);
            let conv = Conv::new(seed, kernel, input, 3, ConvKind::Strided(1), false);
            let axis = Axis::new(&conv.spec, Padding::Reflect);
            let bias = [0.5, -1.5, 2.5];
            let colors = Colors::new(&axis, &conv.weights(), inputs, kernels, bias);
            // More rows than are kept at a time.
            let (pixels, height) = (dice.within(1..50), dice.within(1..30));
            let patches = colors.patches(pixels);
            let steps = (height + colors.beyond()).div_ceil(PATCH);
            let mut rows: Vec<_> = (0..PATCH * steps + 2)
                .map(|y| values(seed, &format!("row {y}"), (PATCH * patches + 2) * inputs))
                .collect();
            // Channels past the model's hold zeros.
            for (i, value) in rows.iter_mut().flat_map(|row| row.iter_mut().enumerate()) {
                if i % inputs >= input {
                    *value = 0.0;
                }
            }
            let winograd = &colors.winograd;
            let (input_buffer, products) = (
                Buffer::new(4 * winograd.input_floats(patches)),
                Buffer::new(4 * winograd.product_floats(patches)),
            );
            let sums = Buffer::new(4 * colors.sum_floats(pixels));
            let out_row = PATCH * patches * colors.outputs;
            let mut out = vec![UNTOUCHED; PATCH * out_row + SumPieces::OVERRUN];
            let mut done = 0;
            for step in 0..steps {
                let strip = Strip {
                    rows: std::array::from_fn(|y| rows[PATCH * step + y].as_ptr()),
                    patches,
                    input: &input_buffer,
                    products: &products,
                    out: out.as_mut_ptr(),
                    out_row,
                    out_pixel: colors.outputs,
                };
                // SAFETY: the instruction set is here; rows, buffers and results have the strip's sizes.
                unsafe {
                    winograd.strip(&strip);
                    for row in 0..PATCH {
                        let results = out.as_ptr().add(row * out_row);
                        colors.add_columns(kernels, results, PATCH * step + row, pixels, &sums);
                    }
                }
                while done < height && done + colors.beyond() < PATCH * (step + 1) {
                    let mut painted = Guarded::new(3 * pixels + 1, UNTOUCHED);
                    // SAFETY: the rows that it sees were just summed.
                    unsafe { colors.add_rows(done, pixels, &sums, painted.pointer()) };
                    for (i, &value) in painted.written()[..3 * pixels].iter().enumerate() {
                        let (x, color) = (i / 3, i % 3);
                        let what = format!("{isa}, kernel {kernel}, {input} inputs, at {done}, {x}, {color}");
                        let (sum, _) = conv.expected(&axis, &rows, inputs, (done, x), color);
                        let sum = sum + f64::from(bias[color]);
                        assert_near(value, (sum, (kernel * kernel * input) as f64), 2e-6, &what);
                    }
                    done += 1;
                }
            }
            assert_eq!(done, height);
        }
    }
}

/// bf16 weights and inputs that were rounded give Winograd the same products as the emulation's.
#[test]
fn weights_are_rounded_before_their_taps_are_summed() {
    let conv = Conv::new(1, 3, 2, 2, ConvKind::NearestDoubled, true);
    let axis = Axis::new(&conv.spec, Padding::Reflect);
    let at = |ky: usize, kx: usize| f64::from(from_bf16(to_bf16(conv.weights[(3 * 3) + ky * 3 + kx])));
    // Phase 1 sees the first two taps of a row through one source pixel.
    let summed = conv.weights().at(0, 1, &axis.phases[1].taps[0], &axis.phases[1].taps[0]);
    assert_eq!(summed, at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1));
}
