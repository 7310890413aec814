//! The losses and the loss networks' rules: names, sizes, weights, balance, half precision, where gradients go.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{FloatDType, Tensor, TensorData};
use impasto_burn::BurnError;
use impasto_burn::loss::{
    PerceptualConfig, PerceptualLoss, StylePicture, StyleStatistic, StyleTarget, content_loss, gram_matrix,
    style_loss, total_variation,
};
use impasto_burn::loss_network::{LossNetwork, LossNetworkChoice, LossNetworkKind, LossWeights, Pooling};
use impasto_checkpoints::LossBalance;
use impasto_checkpoints::random::uniform;

type Plain = Tensor<Flex, 4>;

/// A seeded picture, RGB 0..255.
fn picture(name: &str, shape: [usize; 4]) -> Plain {
    let values: Vec<f32> =
        uniform(1, name, shape.iter().product()).map(|value| ((value + 1.0) * 128.0).floor()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn tensor(values: &[f32], shape: [usize; 4]) -> Plain {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Default::default())
}

fn scalar(tensor: Tensor<Flex, 1>) -> f64 {
    f64::from(tensor.into_scalar())
}

fn network(kind: LossNetworkKind) -> LossNetwork<Flex> {
    LossNetwork::new(&LossWeights::random(kind, 1), &Default::default()).unwrap()
}

fn config(content: &[(&str, f64)], style: &[(&str, f64)]) -> PerceptualConfig {
    let named = |layers: &[(&str, f64)]| layers.iter().map(|(n, w)| (n.to_string(), *w)).collect();
    PerceptualConfig {
        content_layers: named(content),
        style_layers: named(style),
        content_weight: 1.0,
        style_weight: 1.0,
        tv_weight: 0.0,
        statistic: StyleStatistic::Gram,
    }
}

fn style(name: &str, weight: f64) -> StylePicture<Flex> {
    StylePicture { rgb255: picture(name, [1, 3, 24, 20]), weight }
}

#[test]
fn gram_matrices_are_those_computed_by_hand() {
    // Channels (1, 2) and (3, −1) on a 1×2 plane: F Fᵀ = ((5, 1), (1, 10)), divided by 2·1·2.
    let gram = gram_matrix(tensor(&[1.0, 2.0, 3.0, -1.0], [1, 2, 1, 2]));
    assert_eq!(gram.into_data().to_vec::<f32>().unwrap(), [1.25, 0.25, 0.25, 2.5]);
}

#[test]
fn losses_are_those_computed_by_hand() {
    let a = tensor(&[1.0, 2.0, 3.0, 4.0], [1, 1, 2, 2]);
    let b = tensor(&[1.0, 0.0, 3.0, 1.0], [1, 1, 2, 2]);
    assert_eq!(scalar(content_loss(a.clone(), b)), 13.0 / 4.0);
    // Mean 2.5 and biased variance 1.25 against a flat plane of 1: std √1e-5.
    let flat = StyleTarget::of(tensor(&[1.0; 4], [1, 1, 2, 2]), StyleStatistic::MeanStd);
    let expected = 1.5_f64.powi(2) + (1.25001_f64.sqrt() - 1e-5_f64.sqrt()).powi(2);
    assert!((scalar(style_loss(a, &flat)) - expected).abs() < 1e-5);
    // 51 = 0.2 of 255: horizontally (0.2², 0.2²), vertically (0.4², 0.4²).
    let x = tensor(&[0.0, 51.0, 102.0, 153.0], [1, 1, 2, 2]);
    assert!((scalar(total_variation(x)) - (0.04 + 0.16)).abs() < 1e-6);
    assert_eq!(scalar(total_variation(tensor(&[7.0], [1, 1, 1, 1]))), 0.0);
    assert!((scalar(total_variation(tensor(&[0.0, 255.0], [1, 1, 2, 1]))) - 1.0).abs() < 1e-6);
}

/// 60,000² · 4 is far beyond f16's 65,504, and so is the mean of squares that a variance needs.
#[test]
fn half_precision_features_do_not_overflow() {
    let features = Tensor::<Flex, 4>::full([1, 2, 2, 2], 60_000.0, &Default::default()).cast(FloatDType::F16);
    let gram = gram_matrix(features.clone()).into_data().to_vec::<f32>().unwrap();
    assert!(gram.iter().all(|v| (v / 1.8e9 - 1.0).abs() < 1e-3), "{gram:?}");
    let other = Tensor::<Flex, 4>::zeros([1, 2, 2, 2], &Default::default());
    assert!((scalar(content_loss(features.clone(), other.clone())) / 3.6e9 - 1.0).abs() < 1e-3);
    for statistic in [StyleStatistic::Gram, StyleStatistic::MeanStd] {
        let loss = scalar(style_loss(features.clone(), &StyleTarget::of(other.clone(), statistic)));
        assert!(loss.is_finite() && loss > 1e9, "{statistic:?}: {loss}");
    }
}

#[test]
fn a_bf16_network_gives_losses_near_the_f32_one() {
    let weights = LossWeights::random(LossNetworkKind::Vgg16, 1);
    let settings = config(&[("relu2_2", 1.0)], &[("relu1_2", 1.0), ("relu3_3", 1.0)]);
    let loss = |dtype| {
        let network = LossNetwork::<Flex>::with_dtype(&weights, dtype, &Default::default()).unwrap();
        let loss = PerceptualLoss::new(network, &settings, &[style("style", 1.0)]).unwrap();
        let content = loss.content_target(picture("content", [1, 3, 32, 32])).unwrap();
        let (losses, gradient) =
            loss.value_and_gradient::<Autodiff<Flex>>(picture("painted", [1, 3, 32, 32]), &content).unwrap();
        (loss.values(&losses).unwrap().total, f64::from(gradient.square().mean().sqrt().into_scalar()))
    };
    let (full, half) = (loss(FloatDType::F32), loss(FloatDType::BF16));
    assert!((half.0 / full.0 - 1.0).abs() < 0.03, "{half:?} {full:?}");
    assert!((half.1 / full.1 - 1.0).abs() < 0.1, "{half:?} {full:?}");
    assert_ne!(half.0, full.0, "bf16 was not used at all");
}

#[test]
fn an_unknown_layer_lists_the_known_ones() {
    let error = network(LossNetworkKind::Vgg16).layers(&["relu1_1", "relu5_4"]).unwrap_err().to_string();
    assert!(error.starts_with("vgg16 has no layer `relu5_4`"), "{error}");
    for layer in LossNetworkKind::Vgg16.layers() {
        assert!(error.contains(&layer), "{error}");
    }
    let error = network(LossNetworkKind::SqueezeNet).layers(&["relu1_1\n"]).unwrap_err().to_string();
    assert!(error.contains("relu1, fire2,") && error.contains("fire9") && !error.contains('\n'), "{error}");
}

#[test]
fn a_layer_deeper_than_the_file_is_named() {
    let mut weights = LossWeights::random(LossNetworkKind::Vgg19, 1);
    weights.origin = "short.safetensors".to_string();
    let beyond = |name: &String| name.as_str() >= "conv3_2";
    weights.tensors.retain(|name, _| !beyond(name));
    let network = LossNetwork::<Flex>::new(&weights, &Default::default()).unwrap();
    assert_eq!(weights.layers().last().unwrap(), "relu3_1");
    assert!(network.layers(&["relu3_1"]).is_ok());
    let error = network.layers(&["relu4_1"]).unwrap_err();
    assert!(matches!(error, BurnError::LayerNotInWeights { .. }));
    let error = error.to_string();
    assert!(
        error.contains("short.safetensors") && error.contains("relu3_1") && error.contains("relu4_1"),
        "{error}"
    );
}

#[test]
fn the_smallest_picture_works_and_a_smaller_one_is_an_error() {
    for kind in LossNetworkKind::ALL {
        let network = network(kind);
        for layer in kind.layers() {
            let set = network.layers(&[&layer]).unwrap();
            let size = set.smallest_size();
            let features = network.features(picture("p", [1, 3, size, size + 1]), &set).unwrap();
            let [_, _, height, width] = features[0].dims();
            assert!(height >= 1 && width >= 1, "{kind} {layer}");
            if size > 1 {
                let error = network.features(picture("p", [1, 3, size + 3, size - 1]), &set).unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, BurnError::PictureTooSmall { .. }), "{text}");
                assert!(text.contains(&layer) && text.contains(&format!("{size} x {size}")), "{text}");
            }
        }
    }
}

#[test]
fn pictures_without_three_channels_are_refused() {
    let network = network(LossNetworkKind::Vgg16);
    let set = network.layers(&["relu1_1"]).unwrap();
    let error = network.features(picture("p", [1, 4, 8, 8]), &set).unwrap_err();
    assert!(matches!(error, BurnError::Channels { found: 4 }), "{error}");
}

#[test]
fn features_come_in_the_order_asked_for() {
    let network = network(LossNetworkKind::Vgg16).with_pooling(Pooling::Average);
    let channels = |names: &[&str]| {
        let set = network.layers(names).unwrap();
        let features = network.features(picture("p", [1, 3, 16, 16]), &set).unwrap();
        features.iter().map(|f| f.dims()[1]).collect::<Vec<_>>()
    };
    assert_eq!(channels(&["relu3_1", "relu1_1", "relu2_1", "relu1_1"]), [256, 64, 128, 64]);
}

#[test]
fn several_style_pictures_are_averaged_by_their_weights() {
    let settings = config(&[], &[("relu1_1", 1.0), ("relu2_1", 1.0)]);
    let new = |styles: &[StylePicture<Flex>]| {
        PerceptualLoss::new(network(LossNetworkKind::Vgg16), &settings, styles).unwrap()
    };
    let distance = |loss: &PerceptualLoss<Flex>, of: &str| {
        let painted = picture(of, [1, 3, 24, 20]);
        let content = loss.content_target(painted.clone()).unwrap();
        loss.values(&loss.evaluate(painted, &content).unwrap()).unwrap().total
    };
    let alone = new(&[style("a", 3.0)]);
    let doubled = new(&[style("a", 1.0), style("a", 2.0)]);
    assert!(distance(&alone, "a") < 1e-9, "its own style");
    assert!((distance(&alone, "b") / distance(&doubled, "b") - 1.0).abs() < 1e-4);
    // On the way from b to a, at 3 to 1: distances are squares.
    let mixed = new(&[style("a", 0.75), style("b", 0.25)]);
    assert!((distance(&mixed, "b") / distance(&alone, "b") - 0.5625).abs() < 1e-3);
    assert!((distance(&mixed, "a") / distance(&alone, "b") - 0.0625).abs() < 1e-3);
}

#[test]
fn balanced_layers_count_alike_whatever_the_network() {
    for (kind, content, style_layers) in [
        (LossNetworkKind::Vgg16, "relu2_2", [("relu1_2", 1.0), ("relu3_3", 1.0)]),
        (LossNetworkKind::SqueezeNet, "fire4", [("relu1", 1.0), ("fire5", 1.0)]),
    ] {
        let settings = config(&[(content, 2.0)], &style_layers);
        let dark = StylePicture { rgb255: picture("style", [1, 3, 40, 36]) * 0.3, weight: 1.0 };
        let mut loss = PerceptualLoss::new(network(kind), &settings, &[dark]).unwrap();
        let photos = picture("photos", [2, 3, 40, 36]);
        let balance = loss.balance([photos.clone()]).unwrap();
        assert_eq!(balance, loss.balance([photos.clone()]).unwrap(), "deterministic");
        let apart = loss.balance([0, 1].map(|at| photos.clone().narrow(0, at, 1))).unwrap();
        for (layer, factor) in &balance.style {
            assert!((apart.style[layer] / factor - 1.0).abs() < 1e-4, "{kind}: in two batches {layer}");
        }
        assert!((apart.content[content] / balance.content[content] - 1.0).abs() < 1e-4);
        assert!((apart.tv / balance.tv - 1.0).abs() < 1e-4);
        loss.apply(&balance).unwrap();
        let target = loss.content_target(photos.clone()).unwrap();
        let values = loss.values(&loss.evaluate(photos, &target).unwrap()).unwrap();
        for layer in &values.style {
            assert!((layer.share - 0.5).abs() < 1e-4, "{kind}: {layer:?}");
        }
        assert_eq!(values.content_share(), 0.0);
        assert!((values.total - 1.0).abs() < 1e-4);

        let renamed: BTreeMap<_, _> =
            balance.style.values().zip(["relu1", "relu9"]).map(|(f, l)| (l.to_owned(), *f)).collect();
        let fewer = balance.style.clone().into_iter().take(1).collect();
        for style in [renamed, fewer] {
            assert!(loss.apply(&LossBalance { style, ..balance.clone() }).is_err());
        }
        assert!(loss.apply(&LossBalance { tv: f64::INFINITY, ..balance }).is_err());
    }
}

#[test]
fn nothing_to_balance_gives_no_infinite_weights() {
    let settings = config(&[("relu1_1", 1.0)], &[("relu1_1", 1.0)]);
    let picture = picture("a", [1, 3, 24, 20]);
    let same = StylePicture { rgb255: picture.clone(), weight: 1.0 };
    let loss = PerceptualLoss::new(network(LossNetworkKind::Vgg16), &settings, &[same]).unwrap();
    let balance = loss.balance([picture]).unwrap();
    assert_eq!(balance.style, BTreeMap::from([("relu1_1".to_string(), 1.0)]));
}

#[test]
fn gradients_go_to_the_painted_picture_and_through_it() {
    type A = Autodiff<Flex>;
    let mut settings = config(&[("relu2_1", 1.0)], &[("relu1_1", 10.0)]);
    settings.tv_weight = 3.0;
    let loss =
        PerceptualLoss::new(network(LossNetworkKind::Vgg16), &settings, &[style("style", 1.0)]).unwrap();
    let content = loss.content_target(picture("content", [1, 3, 12, 12])).unwrap();
    let base = picture("base", [1, 3, 12, 12]);
    let (losses, gradient) = loss.value_and_gradient::<A>(base.clone() * 0.5, &content).unwrap();
    assert_eq!(gradient.dims(), [1, 3, 12, 12]);

    // The chain rule through what made the picture: painted = factor · base.
    let factor = Tensor::<A, 1>::from_floats([0.5], &Default::default()).require_grad();
    let painted = Tensor::<A, 4>::from_inner(base.clone()) * factor.clone().reshape([1, 1, 1, 1]);
    let (total, _) = loss.forward(painted, &content).unwrap();
    assert_eq!(scalar(total.clone().inner()), scalar(losses.total));
    let found = scalar(factor.grad(&total.backward()).unwrap());
    let expected = f64::from((gradient * base).sum().into_scalar());
    assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
}

#[test]
fn a_loss_of_nothing_has_a_gradient_of_zero() {
    let mut settings = config(&[("relu1_1", 0.0)], &[]);
    settings.content_weight = 0.0;
    let loss = PerceptualLoss::new(network(LossNetworkKind::Vgg16), &settings, &[]).unwrap();
    let content = loss.content_target(picture("content", [1, 3, 8, 8])).unwrap();
    let (losses, gradient) =
        loss.value_and_gradient::<Autodiff<Flex>>(picture("painted", [1, 3, 8, 8]), &content).unwrap();
    assert_eq!(scalar(losses.total), 0.0);
    assert_eq!(f64::from(gradient.abs().max().into_scalar()), 0.0);
}

#[test]
fn wrong_settings_are_errors() {
    let refuse = |settings: &PerceptualConfig, styles: &[StylePicture<Flex>], word: &str| {
        let error =
            PerceptualLoss::new(network(LossNetworkKind::Vgg16), settings, styles).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let good = config(&[("relu1_1", 1.0)], &[("relu1_2", 1.0)]);
    refuse(&good, &[], "no style picture");
    refuse(&good, &[style("a", 0.0)], "no style picture");
    refuse(&good, &[style("a", f64::NAN)], "NaN");
    refuse(&config(&[], &[]), &[], "at least one");
    refuse(&config(&[("relu1_1", -1.0)], &[]), &[], "relu1_1");
    refuse(&config(&[("relu1_1", 1.0), ("relu1_1", 1.0)], &[]), &[], "twice");
    refuse(&PerceptualConfig { tv_weight: f64::INFINITY, ..good.clone() }, &[style("a", 1.0)], "tv_weight");

    let loss = PerceptualLoss::new(network(LossNetworkKind::Vgg16), &good, &[style("a", 1.0)]).unwrap();
    let content = loss.content_target(picture("content", [1, 3, 8, 8])).unwrap();
    let error = loss.evaluate(picture("painted", [1, 3, 8, 9]), &content).unwrap_err().to_string();
    assert!(error.contains("[1, 64, 8, 9]") && error.contains("[1, 64, 8, 8]"), "{error}");
}

#[test]
fn names_are_parsed_and_printed() {
    for text in ["vgg16", "vgg19", "squeezenet", "random-vgg16", "random-squeezenet"] {
        assert_eq!(text.parse::<LossNetworkChoice>().unwrap().to_string(), text);
    }
    for text in ["", "vgg", "VGG16", "random-", "random-random-vgg16"] {
        let error = text.parse::<LossNetworkChoice>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{text}`")) && error.contains("random-vgg16"), "{error}");
    }
}

/// What an optimizer does with the gradient of an iterative mode: the loss goes down.
#[test]
fn steps_against_the_gradient_lower_the_loss() {
    let settings = config(&[("relu2_1", 1.0)], &[("relu1_1", 100.0), ("relu2_1", 100.0)]);
    let loss =
        PerceptualLoss::new(network(LossNetworkKind::Vgg16), &settings, &[style("style", 1.0)]).unwrap();
    let content = loss.content_target(picture("content", [1, 3, 16, 16])).unwrap();
    let mut painted = picture("painted", [1, 3, 16, 16]);
    let mut totals = Vec::new();
    for _ in 0..6 {
        let (losses, gradient) =
            loss.value_and_gradient::<Autodiff<Flex>>(painted.clone(), &content).unwrap();
        totals.push(scalar(losses.total));
        let largest = f64::from(gradient.clone().abs().max().into_scalar());
        painted = painted - gradient * (2.0 / largest);
    }
    assert!(totals.windows(2).all(|pair| pair[1] < pair[0]), "{totals:?}");
}
