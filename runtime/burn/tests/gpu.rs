//! Painting and training on a GPU: every device that this build and this machine have, against the CPU and PyTorch.
//!
//! A software Vulkan device counts (Debian's mesa-vulkan-drivers): `scripts/test-gpu`. Without any, each test says
//! that it was skipped.

#![cfg(any(feature = "cuda", feature = "wgpu"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::Write;

use impasto_burn::device::check;
use impasto_burn::loss::{PerceptualConfig, StyleStatistic};
use impasto_burn::loss_network::{LossNetworkKind, LossWeights};
use impasto_burn::measure::{StepJob, profile, steps};
use impasto_burn::{
    BurnError, Device, IN_FLIGHT, Operations, Painter, PostSteps, Precision, available, open_painter,
    open_painter_with,
};
use impasto_checkpoints::{
    Activation, Architecture, InputRange, Output, Padding, StyleModel, Upsampling, random,
};
use impasto_test_support::{repository, skipped};
use safetensors::SafeTensors;

/// Of 255. A card's matrix units may round f32 to TF32, whose error here is up to a few tenths.
const TOLERANCE: f32 = 0.5;

/// The GPUs there are.
fn gpus(test: &str) -> Vec<Device> {
    let found: Vec<Device> =
        available().into_iter().map(|info| info.device).filter(|&device| device != Device::Cpu).collect();
    if found.is_empty() {
        skipped(test, "no GPU is here, and no software Vulkan device");
    }
    found
}

fn noise(width: usize, height: usize) -> Vec<u8> {
    random::uniform(1, "picture", width * height * 3).map(|u| ((u + 1.0) * 128.0) as u8).collect()
}

/// A network whose paintings fill 0..255: what seeded weights give is between −1 and 1.
fn bright(architecture: Architecture, seed: u64) -> StyleModel {
    let output = Output { activation: Activation::Linear, scale: 100.0, offset: 127.5 };
    StyleModel::random(Architecture { output, ..architecture }, seed).unwrap()
}

fn paint(painter: &mut dyn Painter, rgb: &[u8], width: usize, height: usize) -> Vec<f32> {
    let mut painted = vec![f32::NAN; rgb.len()];
    painter.paint(rgb, width, height, &mut painted).unwrap();
    painted
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

#[test]
fn every_convention_and_size_is_painted_as_on_the_cpu() {
    let base = Architecture {
        layers: "c9s1-4,d8,R8,u4,c9s1-3".parse().unwrap(),
        ..Architecture::johnson(8).unwrap()
    };
    let mut architectures = vec![Architecture::johnson(8).unwrap()];
    for padding in [Padding::Reflect, Padding::ZeroSame] {
        for upsampling in [Upsampling::NearestConv, Upsampling::Transposed] {
            architectures.push(Architecture { padding, upsampling, ..base.clone() });
        }
    }
    architectures.push(Architecture { output_norm: true, input: InputRange::ImagenetNormalized, ..base });
    for gpu in gpus("every_convention_and_size") {
        for (at, architecture) in architectures.iter().enumerate() {
            let model = bright(architecture.clone(), 4);
            let mut there = open_painter(&model, gpu, Precision::F32).unwrap();
            let mut general = open_painter_with(&model, gpu, Precision::F32, Operations::General).unwrap();
            let mut here = open_painter(&model, Device::Cpu, Precision::F32).unwrap();
            assert_eq!((there.device(), there.architecture()), (gpu, model.architecture()));
            // Kernels are compiled for each size: the smallest ones once.
            let sizes: &[(usize, usize)] = if at == 0 { &[(1, 1), (5, 3), (33, 21)] } else { &[(33, 21)] };
            for &(width, height) in sizes {
                let rgb = noise(width, height);
                let expected = paint(&mut *here, &rgb, width, height);
                let painted = paint(&mut *there, &rgb, width, height);
                let mean = mean_difference(&painted, &expected);
                let case = format!("{gpu}: {architecture} {:?} {width}×{height}", architecture.padding);
                assert!(mean <= TOLERANCE, "{case}: {mean} of 255 in the mean");
                let plain = paint(&mut *general, &rgb, width, height);
                let mean = mean_difference(&plain, &expected);
                assert!(mean <= TOLERANCE, "{case}, general operations: {mean} of 255 in the mean");

                // The bytes are those values, rounded.
                let mut bytes = vec![0; rgb.len()];
                there.paint_bytes(&rgb, width, height, PostSteps::default(), &mut bytes).unwrap();
                let rounded = painted.iter().map(|value| (value + 0.5) as u8);
                // Another graph may be fused differently: a value near a half may round the other way.
                let off = rounded.zip(&bytes).filter(|(a, b)| a != *b).count();
                assert!(off * 100 <= bytes.len(), "{case}: {off} of {} bytes differ", bytes.len());
                assert!(
                    painted
                        .iter()
                        .zip(&bytes)
                        .all(|(value, &byte)| { (value.clamp(0.0, 255.0) - f32::from(byte)).abs() < 0.51 })
                );
            }
        }
    }
}

#[test]
fn golden_pictures_of_pytorch_are_painted() {
    let folder = repository("tests/golden");
    let bytes = std::fs::read(folder.join("transform_net.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("transform_net.json")).unwrap()).unwrap();
    for gpu in gpus("golden_pictures_of_pytorch") {
        let mut seen = 0;
        // Each kernel is compiled and tuned for each size: one picture of every eighth network.
        for case in json["cases"].as_array().unwrap().iter().step_by(8) {
            let architecture: Architecture = serde_json::from_value(case["architecture"].clone()).unwrap();
            let model = StyleModel::random(architecture, case["seed"].as_u64().unwrap()).unwrap();
            let mut painter = open_painter(&model, gpu, Precision::F32).unwrap();
            let picture = case["pictures"].as_array().unwrap().last().unwrap();
            let size = |axis: &str| picture[axis].as_u64().unwrap() as usize;
            let (width, height) = (size("width"), size("height"));
            let key = format!("{}.{width}x{height}", case["name"].as_str().unwrap());
            let rgb = golden.tensor(&format!("{key}.input")).unwrap().data().to_vec();
            let expected = golden.tensor(&format!("{key}.output")).unwrap();
            let expected: Vec<f32> = expected
                .data()
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            let mean = mean_difference(&paint(&mut *painter, &rgb, width, height), &expected);
            assert!(mean <= TOLERANCE, "{gpu}: {key}: {mean} of 255 in the mean");
            seen += 1;
        }
        assert!(seen >= 2, "only {seen} golden pictures");
    }
}

/// 256² is where a sum of ones no longer fits f16; a flat picture is where a variance turns negative. One norm over the
/// whole plane, and no more convolutions than it takes: each is tuned anew for each size and precision.
#[test]
fn large_flat_and_noisy_pictures_keep_their_statistics_in_every_precision() {
    let architecture =
        Architecture { layers: "c3s1-4,c3s1-3".parse().unwrap(), ..Architecture::johnson(8).unwrap() };
    let model = bright(architecture, 2);
    for gpu in gpus("large_flat_and_noisy_pictures") {
        let mut ran = Vec::new();
        let mut here = open_painter(&model, Device::Cpu, Precision::F32).unwrap();
        for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::Half, 1.0)] {
            let mut there = match open_painter(&model, gpu, precision) {
                Err(BurnError::Precision { .. }) => continue,
                opened => opened.unwrap(),
            };
            ran.push(format!("{precision:?}"));
            for side in [256, 512, 1024] {
                for (kind, rgb) in [("flat", vec![201; side * side * 3]), ("noisy", noise(side, side))] {
                    let expected = paint(&mut *here, &rgb, side, side);
                    let painted = paint(&mut *there, &rgb, side, side);
                    let case = format!("{gpu}: {kind} {side}² in {precision:?}");
                    assert!(painted.iter().all(|value| value.is_finite()), "{case}");
                    let mean = mean_difference(&painted, &expected);
                    // A flat plane normalized is rounding divided by √ε: what that is differs with the order of sums.
                    let tolerance = if kind == "flat" { 4.0 * tolerance } else { tolerance };
                    assert!(mean <= tolerance, "{case}: {mean} of 255 in the mean");
                }
            }
        }
        let _ = writeln!(std::io::stderr(), "{gpu}: statistics tested in {}", ran.join(" and "));
    }
}

#[test]
fn frames_that_overlap_are_painted_like_frames_that_do_not() {
    let model = bright(Architecture::johnson(8).unwrap(), 3);
    for gpu in gpus("frames_that_overlap") {
        let mut painter = open_painter(&model, gpu, Precision::F32).unwrap();
        let mut engine = open_painter(&model, Device::Cpu, Precision::F32).unwrap();
        let mut queue = painter.queue().unwrap();
        let (width, height) = (48, 32);
        let post = |at: usize| match at % 3 {
            0 => PostSteps::default(),
            1 => PostSteps { strength: 0.3, keep_colors: true },
            _ => PostSteps { strength: 0.7, keep_colors: false },
        };
        let frame = |at: usize| {
            let mut rgb = noise(width, height);
            rgb.rotate_left(at * 3 * 7);
            rgb
        };
        let (mut painted, mut taken) = (Vec::new(), 0);
        let mut check = |painted: &[u8]| {
            let mut expected = vec![0; painted.len()];
            painter.paint_bytes(&frame(taken), width, height, post(taken), &mut expected).unwrap();
            let far = expected.iter().zip(painted).filter(|(a, b)| a.abs_diff(**b) > 1).count();
            assert_eq!(far, 0, "{gpu}: frame {taken}");
            engine.paint_bytes(&frame(taken), width, height, post(taken), &mut expected).unwrap();
            let values = |bytes: &[u8]| bytes.iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>();
            let mean = mean_difference(&values(painted), &values(&expected));
            assert!(mean <= TOLERANCE, "{gpu}: frame {taken}: {mean} of 255 in the mean");
            taken += 1;
        };
        for at in 0..6 {
            queue.submit(&frame(at), width, height, post(at)).unwrap();
            if queue.in_flight() > IN_FLIGHT {
                assert_eq!(queue.take(&mut painted).unwrap(), Some((width, height)));
                check(&painted);
            }
        }
        while queue.take(&mut painted).unwrap().is_some() {
            check(&painted);
        }
        assert_eq!(taken, 6);
    }
}

#[test]
fn training_steps_lose_what_they_lose_on_the_cpu() {
    let (side, batch) = (32, 2);
    let model = StyleModel::initial(Architecture::johnson(4).unwrap(), 1).unwrap();
    let weights = LossWeights::random(LossNetworkKind::Vgg16, 1);
    let layers = |names: &[&str]| names.iter().map(|name| (name.to_string(), 1.0)).collect();
    let loss = PerceptualConfig {
        content_layers: layers(&["relu2_1"]),
        style_layers: layers(&["relu1_1", "relu2_1"]),
        content_weight: 1.0,
        style_weight: 300.0,
        tv_weight: 10.0,
        statistic: StyleStatistic::Gram,
    };
    let photos = noise(side, side * batch);
    let losses = |device, operations| {
        let mut steps = steps(StepJob {
            device,
            precision: Precision::F32,
            operations,
            model: &model,
            loss_weights: &weights,
            loss: &loss,
            style: &noise(side, side),
            side,
            batch,
            learning_rate: 1e-2,
        })
        .unwrap();
        assert!(steps.finish().is_err(), "no step was taken");
        assert!(steps.step(&photos[1..]).is_err(), "a byte is missing");
        (0..3)
            .map(|_| {
                steps.step(&photos).unwrap();
                steps.finish().unwrap()
            })
            .collect::<Vec<f32>>()
    };
    for gpu in gpus("training_steps") {
        let there = losses(gpu, Operations::Fused);
        let here = losses(Device::Cpu, Operations::General);
        // The second and third loss are those of weights that the gradients changed.
        assert!((here[0] - here[2]).abs() > 0.01 * here[0], "the steps change something: {here:?}");
        // CUDA's matrix products round to TF32's 11 bits where the card has it: a loss of squares of Gram matrices, four
        // layers on, was off by 0.2 % so (on a card without TF32 by less).
        let tolerance = if matches!(gpu, Device::Cuda(_)) { 0.006 } else { 0.002 };
        for (step, (there, here)) in there.iter().zip(&here).enumerate() {
            assert!(
                (there - here).abs() < tolerance * here,
                "{gpu}: step {step}: {there}, on the CPU {here}"
            );
        }
    }
}

#[test]
fn a_profile_names_every_operation() {
    let model = bright(Architecture::johnson(4).unwrap(), 3);
    for gpu in gpus("a_profile") {
        let rgb = noise(24, 16);
        let counted = |how, names: &[&str]| {
            let found = profile(&model, gpu, Precision::F32, how, (&rgb, 24, 16)).unwrap();
            assert!(found.iter().all(|operation| operation.milliseconds > 0.0));
            let count = |name: &&str| found.iter().filter(|operation| operation.name == *name).count();
            names.iter().map(count).collect::<Vec<_>>()
        };
        let names = ["upload", "convolution", "padding", "doubling", "norm", "sum", "round and download"];
        assert_eq!(counted(Operations::General, &names), [1, 16, 16, 2, 15, 5, 1]);
        let names = ["upload", "convolution", "norm and border", "border", "round and download"];
        assert_eq!(counted(Operations::Fused, &names), [1, 16, 15, 1, 1]);
        assert!(profile(&model, gpu, Precision::F32, Operations::Fused, (&[0; 5], 1, 1)).is_err());
    }
}

#[test]
fn the_list_numbers_devices_as_they_are_asked_for() {
    let found = gpus("the_list");
    for gpu in &found {
        check(*gpu).unwrap();
        assert_eq!(gpu.to_string().parse::<Device>().unwrap(), *gpu);
    }
    // The one after the last is not there, and the message says which are.
    let count = found.iter().filter(|device| matches!(device, Device::Wgpu(_))).count();
    if count > 0 {
        let line = check(Device::Wgpu(count)).unwrap_err().to_string();
        assert!(
            line.starts_with(&format!("device wgpu:{count}: there")) && line.contains("wgpu:0"),
            "{line}"
        );
    }
}
