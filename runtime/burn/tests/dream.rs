//! DeepDream: every octave climbs, tiles change nothing, guides and channels do what they say, and its errors.

#![cfg(feature = "flex")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::ops::ControlFlow;

use impasto_burn::iterate::{Amplified, DreamJob, RgbPicture, TiledField, dream, field, octave_sizes};
use impasto_burn::loss_network::{LossNetworkKind, LossWeights, Pooling};
use impasto_burn::{BurnError, Device};
use impasto_test_support::test_data;

/// Soft blobs and lines, different everywhere.
fn scene(width: usize, height: usize) -> RgbPicture {
    let values = (0..height).flat_map(|y| {
        (0..width).flat_map(move |x| {
            let (x, y) = (x as f32, y as f32);
            let wave = (0.21 * x + 3.0 * (0.05 * y).sin()).sin() * (0.13 * y).cos();
            let line = if (x - y).abs() < 3.0 { 60.0 } else { 0.0 };
            [120.0 + 90.0 * wave + line, 110.0 - 60.0 * wave, 90.0 + 0.8 * y + line]
        })
    });
    RgbPicture::new(width, height, values.collect()).unwrap()
}

fn all_of(layer: &str) -> Amplified {
    Amplified { layer: layer.to_string(), channel: None, weight: 1.0 }
}

fn job(weights: LossWeights, targets: Vec<Amplified>, picture: RgbPicture) -> DreamJob {
    DreamJob {
        weights,
        pooling: Pooling::Max,
        picture,
        targets,
        guide: None,
        octaves: 3,
        octave_scale: 1.4,
        iterations: 4,
        step_size: 1.5,
        jitter: 8,
        tile: 0,
        seed: 1,
    }
}

/// ‖a − b‖ / ‖b‖.
fn relative(a: &RgbPicture, b: &RgbPicture) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = a.rgb255().iter().zip(b.rgb255());
    norm(&mut pairs.map(|(a, b)| f64::from(a - b))) / norm(&mut b.rgb255().iter().map(|&b| f64::from(b)))
}

#[test]
fn tiles_change_nothing() {
    for (kind, layers, sizes) in [
        (LossNetworkKind::Vgg16, &["relu1_2", "relu3_1"][..], (97, 74)),
        (LossNetworkKind::Vgg19, &["relu2_2"], (80, 51)),
        (LossNetworkKind::SqueezeNet, &["relu1", "fire3"], (101, 90)),
    ] {
        let weights = LossWeights::random(kind, 2);
        let targets: Vec<_> = layers.iter().map(|layer| all_of(layer)).collect();
        let picture = scene(sizes.0, sizes.1);
        let whole =
            TiledField { weights: &weights, pooling: Pooling::Max, targets: &targets, guide: None, tile: 0 };
        let (energies, gradient) = field(Device::Cpu, whole, &picture).unwrap();
        for tile in [16, 40] {
            let (tiled, tiled_gradient) = field(Device::Cpu, TiledField { tile, ..whole }, &picture).unwrap();
            for (tiled, whole) in tiled.iter().zip(&energies) {
                assert!((tiled / whole - 1.0).abs() < 1e-4, "{kind} in tiles of {tile}: {tiled}, {whole}");
            }
            let error = relative(&tiled_gradient, &gradient);
            assert!(error < 1e-3, "{kind} in tiles of {tile}: {error:e}");
        }
        // A guide's matches are found position by position, so tiles change nothing there either.
        let guide = scene(60, 60);
        let whole = TiledField { guide: Some(&guide), ..whole };
        let (_, gradient) = field(Device::Cpu, whole, &picture).unwrap();
        let (_, tiled) = field(Device::Cpu, TiledField { tile: 40, ..whole }, &picture).unwrap();
        let error = relative(&tiled, &gradient);
        assert!(error < 1e-3, "{kind}, guided: {error:e}");
    }
}

#[test]
fn the_gradient_is_that_of_the_energies() {
    let weights = LossWeights::random(LossNetworkKind::Vgg16, 2);
    let targets = [
        Amplified { layer: "relu1_2".into(), channel: None, weight: 0.7 },
        Amplified { layer: "relu2_1".into(), channel: Some(5), weight: 2.0 },
    ];
    let settings =
        TiledField { weights: &weights, pooling: Pooling::Average, targets: &targets, guide: None, tile: 0 };
    let picture = scene(24, 20);
    let at = |picture: &RgbPicture| {
        let (energies, gradient) = field(Device::Cpu, settings, picture).unwrap();
        (0.7 * energies[0] + 2.0 * energies[1], gradient)
    };
    let (_, gradient) = at(&picture);
    let size: f32 = gradient.rgb255().iter().map(|g| g * g).sum::<f32>().sqrt();
    let along = |by: f32| {
        let values = picture.rgb255().iter().zip(gradient.rgb255()).map(|(x, g)| x + by * g / size);
        at(&RgbPicture::new(24, 20, values.collect()).unwrap()).0
    };
    let slope = (along(4.0) - along(-4.0)) / 8.0;
    assert!((slope / f64::from(size) - 1.0).abs() < 0.01, "{slope}, {size}");
}

#[test]
fn every_octave_climbs_and_the_seed_decides() {
    let targets = vec![all_of("relu2_2"), all_of("relu3_1")];
    let job = job(LossWeights::random(LossNetworkKind::Vgg16, 2), targets, scene(72, 56));
    let run = |job: &DreamJob| {
        let mut steps = Vec::new();
        let (picture, octaves) = dream(Device::Cpu, job, &mut |step| {
            steps.push((step.octave, step.iteration, step.objective));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(steps.len(), job.iterations * octaves.len());
        (picture, octaves)
    };
    let (picture, octaves) = run(&job);
    let sizes: Vec<_> = octaves.iter().map(|octave| (octave.width, octave.height)).collect();
    assert_eq!(sizes, [(37, 29), (51, 40), (72, 56)]);
    // Nothing is dreamt yet: each layer has its own energy, so the sum of the weights.
    assert!((octaves[0].before - 2.0).abs() < 1e-4, "{octaves:?}");
    for octave in &octaves {
        assert!(octave.after > 1.02 * octave.before, "{octaves:?}");
    }
    assert_eq!((picture.width(), picture.height()), (72, 56));
    assert_eq!(run(&job).0, picture, "the same seed");
    assert_ne!(run(&DreamJob { seed: 2, ..job.clone() }).0, picture, "another seed");
    // In tiles the steps are the same up to rounding.
    let (tiled, _) = run(&DreamJob { tile: 24, ..job.clone() });
    assert!(relative(&tiled, &picture) < 0.02, "{}", relative(&tiled, &picture));
}

#[test]
fn a_guide_and_a_channel_are_climbed() {
    let picture = scene(64, 48);
    let mut guided = job(LossWeights::random(LossNetworkKind::SqueezeNet, 2), vec![all_of("fire3")], picture);
    guided.guide = Some(scene(40, 70));
    let (_, octaves) = dream(Device::Cpu, &guided, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(octaves.iter().all(|octave| octave.after > 1.02 * octave.before), "{octaves:?}");
    let mut climbed = 0;
    for channel in 0..6 {
        let weights = LossWeights::random(LossNetworkKind::Vgg16, 2);
        let mut job = job(weights, vec![all_of("relu2_2")], scene(64, 48));
        job.targets[0].channel = Some(channel);
        match dream(Device::Cpu, &job, &mut |_| ControlFlow::Continue(())) {
            Ok((_, octaves)) => {
                assert!(octaves.iter().all(|octave| octave.after > 1.05 * octave.before), "{octaves:?}");
                climbed += 1;
            }
            // With random weights, some channels are dead.
            Err(error) => assert!(error.to_string().contains("sees nothing in this picture"), "{error}"),
        }
    }
    assert!(climbed >= 2, "{climbed} of 6 channels climbed");
}

#[test]
fn it_stops_when_told_and_keeps_what_there_is() {
    let job = job(LossWeights::random(LossNetworkKind::Vgg16, 2), vec![all_of("relu2_2")], scene(72, 56));
    let mut calls = 0;
    let (picture, octaves) = dream(Device::Cpu, &job, &mut |step| {
        calls += 1;
        let seen = step.picture().unwrap();
        assert_eq!((seen.width(), seen.height()), (step.width, step.height));
        if calls == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!((calls, octaves.len()), (5, 2));
    assert_eq!((picture.width(), picture.height()), (72, 56));
    assert!(relative(&picture, &job.picture) > 0.005);
}

/// A channel that finds fine checks only: none are left at half the size.
#[test]
fn octaves_at_which_the_channel_sees_nothing_are_left_out() {
    let mut weights = LossWeights::random(LossNetworkKind::Vgg16, 2);
    let laplacian = [0.0, -1.0, 0.0, -1.0, 4.0, -1.0, 0.0, -1.0, 0.0];
    let (_, kernels) = weights.tensors.get_mut("conv1_1.weight").unwrap();
    kernels[..27].fill(0.0);
    kernels[..9].copy_from_slice(&laplacian);
    weights.tensors.get_mut("conv1_1.bias").unwrap().1[0] = -3.0;
    let checks = |size: usize| {
        let values = (0..size * size).flat_map(|at| {
            // About the mean that the network subtracts, so that the border is nothing to see.
            let up = if (at / size + at % size).is_multiple_of(2) { 60.0 } else { -60.0 };
            [123.675 + up, 116.28, 103.53]
        });
        RgbPicture::new(size, size, values.collect()).unwrap()
    };
    let target = Amplified { layer: "relu1_1".into(), channel: Some(0), weight: 1.0 };
    let mut job = job(weights, vec![target], checks(32));
    (job.octaves, job.octave_scale) = (2, 2.0);
    let mut steps = Vec::new();
    let (_, octaves) = dream(Device::Cpu, &job, &mut |step| {
        steps.push((step.octave, step.octaves, step.width));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(steps, [(1, 1, 32); 4]);
    assert!(octaves.len() == 1 && octaves[0].after > 1.02 * octaves[0].before, "{octaves:?}");
    job.picture = job.picture.resized(16, 16);
    let error = dream(Device::Cpu, &job, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.starts_with("relu1_1:0 sees nothing in this picture"), "{error}");
}

#[test]
fn octaves_too_small_are_left_out() {
    let picture = scene(40, 30);
    assert_eq!(octave_sizes(&picture, 5, 2.0, 14), [(20, 15), (40, 30)]);
    assert_eq!(octave_sizes(&picture, 5, 2.0, 200), [(40, 30)]);
}

#[test]
fn bad_input_is_an_error_with_the_way_out() {
    let good = job(LossWeights::random(LossNetworkKind::Vgg16, 2), vec![all_of("relu2_2")], scene(40, 30));
    let error = |change: &dyn Fn(&mut DreamJob)| {
        let mut job = good.clone();
        change(&mut job);
        let error = dream(Device::Cpu, &job, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        error
    };
    let unknown = error(&|job| job.targets[0].layer = "conv2_2".into());
    assert!(unknown.to_string().contains("relu1_1"), "{unknown}");
    let channel = error(&|job| job.targets[0].channel = Some(128));
    assert!(channel.to_string().contains("expected 0 to 127"), "{channel}");
    let negative = error(&|job| job.targets[0].weight = -1.0);
    assert!(negative.to_string().contains("weight -1"), "{negative}");
    let nothing = error(&|job| job.targets.clear());
    assert!(nothing.to_string().contains("no layer"), "{nothing}");
    let tiny = error(&|job| job.picture = RgbPicture::new(1, 1, vec![9.0; 3]).unwrap());
    assert!(matches!(tiny, BurnError::PictureTooSmall { width: 1, .. }), "{tiny}");
    let guide = error(&|job| job.guide = Some(RgbPicture::new(1, 1, vec![9.0; 3]).unwrap()));
    assert!(matches!(guide, BurnError::PictureTooSmall { width: 1, .. }), "{guide}");
    assert!(error(&|job| job.octaves = 0).to_string().contains("at least 1"));
    assert!(error(&|job| job.octave_scale = 1.0).to_string().contains("above 1"));
    assert!(error(&|job| job.step_size = f64::NAN).to_string().contains("above 0"));
}

/// Trained weights, should they be there.
#[test]
fn a_trained_network_dreams_in_tiles_as_in_one_piece() {
    let Some(data) = test_data("a trained network's dream") else { return };
    let file = data.join("loss-networks/vgg19_to_conv4_2_f32.safetensors");
    let weights = LossWeights::load(file).unwrap();
    let targets = [all_of("relu3_3"), all_of("relu4_2")];
    let whole =
        TiledField { weights: &weights, pooling: Pooling::Max, targets: &targets, guide: None, tile: 0 };
    let picture = scene(168, 120);
    let (_, gradient) = field(Device::Cpu, whole, &picture).unwrap();
    let (_, tiled) = field(Device::Cpu, TiledField { tile: 48, ..whole }, &picture).unwrap();
    let error = relative(&tiled, &gradient);
    assert!(error < 1e-3, "{error:e}");
    let (_, octaves) = dream(Device::Cpu, &job(weights.clone(), targets.to_vec(), picture), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(octaves.iter().all(|octave| octave.after > 1.2 * octave.before), "{octaves:?}");
}
