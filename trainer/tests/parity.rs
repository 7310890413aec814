//! Twenty steps through burn-train's learner against PyTorch's, on the same batches, weights and loss network
//! (`tests/golden/make_training.py`).

#![allow(clippy::unwrap_used)] // a test's helpers may fail as the test may

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use burn::train::Learner;
use impasto::Frame;
use impasto_burn::TransformNet;
use impasto_burn::backend::Cpu;
use impasto_burn::loss::Balancing;
use impasto_burn::loss_network::{LossNetworkKind, LossWeights};
use impasto_checkpoints::{Architecture, Metadata, StyleModel};
use impasto_test_support::repository;
use impasto_trainer::Preset;
use impasto_trainer::config::{LayerWeights, OptimizerKind, ScheduleKind, TrainConfig};
use impasto_trainer::learn::criterion::Criterion;
use impasto_trainer::learn::feed::to_tensor;
use impasto_trainer::learn::optimizer::NetworkOptimizer;
use impasto_trainer::learn::schedule::Schedule;
use impasto_trainer::learn::strategy::Components;
use impasto_trainer::learn::trainee::{TrainBatch, Trainee};
use serde_json::Value;

type B = Autodiff<Cpu>;

/// Relative, for the gradients at step 0 and the terms of the first 5 steps; rounding alone does 7e-5.
const FIRST: f64 = 1e-3;
/// Relative, for the terms up to step 19; rounding alone does 6e-4.
const LATER: f64 = 1e-2;

struct Golden {
    described: Value,
    tensors: Vec<u8>,
}

impl Golden {
    fn read() -> Self {
        let folder = repository("tests/golden");
        let described = fs::read_to_string(folder.join("training.json")).unwrap();
        Golden {
            described: serde_json::from_str(&described).unwrap(),
            tensors: fs::read(folder.join("training.safetensors")).unwrap(),
        }
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let file = safetensors::SafeTensors::deserialize(&self.tensors).unwrap();
        let view = file.tensor(name).unwrap();
        (view.shape().to_vec(), view.data().to_vec())
    }

    fn config(&self) -> TrainConfig {
        let loss = &self.described["loss"];
        let layers = |key: &str| {
            let map = loss[key].as_object().unwrap();
            LayerWeights(map.iter().map(|(name, weight)| (name.clone(), weight.as_f64().unwrap())).collect())
        };
        TrainConfig {
            balance: Balancing::Off,
            optimizer: OptimizerKind::Adam,
            schedule: ScheduleKind::Constant,
            learning_rate: self.described["adam"]["learning_rate"].as_f64().unwrap(),
            content_layers: layers("content_layers"),
            style_layers: layers("style_layers"),
            content_weight: loss["content_weight"].as_f64().unwrap(),
            style_weight: loss["style_weight"].as_f64().unwrap(),
            tv_weight: loss["tv_weight"].as_f64().unwrap(),
            stability_weight: 0.0,
            ..Preset::Smoke.config()
        }
    }
}

/// Puts each parameter's gradient in its place, so that the network's own names apply.
struct IntoGradients<'a>(&'a GradientsParams);

impl ModuleMapper<B> for IntoGradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let gradient = self.0.get::<<B as AutodiffBackend>::InnerBackend, D>(param.id).unwrap();
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, Tensor::from_inner(gradient), mapper)
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn check_gradients(golden: &Golden, trainee: &Trainee<B>, gradients: &GradientsParams) {
    let net = trainee.clone().map(&mut IntoGradients(gradients)).valid().net;
    let model = net.to_model(Metadata::new("gradients", net.architecture().clone())).unwrap();
    let parameters = golden.described["parameters"].as_object().unwrap();
    assert_eq!(parameters.len(), model.tensors().len());
    for (name, parameter) in parameters {
        if parameter["cancels"].as_bool().unwrap() {
            continue; // exactly 0, and rounding in f32: see the golden files' README
        }
        let ours: Vec<f64> = model.values(name).unwrap().iter().map(|value| f64::from(*value)).collect();
        let expected_norm = parameter["gradient_norm"].as_f64().unwrap();
        let off = (norm(&ours) - expected_norm).abs() / expected_norm;
        assert!(off < FIRST, "{name}: norm {} expected {expected_norm}", norm(&ours));
        let (_, bytes) = golden.tensor(&format!("gradient.{name}"));
        let first: Vec<f64> =
            bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
        let difference: Vec<f64> =
            first.iter().zip(&ours).map(|(expected, found)| found - expected).collect();
        let relative = norm(&difference) / norm(&first);
        assert!(relative < FIRST, "gradient of {name} is off by {relative:.1e}");
    }
}

#[test]
fn twenty_steps_equal_pytorch_s() {
    let golden = Golden::read();
    let config = golden.config();
    let device = Default::default();
    let (shape, style) = golden.tensor("style");
    let style = Frame::new(shape[2], shape[1], style).unwrap();
    let (shape, batches) = golden.tensor("batches");
    let (batch, side) = (shape[1], shape[2]);
    let photos: Vec<_> = batches
        .chunks_exact(batch * side * side * 3)
        .map(|bytes| to_tensor::<Cpu>(bytes, [batch, side, side], &device))
        .collect();

    let chosen = &golden.described["loss_network"];
    assert_eq!(chosen["network"], "vgg16");
    let weights = LossWeights::random(LossNetworkKind::Vgg16, chosen["seed"].as_u64().unwrap());
    let criterion = Criterion::<Cpu>::new(&config, &weights, &style, &photos[..1], None, &device).unwrap();
    let criterion = Arc::new(criterion);

    let architecture: Architecture =
        serde_json::from_value(golden.described["architecture"].clone()).unwrap();
    let initial = StyleModel::initial(architecture, golden.described["seed"].as_u64().unwrap()).unwrap();
    let trainee = Trainee::<B> { net: TransformNet::from_model(&initial, &device).unwrap() };
    let optimizer = NetworkOptimizer::init(OptimizerKind::Adam);
    let mut learner = Learner::<Components<B>>::new(trainee, optimizer, Schedule::new(&config, 0));

    let steps = golden.described["terms"].as_array().unwrap();
    assert_eq!(steps.len(), photos.len());
    let (mut worst_first, mut worst_later) = (0.0f64, 0.0f64);
    for (step, (photos, expected)) in photos.into_iter().zip(steps).enumerate() {
        learner.lr_step();
        let batch =
            TrainBatch { step: step as u64, photos, criterion: Arc::clone(&criterion), disturbance: None };
        let output = learner.train_step(batch);
        if step == 0 {
            check_gradients(&golden, &learner.model(), &output.grads);
        }
        let names = output.item.names.iter().cloned();
        let shares: BTreeMap<String, f64> = names.zip(output.item.fetch()).collect();
        learner.optimizer_step(output.grads);
        for (name, value) in expected.as_object().unwrap() {
            // Ours are weighted shares, PyTorch's terms are not weighted.
            let (ours, weight) = match name.as_str() {
                "total" => ("loss/total".to_owned(), 1.0),
                "tv" => ("loss/tv".to_owned(), config.tv_weight),
                name if name.starts_with("content.") => (name.replace('.', "/"), config.content_weight),
                name => (name.replace('.', "/"), config.style_weight),
            };
            let expected = value.as_f64().unwrap() * weight;
            let relative = (shares[&ours] - expected).abs() / expected.abs();
            let limit = if step < 5 { FIRST } else { LATER };
            assert!(relative < limit, "step {step}: {ours} is {}, expected {expected}", shares[&ours]);
            let worst = if step < 5 { &mut worst_first } else { &mut worst_later };
            *worst = worst.max(relative);
        }
    }
    println!("largest relative difference: {worst_first:.1e} in the first 5 steps, {worst_later:.1e} later");
}
