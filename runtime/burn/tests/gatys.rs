//! The iterative method: against PyTorch's Adam and L-BFGS (`tests/golden/gatys.*`, written by `make_gatys.py` beside
//! them), its ways of starting and ending, and its errors.

#![cfg(feature = "flex")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::ops::ControlFlow;

use impasto_burn::iterate::{
    Balanced, Criterion, GatysJob, Method, RgbPicture, Start, Style, StyleSize, evaluate, gatys,
};
use impasto_burn::loss::{LossValues, PerceptualConfig, StyleStatistic};
use impasto_burn::loss_network::{LossNetworkKind, LossWeights, Pooling};
use impasto_burn::{BurnError, Device};
use impasto_test_support::repository;
use safetensors::SafeTensors;
use serde_json::Value;

/// The golden runs and their pictures.
struct Golden {
    described: Value,
    content: RgbPicture,
    style: RgbPicture,
}

fn golden() -> Golden {
    let stem = repository("tests/golden/gatys");
    let bytes = std::fs::read(stem.with_extension("safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let picture = |key: &str| {
        let view = file.tensor(key).unwrap();
        RgbPicture::from_bytes(view.shape()[2], view.shape()[1], view.data()).unwrap()
    };
    let text = std::fs::read_to_string(stem.with_extension("json")).unwrap();
    let described = serde_json::from_str(&text).unwrap();
    Golden { content: picture("content"), style: picture("style"), described }
}

impl Golden {
    fn job(&self, method: Method, steps: usize) -> GatysJob {
        let settings = &self.described["settings"];
        let layers = |key: &str| {
            let layers = settings[key].as_object().unwrap().iter();
            layers.map(|(name, weight)| (name.clone(), weight.as_f64().unwrap())).collect()
        };
        let weight = |key: &str| settings[key].as_f64().unwrap();
        GatysJob {
            criterion: Criterion {
                weights: LossWeights::random(
                    LossNetworkKind::Vgg16,
                    self.described["seed"].as_u64().unwrap(),
                ),
                pooling: Pooling::Max,
                losses: PerceptualConfig {
                    content_layers: layers("content_layers"),
                    style_layers: layers("style_layers"),
                    content_weight: weight("content_weight"),
                    style_weight: weight("style_weight"),
                    tv_weight: weight("tv_weight"),
                    statistic: StyleStatistic::Gram,
                },
                balance: Balanced::OnContent,
                styles: vec![Style { picture: self.style.clone(), weight: 1.0 }],
                style_size: StyleSize::AsIs,
            },
            content: self.content.clone(),
            start: Start::Content,
            method,
            scales: Vec::new(),
            steps,
            seed: 0,
        }
    }
}

const ADAM: Method = Method::Adam { learning_rate: 5.0 };
const LBFGS: Method = Method::Lbfgs { history: 100 };

/// Runs a job to its end; the losses of each evaluation, and the result.
fn run(job: &GatysJob) -> (Vec<LossValues>, RgbPicture) {
    let mut rows = Vec::new();
    let picture = gatys(Device::Cpu, job, &mut |step| {
        assert_eq!(step.step, rows.len() + 1);
        rows.push(step.losses.clone());
        ControlFlow::Continue(())
    });
    (rows, picture.unwrap())
}

fn best(rows: &[LossValues]) -> f64 {
    rows.iter().map(|row| row.total).fold(f64::INFINITY, f64::min)
}

#[test]
fn adam_goes_pytorchs_way() {
    let golden = golden();
    let expected = golden.described["runs"]["adam"].as_array().unwrap();
    let (rows, _) = run(&golden.job(ADAM, expected.len()));
    assert_eq!(rows.len(), expected.len());
    // After 0, 1, 10, 50 and 100 updates.
    for at in [0, 1, 10, 50, 100] {
        let (row, expected) = (&rows[at], &expected[at]);
        for (name, found) in [
            ("total", row.total),
            ("content", row.content_share()),
            ("style", row.style_share()),
            ("tv", row.tv_share),
        ] {
            let expected = expected[name].as_f64().unwrap();
            // At the start, content is compared with itself.
            assert!(
                (found - expected).abs() <= 0.02 * expected + 1e-9,
                "{name} at {at}: {found}, {expected}"
            );
        }
    }
}

#[test]
fn lbfgs_gets_as_far_as_pytorchs_and_further_than_adam() {
    let golden = golden();
    let expected = golden.described["runs"]["lbfgs"].as_array().unwrap();
    let total = |row: &Value| row["total"].as_f64().unwrap();
    let (rows, picture) = run(&golden.job(LBFGS, 100));
    assert_eq!(rows.len(), 100);
    for steps in [50, 100] {
        let expected = expected[..steps].iter().map(total).fold(f64::INFINITY, f64::min);
        let found = best(&rows[..steps]);
        assert!((found / expected - 1.0).abs() <= 0.05, "after {steps}: {found}, PyTorch {expected}");
        let adam = golden.described["runs"]["adam"].as_array().unwrap()[..steps].iter().map(total);
        assert!(found < adam.fold(f64::INFINITY, f64::min), "after {steps}: {found}");
    }
    // What comes back is the best picture that was told of.
    let job = golden.job(LBFGS, 1);
    let found = evaluate(Device::Cpu, &job.criterion, &job.content, &[picture]).unwrap();
    assert!((found[0].total / best(&rows) - 1.0).abs() < 1e-4, "{} {}", found[0].total, best(&rows));
}

#[test]
fn it_starts_from_noise_goes_through_scales_and_stops_when_told() {
    let golden = golden();
    let mut job = golden.job(LBFGS, 6);
    job.start = Start::Noise;
    job.scales = vec![32, 64];
    let mut sizes = Vec::new();
    let mut totals = Vec::new();
    let picture = gatys(Device::Cpu, &job, &mut |step| {
        sizes.push((step.scale, step.step, step.width));
        totals.push(step.losses.total);
        let picture = step.picture().unwrap();
        assert_eq!((picture.width(), picture.height()), (step.width, step.height));
        if sizes.len() == 9 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(sizes[0], (1, 1, 32));
    assert_eq!(sizes[8], (2, 3, 64));
    assert_eq!(sizes.len(), 9, "it stops when told");
    assert_eq!((picture.width(), picture.height()), (64, 64));
    assert!(totals[5] < totals[0], "{totals:?}");
    // The same seed, the same noise; another seed, another.
    let first = |seed| {
        let job = GatysJob { seed, steps: 1, ..job.clone() };
        run_first(&job)
    };
    assert_eq!(first(3), first(3));
    assert_ne!(first(3), first(4));
}

fn run_first(job: &GatysJob) -> f64 {
    let mut total = f64::NAN;
    gatys(Device::Cpu, job, &mut |step| {
        total = step.losses.total;
        ControlFlow::Break(())
    })
    .unwrap();
    total
}

/// What a process took at its peak, less what it takes for a tiny picture: 831 MiB for this job.
#[test]
fn the_memory_it_takes_is_known_before() {
    let golden = golden();
    let mut job = golden.job(LBFGS, 2);
    job.criterion.weights.kind = LossNetworkKind::Vgg19;
    job.criterion.losses.style_layers = vec![("relu5_1".into(), 1.0)];
    job.content = RgbPicture::new(512, 341, vec![0.0; 512 * 341 * 3]).unwrap();
    let mib = |job: &GatysJob| job.peak_bytes() >> 20;
    assert!((700..1000).contains(&mib(&job)), "{}", mib(&job));
    job.scales = vec![256];
    assert!((170..260).contains(&mib(&job)), "{}", mib(&job));
    // A large painting takes more than a small photo: 379 MiB at 768×520.
    job.scales = vec![64];
    job.criterion.styles[0].picture = RgbPicture::new(768, 520, vec![0.0; 768 * 520 * 3]).unwrap();
    assert!((300..460).contains(&mib(&job)), "{}", mib(&job));
}

#[test]
fn two_styles_lie_between_their_own() {
    let golden = golden();
    let flat = RgbPicture::new(40, 40, vec![128.0; 40 * 40 * 3]).unwrap();
    let mut job = golden.job(ADAM, 1);
    job.criterion.balance = Balanced::Not;
    job.criterion.losses.content_layers.clear();
    let style = |weights: [f64; 2]| {
        let mut criterion = job.criterion.clone();
        criterion.styles = vec![
            Style { picture: golden.style.clone(), weight: weights[0] },
            Style { picture: flat.clone(), weight: weights[1] },
        ];
        evaluate(Device::Cpu, &criterion, &golden.content, std::slice::from_ref(&golden.style)).unwrap()[0]
            .style_share()
    };
    let (own, mixed, other) = (style([1.0, 0.0]), style([1.0, 1.0]), style([0.0, 2.0]));
    assert!(own < 1e-6 * other && own < mixed && mixed < other, "{own} {mixed} {other}");
    // Gram matrices mix linearly, so halfway is a quarter of the squared distance.
    assert!((mixed / other - 0.25).abs() < 1e-3, "{mixed} {other}");
}

#[test]
fn bad_input_is_an_error_with_the_way_out() {
    let golden = golden();
    let job = golden.job(ADAM, 20);
    let error = |job: &GatysJob| -> BurnError {
        let error = gatys(Device::Cpu, job, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        error
    };
    let mut wild = job.clone();
    wild.method = Method::Adam { learning_rate: 1e30 };
    let found = error(&wild);
    assert!(matches!(found, BurnError::NotFinite { .. }), "{found}");
    assert!(found.to_string().contains("hint: lower --learning-rate"), "{found}");

    let mut unknown = job.clone();
    unknown.criterion.losses.content_layers = vec![("relu9_9".into(), 1.0)];
    assert!(error(&unknown).to_string().contains("relu5_3"));

    let mut negative = job.clone();
    negative.criterion.styles[0].weight = -1.0;
    assert!(error(&negative).to_string().contains("-1"));

    let mut tiny = job.clone();
    tiny.content = RgbPicture::new(1, 1, vec![0.0; 3]).unwrap();
    assert!(matches!(error(&tiny), BurnError::PictureTooSmall { width: 1, .. }));
    let mut tiny = job.clone();
    tiny.criterion.styles[0].picture = RgbPicture::new(2, 2, vec![0.0; 12]).unwrap();
    assert!(matches!(error(&tiny), BurnError::PictureTooSmall { width: 2, .. }));

    let mut rate = job;
    rate.method = Method::Adam { learning_rate: 0.0 };
    assert!(error(&rate).to_string().contains("above 0"));
}
