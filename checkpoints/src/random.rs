//! Random weights that are the same everywhere: in Rust, in the Python scripts beside the golden files, on
//! every platform. Each value is a function of (seed, tensor name, position) alone.

use std::collections::BTreeMap;

use crate::architecture::{Architecture, Role};
use crate::error::CheckpointError;
use crate::metadata::Metadata;
use crate::style_model::{StyleModel, Tensor};

/// `count` values in [−1, 1), on a grid of 2⁻²³: SplitMix64 in counter mode, keyed by FNV-1a of the name.
///
/// `key = fnv1a64(name) ^ seed`, `z = mix(key + (i + 1) · 0x9E3779B97F4A7C15)`, value `(z >> 40) / 2²³ − 1`.
pub fn uniform(seed: u64, name: &str, count: usize) -> impl Iterator<Item = f32> {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let key = hash ^ seed;
    (1..=count as u64).map(move |i| {
        let mut z = key.wrapping_add(i.wrapping_mul(GOLDEN));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

impl StyleModel {
    /// A model as training starts from it: kernels and biases uniform in ±1/√fan_in (PyTorch's default for
    /// convolutions), norms 1 and 0.
    ///
    /// # Errors
    /// [`CheckpointError::Architecture`] when the architecture is broken.
    pub fn initial(architecture: Architecture, seed: u64) -> Result<Self, CheckpointError> {
        Self::filled("untrained", architecture, seed, 0.0)
    }

    /// A model for tests and benchmarks: as [`StyleModel::initial`], but with norms of 1 ± ¼ and 0 ± ¼, so that a
    /// kernel that forgets them is found out.
    ///
    /// # Errors
    /// [`CheckpointError::Architecture`] when the architecture is broken.
    pub fn random(architecture: Architecture, seed: u64) -> Result<Self, CheckpointError> {
        Self::filled("random", architecture, seed, 0.25)
    }

    fn filled(
        name: &str,
        architecture: Architecture,
        seed: u64,
        spread: f32,
    ) -> Result<Self, CheckpointError> {
        architecture.validate()?;
        let mut tensors = BTreeMap::new();
        for spec in architecture.tensors() {
            let count = spec.shape.iter().product();
            let (centre, bound) = match spec.role {
                Role::ConvWeight { fan_in } | Role::ConvBias { fan_in } => {
                    (0.0, 1.0 / (fan_in as f32).sqrt())
                }
                Role::NormWeight => (1.0, spread),
                Role::NormBias => (0.0, spread),
            };
            let values = uniform(seed, &spec.name, count).map(|u| centre + bound * u).collect();
            tensors.insert(spec.name, Tensor::f32(spec.shape, values));
        }
        StyleModel::new(Metadata::new(name, architecture), tensors)
    }
}
