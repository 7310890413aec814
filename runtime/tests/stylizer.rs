//! The stylizer's promises beyond parity: sizes that change, stylizers that are shared, what bf16 costs. Equal bits on
//! any number of threads and flat pictures that stay flat are proved for every instruction set in `isa`.

#[cfg(not(feature = "burn"))]
use impasto::Device;
use impasto::checkpoints::{Architecture, StyleModel};
use impasto::{Frame, Precision, Stylizer, StylizerOptions};

fn johnson(width: usize) -> StyleModel {
    let mut architecture = Architecture::johnson(width).expect("a width");
    (architecture.output.scale, architecture.output.offset) = (150.0, 127.5);
    StyleModel::random(architecture, 5).expect("a model")
}

fn open(model: &StyleModel, threads: usize) -> Stylizer {
    let options = StylizerOptions { threads: Some(threads), ..Default::default() };
    Stylizer::new(model, options).expect("a stylizer")
}

fn noise(width: usize, height: usize) -> Frame {
    let values = impasto::checkpoints::random::uniform(9, "frame", width * height * 3);
    Frame::new(width, height, values.map(|u| ((u + 1.0) * 128.0) as u8).collect()).expect("a frame")
}

#[test]
fn sizes_may_change_mid_stream() {
    let model = johnson(4);
    let stylizer = open(&model, 2);
    let mut painted = Frame::black(1, 1);
    for (width, height) in [(64, 48), (5, 90), (1, 1), (64, 48), (33, 2)] {
        let frame = noise(width, height);
        stylizer.stylize_into(&frame, &mut painted).unwrap();
        assert_eq!(painted, open(&model, 1).stylize(&frame).unwrap(), "{width}×{height}");
    }
}

#[test]
fn one_stylizer_is_shared_and_two_live_side_by_side() {
    let (one, two) = (open(&johnson(4), 2), open(&johnson(2), 2));
    let frame = noise(40, 30);
    let (first, second) = (one.stylize(&frame).unwrap(), two.stylize(&frame).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    assert_eq!(one.stylize(&frame).unwrap(), first);
                    assert_eq!(two.stylize(&frame).unwrap(), second);
                }
            });
        }
    });
}

#[test]
fn bf16_differs_but_not_visibly() {
    let (model, frame) = (johnson(8), noise(64, 64));
    let options = StylizerOptions { precision: Precision::Bf16, ..Default::default() };
    let rounded = Stylizer::new(&model, options).unwrap().stylize(&frame).unwrap();
    let exact = open(&model, 2).stylize(&frame).unwrap();
    assert_ne!(rounded, exact);
    let psnr = impasto::quality::psnr(&rounded, &exact);
    assert!(psnr > 35.0, "{psnr} dB");
}

#[cfg(not(feature = "burn"))]
#[test]
fn a_gpu_that_is_not_in_the_build_is_one_clear_line() {
    let options = StylizerOptions { device: Device::Cuda(0), ..Default::default() };
    let error = Stylizer::new(&johnson(2), options).expect_err("no CUDA here").to_string();
    assert!(
        error.contains("--device cuda:") && error.contains("hint") && error.lines().count() == 1,
        "{error}"
    );
}

/// What a program keeps in structures of its own, behind threads, in errors of its own.
#[test]
fn public_types_can_be_shown_sent_and_shared() {
    fn shown<T: std::fmt::Debug>() {}
    fn shared<T: Send + Sync + 'static>() {}
    shown::<Stylizer>();
    shown::<impasto::Ahead>();
    shown::<impasto::engine::Engine>();
    shown::<impasto::smooth::Smoother>();
    shared::<Stylizer>();
    shared::<impasto::RuntimeError>();
    shared::<impasto::checkpoints::CheckpointError>();
    #[cfg(feature = "pictures")]
    {
        shown::<impasto::paint::FramePainter<'_>>();
        shared::<impasto::picture::Picture>();
    }
    let text = format!("{:?}", Stylizer::shipped("wave").unwrap());
    assert!(text.starts_with("Stylizer { style: \"wave\""), "{text}");
}
