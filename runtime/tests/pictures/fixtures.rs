//! The picture files in `tests/fixtures/pictures` (from `tests/fixtures/make_pictures.py`), what they show, and PNGs put
//! together by hand. Two tests share them.

#![allow(dead_code, reason = "each of the tests uses a part")]

use std::path::PathBuf;

use impasto::Frame;
use impasto_test_support::repository;

pub const WIDTH: usize = 24;
pub const HEIGHT: usize = 16;

pub fn fixture(name: &str) -> PathBuf {
    // Through the folder above: the trainer's tests use them too.
    repository("runtime/tests/fixtures/pictures").join(name)
}

pub fn fixture_bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// One value a pixel.
pub fn plane(value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
    (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y))).map(|(x, y)| value(x, y)).collect()
}

/// The picture that the fixtures show; the same formula as in the script.
pub fn base() -> Frame {
    let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    let rgb =
        pixels.flat_map(|(x, y)| [10 + 9 * x, 20 + 13 * y, 200 - 4 * x - 5 * y].map(|v| v as u8)).collect();
    Frame::new(WIDTH, HEIGHT, rgb).unwrap()
}

pub fn base_alpha() -> Vec<u8> {
    plane(|x, y| (5 * x + 8 * y) as u8)
}

/// ITU-R 601 luma, as Pillow rounds it.
pub fn base_grey() -> Vec<u8> {
    let luma = |p: &[u8]| {
        (u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16
    };
    base().rgb().chunks_exact(3).map(|pixel| luma(pixel) as u8).collect()
}

pub fn grey_frame(grey: &[u8]) -> Frame {
    Frame::new(WIDTH, HEIGHT, grey.iter().flat_map(|&value| [value; 3]).collect()).unwrap()
}

/// The checksum of PNG chunks (ISO 3309).
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    })
}

pub fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let content = [&kind[..], body].concat();
    [&(body.len() as u32).to_be_bytes()[..], &content, &crc32(&content).to_be_bytes()].concat()
}

/// A PNG that declares a size and has nothing to show for it.
pub fn png_declaring(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &[]), &chunk(b"IEND", &[])].concat()
}
