//! The random weights that both sides of the golden files regenerate are the same bits.

use impasto_checkpoints::random::uniform;
use impasto_test_support::repository;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    uniform: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    seed: u64,
    name: String,
    count: usize,
    first_bits: Vec<u32>,
    sum_of_bits: u64,
}

#[test]
fn rust_and_numpy_draw_the_same_bits() {
    let text = std::fs::read(repository("tests/golden/transform_net.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&text).unwrap();
    assert!(!golden.uniform.is_empty());
    for stream in golden.uniform {
        let bits: Vec<u32> = uniform(stream.seed, &stream.name, stream.count).map(f32::to_bits).collect();
        assert_eq!(bits[..stream.first_bits.len()], stream.first_bits, "{}", stream.name);
        assert_eq!(
            bits.iter().map(|&bits| u64::from(bits)).sum::<u64>(),
            stream.sum_of_bits,
            "{}",
            stream.name
        );
    }
}
