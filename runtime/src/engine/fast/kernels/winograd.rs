//! Winograd's minimal filtering F(4×4, 3×3): a 3×3 convolution with 36 products for 16 outputs instead of 144.
//!
//! `Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` with the interpolation points 0, ±1, ±2, ∞. Source: Lavin & Gray 2016,
//! "Fast Algorithms for Convolutional Neural Networks". The weights' transform is in `fast/winograd.rs`.

use super::lanes::Lanes;
use super::{InputTransform, OutputTransform, TransformRows};

/// `Bᵀ d` for one line.
///
/// # Safety
/// The instruction set of `V`.
#[inline(always)]
unsafe fn input_line<V: Lanes>(d: [V; 6]) -> [V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let (two, four, five) = (V::splat(2.0), V::splat(4.0), V::splat(-5.0));
        let minus_four = V::splat(-4.0);
        let even = d[2].mul_add(minus_four, d[4]); // d4 − 4 d2
        let odd = d[1].mul_add(minus_four, d[3]); // d3 − 4 d1
        let even2 = d[4].sub(d[2]); // d4 − d2
        let odd2 = d[3].sub(d[1]).mul(two); // 2 d3 − 2 d1
        [
            d[0].mul_add(four, d[2].mul_add(five, d[4])),
            even.add(odd),
            even.sub(odd),
            even2.add(odd2),
            even2.sub(odd2),
            d[1].mul_add(four, d[3].mul_add(five, d[5])),
        ]
    }
}

/// `Aᵀ m` for one line.
///
/// # Safety
/// The instruction set of `V`.
#[inline(always)]
unsafe fn output_line<V: Lanes>(m: [V; 6]) -> [V; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (two, four, eight) = (V::splat(2.0), V::splat(4.0), V::splat(8.0));
        let (sum1, difference1) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (sum2, difference2) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(sum1).add(sum2),
            difference2.mul_add(two, difference1),
            sum2.mul_add(four, sum1),
            difference2.mul_add(eight, difference1.add(m[5])),
        ]
    }
}

/// # Safety
/// The instruction set of `V`; `args` as documented.
#[inline(always)]
pub(super) unsafe fn input<V: Lanes>(args: &InputTransform) {
    // SAFETY: each row holds 4 · patches + 2 pixels of `channels` floats, `to` 36 points of patches · channels.
    unsafe {
        for patch in 0..args.patches {
            for c in (0..args.channels).step_by(V::N) {
                let at = patch * 4 * args.channels + c;
                // Columns first, each of them a line over the six rows.
                let mut lines = [[V::zero(); 6]; 6];
                for x in 0..6 {
                    let mut column = [V::zero(); 6];
                    for y in 0..6 {
                        column[y] = V::load(args.rows[y].add(at + x * args.channels));
                    }
                    let column = input_line(column);
                    for y in 0..6 {
                        lines[y][x] = column[y];
                    }
                }
                let to = args.to.add(patch * args.channels + c);
                for (y, line) in lines.into_iter().enumerate() {
                    for (x, value) in input_line(line).into_iter().enumerate() {
                        value.store(to.add((y * 6 + x) * args.point));
                    }
                }
            }
        }
    }
}

/// # Safety
/// The instruction set of `V`; `args` as documented.
#[inline(always)]
pub(super) unsafe fn output<V: Lanes>(args: &OutputTransform) {
    // SAFETY: `from` holds 36 points of patches · outputs floats, each row 4 · patches pixels.
    unsafe {
        for patch in 0..args.patches {
            for o in (0..args.outputs).step_by(V::N) {
                let from = args.from.add(patch * args.outputs + o);
                let mut lines = [[V::zero(); 6]; 4];
                for x in 0..6 {
                    let mut column = [V::zero(); 6];
                    for y in 0..6 {
                        column[y] = V::load(from.add((y * 6 + x) * args.point));
                    }
                    let column = output_line(column);
                    for y in 0..4 {
                        lines[y][x] = column[y];
                    }
                }
                for (row, line) in args.rows.iter().zip(lines) {
                    for (x, value) in output_line(line).into_iter().enumerate() {
                        value.store(row.add((patch * 4 + x) * args.out_pixel + o));
                    }
                }
            }
        }
    }
}

/// # Safety
/// The instruction set of `V`; the rows hold `floats` elements and a register more.
#[inline(always)]
pub(super) unsafe fn input_rows<V: Lanes>(args: &TransformRows) {
    // SAFETY: the caller's promises.
    unsafe {
        for i in (0..args.floats).step_by(V::N) {
            let mut line = [V::zero(); 6];
            for row in 0..6 {
                line[row] = V::load(args.from[row].add(i));
            }
            for (row, value) in input_line(line).into_iter().enumerate() {
                value.store(args.to[row].add(i));
            }
        }
    }
}
