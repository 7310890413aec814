//! The kernels against Burn's own operations, values and gradients, on every GPU there is (a
//! software Vulkan device counts; without any, each test says that it was skipped).

use burn::backend::Autodiff;
use burn::tensor::{TensorData, activation};
use impasto_checkpoints::random::uniform;
use impasto_test_support::skipped;

use super::*;
use crate::device::{Device, available};
use crate::rgb8;

/// A test, on the backend that a device has.
trait OnGpu {
    fn run<G: Backend>(&self, place: &G::Device);
}

fn on_every_gpu(name: &str, test: impl OnGpu) {
    let mut ran = false;
    for found in available() {
        match found.device {
            Device::Cpu => continue,
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => {
                test.run::<crate::backend::Cuda>(&burn::backend::cuda::CudaDevice::new(index))
            }
            #[cfg(feature = "wgpu")]
            Device::Wgpu(index) => {
                test.run::<crate::backend::Wgpu>(&crate::backend::wgpu_adapter(index).unwrap())
            }
            #[allow(unreachable_patterns)]
            _ => continue,
        }
        ran = true;
    }
    if !ran {
        skipped(name, "no GPU is here, and no software Vulkan device");
    }
}

/// A border by Burn's operations.
fn plain_border<B: Backend>(input: Tensor<B, 4>, border: Border) -> Tensor<B, 4> {
    let [batch, channels, height, width] = input.dims();
    let doubled = match border.scale {
        1 => input,
        _ => input
            .reshape([batch, channels, height, 1, width, 1])
            .expand([batch, channels, height, 2, width, 2])
            .reshape([batch, channels, 2 * height, 2 * width]),
    };
    let pick = |input: Tensor<B, 4>, axis: usize, [before, after]: [usize; 2]| {
        let size = input.dims()[axis] as i64;
        let rows: Vec<i64> = (-(before as i64)..size + after as i64).collect();
        let place = |row: i64| {
            if row < 0 {
                -row
            } else if row >= size {
                2 * (size - 1) - row
            } else {
                row
            }
        };
        let inside = |row: i64| row >= 0 && row < size;
        let parts = rows.iter().map(|&row| match (border.reflect, inside(row)) {
            (false, false) => input.clone().narrow(axis, 0, 1).mul_scalar(0.0),
            _ => input.clone().narrow(axis, place(row) as usize, 1),
        });
        Tensor::cat(parts.collect(), axis)
    };
    pick(pick(doubled, 2, border.rows), 3, border.columns)
}

/// Instance norm by Burn's operations.
fn plain_norm<B: Backend>(
    input: Tensor<B, 4>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f32,
) -> Tensor<B, 4> {
    let channels = input.dims()[1];
    let mean = |x: Tensor<B, 4>| x.mean_dim(2).mean_dim(3);
    let centred = input.clone() - mean(input);
    let factor = (mean(centred.clone() * centred.clone()) + epsilon).sqrt().recip();
    centred * factor * weight.reshape([1, channels, 1, 1]) + bias.reshape([1, channels, 1, 1])
}

/// Numbers in −1..5.
fn random(name: &str, shape: [usize; 4]) -> TensorData {
    let numbers = uniform(7, name, shape.iter().product()).map(|u| 2.0 + 3.0 * u);
    TensorData::new(numbers.collect(), shape)
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap()
}

/// Small whole numbers: their products are exact in TF32, too, and sums of them in any order.
fn whole(name: &str, count: usize) -> Vec<f32> {
    uniform(1, name, count).map(|value| (value * 4.0).round()).collect()
}

fn assert_same(case: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{case}");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(a, b, "{case}: value {at}");
    }
}

#[track_caller]
fn assert_close(case: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let scale = expected.iter().fold(1e-3_f32, |most, value| most.max(value.abs()));
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        // Sums of some thousand values that cancel lie behind a gradient.
        assert!((a - b).abs() <= 1e-4 * scale, "{case}: value {at} is {a}, not {b} (the largest is {scale})");
    }
}

/// Borders that the network's convolutions have, and lopsided ones.
const BORDERS: [Border; 6] = [
    Border::NONE,
    Border { rows: [4; 2], columns: [4; 2], scale: 1, reflect: true },
    Border { rows: [1; 2], columns: [1; 2], scale: 2, reflect: true },
    Border { rows: [0, 1], columns: [1, 1], scale: 1, reflect: false },
    Border { rows: [1, 2], columns: [3, 0], scale: 2, reflect: false },
    Border { rows: [0; 2], columns: [0; 2], scale: 2, reflect: true },
];

/// Batch, channels (vectors of 1, 2, 4, and more groups than lanes), height, width.
const SHAPES: [[usize; 4]; 5] = [[1, 3, 5, 7], [2, 8, 9, 6], [1, 6, 40, 33], [2, 160, 5, 5], [1, 67, 6, 5]];

#[test]
fn norm_and_border_are_those_of_general_operations() {
    struct Test;
    impl OnGpu for Test {
        fn run<G: Backend>(&self, place: &G::Device) {
            for (at, shape) in SHAPES.into_iter().enumerate() {
                for (which, border) in BORDERS.into_iter().enumerate() {
                    let (relu, with_skip) = ((at + which) % 3 == 0, (at + which) % 3 == 1);
                    let case = format!("{shape:?}, {border:?}, ReLU {relu}, sum {with_skip}");
                    let [batch, channels, height, width] = shape;
                    let [tall, wide] = border.around([height, width]);
                    // What is added has a border as in the network, or none.
                    let around = if at % 2 == 0 { BORDERS[1] } else { Border::NONE };
                    let [skip_height, skip_width] = around.around([height, width]);
                    let input = random("input", shape);
                    let skip = random("skip", [batch, channels, skip_height, skip_width]);
                    let weight = random("weight", [1, channels, 1, 1]);
                    let bias = random("bias", [1, channels, 1, 1]);
                    let upstream = random("upstream", [batch, channels, tall, wide]);
                    // The same twice, by our kernels and by Burn's.
                    let run = |own: bool| {
                        let leaf = |data: &TensorData| {
                            Tensor::<Autodiff<G>, 4>::from_data(data.clone(), place).require_grad()
                        };
                        let (input, skip) = (leaf(&input), leaf(&skip));
                        let leaves = [leaf(&weight), leaf(&bias)];
                        let [weight, bias] = leaves.clone().map(|leaf| leaf.reshape([channels]));
                        let output = if own {
                            let after = match (relu, with_skip) {
                                (true, _) => After::Relu,
                                (_, true) => After::Sum(&skip, around),
                                _ => After::Nothing,
                            };
                            norm(&input, [&weight, &bias], 1e-5, after, border).unwrap()
                        } else {
                            let normed = plain_norm(input.clone(), weight, bias, 1e-5);
                            let normed = if relu { activation::relu(normed) } else { normed };
                            let inner = skip.clone().narrow(2, around.rows[0], height);
                            let inner = inner.narrow(3, around.columns[0], width);
                            let sum = if with_skip { normed + inner } else { normed };
                            plain_border(sum, border)
                        };
                        assert_eq!(output.dims(), [batch, channels, tall, wide], "{case}");
                        let upstream = Tensor::<Autodiff<G>, 4>::from_data(upstream.clone(), place);
                        let gradients = (output.clone() * upstream).sum().backward();
                        let [weight, bias] = leaves;
                        let mut all = vec![("output", values(output))];
                        all.push(("input's gradient", values(input.grad(&gradients).unwrap())));
                        all.push(("weight's gradient", values(weight.grad(&gradients).unwrap())));
                        all.push(("bias's gradient", values(bias.grad(&gradients).unwrap())));
                        if with_skip {
                            all.push(("summand's gradient", values(skip.grad(&gradients).unwrap())));
                        }
                        all
                    };
                    for ((name, found), (_, expected)) in run(true).into_iter().zip(run(false)) {
                        assert_close(&format!("{case}: {name}"), &found, &expected);
                    }
                }
            }
        }
    }
    on_every_gpu("norm_and_border", Test);
}

#[test]
fn a_border_alone_is_that_of_general_operations() {
    struct Test;
    impl OnGpu for Test {
        fn run<G: Backend>(&self, place: &G::Device) {
            for (shape, border) in SHAPES.into_iter().flat_map(|shape| BORDERS.map(|border| (shape, border)))
            {
                let case = format!("{shape:?}, {border:?}");
                let [batch, channels, height, width] = shape;
                let [tall, wide] = border.around([height, width]);
                let data = random("input", shape);
                let upstream = random("upstream", [batch, channels, tall, wide]);
                let run = |own: bool| {
                    let input = Tensor::<Autodiff<G>, 4>::from_data(data.clone(), place).require_grad();
                    let output = match own {
                        true => super::border(&input, border, DType::F32).unwrap(),
                        false => plain_border(input.clone(), border),
                    };
                    let upstream = Tensor::<Autodiff<G>, 4>::from_data(upstream.clone(), place);
                    let gradients = (output.clone() * upstream).sum().backward();
                    (values(output), values(input.grad(&gradients).unwrap()))
                };
                let (found, expected) = (run(true), run(false));
                assert_eq!(found.0, expected.0, "{case}");
                assert_close(&case, &found.1, &expected.1);
            }
        }
    }
    on_every_gpu("a_border_alone", Test);
}

#[test]
fn flat_planes_have_no_deviation_and_smooth_ones_keep_theirs() {
    struct Test;
    impl OnGpu for Test {
        fn run<G: Backend>(&self, place: &G::Device) {
            let (height, width) = (311, 257);
            let flat = vec![1234.567_f32; height * width];
            // Deviations of a hundredth about a thousand: the squares' digits beyond f32's.
            let smooth: Vec<f32> = (0..height * width).map(|at| 1000.0 + (at % 7) as f32 * 0.01).collect();
            let mean = smooth.iter().map(|&value| f64::from(value)).sum::<f64>() / smooth.len() as f64;
            let variance = smooth.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>()
                / smooth.len() as f64;
            let data = TensorData::new([flat, smooth.clone()].concat(), [1, 2, height, width]);
            let input = Tensor::<G, 4>::from_data(data, place);
            let (ones, zeros) = (Tensor::<G, 1>::ones([2], place), Tensor::<G, 1>::zeros([2], place));
            let output = norm(&input, [&ones, &zeros], 1e-9, After::Nothing, Border::NONE).unwrap();
            let output = values(output);
            let (flat, rest) = output.split_at(height * width);
            assert!(flat.iter().all(|&value| value == 0.0));
            for (found, value) in rest.iter().zip(&smooth) {
                let expected = (f64::from(*value) - mean) / (variance + 1e-9).sqrt();
                assert!((f64::from(*found) - expected).abs() < 0.02, "{found}, not {expected}");
            }
        }
    }
    on_every_gpu("flat_planes", Test);
}

#[test]
fn bytes_go_up_and_come_back_and_are_rounded_as_elsewhere() {
    struct Test;
    impl OnGpu for Test {
        fn run<G: Backend>(&self, place: &G::Device) {
            for (width, height) in [(16, 16), (5, 3), (1, 1), (2, 1), (7, 11), (301, 200)] {
                let rgb: Vec<u8> = (0..width * height * 3).map(|at| (at * 37 + at / 256) as u8).collect();
                let tensor = rgb8::upload::<G>(&rgb, [1, height, width], place);
                assert_eq!(tensor.dims(), [1, 3, height, width]);
                let planes = values(tensor.clone());
                for (at, &byte) in rgb.iter().enumerate() {
                    assert_eq!(planes[at % 3 * width * height + at / 3], f32::from(byte));
                }
                let words = rgb8::round(tensor).into_data().to_vec::<i32>().unwrap();
                let mut back = vec![0; rgb.len()];
                rgb8::unpack(&words, &mut back);
                assert_eq!(back, rgb, "{width}×{height}");
            }
            // Three pictures at once, as a training has them.
            let rgb: Vec<u8> = (0..3 * 5 * 4 * 3).map(|at| at as u8).collect();
            let tensor = rgb8::upload::<G>(&rgb, [3, 5, 4], place).permute([0, 2, 3, 1]);
            assert_eq!(values(tensor), rgb.iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>());

            let numbers =
                [-1e9, -0.6, -0.4, 0.0, 0.49, 0.5, 1.5, 2.5, 127.499, 254.4, 254.5, 255.0, 255.7, 1e9, 3.0];
            // Planes, not channels last.
            let data = TensorData::new(numbers.to_vec(), [1, 3, 1, 5]);
            let words = rgb8::round(Tensor::<G, 4>::from_data(data, place));
            let mut bytes = vec![0; 15];
            rgb8::unpack(&words.into_data().to_vec::<i32>().unwrap(), &mut bytes);
            for (at, &value) in numbers.iter().enumerate() {
                assert_eq!(bytes[at % 5 * 3 + at / 5], (value + 0.5_f32) as u8, "{value}");
            }
        }
    }
    on_every_gpu("bytes_go_up", Test);
}

/// What a convolution of `[input, weight, upstream]` gives, and the gradients of the first two.
fn with_gradients<B: Backend>(
    data: [&TensorData; 3],
    place: &B::Device,
    convolution: impl Fn(&Tensor<Autodiff<B>, 4>, &Tensor<Autodiff<B>, 4>) -> Tensor<Autodiff<B>, 4>,
) -> [Vec<f32>; 3] {
    let [input, weight, upstream] = data.map(|data| Tensor::from_data(data.clone(), place));
    let (input, weight) = (input.require_grad(), weight.require_grad());
    let output = convolution(&input, &weight);
    let gradients = (output.clone() * upstream).sum().backward();
    let gradient = |tensor: &Tensor<Autodiff<B>, 4>| values(tensor.grad(&gradients).expect("a gradient"));
    [values(output.inner()), gradient(&input), gradient(&weight)]
}

#[test]
fn a_convolutions_gradients_are_those_of_the_cpu() {
    struct Test;
    impl OnGpu for Test {
        fn run<G: Backend>(&self, place: &G::Device) {
            // Inputs, outputs, kernel, stride, height, width; the last is too small to be cut.
            for [inputs, outputs, kernel, stride, height, width] in [
                [3, 8, 9, 1, 60, 58],
                [8, 3, 9, 1, 60, 58],
                [4, 8, 3, 2, 97, 101],
                [3, 64, 3, 2, 31, 36],
                [8, 8, 3, 1, 50, 53],
                [6, 4, 3, 1, 50, 53],
                [4, 8, 3, 1, 9, 8],
            ] {
                let case = format!("{inputs} to {outputs}, {kernel}×{kernel} by {stride}, {height}×{width}");
                let numbers = |name: &str, shape: [usize; 4]| {
                    TensorData::new(whole(name, shape.iter().product()), shape)
                };
                let input = numbers("input", [2, inputs, height, width]);
                let weight = numbers("weight", [outputs, inputs, kernel, kernel]);
                let out = |size: usize| (size - kernel) / stride + 1;
                let upstream = numbers("upstream", [2, outputs, out(height), out(width)]);
                // Not Burn's on the same GPU: its products are wrong for some numbers of channels.
                let data = [&input, &weight, &upstream];
                let own = |input: &_, weight: &_| convolution(input, weight, [stride, 0]).unwrap();
                let found = with_gradients::<G>(data, place, own);
                let plain = |input: &Tensor<_, 4>, weight: &Tensor<_, 4>| {
                    let options = ConvOptions::new([stride; 2], [0; 2], [1; 2], 1);
                    burn::tensor::module::conv2d(input.clone(), weight.clone(), None, options)
                };
                let expected = with_gradients::<crate::backend::Cpu>(data, &Default::default(), plain);
                let names = ["output", "input's gradient", "weight's gradient"];
                for ((name, found), expected) in names.into_iter().zip(found).zip(expected) {
                    assert_same(&format!("{case}: {name}"), &found, &expected);
                }
            }
        }
    }
    on_every_gpu("a convolution's gradients", Test);
}

/// In 16-bit floats a result is rounded once, when its sum is whole.
#[test]
fn a_convolution_in_half_precision_sums_in_f32() {
    struct Test;
    impl OnGpu for Test {
        fn run<G: Backend>(&self, place: &G::Device) {
            let halves = [DType::BF16, DType::F16];
            let Some(half) = halves.into_iter().find(|&half| G::supports_dtype(place, half)) else {
                return skipped("a convolution in half precision", "this device has no 16-bit floats");
            };
            let rounded = |value: f32| match half {
                DType::BF16 => ::half::bf16::from_f32(value).to_f32(),
                _ => ::half::f16::from_f32(value).to_f32(),
            };
            for [inputs, outputs, kernel, stride, padding] in
                [[3, 8, 9, 1, 0], [32, 3, 9, 1, 0], [32, 16, 3, 2, 0], [16, 24, 3, 1, 1], [3, 16, 3, 1, 1]]
            {
                let (height, width) = (23, 26);
                let case = format!("{half:?}, {inputs} to {outputs}, {kernel}×{kernel} by {stride}");
                let numbers = |name: &str, shape: [usize; 4]| {
                    TensorData::new(whole(name, shape.iter().product()), shape)
                };
                let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
                // Odd and large enough that sums on their way are more than either type holds exactly.
                let mut weight = numbers("weight", [outputs, inputs, kernel, kernel]);
                weight
                    .as_mut_slice::<f32>()
                    .unwrap()
                    .iter_mut()
                    .for_each(|value| *value = 8.0 * *value + 1.0);
                let data = [
                    numbers("input", [2, inputs, height, width]),
                    weight,
                    numbers("upstream", [2, outputs, out(height), out(width)]),
                ];
                let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
                let own = |input: &Tensor<Autodiff<G>, 4>, weight: &Tensor<Autodiff<G>, 4>| {
                    let (input, weight) = (input.clone().cast(half), weight.clone().cast(half));
                    crate::backend::conv2d(input, weight, None, options.clone()).cast(DType::F32)
                };
                let [output, of_input, _] = with_gradients::<G>(data.each_ref(), place, own);
                let plain = |input: &Tensor<_, 4>, weight: &Tensor<_, 4>| {
                    burn::tensor::module::conv2d(input.clone(), weight.clone(), None, options.clone())
                };
                let expected =
                    with_gradients::<crate::backend::Cpu>(data.each_ref(), &Default::default(), plain);
                let [mut expected, mut expected_of_input, _] = expected;
                for value in expected.iter_mut().chain(&mut expected_of_input) {
                    *value = rounded(*value);
                }
                assert_same(&format!("{case}: output"), &output, &expected);
                if stride == 1 {
                    assert_same(&format!("{case}: input's gradient"), &of_input, &expected_of_input);
                }
            }
        }
    }
    on_every_gpu("a convolution in half precision", Test);
}

#[test]
fn products_are_right_whatever_the_length_of_their_sums() {
    const BATCH: usize = 3;
    const ROWS: usize = 32;
    const COLUMNS: usize = 40;
    struct Test;
    impl OnGpu for Test {
        fn run<G: Backend>(&self, place: &G::Device) {
            for length in [1, 2, 24, 48, 72, 96, 144, 520, 544, 4100] {
                let left = whole("left", BATCH * ROWS * length);
                let right = whole("right", BATCH * length * COLUMNS);
                let mut expected = vec![0.0; BATCH * ROWS * COLUMNS];
                for (at, sum) in expected.iter_mut().enumerate() {
                    let (row, column, matrix) = (at / COLUMNS, at % COLUMNS, at / (ROWS * COLUMNS));
                    let row = &left[row * length..][..length];
                    let column = right[matrix * length * COLUMNS + column..].iter().step_by(COLUMNS);
                    *sum = row.iter().zip(column).map(|(a, b)| a * b).sum();
                }
                let left = Tensor::<G, 3>::from_data(TensorData::new(left, [BATCH, ROWS, length]), place);
                let right =
                    Tensor::<G, 3>::from_data(TensorData::new(right, [BATCH, length, COLUMNS]), place);
                // The same numbers, column by column in memory.
                let turned = Tensor::<G, 3>::from_data(left.clone().swap_dims(1, 2).into_data(), place);
                for (name, left) in [("rows", left), ("columns", turned.swap_dims(1, 2))] {
                    let found = crate::backend::matmul(left, right.clone()).into_data();
                    let case = format!("sums of {length}, left by {name}");
                    assert_same(&case, &found.to_vec::<f32>().unwrap(), &expected);
                }
            }
        }
    }
    on_every_gpu("products", Test);
}

#[test]
fn a_convolution_by_pixels_and_its_gradients_are_those_of_the_cpu() {
    fn by_pixels<B: Backend>(input: &Tensor<B, 4>, weight: &Tensor<B, 4>) -> Tensor<B, 4> {
        let options = ConvOptions::new([1; 2], [0; 2], [1; 2], 1);
        crate::backend::conv2d(input.clone(), weight.clone(), None, options)
    }
    struct Test;
    impl OnGpu for Test {
        fn run<G: Backend>(&self, place: &G::Device) {
            let shapes = [("input", [2, 16, 5, 6]), ("weight", [48, 16, 1, 1]), ("upstream", [2, 48, 5, 6])];
            let data =
                shapes.map(|(name, shape)| TensorData::new(whole(name, shape.iter().product()), shape));
            let found = with_gradients::<G>(data.each_ref(), place, by_pixels);
            let expected =
                with_gradients::<crate::backend::Cpu>(data.each_ref(), &Default::default(), by_pixels);
            let names = ["output", "input's gradient", "weight's gradient"];
            for ((name, found), expected) in names.into_iter().zip(found).zip(expected) {
                assert_same(name, &found, &expected);
            }
        }
    }
    on_every_gpu("a convolution by pixels", Test);
}
