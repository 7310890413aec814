//! Winograd's minimal filtering F(6×6, 3×3): a 3×3 convolution with 64 products for 36 outputs instead of 324.
//!
//! `Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` with the interpolation points 0, ±1, ±2, ±½, ∞. Source: Lavin & Gray 2016,
//! "Fast Algorithms for Convolutional Neural Networks". The weights' transform is in `fast/winograd.rs`.
//!
//! A transform goes down the columns and then along the rows. What is between lies in [`MaybeUninit`]: an array with
//! a beginning would be filled, and moved, for every patch.

use std::mem::MaybeUninit;

use super::lanes::Lanes;
use super::{InputTransform, OutputTransform, TransformRows};

/// Outputs of a patch along an axis.
pub(in crate::engine::fast) const PATCH: usize = 6;
/// Inputs of a patch along an axis.
pub(in crate::engine::fast) const REACH: usize = PATCH + 2;
/// Points: products per patch and pair of channels.
pub(in crate::engine::fast) const POINTS: usize = REACH * REACH;

/// `Bᵀ d` for one line. Where all of `d` are equal, all but one result are exactly zero: what cancels is either exact
/// or rounded alike.
///
/// # Safety
/// The instruction set of `V`.
#[inline(always)]
unsafe fn input_line<V: Lanes>(d: [V; REACH]) -> [V; REACH] {
    // SAFETY: the caller's promise.
    unsafe {
        let times = |n: f32| V::splat(n);
        // The points ±1.
        let even1 = d[4].mul_add(times(-4.25), d[2].add(d[6]));
        let odd1 = d[3].mul_add(times(-4.25), d[1].add(d[5]));
        // ±2.
        let even2 = d[2].mul_add(times(0.25), d[4].mul_add(times(-1.25), d[6]));
        let odd2 = d[5].mul_add(times(2.0), d[3].mul_add(times(-2.5), d[1].mul(times(0.5))));
        // ±½.
        let even3 = d[4].mul_add(times(-1.25), d[2]).mul_add(times(4.0), d[6]);
        let odd3 = d[5].mul_add(times(0.5), d[3].mul_add(times(-2.5), d[1].mul(times(2.0))));
        [
            d[4].sub(d[2]).mul_add(times(5.25), d[0].sub(d[6])),
            even1.add(odd1),
            even1.sub(odd1),
            even2.add(odd2),
            even2.sub(odd2),
            even3.add(odd3),
            even3.sub(odd3),
            d[3].sub(d[5]).mul_add(times(5.25), d[7].sub(d[1])),
        ]
    }
}

/// `Aᵀ m` for one line.
///
/// # Safety
/// The instruction set of `V`.
#[inline(always)]
unsafe fn output_line<V: Lanes>(m: [V; REACH]) -> [V; PATCH] {
    // SAFETY: the caller's promise.
    unsafe {
        let times = |n: f32| V::splat(n);
        let (sum1, difference1) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (sum2, difference2) = (m[3].add(m[4]), m[3].sub(m[4]));
        let (sum3, difference3) = (m[5].add(m[6]), m[5].sub(m[6]));
        [
            m[0].add(sum1).add(sum2.add(sum3)),
            difference3.mul_add(times(0.5), difference2.mul_add(times(2.0), difference1)),
            sum3.mul_add(times(0.25), sum2.mul_add(times(4.0), sum1)),
            difference3.mul_add(times(0.125), difference2.mul_add(times(8.0), difference1)),
            sum3.mul_add(times(0.0625), sum2.mul_add(times(16.0), sum1)),
            difference3.mul_add(times(0.03125), difference2.mul_add(times(32.0), difference1.add(m[7]))),
        ]
    }
}

/// # Safety
/// The instruction set of `V`; `args` as documented.
#[inline(always)]
pub(super) unsafe fn input<V: Lanes>(args: &InputTransform) {
    // SAFETY: each row holds PATCH · patches + 2 pixels of `channels` floats, `to` POINTS times patches · channels.
    unsafe {
        for patch in 0..args.patches {
            for c in (0..args.channels).step_by(V::N) {
                let at = patch * PATCH * args.channels + c;
                let mut lines = [[MaybeUninit::<V>::uninit(); REACH]; REACH];
                for x in 0..REACH {
                    let column = std::array::from_fn(|y| V::load(args.rows[y].add(at + x * args.channels)));
                    let column = input_line::<V>(column);
                    for y in 0..REACH {
                        lines[y][x].write(column[y]);
                    }
                }
                let to = args.to.add(patch * args.channels + c);
                for (y, line) in lines.iter().enumerate() {
                    let line = input_line::<V>(std::array::from_fn(|x| line[x].assume_init()));
                    for x in 0..REACH {
                        line[x].store(to.add((y * REACH + x) * args.point));
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
    // SAFETY: `from` holds POINTS times patches · outputs floats, each row PATCH · patches pixels.
    unsafe {
        for patch in 0..args.patches {
            for o in (0..args.outputs).step_by(V::N) {
                let from = args.from.add(patch * args.outputs + o);
                let mut lines = [[MaybeUninit::<V>::uninit(); REACH]; PATCH];
                for x in 0..REACH {
                    let column = std::array::from_fn(|y| V::load(from.add((y * REACH + x) * args.point)));
                    let column = output_line::<V>(column);
                    for y in 0..PATCH {
                        lines[y][x].write(column[y]);
                    }
                }
                for (row, line) in args.rows.iter().zip(&lines) {
                    let line = output_line::<V>(std::array::from_fn(|x| line[x].assume_init()));
                    for x in 0..PATCH {
                        line[x].store(row.add((patch * PATCH + x) * args.out_pixel + o));
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
            let line = input_line::<V>(std::array::from_fn(|row| V::load(args.from[row].add(i))));
            for row in 0..REACH {
                line[row].store(args.to[row].add(i));
            }
        }
    }
}
