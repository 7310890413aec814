//! `impasto styles export`: what it writes and what it refuses. Whether the file is right is tested in
//! `tests/onnx.rs` and beside the writer.

use impasto::checkpoints::{StyleModel, export};

use super::support::{Studio, failure};

#[test]
fn a_model_becomes_the_library_s_onnx_file() {
    let studio = Studio::new();
    let args = ["styles", "export", "style.safetensors", "--onnx", "-o", "out.onnx"];
    let output = studio.impasto(&args).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{words}");
    for part in ["out.onnx", "operator set 13", "[1, 3, height, width]", "licence of the weights: unknown"] {
        assert!(words.contains(part), "no `{part}` in {words}");
    }
    let model = StyleModel::load(studio.path("style.safetensors")).unwrap();
    let expected = export::to_onnx(&model).unwrap();
    assert_eq!(std::fs::read(studio.path("out.onnx")).unwrap(), expected);

    // An existing file is refused, and stays, unless it is to be replaced.
    let line = failure(&mut studio.impasto(&args));
    assert!(line.contains("out.onnx: exists already; hint: --overwrite"), "{line}");
    studio.write("out.onnx", b"old");
    studio.impasto(&args).arg("--overwrite").arg("-q").assert().success().stderr("");
    assert_eq!(std::fs::read(studio.path("out.onnx")).unwrap(), expected);
}

#[test]
fn a_shipped_style_by_name_and_the_report_for_scripts() {
    let studio = Studio::new();
    let args = ["styles", "export", "wave", "--onnx", "-o", "wave.onnx", "--json"];
    let output = studio.impasto(&args).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["style"], "wave");
    assert_eq!(report["bytes"], studio.path("wave.onnx").metadata().unwrap().len());
    assert_eq!((&report["input"], &report["painted"]), (&"rgb255".into(), &"painted".into()));
    assert_eq!(report["license"], "MIT OR Apache-2.0");
}

#[test]
fn what_cannot_be_exported_is_one_clear_line_and_nothing_is_written() {
    let studio = Studio::new();
    studio.write("broken.safetensors", b"no model");
    let before = studio.files();
    for (args, parts) in [
        (vec!["nowhere", "-o", "a.onnx"], ["`nowhere`", "hint: "]),
        (vec!["broken.safetensors", "-o", "a.onnx"], ["broken.safetensors", "not a style model"]),
        (vec!["photo.png", "-o", "a.onnx"], ["photo.png", "not a style model"]),
        (vec!["missing.safetensors", "-o", "a.onnx"], ["missing.safetensors", "cannot read"]),
        (vec!["wave", "-o", "a.pb"], ["a.pb", "ends in .onnx"]),
        (vec!["wave", "-o", "no/such/folder/a.onnx"], ["no/such/folder/a.onnx", "cannot write"]),
        (vec!["style.safetensors", "-o", "style.safetensors", "--overwrite"], ["style.safetensors", ".onnx"]),
    ] {
        let line = failure(studio.impasto(&["styles", "export", "--onnx"]).args(&args));
        for part in parts {
            assert!(line.contains(part), "{args:?}: no `{part}` in {line}");
        }
    }
    // The format is asked for, not guessed.
    studio.impasto(&["styles", "export", "wave", "-o", "a.onnx"]).assert().code(2);
    assert_eq!(studio.files(), before);
}
