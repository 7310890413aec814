//! The crate's own `conv2d` against Burn's: values and gradients.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use burn::backend::Autodiff;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, TensorData};
use impasto_burn::backend::{Cpu, conv2d};
use impasto_checkpoints::random;

type Tracked = Autodiff<Cpu>;
type Conv2d = fn(
    Tensor<Tracked, 4>,
    Tensor<Tracked, 4>,
    Option<Tensor<Tracked, 1>>,
    ConvOptions<2>,
) -> Tensor<Tracked, 4>;

fn noise<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<Tracked, D> {
    let values: Vec<f32> = random::uniform(7, name, shape.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// Output, and the gradients of `Σ r · output` by input, weight and bias.
fn run(
    conv: Conv2d,
    input: [usize; 4],
    weight: [usize; 4],
    bias: bool,
    options: ConvOptions<2>,
) -> Vec<Vec<f32>> {
    let (input, weight) = (noise("input", input).require_grad(), noise("weight", weight).require_grad());
    let bias = bias.then(|| noise("bias", [weight.dims()[0]]).require_grad());
    let output = conv(input.clone(), weight.clone(), bias.clone(), options);
    let gradients = (output.clone() * noise("loss", output.dims())).sum().backward();
    let mut all = vec![output.into_data(), input.grad(&gradients).unwrap().into_data()];
    all.push(weight.grad(&gradients).unwrap().into_data());
    all.extend(bias.map(|bias| bias.grad(&gradients).unwrap().into_data()));
    all.into_iter().map(|data| data.to_vec().unwrap()).collect()
}

#[test]
fn it_is_burn_s_conv2d() {
    // Batch, channels, height, width; filters, kernel; stride; padding; bias.
    let cases = [
        ([2, 3, 9, 12], (5, 3), 1, [1, 1], true),
        ([1, 6, 8, 8], (4, 3), 1, [1, 1], false),
        ([3, 2, 11, 7], (9, 5), 1, [0, 2], true),
        ([2, 9, 12, 13], (3, 3), 2, [1, 0], true),
        ([1, 20, 10, 10], (2, 7), 2, [3, 3], false),
        ([2, 4, 6, 5], (3, 1), 1, [0, 0], true),
        // More than one tile of rows.
        ([1, 30, 40, 90], (8, 3), 1, [1, 1], true),
        ([1, 30, 81, 90], (8, 3), 2, [1, 1], true),
    ];
    for (input, (filters, kernel), stride, padding, bias) in cases {
        let weight = [filters, input[1], kernel, kernel];
        let options = ConvOptions::new([stride; 2], padding, [1; 2], 1);
        let own = run(conv2d, input, weight, bias, options.clone());
        let expected = run(burn::tensor::module::conv2d, input, weight, bias, options);
        for (part, (own, expected)) in own.iter().zip(&expected).enumerate() {
            assert_eq!(own.len(), expected.len());
            let scale = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            for (a, b) in own.iter().zip(expected) {
                assert!(
                    (a - b).abs() <= 2e-5 * scale,
                    "{input:?} {weight:?}, part {part}: {a} and {b} of {scale}"
                );
            }
        }
    }
}

#[test]
fn what_the_kernels_do_not_know_goes_to_burn() {
    let options = ConvOptions::new([1, 2], [0, 0], [2, 1], 2);
    let own = run(conv2d, [1, 4, 9, 9], [6, 2, 3, 2], true, options.clone());
    let expected = run(burn::tensor::module::conv2d, [1, 4, 9, 9], [6, 2, 3, 2], true, options);
    assert_eq!(own, expected);
}
