//! What happens to whole rows: bringing them into the prepared ring, and finishing a convolution's.

use super::lanes::Lanes;
use super::{FinishRow, LoadRow, PrepareRow, Store, SumColumns, SumPieces};

/// A way to lie in memory, resolved at compile time.
trait Element {
    /// # Safety
    /// The instruction set of `V`; valid for `V::N` elements from element `i`.
    unsafe fn load<V: Lanes>(from: *const u8, i: usize) -> V;
    /// Returns the value as stored.
    ///
    /// # Safety
    /// As for `load`.
    unsafe fn store<V: Lanes>(value: V, to: *mut u8, i: usize) -> V;
    /// One value. # Safety: valid for element `i`.
    unsafe fn store_one(value: f32, to: *mut u8, i: usize);
}

struct F32;
struct Rounded;
struct Bf16;

impl Element for F32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8, i: usize) -> V {
        // SAFETY: the caller's promises.
        unsafe { V::load(from.cast::<f32>().add(i)) }
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(value: V, to: *mut u8, i: usize) -> V {
        // SAFETY: the caller's promises.
        unsafe { value.store(to.cast::<f32>().add(i)) };
        value
    }
    #[inline(always)]
    unsafe fn store_one(value: f32, to: *mut u8, i: usize) {
        // SAFETY: the caller's promises.
        unsafe { *to.cast::<f32>().add(i) = value }
    }
}

impl Element for Rounded {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8, i: usize) -> V {
        // SAFETY: the caller's promises.
        unsafe { F32::load(from, i) }
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(value: V, to: *mut u8, i: usize) -> V {
        // SAFETY: the caller's promises.
        unsafe { F32::store(value.round_bf16(), to, i) }
    }
    #[inline(always)]
    unsafe fn store_one(value: f32, to: *mut u8, i: usize) {
        // SAFETY: the caller's promises.
        unsafe { F32::store_one(crate::engine::round_bf16(value), to, i) }
    }
}

impl Element for Bf16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8, i: usize) -> V {
        // SAFETY: the caller's promises.
        unsafe { V::load_bf16(from.cast::<u16>().add(i)) }
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(value: V, to: *mut u8, i: usize) -> V {
        // SAFETY: the caller's promises.
        unsafe { value.store_bf16(to.cast::<u16>().add(i)) }
    }
    #[inline(always)]
    unsafe fn store_one(value: f32, to: *mut u8, i: usize) {
        // SAFETY: the caller's promises.
        unsafe { *to.cast::<u16>().add(i) = (crate::engine::round_bf16(value).to_bits() >> 16) as u16 }
    }
}

/// # Safety
/// The instruction set of `V`; `args` as documented.
#[inline(always)]
pub(super) unsafe fn prepare<V: Lanes>(args: &PrepareRow) {
    // SAFETY: the caller's promises.
    unsafe {
        match (args.from_store, args.to_store) {
            (Store::Bf16, Store::Bf16) => prepare_as::<V, Bf16, Bf16>(args),
            (Store::Bf16, _) => prepare_as::<V, Bf16, Rounded>(args),
            (_, Store::F32) => prepare_as::<V, F32, F32>(args),
            (_, Store::Rounded) => prepare_as::<V, F32, Rounded>(args),
            (_, Store::Bf16) => prepare_as::<V, F32, Bf16>(args),
        }
    }
}

/// # Safety
/// As for [`prepare`].
#[inline(always)]
unsafe fn prepare_as<V: Lanes, From: Element, To: Element>(args: &PrepareRow) {
    // SAFETY: as for the caller; the groups partition the channels.
    unsafe {
        let mut c = 0;
        while c < args.channels {
            let registers = (args.channels - c) / V::N;
            let trunk = !args.trunk.is_null();
            c += V::N
                * match (registers, trunk) {
                    (4.., false) => prepare_channels::<V, From, To, 4, false>(args, c),
                    (4.., true) => prepare_channels::<V, From, To, 4, true>(args, c),
                    (2.., false) => prepare_channels::<V, From, To, 2, false>(args, c),
                    (2.., true) => prepare_channels::<V, From, To, 2, true>(args, c),
                    (_, false) => prepare_channels::<V, From, To, 1, false>(args, c),
                    (_, true) => prepare_channels::<V, From, To, 1, true>(args, c),
                };
        }
    }
}

/// J registers of channels from `c` of all pixels; returns J.
///
/// # Safety
/// The instruction set of `V`; `from`, `to` and a trunk hold pixels · channels elements, `factors` and `summands`
/// `channels` floats, and c + J · N ≤ channels.
#[inline(always)]
unsafe fn prepare_channels<V: Lanes, From: Element, To: Element, const J: usize, const TRUNK: bool>(
    args: &PrepareRow,
    c: usize,
) -> usize {
    // SAFETY: the caller's promises.
    unsafe {
        let floor = V::splat(args.floor);
        let (mut factors, mut summands) = ([floor; J], [floor; J]);
        for j in 0..J {
            factors[j] = V::load(args.factors.add(c + j * V::N));
            summands[j] = V::load(args.summands.add(c + j * V::N));
        }
        for x in 0..args.pixels {
            for j in 0..J {
                let i = x * args.channels + c + j * V::N;
                let value = From::load::<V>(args.from, i).mul_add(factors[j], summands[j]).max(floor);
                if TRUNK {
                    To::store(value.add(From::load::<V>(args.trunk, i)), args.to, i);
                } else {
                    To::store(value, args.to, i);
                }
            }
        }
        J
    }
}

/// # Safety
/// The instruction set of `V`; `args` as documented.
#[inline(always)]
pub(super) unsafe fn load<V: Lanes>(args: &LoadRow) {
    // SAFETY: the caller's promises.
    unsafe {
        match args.to_store {
            Store::F32 => load_as::<V, F32>(args),
            Store::Rounded => load_as::<V, Rounded>(args),
            Store::Bf16 => load_as::<V, Bf16>(args),
        }
    }
}

/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn load_as<V: Lanes, To: Element>(args: &LoadRow) {
    // SAFETY: `from` and `to` hold `bytes` elements, the pattern 48 floats, and N divides 48.
    unsafe {
        let whole = args.bytes - args.bytes % V::N;
        for i in (0..whole).step_by(V::N) {
            let lane = i % 48;
            let value = V::load_u8(args.from.add(i))
                .mul_add(V::load(args.factors.add(lane)), V::load(args.summands.add(lane)));
            To::store(value, args.to, i);
        }
        for i in whole..args.bytes {
            let lane = i % 48;
            let value =
                f32::from(*args.from.add(i)).mul_add(*args.factors.add(lane), *args.summands.add(lane));
            To::store_one(value, args.to, i);
        }
    }
}

/// # Safety
/// The instruction set of `V`; `args` as documented.
#[inline(always)]
pub(super) unsafe fn finish<V: Lanes>(args: &FinishRow) {
    // SAFETY: the caller's promises.
    unsafe {
        match args.to_store {
            Store::F32 | Store::Rounded => finish_as::<V, F32>(args),
            Store::Bf16 => finish_as::<V, Bf16>(args),
        }
    }
}

/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn finish_as<V: Lanes, To: Element>(args: &FinishRow) {
    // SAFETY: as for the caller; the groups partition the channels.
    unsafe {
        let mut c = 0;
        while c < args.channels {
            if args.channels - c >= 4 * V::N {
                finish_channels::<V, To, 4>(args, c);
                c += 4 * V::N;
            } else if args.channels - c >= 2 * V::N {
                finish_channels::<V, To, 2>(args, c);
                c += 2 * V::N;
            } else {
                finish_channels::<V, To, 1>(args, c);
                c += V::N;
            }
        }
    }
}

/// Moments of J registers of channels from `c`: first a mean, then the deviations about it, which also correct
/// it; so neither a flat nor a far-off row loses digits. They are those of the values as stored: a flat plane's mean
/// must be its value to the last bit, or the norm multiplies the difference by up to 1/√ε.
///
/// # Safety
/// The instruction set of `V`; `from` and `to` hold pixels · channels elements, `moments` 2 · channels floats, and
/// c + J · N ≤ channels.
#[inline(always)]
unsafe fn finish_channels<V: Lanes, To: Element, const J: usize>(args: &FinishRow, c: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        let scale = V::splat(1.0 / args.pixels as f32);
        let from = args.from.add(c);
        let mut sums = [V::zero(); J];
        for x in 0..args.pixels {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(V::load(from.add(x * args.channels + j * V::N)));
            }
        }
        let means = sums.map(|sum| sum.mul(scale));
        let mut sums = [V::zero(); J];
        let mut squares = [V::zero(); J];
        for x in 0..args.pixels {
            for j in 0..J {
                let i = x * args.channels + j * V::N;
                let value = To::store(V::load(from.add(i)), args.to, c + i);
                let distance = value.sub(means[j]);
                sums[j] = sums[j].add(distance);
                squares[j] = distance.mul_add(distance, squares[j]);
            }
        }
        for j in 0..J {
            let shift = sums[j].mul(scale);
            let to = args.moments.add(c + j * V::N);
            means[j].add(shift).store(to);
            // Rounding may take it a little below zero.
            squares[j].sub(sums[j].mul(shift)).max(V::zero()).store(to.add(args.channels));
        }
    }
}

/// # Safety
/// The instruction set of `V`; `args` as documented.
#[inline(always)]
pub(super) unsafe fn sum_pieces<V: Lanes>(args: &SumPieces) {
    // SAFETY: the caller's promises.
    unsafe {
        match args.pieces {
            1 => sum_pieces_of::<V, 1>(args),
            2 => sum_pieces_of::<V, 2>(args),
            3 => sum_pieces_of::<V, 3>(args),
            4 => sum_pieces_of::<V, 4>(args),
            _ => debug_assert!(false, "{} pieces", args.pieces),
        }
    }
}

/// # Safety
/// As for [`sum_pieces`].
#[inline(always)]
unsafe fn sum_pieces_of<V: Lanes, const PIECES: usize>(args: &SumPieces) {
    let sums = 3 * PIECES;
    // SAFETY: `results` holds pixels + 3 · (PIECES − 1) pixels, `to` the pixels, and both the overrun: a register goes
    // at most N − 1 floats past the sums, and N is at most 16.
    unsafe {
        for x in 0..args.pixels {
            for k in (0..sums).step_by(V::N) {
                let mut sum = V::load(args.results.add(x * args.pixel + k));
                for j in 1..PIECES {
                    sum = sum.add(V::load(args.results.add((x + 3 * j) * args.pixel + j * sums + k)));
                }
                sum.store(args.to.add(x * args.to_pixel + k));
            }
        }
    }
}

/// # Safety
/// `args` as documented.
#[inline(always)]
pub(super) unsafe fn sum_columns(args: &SumColumns) {
    // SAFETY: `columns` holds pixels + kernel − 1 pixels of at least 3 · kernel + 1 floats, `to` 3 · pixels + 1.
    unsafe {
        let [r, g, b] = args.bias;
        for x in 0..args.pixels {
            let mut sums = [r, g, b, 0.0];
            for k in 0..args.kernel {
                let from = args.columns.add((x + k) * args.pixel + 3 * k).cast::<[f32; 4]>().read_unaligned();
                for (sum, value) in sums.iter_mut().zip(from) {
                    *sum += value;
                }
            }
            args.to.add(3 * x).cast::<[f32; 4]>().write_unaligned(sums);
        }
    }
}
