//! Exported styles against the engine: ONNX's checker takes every file, and ONNX Runtime paints with it what the
//! engine paints. Needs `IMPASTO_TEST_PYTHON` (with onnx and onnxruntime); real networks and a photo come from
//! `IMPASTO_TEST_DATA`. What needs neither is tested in `checkpoints/src/export/tests.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;

use impasto::checkpoints::random::uniform;
use impasto::checkpoints::{Architecture, StyleModel, export, import, shipped};
use impasto::picture::{DecodeOptions, Picture};
use impasto::{Frame, Precision, Stylizer, StylizerOptions};
use impasto_test_support::{repository, test_data, test_python};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The project's promise, in 255ths, before rounding.
const TOLERANCE: f32 = 0.5;

/// Models and pictures, and how far ONNX Runtime may be from the engine on each.
struct Bench {
    folder: TempDir,
    jobs: Vec<Value>,
    paintings: Vec<Painting>,
}

struct Painting {
    file: String,
    by_engine: Vec<f32>,
    tolerance: f32,
}

impl Bench {
    fn new() -> Self {
        Bench {
            folder: tempfile::tempdir().expect("a temporary folder"),
            jobs: Vec::new(),
            paintings: Vec::new(),
        }
    }

    /// Exports a model and paints the pictures with the engine.
    fn add(&mut self, name: &str, model: &StyleModel, pictures: &[(Frame, f32)]) {
        let file = format!("{name}.onnx");
        export::save_onnx(model, self.folder.path().join(&file)).expect("the model exported");
        let options = StylizerOptions { precision: Precision::F32, ..Default::default() };
        let stylizer = Stylizer::new(model, options).expect("a stylizer");
        let mut listed = Vec::new();
        for (picture, tolerance) in pictures {
            let (width, height) = (picture.width(), picture.height());
            let file = format!("{name}.{width}x{height}");
            fs::write(self.folder.path().join(&file), picture.rgb()).expect("written");
            listed.push(json!({ "file": file, "width": width, "height": height }));
            let by_engine = stylizer.stylize_to_f32(picture).expect("a painting");
            self.paintings.push(Painting { file, by_engine, tolerance: *tolerance });
        }
        self.jobs.push(json!({ "model": file, "pictures": listed }));
    }

    /// Lets ONNX Runtime paint the same, and compares.
    fn compare(&self, python: &Path) {
        let folder = self.folder.path();
        let jobs = serde_json::to_vec(&self.jobs).expect("JSON");
        fs::write(folder.join("jobs.json"), jobs).expect("written");
        let script = repository("tests/parity/onnx_runtime.py");
        let output = Command::new(python).arg(script).arg(folder).output().expect("Python ran");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "onnx_runtime.py: {words}");
        // A file that its session (`export`) warns about is not one to hand out.
        assert!(!words.contains(":export,"), "onnx_runtime.py: {words}");
        let mut wrong = Vec::new();
        let mut worst = (0.0, "");
        for painting in &self.paintings {
            let bytes = fs::read(folder.join(format!("{}.painted", painting.file))).expect("a painting");
            let painted = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            assert_eq!(bytes.len(), 4 * painting.by_engine.len(), "{}", painting.file);
            let difference = painted.zip(&painting.by_engine).map(|(theirs, ours)| (theirs - ours).abs());
            // `max` would pass over what is not a number.
            let difference = difference.map(|d| if d.is_nan() { f32::INFINITY } else { d });
            let largest = difference.fold(0.0, f32::max);
            println!("{}: {largest:.6} of 255", painting.file);
            if largest > worst.0 {
                worst = (largest, &painting.file);
            }
            if largest > painting.tolerance {
                wrong.push(format!("{}: {largest}, expected {} at most", painting.file, painting.tolerance));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        println!("{} paintings, largest difference {} of 255 ({})", self.paintings.len(), worst.0, worst.1);
    }
}

fn noise(width: usize, height: usize) -> Frame {
    let bytes = uniform(1, "onnx.picture", width * height * 3).map(|u| ((u + 1.0) * 128.0) as u8).collect();
    Frame::new(width, height, bytes).expect("a size without 0")
}

/// Every kind of network that the format can name, at even, odd and small sizes. Both sides round differently, and
/// instance norms multiply that: ten times what PyTorch in f32 differs from f64, as for the engine itself.
#[test]
fn onnx_runtime_paints_every_kind_of_network() {
    let Some(python) = test_python("ONNX export") else { return };
    let golden: Value =
        serde_json::from_slice(&fs::read(repository("tests/golden/transform_net.json")).unwrap()).unwrap();
    let mut bench = Bench::new();
    for case in golden["cases"].as_array().unwrap() {
        let architecture: Architecture = serde_json::from_value(case["architecture"].clone()).unwrap();
        let model = StyleModel::random(architecture, case["seed"].as_u64().unwrap()).unwrap();
        let mut pictures: Vec<_> = case["pictures"].as_array().unwrap().iter().collect();
        // A size below most networks' smallest that no golden picture has. (Smaller ones are flat for reflecting
        // networks: instance norms then multiply what rounding leaves, and f32 is far from f64 in PyTorch itself.)
        let tiny = json!({ "width": 3, "height": 2, "f64_difference": 0.01 });
        pictures.push(&tiny);
        let pictures: Vec<_> = pictures
            .iter()
            .map(|picture| {
                let side = |name: &str| picture[name].as_u64().unwrap() as usize;
                let difference = picture["f64_difference"].as_f64().unwrap() as f32;
                (noise(side("width"), side("height")), (10.0 * difference).clamp(0.005, TOLERANCE))
            })
            .collect();
        bench.add(case["name"].as_str().unwrap(), &model, &pictures);
    }
    assert!(bench.paintings.len() > 50, "{}", bench.paintings.len());
    bench.compare(&python);
}

#[test]
fn onnx_runtime_paints_the_shipped_styles() {
    let Some(python) = test_python("ONNX export") else { return };
    let mut bench = Bench::new();
    for name in shipped::names() {
        let pictures = [(128, 96), (161, 119), (4, 3)].map(|(w, h)| (noise(w, h), TOLERANCE));
        bench.add(name, &shipped::load(name).unwrap(), &pictures);
    }
    bench.compare(&python);
}

#[test]
fn onnx_runtime_paints_imported_networks_and_a_photo() {
    let (Some(python), Some(data)) =
        (test_python("ONNX export"), test_data("ONNX export of imported networks"))
    else {
        return;
    };
    let photo = data.join("photos/eval/kodak_08.png");
    let photo = Picture::open(&photo, &DecodeOptions::default()).unwrap();
    let pictures = [(384, 256), (321, 191)].map(|(w, h)| (photo.resized(w, h).unwrap().frame, TOLERANCE));
    let mut bench = Bench::new();
    for folder in ["transformernet", "lengstrom"] {
        let folder = data.join("styles-pretrained").join(folder);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "model" || e == "safetensors") {
                let name = format!("imported-{}", path.file_stem().unwrap().display());
                bench.add(&name, &import::import(&path).unwrap(), &pictures);
            }
        }
    }
    assert!(!bench.jobs.is_empty(), "no networks in {}", data.display());
    for name in shipped::names() {
        bench.add(name, &shipped::load(name).unwrap(), &pictures);
    }
    bench.compare(&python);
}
