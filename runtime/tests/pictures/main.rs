//! Picture files, read and written: every format and depth, orientation, alpha, profiles, hostile files.
//!
//! The files in `tests/fixtures/pictures` come from `tests/fixtures/make_pictures.py`.
#![cfg(feature = "pictures")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too, a failed unwrap is a failed test")]

mod hostile;
mod read;
mod write;

use std::path::PathBuf;

use impasto::Frame;
use impasto::picture::{DecodeOptions, Picture};

const WIDTH: usize = 24;
const HEIGHT: usize = 16;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name)
}

fn fixture_bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

fn open(name: &str) -> Picture {
    Picture::open(fixture(name), &DecodeOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn decode(bytes: &[u8]) -> Picture {
    Picture::from_bytes(bytes, "memory", &DecodeOptions::default()).unwrap()
}

/// One value a pixel.
fn plane(value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y))).map(|(x, y)| value(x, y)).collect()
}

/// The picture that the fixtures show; the same formula as in the script.
fn base() -> Frame {
    let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    let rgb =
        pixels.flat_map(|(x, y)| [10 + 9 * x, 20 + 13 * y, 200 - 4 * x - 5 * y].map(|v| v as u8)).collect();
    Frame::new(WIDTH, HEIGHT, rgb).unwrap()
}

fn base_alpha() -> Vec<u8> {
    plane(|x, y| (5 * x + 8 * y) as u8)
}

/// ITU-R 601 luma, as Pillow rounds it.
fn base_grey() -> Vec<u8> {
    let luma = |p: &[u8]| {
        (u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16
    };
    base().rgb().chunks_exact(3).map(|pixel| luma(pixel) as u8).collect()
}

fn grey_frame(grey: &[u8]) -> Frame {
    Frame::new(WIDTH, HEIGHT, grey.iter().flat_map(|&value| [value; 3]).collect()).unwrap()
}

/// Fails with the first pixel that is further off than `tolerance` on any channel.
#[track_caller]
fn assert_shows(name: &str, got: &Frame, expected: &Frame, tolerance: u8) {
    assert_eq!((got.width(), got.height()), (expected.width(), expected.height()), "{name}: size");
    for (at, (got, expected)) in got.rgb().iter().zip(expected.rgb()).enumerate() {
        let (x, y) = (at / 3 % WIDTH, at / 3 / WIDTH);
        assert!(
            got.abs_diff(*expected) <= tolerance,
            "{name}: {got} at ({x}, {y}), channel {}; expected {expected} ± {tolerance}",
            at % 3
        );
    }
}
