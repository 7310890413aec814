//! Real pretrained networks, imported and painted, against PyTorch with the same weights: by the CPU engine and by
//! the Burn module. Needs `IMPASTO_TEST_DATA` and `IMPASTO_TEST_PYTHON` (with PyTorch).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use impasto::{Frame, Precision, Stylizer, StylizerOptions};
use impasto_checkpoints::{Architecture, Dtype, import};
use impasto_test_support::{repository, test_data, test_python};
use impasto_tests::{f32_tensor, largest_difference};
use safetensors::SafeTensors;
use serde::Deserialize;

/// The project's promise, in 255ths, before rounding.
const TOLERANCE: f32 = 0.5;

#[derive(Deserialize)]
struct Pretrained {
    file: PathBuf,
    architecture: Architecture,
}

#[test]
fn both_networks_paint_what_pytorch_paints() {
    let (Some(data), Some(python)) = (test_data("pretrained parity"), test_python("pretrained parity"))
    else {
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let script = repository("tests/parity/pretrained.py");
    let mut command = Command::new(python);
    command.arg(script).arg("--data").arg(&data).arg("--out").arg(out.path()).args(["--threads", "2"]);
    assert!(command.status().unwrap().success(), "pretrained.py failed");

    let index = std::fs::read(out.path().join("architectures.json")).unwrap();
    let index: BTreeMap<String, Pretrained> = serde_json::from_slice(&index).unwrap();
    assert!(!index.is_empty());
    for (name, pretrained) in index {
        let model = import::import(&data.join(pretrained.file)).unwrap();
        assert_eq!(*model.architecture(), pretrained.architecture, "{name}");
        for size in ["768x512", "641x383"] {
            let bytes = std::fs::read(out.path().join(format!("{name}-{size}.safetensors"))).unwrap();
            let golden = SafeTensors::deserialize(&bytes).unwrap();
            let expected = f32_tensor(&golden, "output");
            let input = golden.tensor("input").unwrap();
            let [height, width, 3] = input.shape() else { panic!("input of shape {:?}", input.shape()) };
            let photo = Frame::new(*width, *height, input.data().to_vec()).unwrap();

            let options = StylizerOptions { precision: Precision::F32, ..Default::default() };
            let stylizer = Stylizer::new(&model, options).unwrap();
            let painted = stylizer.stylize_to_f32(&photo).unwrap();
            report(&name, size, "engine", &painted, &expected);

            let mut painter =
                impasto_burn::open_painter(&model, impasto_burn::Device::Cpu, impasto_burn::Precision::F32)
                    .unwrap();
            let mut by_burn = vec![0.0; expected.len()];
            painter.paint(photo.rgb(), *width, *height, &mut by_burn).unwrap();
            report(&name, size, "burn", &by_burn, &expected);

            // A file of half the size paints the same picture, all but for rounding.
            for dtype in [Dtype::F16, Dtype::Bf16] {
                let rounded = Stylizer::new(&model.to_dtype(dtype).unwrap(), options).unwrap();
                let painted_rounded = rounded.stylize_to_f32(&photo).unwrap();
                let mean = mean_difference(&painted, &painted_rounded);
                println!("{name} {size} {} file: mean difference {mean:.4} of 255", dtype.name());
                assert!(mean <= 2.0, "{name} {size} {}: {mean}", dtype.name());
            }
        }
    }
}

fn report(name: &str, size: &str, network: &str, painted: &[f32], expected: &[f32]) {
    let difference = largest_difference(painted, expected);
    println!("{name} {size} {network}: largest difference {difference:.5} of 255");
    assert!(difference <= TOLERANCE, "{name} {size} {network}: {difference}");
}

fn mean_difference(one: &[f32], other: &[f32]) -> f32 {
    let clamped = |value: f32| value.clamp(0.0, 255.0);
    let sum: f64 = one.iter().zip(other).map(|(&a, &b)| f64::from((clamped(a) - clamped(b)).abs())).sum();
    (sum / one.len() as f64) as f32
}
