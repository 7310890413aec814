//! Registers of a warp: a row holds one 32-bit register of 32 lanes, two rows a 64-bit one, a predicate is the first
//! number of a row, a bit per lane. Registers of 8 and 16 bits lie in the low bits of a row; the others say nothing
//! (they hold the sign of what is signed, so that a wider register gets it right).

use half::{bf16, f16};

pub const LANES: usize = 32;
pub const ALL: u32 = u32::MAX;

pub type Row = [u32; LANES];

/// A type that a register can hold.
pub trait Value: Copy {
    /// Rows that it takes.
    const ROWS: usize;
    fn get(rows: &[Row], row: usize) -> [Self; LANES];
    /// Writes the lanes of `mask`.
    fn put(rows: &mut [Row], row: usize, values: [Self; LANES], mask: u32);
}

fn put_row(row: &mut Row, values: Row, mask: u32) {
    if mask == ALL {
        *row = values;
    } else {
        for lane in 0..LANES {
            if mask >> lane & 1 == 1 {
                row[lane] = values[lane];
            }
        }
    }
}

macro_rules! narrow {
    ($($T:ty: $from:expr, $to:expr;)*) => {$(
        impl Value for $T {
            const ROWS: usize = 1;
            fn get(rows: &[Row], row: usize) -> [Self; LANES] {
                rows[row].map($from)
            }
            fn put(rows: &mut [Row], row: usize, values: [Self; LANES], mask: u32) {
                put_row(&mut rows[row], values.map($to), mask);
            }
        }
    )*};
}

narrow! {
    u8: |bits| bits as u8, u32::from;
    i8: |bits| bits as i8, |value| i32::from(value) as u32;
    u16: |bits| bits as u16, u32::from;
    i16: |bits| bits as i16, |value| i32::from(value) as u32;
    u32: |bits| bits, |value| value;
    i32: |bits| bits as i32, |value| value as u32;
    f32: f32::from_bits, f32::to_bits;
    f16: |bits| f16::from_bits(bits as u16), |value| u32::from(value.to_bits());
    bf16: |bits| bf16::from_bits(bits as u16), |value| u32::from(value.to_bits());
}

macro_rules! wide {
    ($($T:ty: $from:expr, $to:expr;)*) => {$(
        impl Value for $T {
            const ROWS: usize = 2;
            fn get(rows: &[Row], row: usize) -> [Self; LANES] {
                let (low, high) = (&rows[row], &rows[row + 1]);
                std::array::from_fn(|lane| $from(u64::from(low[lane]) | u64::from(high[lane]) << 32))
            }
            fn put(rows: &mut [Row], row: usize, values: [Self; LANES], mask: u32) {
                let bits: [u64; LANES] = values.map($to);
                put_row(&mut rows[row], bits.map(|bits| bits as u32), mask);
                put_row(&mut rows[row + 1], bits.map(|bits| (bits >> 32) as u32), mask);
            }
        }
    )*};
}

wide! {
    u64: |bits: u64| bits, |value| value;
    i64: |bits: u64| bits as i64, |value| value as u64;
    f64: f64::from_bits, f64::to_bits;
}

/// Two numbers of 16 bits in one register.
#[derive(Clone, Copy)]
pub struct Two<T>(pub T, pub T);

macro_rules! two {
    ($($T:ty)*) => {$(
        impl Value for Two<$T> {
            const ROWS: usize = 1;
            fn get(rows: &[Row], row: usize) -> [Self; LANES] {
                rows[row].map(|bits| Two(<$T>::from_bits(bits as u16), <$T>::from_bits((bits >> 16) as u16)))
            }
            fn put(rows: &mut [Row], row: usize, values: [Self; LANES], mask: u32) {
                let bits = values.map(|v| u32::from(v.0.to_bits()) | u32::from(v.1.to_bits()) << 16);
                put_row(&mut rows[row], bits, mask);
            }
        }
    )*};
}

two! { f16 bf16 }

/// The lanes where `test` holds.
pub fn bits(test: impl Fn(usize) -> bool) -> u32 {
    (0..LANES).fold(0, |mask, lane| mask | u32::from(test(lane)) << lane)
}

/// The lanes of a mask, in order.
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| mask >> lane & 1 == 1)
}
