//! The engine's promises beyond parity: the same bits whatever the threads, no surprises on flat pictures, buffers
//! that change size, stylizers that are shared.

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
fn the_same_bits_on_any_number_of_threads_and_in_every_run() {
    let (model, frame) = (johnson(4), noise(67, 43));
    let expected = open(&model, 1).stylize_to_f32(&frame).unwrap();
    for threads in [1, 2, 3, 7, 64] {
        let stylizer = open(&model, threads);
        for _ in 0..2 {
            let painted = stylizer.stylize_to_f32(&frame).unwrap();
            assert!(
                painted.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{threads} threads"
            );
        }
    }
}

/// A variance taken as a difference of sums is negative or noise on a flat picture, and an instance norm multiplies
/// that by up to 1/√ε: blotches, or NaN.
#[test]
fn flat_pictures_stay_flat() {
    let stylizer = open(&johnson(8), 2);
    for colour in [[0, 0, 0], [255, 255, 255], [200, 13, 77]] {
        for (width, height) in [(1, 1), (40, 40), (129, 31)] {
            let frame = Frame::new(width, height, colour.repeat(width * height)).unwrap();
            let painted = stylizer.stylize_to_f32(&frame).unwrap();
            let first = &painted[..3];
            for pixel in painted.chunks_exact(3) {
                for (value, expected) in pixel.iter().zip(first) {
                    assert!(
                        value.is_finite() && (value - expected).abs() < 0.01,
                        "{colour:?}: {pixel:?} {first:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_smooth_sky_has_no_blotches() {
    let (width, height) = (160, 120);
    // A gradient of 16 grey levels over the height, as skies are.
    let rgb = (0..width * height).flat_map(|i| [180 + (i / width * 16 / height) as u8; 3]).collect();
    let painted = open(&johnson(8), 2).stylize_to_f32(&Frame::new(width, height, rgb).unwrap()).unwrap();
    assert!(painted.iter().all(|value| value.is_finite()));
    // Away from the borders every row is one colour, as the sky's are.
    for row in painted.chunks_exact(width * 3) {
        let middle = &row[60 * 3..100 * 3];
        for pixel in middle.chunks_exact(3) {
            assert!(
                pixel.iter().zip(middle).all(|(a, b)| (a - b).abs() < 0.5),
                "{pixel:?} {:?}",
                &middle[..3]
            );
        }
    }
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
    let error = Stylizer::new(&johnson(2), options).err().expect("no CUDA here").to_string();
    assert!(
        error.contains("--device cuda:") && error.contains("hint") && error.lines().count() == 1,
        "{error}"
    );
}
