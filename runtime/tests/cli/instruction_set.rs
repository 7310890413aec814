//! `IMPASTO_ISA`: forces an instruction set, and is refused in one line where it cannot.

use impasto::engine::{ISA_VARIABLE, Isa};
use impasto::picture::{DecodeOptions, Picture};

use super::support::{Studio, failure};

#[test]
fn an_unknown_one_is_one_clear_line() {
    let studio = Studio::new();
    for value in ["sse9", "AVX2", "avx2 ", "\u{1b}[31m"] {
        let line = failure(studio.stylize(&["photo.png", "-o", "out.png"]).env(ISA_VARIABLE, value));
        for part in [ISA_VARIABLE, "no such instruction set", "expected one of", "portable", "amx"] {
            assert!(line.contains(part), "{value:?}: no `{part}` in {line}");
        }
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
    assert_eq!(studio.files(), ["photo.png", "style.safetensors"]);
}

#[test]
fn one_that_the_processor_lacks_is_one_clear_line() {
    let studio = Studio::new();
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        let line = failure(studio.stylize(&["photo.png", "-o", "out.png"]).env(ISA_VARIABLE, isa.name()));
        for part in [ISA_VARIABLE, isa.name(), "this processor lacks it", "hint: ", Isa::best().name()] {
            assert!(line.contains(part), "{isa}: no `{part}` in {line}");
        }
    }
    assert_eq!(studio.files(), ["photo.png", "style.safetensors"]);
}

/// Each paints, is the one that is used, and they agree to a grey level; an empty variable forces none.
#[test]
fn those_that_are_there_paint() {
    let studio = Studio::new();
    let painted = |name: &str| {
        let args = ["photo.png", "-o", "out.png", "--precision", "f32", "--overwrite"];
        studio.stylize(&args).env(ISA_VARIABLE, name).assert().success();
        Picture::open(studio.path("out.png"), &DecodeOptions::default()).unwrap().frame
    };
    let portable = painted(Isa::Portable.name());
    let available = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    for (name, used) in available.map(|isa| (isa.name(), isa)).chain([("", Isa::best())]) {
        let worst = portable.rgb().iter().zip(painted(name).rgb()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(1), "{name:?}: {worst:?} of 255");
        let bench = ["bench", "--json", "--model", "style.safetensors", "--size", "8x8", "--frames", "1"];
        let output = studio.impasto(&bench).env(ISA_VARIABLE, name).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["isa"], used.name(), "{name:?}");
    }
}
