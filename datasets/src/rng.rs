//! Random numbers that mean the same on every platform, addressed by what they are for.
//!
//! Each use opens its own ChaCha8 stream, keyed by (purpose, seed, two indices); nothing is drawn from a
//! shared stream, so no draw depends on which worker came first. The conversions to ranges and fractions
//! are written out here because the `rand` crate keeps the right to change its own between versions, and
//! a resumed run must see the same pictures after an update.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What a stream is for: two purposes never share numbers, whatever their seeds and indices.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// The order of the photos in one epoch.
    Order = 1,
    /// Crop and flip of one photo.
    Frame = 2,
    /// Which photo stands in for a bad one.
    Replacement = 3,
    /// A dead-leaves scene for training.
    Scene = 4,
    /// A dead-leaves scene for validation.
    HeldOutScene = 5,
    /// The noise tile of the dead leaves.
    Texture = 6,
}

/// One stream of random numbers.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of this purpose, seed and pair of indices.
    pub(crate) fn new(purpose: Purpose, seed: u64, first: u64, second: u64) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip([purpose as u64, seed, first, second]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A whole number in 0..`limit` (`limit` ≥ 1). The bias of the multiplication is below limit/2⁶⁴.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(limit)) >> 64) as u64
    }

    /// A fraction in [0, 1), a multiple of 2⁻²⁴.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// A number in [low, high).
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A bell-shaped number of mean 0 and variance 1 within ±3: the sum of three uniform ones. The usual
    /// formula of the normal distribution needs `ln` and `cos`, whose last bits differ between platforms.
    pub(crate) fn bell(&mut self) -> f32 {
        2.0 * (self.unit() + self.unit() + self.unit() - 1.5)
    }
}

/// The finalizer of SplitMix64: spreads every input bit over the whole word.
pub(crate) fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stable hash of a text: FNV-1a, mixed because its high bits alone are poor on short texts.
pub(crate) fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned() {
        // These numbers decide which pictures a resumed run sees: a change here breaks every resume.
        let mut random = Random::new(Purpose::Frame, 1, 2, 3);
        assert_eq!(random.bits(), 493_183_086_636_809_742);
        assert_eq!(hash("000000000139.jpg"), 16_213_851_966_279_970_464);
    }

    #[test]
    fn streams_differ_by_every_part_of_their_address() {
        let first = |p, s, a, b| Random::new(p, s, a, b).bits();
        let all = [
            first(Purpose::Frame, 1, 2, 3),
            first(Purpose::Order, 1, 2, 3),
            first(Purpose::Frame, 0, 2, 3),
            first(Purpose::Frame, 1, 0, 3),
            first(Purpose::Frame, 1, 2, 0),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn ranges_are_respected_and_filled() {
        let mut random = Random::new(Purpose::Scene, 9, 0, 0);
        let mut counts = [0_u32; 5];
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..10_000 {
            counts[random.below(5) as usize] += 1;
            assert!((0.0..1.0).contains(&random.unit()));
            let bell = random.bell();
            sum += bell;
            squares += bell * bell;
        }
        // 2,000 expected each, standard deviation 40.
        assert!(counts.iter().all(|&count| (1_800..2_200).contains(&count)), "{counts:?}");
        assert!((sum / 10_000.0).abs() < 0.05 && (squares / 10_000.0 - 1.0).abs() < 0.05);
    }
}
