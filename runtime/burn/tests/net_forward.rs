//! The network's forward pass: every architecture at every size, and the way from and to a style model.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use burn::tensor::{DType, Tensor, TensorData};
use impasto_burn::TransformNet;
use impasto_burn::backend::Cpu;
use impasto_burn::net::InstanceNorm;
use impasto_checkpoints::{
    Activation, Architecture, InputRange, Metadata, Output, Padding, StyleModel, Upsampling, random,
};

fn architectures() -> Vec<Architecture> {
    let base = Architecture {
        layers: "c9s1-4,d6,c3s2-8,R8,R8,u6,u4,c5s1-3".parse().unwrap(),
        ..Architecture::johnson(4).unwrap()
    };
    let mut all = vec![Architecture::johnson(4).unwrap()];
    for padding in [Padding::Reflect, Padding::ZeroSame] {
        for upsampling in [Upsampling::NearestConv, Upsampling::Transposed] {
            all.push(Architecture { padding, upsampling, ..base.clone() });
        }
    }
    all.push(Architecture {
        output_norm: true,
        output: Output { activation: Activation::Tanh, scale: 150.0, offset: 127.5 },
        input: InputRange::ImagenetNormalized,
        ..base.clone()
    });
    all.push(Architecture { input: InputRange::Rgb01, layers: "c3s1-3".parse().unwrap(), ..base });
    all
}

fn picture(height: usize, width: usize) -> Tensor<Cpu, 4> {
    let shape = [2, 3, height, width];
    let values: Vec<f32> =
        random::uniform(9, "picture", shape.iter().product()).map(|u| 127.5 * (u + 1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

#[test]
fn every_architecture_paints_every_size_alike_on_both_paths() {
    for architecture in architectures() {
        let model = StyleModel::random(architecture.clone(), 4).unwrap();
        let network = TransformNet::<Cpu>::from_model(&model, &Default::default()).unwrap();
        for (height, width) in [(1, 1), (5, 7), (1, 12), (16, 16), (17, 23), (21, 30)] {
            let input = picture(height, width);
            let painted = network.forward(input.clone());
            assert_eq!(painted.dims(), [2, 3, height, width], "{architecture}");
            // In f64 the network takes Burn's operations, which is what GPUs run.
            let expected = network.forward_in(input, DType::F64).into_data().to_vec::<f32>().unwrap();
            let painted = painted.into_data().to_vec::<f32>().unwrap();
            for (a, b) in painted.iter().zip(&expected) {
                assert!((a - b).abs() < 2e-3, "{architecture} {height} x {width}: {a} and {b}");
            }
        }
    }
}

#[test]
fn pictures_of_a_batch_do_not_touch_each_other() {
    let model = StyleModel::random(Architecture::johnson(4).unwrap(), 4).unwrap();
    let network = TransformNet::<Cpu>::from_model(&model, &Default::default()).unwrap();
    let both = picture(19, 24);
    let alone = network.forward(both.clone().narrow(0, 1, 1)).into_data();
    assert_eq!(network.forward(both).narrow(0, 1, 1).into_data(), alone);
}

#[test]
fn a_model_comes_back_bit_for_bit() {
    for architecture in architectures() {
        let model = StyleModel::random(architecture, 21).unwrap();
        let network = TransformNet::<Cpu>::from_model(&model, &Default::default()).unwrap();
        let back = network.to_model(model.metadata().clone()).unwrap();
        assert_eq!(back, model);
    }
}

#[test]
fn the_architecture_of_the_network_goes_into_the_file_whatever_the_metadata_says() {
    let model = StyleModel::random(Architecture::johnson(4).unwrap(), 21).unwrap();
    let network = TransformNet::<Cpu>::from_model(&model, &Default::default()).unwrap();
    let other = Metadata::new("other", Architecture::johnson(8).unwrap());
    assert_eq!(network.to_model(other).unwrap().architecture(), model.architecture());
}

#[test]
fn a_weight_that_is_not_finite_does_not_become_a_model() {
    let model = StyleModel::random(Architecture::johnson(4).unwrap(), 21).unwrap();
    let mut network = TransformNet::<Cpu>::from_model(&model, &Default::default()).unwrap();
    let impasto_burn::net::Step::Conv(block) = &mut network.steps[0] else { panic!("first step") };
    block.conv.bias = block.conv.bias.clone().map(|bias| bias * f32::INFINITY);
    let error = network.to_model(model.metadata().clone()).unwrap_err().to_string();
    assert!(error.contains("conv1.conv2d.bias") && error.contains("finite"), "{error}");
}

#[test]
fn instance_norm_of_a_large_plane_survives_half_precision() {
    // 65,536 values: neither the count (f16) nor the sum of squares fits a half type.
    let device = Default::default();
    let norm = InstanceNorm::<Cpu>::new(vec![2.0, 1.0], vec![1.0, -1.0], 1e-5, &device);
    let values: Vec<f32> = random::uniform(5, "plane", 2 * 256 * 256).map(|u| 200.0 + 50.0 * u).collect();
    let input = Tensor::<Cpu, 4>::from_data(TensorData::new(values, [1, 2, 256, 256]), &device);
    let expected = norm.forward(input.clone()).into_data().to_vec::<f32>().unwrap();
    // Of a normalized uniform value (at most √3), the inputs' rounding is what is left: ulp / deviation.
    for (half, tolerance) in [(DType::F16, 0.01), (DType::BF16, 0.08)] {
        let output = norm.forward(input.clone().cast(half));
        assert_eq!(output.dtype(), half);
        let output = output.into_data().convert::<f32>().to_vec::<f32>().unwrap();
        let worst = output.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < tolerance, "{half:?}: {worst}");
    }
}

#[test]
fn a_flat_picture_is_normalized_to_the_bias() {
    let device = Default::default();
    let norm = InstanceNorm::<Cpu>::new(vec![3.0], vec![0.25], 1e-5, &device);
    let input = Tensor::<Cpu, 4>::full([1, 1, 300, 300], 201.7, &device);
    for value in norm.forward(input).into_data().to_vec::<f32>().unwrap() {
        assert!((value - 0.25).abs() < 1e-2, "{value}");
    }
}

#[test]
fn half_precision_convolutions_paint_nearly_the_same() {
    let model = StyleModel::random(Architecture::johnson(4).unwrap(), 8).unwrap();
    let network = TransformNet::<Cpu>::from_model(&model, &Default::default()).unwrap();
    let input = picture(20, 24);
    let expected = network.forward(input.clone()).into_data().to_vec::<f32>().unwrap();
    let spread = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let painted = network.forward_in(input, DType::BF16);
    assert_eq!(painted.dtype(), DType::F32);
    let painted = painted.into_data().to_vec::<f32>().unwrap();
    let mean = painted.iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum::<f32>() / painted.len() as f32;
    assert!(mean < 0.03 * spread, "{mean} of {spread}");
}
