//! Every kernel of every instruction set that is here, against plain code on random shapes.
//!
//! What is written lies between guards, which must be whole afterwards; what is read has no spare value at its end,
//! so that a memory checker finds a read too many.

#[cfg(target_arch = "x86_64")]
mod matrix_unit;
mod rows;
mod tiles;
mod walks;
mod winograd;

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::emulated_amx;
use super::{Kernels, of};
use crate::engine::Isa;
use impasto_checkpoints::random::uniform;

/// The kernels of this machine by name; the matrix unit's also with the unit emulated.
fn kernels() -> Vec<(&'static str, &'static Kernels)> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    let native = isas.filter_map(|isa| Some((isa.name(), of(isa)?)));
    #[cfg(target_arch = "x86_64")]
    let native = native.chain(emulated_amx().map(|kernels| ("emulated amx", kernels)));
    native.collect()
}

/// `count` values in [−1, 1).
fn values(seed: u64, name: &str, count: usize) -> Vec<f32> {
    uniform(seed, name, count).collect()
}

/// Random choices.
struct Dice(Box<dyn Iterator<Item = f32>>);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(Box::new(uniform(seed, "dice", 1 << 20)))
    }

    fn within(&mut self, range: Range<usize>) -> usize {
        let u = (self.0.next().expect("enough dice") + 1.0) / 2.0;
        range.start + ((u * range.len() as f32) as usize).min(range.len() - 1)
    }
}

/// Memory to be written, between two guards. It begins at an odd element, since kernels promise nothing of alignment.
struct Guarded<T> {
    memory: Vec<T>,
    untouched: T,
}

const GUARD: usize = 67;

impl<T: Copy + PartialEq + std::fmt::Debug> Guarded<T> {
    fn new(length: usize, untouched: T) -> Self {
        Guarded { memory: vec![untouched; length + 2 * GUARD], untouched }
    }

    fn pointer(&mut self) -> *mut T {
        self.memory[GUARD..].as_mut_ptr()
    }

    /// What was written. Panics when a guard was.
    fn written(&self) -> &[T] {
        let end = self.memory.len() - GUARD;
        for (i, value) in self.memory.iter().enumerate() {
            let guard = i < GUARD || i >= end;
            assert!(!guard || *value == self.untouched, "written at {}", i as isize - GUARD as isize);
        }
        &self.memory[GUARD..end]
    }
}

/// What no kernel writes.
const UNTOUCHED: f32 = -123_456.79;

/// The nearest bf16 by its definition: of the two neighbours the nearer one, of two equally near ones the even one;
/// past the largest, infinity.
fn nearest_bf16(value: f32) -> f32 {
    let towards_zero = f32::from_bits(value.to_bits() & 0xffff_0000);
    let away = f32::from_bits((value.to_bits() & 0xffff_0000).wrapping_add(0x1_0000));
    // What would follow the largest bf16, did the exponent go on.
    let size = |x: f32| if x.is_infinite() { 2.0_f64.powi(128) } else { f64::from(x.abs()) };
    let (below, above) = (size(value) - size(towards_zero), size(away) - size(value));
    let odd = towards_zero.to_bits() >> 16 & 1 == 1;
    if above < below || (above == below && odd) { away } else { towards_zero }
}

fn to_bf16(value: f32) -> u16 {
    (nearest_bf16(value).to_bits() >> 16) as u16
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Values that rounding gets wrong if it gets any wrong: ties with even and odd neighbours, next to ties, both signs,
/// zeros, the largest, subnormal ones.
fn difficult_values() -> Vec<f32> {
    let ulp = 2.0_f32.powi(-7); // of bf16 at 1
    let mut all = vec![0.0, f32::MIN_POSITIVE, f32::MAX, 1e-40, 1e-45, 3.3895e38, 3.395e38];
    for whole in [1.0, 1.0 + ulp, 1.5, 1.0 + 5.0 * ulp] {
        for part in [0.0, 0.25, 0.5, 0.75] {
            let value: f32 = whole + part * ulp;
            let (below, above) = (f32::from_bits(value.to_bits() - 1), f32::from_bits(value.to_bits() + 1));
            for scale in [1.0, 2.0_f32.powi(100), 2.0_f32.powi(-100), 2.0_f32.powi(-126), 2.0_f32.powi(-130)]
            {
                all.extend([value, below, above].map(|value| value * scale));
            }
        }
    }
    let negative: Vec<_> = all.iter().map(|value| -value).collect();
    all.extend(negative);
    all.resize(all.len().next_multiple_of(16), 1.0);
    all
}

#[test]
fn the_engine_rounds_to_bf16_by_the_definition() {
    let mut all = difficult_values();
    all.extend(values(1, "any", 5000).iter().map(|value| value * 1000.0));
    for value in all {
        let (rounded, expected) = (crate::engine::round_bf16(value), nearest_bf16(value));
        assert_eq!(rounded.to_bits(), expected.to_bits(), "{value:e}: {rounded:e}, expected {expected:e}");
    }
}
