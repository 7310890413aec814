//! The CPU engine against PyTorch: golden outputs of seeded random networks of every kind.

use impasto::{Precision, Stylizer, StylizerOptions};
use impasto_checkpoints::StyleModel;
use impasto_test_support::repository;
use impasto_tests::{f32_tensor, golden_cases, largest_difference, noise_picture};
use safetensors::SafeTensors;

/// Both sides round differently, and instance norms multiply that; each golden picture says how far PyTorch's own
/// f32 is from f64. Ten times that, and never above the 0.5 of 255 that the project promises.
fn tolerance(f64_difference: f32) -> f32 {
    (10.0 * f64_difference).clamp(0.005, 0.5)
}

#[test]
fn the_engine_paints_what_pytorch_paints() {
    let bytes = std::fs::read(repository("tests/golden/transform_net.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let mut worst: f32 = 0.0;
    for case in golden_cases() {
        assert_eq!(case.architecture.minimum_size(), case.minimum_size, "{}", case.name);
        let model = StyleModel::random(case.architecture, case.seed).unwrap();
        for threads in [1, 3] {
            let options =
                StylizerOptions { threads: Some(threads), precision: Precision::F32, ..Default::default() };
            let stylizer = Stylizer::new(&model, options).unwrap();
            for picture in &case.pictures {
                let (width, height) = (picture.width, picture.height);
                let key = format!("{}.{width}x{height}", case.name);
                let expected = f32_tensor(&golden, &format!("{key}.output"));
                let input = noise_picture(case.seed, &format!("{key}.input"), width, height);
                let painted = stylizer.stylize_to_f32(&input).unwrap();
                let difference = largest_difference(&painted, &expected);
                assert!(
                    difference <= tolerance(picture.f64_difference),
                    "{} {width}×{height}: {difference} of 255, PyTorch f32 against f64 {}",
                    case.name,
                    picture.f64_difference
                );
                worst = worst.max(difference);
            }
        }
    }
    println!("largest difference over all cases: {worst} of 255");
}
