//! Flat pictures and smooth gradients. A variance taken as a difference of sums is negative or noise there, and sums
//! in another order are enough to make flat planes uneven; an instance norm multiplies either by up to 1/√ε, which
//! shows as blotches, checkerboards, or NaN.

use impasto::Precision;
use impasto::checkpoints::{InputRange, StyleModel};

use super::support::{Photo, all_isas, engine, johnson, layers, paint};

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];
const COLOURS: [[u8; 3]; 4] = [[0, 0, 0], [255, 255, 255], [200, 13, 77], [1, 128, 254]];
const SIZES: [(usize, usize); 9] =
    [(1, 1), (5, 5), (8, 8), (3, 70), (40, 40), (64, 64), (129, 31), (67, 43), (500, 6)];

/// Networks that reflect at their borders, so that a flat picture stays flat throughout.
fn models() -> Vec<StyleModel> {
    let mut normed = johnson(8, 3).architecture().clone();
    (normed.output_norm, normed.input) = (true, InputRange::ImagenetNormalized);
    vec![
        johnson(8, 5),
        johnson(17, 6),
        StyleModel::random(normed, 7).expect("a model"),
        layers("R3,c5s2-24,c3s1-48,R48,u16,c7s1-3", 8),
    ]
}

#[test]
fn flat_pictures_stay_exactly_flat() {
    for model in models() {
        for isa in all_isas() {
            for precision in PRECISIONS {
                let engine = engine(&model, precision, 2, isa);
                for colour in COLOURS {
                    for (width, height) in SIZES {
                        let photo = Photo::flat(colour, width, height);
                        assert!(photo.is_flat());
                        let painted = paint(&engine, &photo);
                        let uneven = painted.chunks_exact(3).find(|pixel| *pixel != &painted[..3]);
                        assert!(
                            uneven.is_none() && painted[..3].iter().all(|value| value.is_finite()),
                            "{} {isa} {precision}, {colour:?} {width}×{height}: {:?} and {uneven:?}",
                            model.architecture(),
                            &painted[..3]
                        );
                    }
                }
            }
        }
    }
}

/// A sky of 16 grey levels over the height: away from the left and right border every row is one colour.
#[test]
fn smooth_gradients_have_no_blotches() {
    let (width, height) = (160, 120);
    let rgb = (0..width * height).flat_map(|i| [180 + (i / width * 16 / height) as u8; 3]).collect();
    let sky = Photo { width, height, rgb };
    for model in models() {
        for isa in all_isas() {
            for precision in PRECISIONS {
                let painted = paint(&engine(&model, precision, 2, isa), &sky);
                assert!(painted.iter().all(|value| value.is_finite()), "{isa} {precision}");
                let mut worst: f32 = 0.0;
                for row in painted.chunks_exact(width * 3) {
                    let middle = &row[60 * 3..100 * 3];
                    for pixel in middle.chunks_exact(3) {
                        worst = pixel.iter().zip(middle).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
                    }
                }
                println!("{} {isa} {precision}: {worst} of 255", model.architecture());
                let tolerance = if precision == Precision::F32 { 0.1 } else { 1.0 };
                assert!(worst < tolerance, "{} {isa} {precision}: {worst} of 255", model.architecture());
            }
        }
    }
}
