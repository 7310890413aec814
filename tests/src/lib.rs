//! Tests that cross crates, and what they share: the golden files.
//!
//! Duty of this room: parity with PyTorch, fast against iterative. A test of one crate lives in that crate; a test that
//! runs a binary lives in that binary's package; what the tests of several crates share lives in `support/`.

/// The README's Rust snippets, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Those of the page on embedding, compiled, and run where they need no file.
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;

use impasto::Frame;
use impasto_checkpoints::Architecture;
use impasto_checkpoints::random::uniform;
use impasto_test_support::repository;
use safetensors::SafeTensors;
use serde::Deserialize;

/// One network of `golden/transform_net.json`.
#[derive(Debug, Deserialize)]
pub struct GoldenCase {
    /// Its name, the prefix of its tensors in `transform_net.safetensors`.
    pub name: String,
    /// The network.
    pub architecture: Architecture,
    /// Seed of its weights: [`impasto_checkpoints::StyleModel::random`].
    pub seed: u64,
    /// What `Architecture::minimum_size` must be.
    pub minimum_size: usize,
    /// The pictures it was run on.
    pub pictures: Vec<GoldenPicture>,
}

/// A picture of a golden case.
#[derive(Debug, Deserialize)]
pub struct GoldenPicture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// How far PyTorch in f32 is from PyTorch in f64 on it, at most, in 255ths.
    pub f64_difference: f32,
}

/// The cases of `golden/transform_net.json`.
///
/// # Panics
/// When the file is not there or not as its README says: a broken checkout.
pub fn golden_cases() -> Vec<GoldenCase> {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<GoldenCase>,
    }
    let text =
        std::fs::read(repository("tests/golden/transform_net.json")).expect("golden/transform_net.json");
    let file: File = serde_json::from_slice(&text).expect("golden/transform_net.json");
    file.cases
}

/// The f32 values of a tensor.
///
/// # Panics
/// When it is not there.
pub fn f32_tensor(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).expect(name);
    view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The noise picture that the golden scripts call `picture(seed, name, height, width, 3)`.
///
/// # Panics
/// When a side is 0.
pub fn noise_picture(seed: u64, name: &str, width: usize, height: usize) -> Frame {
    let values = uniform(seed, name, width * height * 3);
    let bytes = values.map(|u| ((u + 1.0) * 128.0) as u8).collect();
    Frame::new(width, height, bytes).expect("a size without 0")
}

/// Largest absolute difference of two slices of one length.
///
/// # Panics
/// When the lengths differ, or a value is not a number.
pub fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let difference = |(a, b): (&f32, &f32)| {
        assert!(a.is_finite() && b.is_finite(), "{a} and {b}");
        (a - b).abs()
    };
    one.iter().zip(other).map(difference).fold(0.0, f32::max)
}
