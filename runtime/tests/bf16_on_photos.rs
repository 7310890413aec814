//! What bf16 costs real styles, the shipped and the pretrained ones: its PSNR against f32 on photos.
//!
//! The photos and the pretrained styles are in the folder that `IMPASTO_TEST_DATA` names.
#![cfg(feature = "cli")]

use std::path::{Path, PathBuf};

use impasto::checkpoints::{StyleModel, import, shipped};
use impasto::engine::{Engine, INVISIBLE_PSNR, Isa, PaintedMut};
use impasto::picture::{DecodeOptions, Picture};
use impasto::{Frame, Precision, quality};
use impasto_test_support::test_data;

/// Longer side of the photos, in pixels.
const SIDE: usize = 480;

/// The files of a folder with this ending, sorted.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == ending));
    files.sort();
    files
}

/// Three photos, scaled to [`SIDE`].
fn photos(data: &Path) -> Vec<Frame> {
    let files = files(&data.join("photos/eval"), "png");
    assert!(files.len() >= 3, "{} photos", files.len());
    let scaled = |file: &PathBuf| {
        let photo = Picture::open(file, &DecodeOptions::default()).expect("a photo");
        let longer = photo.width().max(photo.height());
        photo.resized(photo.width() * SIDE / longer, photo.height() * SIDE / longer).expect("a size").frame
    };
    files.iter().take(3).map(scaled).collect()
}

fn paint(engine: &Engine, photo: &Frame) -> Frame {
    let mut painted = Frame::black(photo.width(), photo.height());
    let to = PaintedMut::Bytes(painted.rgb_mut());
    engine.run(photo.rgb(), photo.width(), photo.height(), to).expect("a frame");
    painted
}

#[test]
fn bf16_is_not_seen_in_shipped_and_pretrained_styles() {
    let Some(data) = test_data("bf16 on real styles") else { return };
    let mut models: Vec<(String, StyleModel)> =
        shipped::names().map(|name| (name.to_string(), shipped::load(name).unwrap())).collect();
    let pretrained = data.join("styles-pretrained");
    let found = [
        files(&pretrained.join("transformernet"), "model"),
        files(&pretrained.join("lengstrom"), "safetensors"),
    ]
    .concat();
    assert!(!found.is_empty(), "{}: no styles", pretrained.display());
    for file in found {
        let name = file.strip_prefix(&pretrained).unwrap().display().to_string();
        models.push((name, import::import(&file).unwrap()));
    }
    let photos = photos(&data);
    // The portable path is slow: it gets one photo.
    let mut isas = vec![(Isa::best(), photos.len())];
    if Isa::best() != Isa::Portable {
        isas.push((Isa::Portable, 1));
    }
    let mut visible = Vec::new();
    for (name, model) in &models {
        for &(isa, count) in &isas {
            let [exact, rounded] = [Precision::F32, Precision::Bf16]
                .map(|precision| Engine::with_isa(model, precision, 2, isa).unwrap());
            let psnr: Vec<f64> = photos[..count]
                .iter()
                .map(|photo| quality::psnr(&paint(&exact, photo), &paint(&rounded, photo)))
                .collect();
            println!("{name} {isa}: {psnr:.1?} dB");
            if psnr.iter().any(|&psnr| psnr < INVISIBLE_PSNR) {
                visible.push(format!("{name} {isa}: {psnr:.1?} dB"));
            }
        }
    }
    assert!(visible.is_empty(), "below {INVISIBLE_PSNR} dB: {visible:?}");
}
