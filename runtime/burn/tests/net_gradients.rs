//! Gradients of the network: the CPU's kernels against finite differences, and against Burn's own operations.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use burn::backend::Autodiff;
use burn::tensor::{DType, Tensor, TensorData};
use impasto_burn::TransformNet;
use impasto_burn::backend::Cpu;
use impasto_checkpoints::{Activation, Architecture, Output, Padding, StyleModel, Upsampling, random};

type Tracked = Autodiff<Cpu>;

fn architecture(layers: &str, padding: Padding, upsampling: Upsampling) -> Architecture {
    let output = Output { activation: Activation::Linear, scale: 1.0, offset: 0.0 };
    Architecture {
        layers: layers.parse().unwrap(),
        padding,
        upsampling,
        output,
        ..Architecture::johnson(8).unwrap()
    }
}

/// Every kind of layer under every convention; small, so that finite differences keep their digits.
fn architectures() -> Vec<Architecture> {
    let mut all = Vec::new();
    for padding in [Padding::Reflect, Padding::ZeroSame] {
        for upsampling in [Upsampling::NearestConv, Upsampling::Transposed] {
            for layers in ["c5s1-3", "c3s1-4,d6,R6,u4,c3s1-3", "c3s2-4,u3,c1s1-3"] {
                let plain = architecture(layers, padding, upsampling);
                all.push(Architecture { output_norm: true, ..plain.clone() });
                all.push(plain);
            }
        }
    }
    all
}

fn noise<B: burn::tensor::backend::Backend>(
    name: &str,
    shape: [usize; 4],
    device: &B::Device,
) -> Tensor<B, 4> {
    let values: Vec<f32> = random::uniform(3, name, shape.iter().product()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The loss `Σ r · net(x)` and its gradients by the input and by every parameter, in the model's order.
fn gradients(model: &StyleModel, shape: [usize; 4], compute: DType) -> (f64, Vec<Vec<f32>>) {
    let device = Default::default();
    let network = TransformNet::<Tracked>::from_model(model, &device).unwrap();
    let input = noise::<Tracked>("input", shape, &device).require_grad();
    let weights = noise::<Tracked>("loss", shape, &device);
    let painted = network.forward_in(input.clone(), compute);
    let loss = (painted * weights).sum();
    let value = loss.clone().into_scalar();
    let gradients = loss.backward();
    let mut all = vec![input.grad(&gradients).unwrap().into_data().to_vec::<f32>().unwrap()];
    struct Collect<'a>(
        &'a <Tracked as burn::tensor::backend::AutodiffBackend>::Gradients,
        &'a mut Vec<Vec<f32>>,
    );
    impl burn::module::ModuleVisitor<Tracked> for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &burn::module::Param<Tensor<Tracked, D>>) {
            let gradient = parameter.val().grad(self.0).expect("every parameter has a gradient");
            self.1.push(gradient.into_data().to_vec::<f32>().unwrap());
        }
    }
    burn::module::Module::visit(&network, &mut Collect(&gradients, &mut all));
    (f64::from(value), all)
}

#[test]
fn the_cpu_kernels_have_the_gradients_of_burn_s_operations() {
    for architecture in architectures() {
        for size in [[2, 3, 7, 10], [1, 3, 8, 5]] {
            let model = StyleModel::random(architecture.clone(), 5).unwrap();
            // In f64 the network takes Burn's operations, which is what GPUs run.
            let (loss, own) = gradients(&model, size, DType::F32);
            let (expected_loss, expected) = gradients(&model, size, DType::F64);
            let case =
                format!("{architecture} {:?} {:?} {size:?}", architecture.padding, architecture.upsampling);
            assert!((loss - expected_loss).abs() < 1e-3 * expected_loss.abs().max(1.0), "{case}: {loss}");
            assert_eq!(own.len(), expected.len());
            // A bias before a norm has gradient 0: its rounding is measured by what the other tensors have.
            let largest = expected.iter().flatten().fold(0.0_f32, |m, v| m.max(v.abs()));
            for (index, (own, expected)) in own.iter().zip(&expected).enumerate() {
                let scale = expected.iter().fold(0.03 * largest, |m, v| m.max(v.abs()));
                for (a, b) in own.iter().zip(expected) {
                    assert!((a - b).abs() < 1e-3 * scale, "{case}, tensor {index}: {a} and {b} of {scale}");
                }
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for architecture in architectures() {
        let shape = [2, 3, 6, 7];
        let model = StyleModel::random(architecture.clone(), 11).unwrap();
        let (_, gradients) = gradients(&model, shape, DType::F32);
        let device = Default::default();
        let network = TransformNet::<Cpu>::from_model(&model, &device).unwrap();
        let weights = noise::<Cpu>("loss", shape, &device);
        let loss = |input: Tensor<Cpu, 4>| -> f64 {
            let painted = (network.forward(input) * weights.clone()).into_data().to_vec::<f32>().unwrap();
            painted.iter().map(|&v| f64::from(v)).sum()
        };
        let input = noise::<Cpu>("input", shape, &device);
        // Along a direction: d/dt loss(x + t·v) = gradient · v. ReLU's kinks leave an error of the order of the
        // step, so the step is small and the tolerance is 2 %.
        let direction = noise::<Cpu>("direction", shape, &device);
        let step = 1e-3;
        let ahead = loss(input.clone() + direction.clone() * step);
        let behind = loss(input - direction.clone() * step);
        let measured = (ahead - behind) / (2.0 * step);
        let along = direction.into_data().to_vec::<f32>().unwrap();
        let expected: f64 = gradients[0].iter().zip(&along).map(|(g, v)| f64::from(*g) * f64::from(*v)).sum();
        let size: f64 = gradients[0].iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt();
        assert!(
            (measured - expected).abs() < 0.02 * size.max(1.0),
            "{architecture}: {measured} and {expected}"
        );
    }
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let model = StyleModel::random(Architecture::johnson(8).unwrap(), 2).unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| gradients(&model, [2, 3, 33, 40], DType::F32))
    };
    let (one, three) = (run(1), run(3));
    assert_eq!(one.0.to_bits(), three.0.to_bits());
    assert_eq!(one.1, three.1);
}
