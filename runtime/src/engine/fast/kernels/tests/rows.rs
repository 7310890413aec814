//! Rows: loaded, prepared, finished, and the columns of colours summed.

use super::super::{FinishRow, LoadRow, PrepareRow, Store, SumColumns};
use super::{Dice, Guarded, UNTOUCHED, difficult_values, from_bf16, kernels, nearest_bf16, to_bf16, values};

/// A row in memory: floats, or bf16 in a vector of their own.
struct Row {
    floats: Vec<f32>,
    halves: Vec<u16>,
}

impl Row {
    /// Values as `store` holds them; and what they are worth.
    fn new(store: Store, values: Vec<f32>) -> (Self, Vec<f32>) {
        if store == Store::Bf16 {
            let halves: Vec<_> = values.into_iter().map(to_bf16).collect();
            let worth = halves.iter().copied().map(from_bf16).collect();
            (Row { floats: Vec::new(), halves }, worth)
        } else {
            (Row { floats: values.clone(), halves: Vec::new() }, values)
        }
    }

    fn pointer(&self) -> *const u8 {
        if self.halves.is_empty() { self.floats.as_ptr().cast() } else { self.halves.as_ptr().cast() }
    }
}

/// Room for a row of results.
struct Room {
    floats: Guarded<f32>,
    halves: Guarded<u16>,
    store: Store,
}

impl Room {
    fn new(store: Store, length: usize) -> Self {
        let of = |used: bool| if used { length } else { 0 };
        Room {
            floats: Guarded::new(of(store != Store::Bf16), UNTOUCHED),
            halves: Guarded::new(of(store == Store::Bf16), 0xbeef),
            store,
        }
    }

    fn pointer(&mut self) -> *mut u8 {
        if self.store == Store::Bf16 { self.halves.pointer().cast() } else { self.floats.pointer().cast() }
    }

    /// What was written, as bits of f32.
    fn bits(&self) -> Vec<u32> {
        let (floats, halves) = (self.floats.written(), self.halves.written());
        if self.store == Store::Bf16 {
            halves.iter().map(|&half| u32::from(half) << 16).collect()
        } else {
            floats.iter().map(|value| value.to_bits()).collect()
        }
    }
}

fn rounded(store: Store, value: f32) -> f32 {
    if store == Store::F32 { value } else { nearest_bf16(value) }
}

fn assert_bits(written: &[u32], expected: impl IntoIterator<Item = f32>, what: &str) {
    let expected: Vec<f32> = expected.into_iter().collect();
    assert_eq!(written.len(), expected.len(), "{what}");
    for (i, (&bits, value)) in written.iter().zip(expected).enumerate() {
        let got = f32::from_bits(bits);
        assert_eq!(bits, value.to_bits(), "{what}: {got:e} at {i}, expected {value:e}");
    }
}

#[test]
fn prepared_rows() {
    let ways = [
        (Store::F32, Store::F32),
        (Store::F32, Store::Rounded),
        (Store::F32, Store::Bf16),
        (Store::Bf16, Store::Rounded),
        (Store::Bf16, Store::Bf16),
    ];
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(3);
        for seed in 0..120 {
            let (from_store, to_store) = ways[seed % ways.len()];
            let (pixels, channels) = (dice.within(1..40), 16 * dice.within(1..10));
            let length = pixels * channels;
            let (from, raw) = Row::new(from_store, values(seed as u64, "from", length));
            let (trunk, added) = Row::new(from_store, values(seed as u64, "trunk", length));
            let with_trunk = dice.within(0..2) == 1;
            let floor = [0.0, f32::NEG_INFINITY][dice.within(0..2)];
            let (factors, summands) =
                (values(seed as u64, "factors", channels), values(seed as u64, "summands", channels));
            let mut to = Room::new(to_store, length);
            let args = PrepareRow {
                pixels,
                channels,
                from: from.pointer(),
                from_store,
                trunk: if with_trunk { trunk.pointer() } else { std::ptr::null() },
                factors: factors.as_ptr(),
                summands: summands.as_ptr(),
                floor,
                to: to.pointer(),
                to_store,
            };
            // SAFETY: the instruction set is here, and every row has its pixels.
            unsafe { (kernels.prepare_row)(&args) };
            let expected = (0..length).map(|i| {
                let normed = raw[i].mul_add(factors[i % channels], summands[i % channels]).max(floor);
                rounded(to_store, if with_trunk { normed + added[i] } else { normed })
            });
            let what = format!("{isa}, {from_store:?} to {to_store:?}, {pixels} pixels of {channels}");
            assert_bits(&to.bits(), expected, &what);
        }
    }
}

#[test]
fn loaded_rows_of_every_length() {
    for (isa, kernels) in kernels() {
        let (factors, summands) = (values(4, "factors", 3), values(4, "summands", 3));
        let pattern = |of: &[f32]| -> Vec<f32> { (0..48).map(|i| of[i % 3]).collect() };
        let (many_factors, many_summands) = (pattern(&factors), pattern(&summands));
        for bytes in (3..250).step_by(3) {
            for to_store in [Store::F32, Store::Rounded, Store::Bf16] {
                let from: Vec<u8> =
                    values(bytes as u64, "from", bytes).iter().map(|u| ((u + 1.0) * 128.0) as u8).collect();
                let mut to = Room::new(to_store, bytes);
                let args = LoadRow {
                    bytes,
                    from: from.as_ptr(),
                    factors: many_factors.as_ptr(),
                    summands: many_summands.as_ptr(),
                    to: to.pointer(),
                    to_store,
                };
                // SAFETY: the instruction set is here, and both rows have their bytes.
                unsafe { (kernels.load_row)(&args) };
                let expected = from.iter().enumerate().map(|(i, &byte)| {
                    rounded(to_store, f32::from(byte).mul_add(factors[i % 3], summands[i % 3]))
                });
                assert_bits(&to.bits(), expected, &format!("{isa}, {bytes} bytes, {to_store:?}"));
            }
        }
    }
}

/// A finished row: its store, then means and squared deviations.
fn finish(
    kernels: &super::super::Kernels,
    row: &[f32],
    channels: usize,
    store: Store,
) -> (Vec<u32>, Vec<f32>) {
    let mut to = Room::new(store, row.len());
    let mut moments = Guarded::new(2 * channels, UNTOUCHED);
    let args = FinishRow {
        pixels: row.len() / channels,
        channels,
        from: row.as_ptr(),
        to: to.pointer(),
        to_store: store,
        moments: moments.pointer(),
    };
    // SAFETY: the instruction set is here, the rows have their pixels, `moments` two floats a channel.
    unsafe { (kernels.finish_row)(&args) };
    (to.bits(), moments.written().to_vec())
}

/// Mean and sum of squared deviations of a channel, in f64.
fn moments(row: &[f32], channels: usize, channel: usize) -> (f64, f64) {
    let of = || row[channel..].iter().step_by(channels).map(|&value| f64::from(value));
    let mean = of().sum::<f64>() / of().count() as f64;
    (mean, of().map(|value| (value - mean).powi(2)).sum())
}

#[test]
fn finished_rows_and_their_moments() {
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(5);
        for seed in 0..80 {
            let (pixels, channels) = (dice.within(1..90), 16 * dice.within(1..11));
            let store = [Store::F32, Store::Bf16][dice.within(0..2)];
            // About zero, and far from it: a variance as a difference of squares would be all noise.
            let shift = [0.0, 1000.0][dice.within(0..2)];
            let row: Vec<_> =
                values(seed, "row", pixels * channels).into_iter().map(|value| value + shift).collect();
            let (stored, seen) = finish(kernels, &row, channels, store);
            let what = format!("{isa}, {store:?}, {pixels} pixels of {channels}, shift {shift}");
            assert_bits(&stored, row.iter().map(|&value| rounded(store, value)), &what);
            // Of what was stored.
            let row: Vec<_> = stored.into_iter().map(f32::from_bits).collect();
            for channel in 0..channels {
                let (mean, deviation) = moments(&row, channels, channel);
                let (seen_mean, seen_deviation) = (seen[channel], seen[channels + channel]);
                assert!(
                    (f64::from(seen_mean) - mean).abs() <= 2e-7 * (1.0 + f64::from(shift)),
                    "{what}: mean {seen_mean} of channel {channel}, expected {mean}"
                );
                assert!(
                    (f64::from(seen_deviation) - deviation).abs()
                        <= 2e-5 * deviation + 1e-7 * f64::from(shift),
                    "{what}: deviation {seen_deviation} of channel {channel}, expected {deviation}"
                );
            }
        }
    }
}

/// A flat row has next to no deviation, however large its value, and never a negative one.
#[test]
fn flat_rows_have_no_deviation() {
    for (isa, kernels) in kernels() {
        for pixels in [1, 2, 3, 7, 100, 641] {
            for value in [0.0, 0.1, -33.3, 12_345.678] {
                let (_, seen) = finish(kernels, &vec![value; pixels * 48], 48, Store::F32);
                for channel in 0..48 {
                    let (mean, deviation) = (seen[channel], seen[48 + channel]);
                    let ulp = value.abs() * f32::EPSILON;
                    assert!((mean - value).abs() <= ulp, "{isa}: {mean} for {pixels} × {value}");
                    let noise = pixels as f32 * (0.5 * pixels as f32 * ulp).powi(2).min(ulp * ulp * 100.0);
                    assert!(
                        deviation >= 0.0 && deviation <= noise,
                        "{isa}: {deviation} for {pixels} × {value}"
                    );
                }
            }
        }
    }
}

#[test]
fn bf16_is_stored_by_the_definition() {
    let mut row = difficult_values();
    row.extend(values(6, "any", 1600).iter().map(|value| value * 1e5));
    assert_eq!(row.len() % 16, 0);
    for (isa, kernels) in kernels() {
        let (stored, _) = finish(kernels, &row, 16, Store::Bf16);
        for (&value, &bits) in row.iter().zip(&stored) {
            assert_rounded(value, f32::from_bits(bits), isa);
        }
        // And where the float stays a float.
        let mut to = Guarded::new(row.len(), UNTOUCHED);
        let args = PrepareRow {
            pixels: row.len() / 16,
            channels: 16,
            from: row.as_ptr().cast(),
            from_store: Store::F32,
            trunk: std::ptr::null(),
            factors: [1.0; 16].as_ptr(),
            // Keeps the sign of a zero.
            summands: [-0.0; 16].as_ptr(),
            floor: f32::NEG_INFINITY,
            to: to.pointer().cast(),
            to_store: Store::Rounded,
        };
        // SAFETY: the instruction set is here, and both rows have their pixels.
        unsafe { (kernels.prepare_row)(&args) };
        for (&value, &got) in row.iter().zip(to.written()) {
            assert_rounded(value, got, isa);
        }
    }
}

/// The processor's own conversion takes subnormal values, which no network meets, for zero.
fn assert_rounded(value: f32, got: f32, isa: &str) {
    let flushed = value.is_subnormal() && got == 0.0;
    assert!(flushed || got == nearest_bf16(value), "{isa}: {value:e} became {got:e}");
}

#[test]
fn columns_are_summed_to_colours() {
    for (isa, kernels) in kernels() {
        let mut dice = Dice::new(7);
        for kernel in (1..16_usize).step_by(2) {
            for pixels in [1, 2, dice.within(3..100)] {
                let pixel = (3 * kernel + 1).next_multiple_of(16) + [0, 16][dice.within(0..2)];
                let columns = values(kernel as u64, "columns", (pixels + kernel - 1) * pixel);
                let bias = [0.5, -1.25, 3.0];
                let mut to = Guarded::new(3 * pixels + 1, UNTOUCHED);
                let args =
                    SumColumns { columns: columns.as_ptr(), pixel, kernel, pixels, bias, to: to.pointer() };
                // SAFETY: the instruction set is here; the columns are those of pixels + kernel − 1 pixels.
                unsafe { (kernels.sum_columns)(&args) };
                for (i, &value) in to.written()[..3 * pixels].iter().enumerate() {
                    let (x, colour) = (i / 3, i % 3);
                    let sum = (0..kernel).map(|k| f64::from(columns[(x + k) * pixel + 3 * k + colour]));
                    let expected = f64::from(bias[colour]) + sum.sum::<f64>();
                    assert!(
                        (f64::from(value) - expected).abs() <= 1e-5,
                        "{isa}, kernel {kernel}: {value} at {x}, {colour}, expected {expected}"
                    );
                }
            }
        }
    }
}
