//! The whole chain: what a shipped style's network paints is, by the very losses it was trained with, what the
//! iterative method takes many steps to reach. Needs `IMPASTO_TEST_DATA`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::ops::ControlFlow;
use std::path::Path;

use impasto::picture::{DecodeOptions, Picture, middle_square};
use impasto::{Frame, Stylizer, StylizerOptions};
use impasto_burn::Device;
use impasto_burn::iterate::{Criterion, GatysJob, Method, RgbPicture, Start, TrainedLosses, evaluate, gatys};
use impasto_burn::loss_network::LossWeights;
use impasto_checkpoints::shipped;
use impasto_test_support::test_data;

/// Side of the pictures: small, so that the test is; `impasto compare` gives the figures at 256.
const SIDE: usize = 128;

/// Evaluations of loss and gradient that L-BFGS must need, from the photo, to get as far as the network: docs/iterative.md
/// has what the shipped styles are worth at 256².
const EQUIVALENT_STEPS: usize = 6;

const STYLES: [(&str, &str); 2] = [("wave", "mondrian"), ("starry_night", "wave")];
const PHOTOS: [&str; 2] = ["kodak_03", "kodak_07"];

#[test]
fn a_pass_of_the_network_is_worth_many_steps() {
    let Some(data) = test_data("fast against iterative") else { return };
    for (style, other) in STYLES {
        let (network, criterion) = open(&data, style);
        let (other_network, _) = open(&data, other);
        for photo in PHOTOS {
            let photo = square(&data.join("photos/eval").join(photo).with_extension("png"));
            let pictures =
                [&photo, &network.stylize(&photo).unwrap(), &other_network.stylize(&photo).unwrap()];
            let pictures = pictures.map(rgb);
            let losses = evaluate(Device::Cpu, &criterion, &pictures[0], &pictures).unwrap();
            let [unpainted, fast, wrong] = [losses[0].total, losses[1].total, losses[2].total];
            println!("{style}: unpainted {unpainted:.3}, painted {fast:.3}, as {other} {wrong:.3}");
            assert!(
                fast < unpainted && fast < wrong,
                "{style}: {fast}, unpainted {unpainted}, {other} {wrong}"
            );

            let job = GatysJob {
                criterion: criterion.clone(),
                content: pictures[0].clone(),
                start: Start::Content,
                method: Method::Lbfgs { history: 100 },
                scales: Vec::new(),
                steps: EQUIVALENT_STEPS,
                seed: 0,
            };
            let mut best = f64::INFINITY;
            let iterated = gatys(Device::Cpu, &job, &mut |step| {
                best = best.min(step.losses.total);
                if best <= fast { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
            println!("{style}: {best:.3} after {EQUIVALENT_STEPS} evaluations");
            assert!(best > fast, "{style}: {EQUIVALENT_STEPS} evaluations reach {best}, the network {fast}");
            // The other way round: the iterative method does go down, so that the line above says something.
            assert!(best < 0.8 * unpainted, "{style}: {best}, unpainted {unpainted}");
            let again = evaluate(Device::Cpu, &criterion, &pictures[0], &[iterated]).unwrap();
            assert!((again[0].total / best - 1.0).abs() < 1e-3, "{}, {best}", again[0].total);
        }
    }
}

/// A shipped style's network, and the losses of its training.
fn open(data: &Path, style: &str) -> (Stylizer, Criterion) {
    let model = shipped::load(style).unwrap();
    let training = model.metadata().training.as_ref().expect("a shipped style says how it was trained");
    let trained = TrainedLosses::of(training).unwrap();
    let weights = data.join("loss-networks/vgg19_to_conv4_2_f32.safetensors");
    let painting = data.join("paintings").join(style).with_extension("jpg");
    let painting = Picture::open(painting, &DecodeOptions::default()).unwrap();
    let criterion = trained.criterion(LossWeights::load(weights).unwrap(), rgb(&painting.frame));
    (Stylizer::new(&model, StylizerOptions::default()).unwrap(), criterion)
}

/// The middle of a photo.
fn square(path: &Path) -> Frame {
    middle_square(&Picture::open(path, &DecodeOptions::default()).unwrap().frame, SIDE).unwrap()
}

fn rgb(frame: &Frame) -> RgbPicture {
    RgbPicture::from_bytes(frame.width(), frame.height(), frame.rgb()).unwrap()
}
