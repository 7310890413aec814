//! The Burn network against PyTorch: golden outputs of seeded random networks of every kind.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;

use burn::tensor::{DType, Tensor, TensorData};
use impasto_burn::backend::Cpu;
use impasto_burn::{Device, Precision, TransformNet, open_painter};
use impasto_checkpoints::{Architecture, StyleModel};
use impasto_test_support::repository;
use safetensors::SafeTensors;

/// Of 255. PyTorch's own f32 and f64 differ by up to 0.003 here; mistakes differ by whole grey levels.
const TOLERANCE: f32 = 0.02;

#[test]
fn both_paths_paint_what_pytorch_paints() {
    let folder = repository("tests/golden");
    let bytes = std::fs::read(folder.join("transform_net.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("transform_net.json")).unwrap()).unwrap();
    let mut seen = BTreeSet::new();
    for case in json["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let architecture: Architecture = serde_json::from_value(case["architecture"].clone()).unwrap();
        let model = StyleModel::random(architecture, case["seed"].as_u64().unwrap()).unwrap();
        let mut painter = open_painter(&model, Device::Cpu, Precision::F32).unwrap();
        let network = TransformNet::<Cpu>::from_model(&model, &Default::default()).unwrap();
        for picture in case["pictures"].as_array().unwrap() {
            let size = |axis: &str| picture[axis].as_u64().unwrap() as usize;
            let (width, height) = (size("width"), size("height"));
            let key = format!("{name}.{width}x{height}");
            let rgb = golden.tensor(&format!("{key}.input")).unwrap().data();
            let expected: Vec<f32> = golden
                .tensor(&format!("{key}.output"))
                .unwrap()
                .data()
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            let mut painted = vec![0.0; rgb.len()];
            painter.paint(rgb, width, height, &mut painted).unwrap();
            let worst = largest_difference(&painted, &expected);
            assert!(worst < TOLERANCE, "{key}: the CPU's kernels differ by {worst}");

            // In f64 the network takes Burn's operations, which is what GPUs run.
            let input: Vec<f32> = rgb.iter().map(|&value| f32::from(value)).collect();
            let input = TensorData::new(input, [1, height, width, 3]);
            let input = Tensor::<Cpu, 4>::from_data(input, &Default::default()).permute([0, 3, 1, 2]);
            let painted = network.forward_in(input, DType::F64).permute([0, 2, 3, 1]);
            let worst = largest_difference(&painted.into_data().to_vec::<f32>().unwrap(), &expected);
            assert!(worst < TOLERANCE, "{key}: Burn's operations differ by {worst}");
            seen.insert(key);
        }
    }
    assert!(seen.len() >= 80, "only {} golden pictures", seen.len());
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `max` would drop a NaN.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d <= m { m } else { d })
}
