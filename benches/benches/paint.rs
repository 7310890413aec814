//! Loading a style model and painting one frame on the CPU.
//!
//! `cargo bench -p impasto-benches --bench paint`

use divan::{Bencher, black_box};
use impasto::{Frame, Precision, Stylizer, StylizerOptions};
use impasto_checkpoints::random::uniform;
use impasto_checkpoints::{Architecture, Dtype, StyleModel};

fn main() {
    divan::main();
}

/// Widths of the first layer: the shipped styles' and the paper's.
const WIDTHS: &[usize] = &[16, 32];

fn model(width: usize) -> StyleModel {
    StyleModel::random(Architecture::johnson(width).expect("a width"), 1).expect("a model")
}

fn photo(width: usize, height: usize) -> Frame {
    let bytes = uniform(1, "photo", width * height * 3).map(|u| ((u + 1.0) * 128.0) as u8);
    Frame::new(width, height, bytes.collect()).expect("a frame")
}

/// From the bytes of a file (f16, as styles ship) to a stylizer that is ready to paint.
#[divan::bench(args = WIDTHS)]
fn load(bencher: Bencher, width: usize) {
    let bytes = model(width).to_dtype(Dtype::F16).and_then(|model| model.to_bytes()).expect("a file");
    bencher.bench(|| {
        let model = StyleModel::from_bytes(black_box(&bytes)).expect("a model");
        Stylizer::new(&model, StylizerOptions::default()).expect("a stylizer")
    });
}

/// One 8-bit frame to one 8-bit frame, buffers warm.
#[divan::bench(args = WIDTHS, consts = [256], sample_count = 5, max_time = 20)]
fn square<const SIDE: usize>(bencher: Bencher, width: usize) {
    frame(bencher, width, SIDE, SIDE);
}

#[divan::bench(args = WIDTHS, sample_count = 5, max_time = 20)]
fn vga(bencher: Bencher, width: usize) {
    frame(bencher, width, 640, 480);
}

fn frame(bencher: Bencher, network: usize, width: usize, height: usize) {
    let options = StylizerOptions { precision: Precision::F32, ..Default::default() };
    let stylizer = Stylizer::new(&model(network), options).expect("a stylizer");
    let (photo, mut painted) = (photo(width, height), Frame::black(width, height));
    stylizer.stylize_into(&photo, &mut painted).expect("painted");
    bencher.bench_local(|| stylizer.stylize_into(black_box(&photo), &mut painted).expect("painted"));
}
