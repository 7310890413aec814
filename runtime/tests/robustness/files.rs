//! Picture files made by code: what the encoders of the fixtures do not write, and damage.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat};
use impasto::Frame;
use impasto::picture::{EncodeOptions, Format, Picture};

use super::fixtures::{HEIGHT, WIDTH, base, chunk, fixture_bytes};

/// Formats with 16 bits a channel.
pub enum Kind {
    Png,
    Tiff,
}

/// `base` with 16 bits a channel.
pub fn deep(kind: Kind) -> Vec<u8> {
    let values = base().rgb().iter().map(|&value| u16::from(value) * 257).collect();
    let picture = DynamicImage::ImageRgb16(ImageBuffer::from_raw(24, 16, values).expect("values"));
    encoded(
        &picture,
        match kind {
            Kind::Png => ImageFormat::Png,
            Kind::Tiff => ImageFormat::Tiff,
        },
    )
}

/// `base` in floats from 0 to 1, the first ones exchanged for others.
pub fn float_tiff(first: &[f32]) -> Vec<u8> {
    let mut values: Vec<f32> = base().rgb().iter().map(|&value| f32::from(value) / 255.0).collect();
    values[..first.len()].copy_from_slice(first);
    encoded(
        &DynamicImage::ImageRgb32F(ImageBuffer::from_raw(24, 16, values).expect("values")),
        ImageFormat::Tiff,
    )
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("encoded");
    bytes.into_inner()
}

/// One colour.
pub fn flat(width: usize, height: usize) -> Frame {
    Frame::new(width, height, [250, 3, 7].repeat(width * height)).expect("a frame")
}

pub fn flat_png(width: usize, height: usize) -> Vec<u8> {
    Picture::from(flat(width, height)).encode(Format::Png, &EncodeOptions::default()).expect("a PNG")
}

/// `base` in the seven passes of Adam7 (PNG, 3rd edition, section 8), not compressed.
pub fn interlaced_png() -> Vec<u8> {
    let frame = base();
    let passes =
        [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];
    let mut rows = Vec::new();
    for (left, top, across, down) in passes {
        for y in (top..HEIGHT).step_by(down) {
            rows.push(0); // no filter
            for x in (left..WIDTH).step_by(across) {
                rows.extend_from_slice(&frame.rgb()[3 * (y * WIDTH + x)..][..3]);
            }
        }
    }
    let header =
        [&(WIDTH as u32).to_be_bytes()[..], &(HEIGHT as u32).to_be_bytes(), &[8, 2, 0, 0, 1]].concat();
    let signature = b"\x89PNG\r\n\x1a\n";
    [&signature[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &stored(&rows)), &chunk(b"IEND", &[])].concat()
}

/// One stored block in a zlib stream (RFC 1950, 1951).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("one block");
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    let head = [&[0x78, 0x01, 0x01][..], &length.to_le_bytes(), &(!length).to_le_bytes()].concat();
    [&head[..], bytes, &(b << 16 | a).to_be_bytes()].concat()
}

/// The beginning of a fixture.
pub fn head_of(name: &str, length: usize) -> Vec<u8> {
    start(fixture_bytes(name), length)
}

/// The first half of a fixture.
pub fn half_of(name: &str) -> Vec<u8> {
    half(fixture_bytes(name))
}

/// A fixture without its last bytes.
pub fn without_end_of(name: &str, count: usize) -> Vec<u8> {
    without_last(fixture_bytes(name), count)
}

/// A fixture with one bit of this byte the other way round.
pub fn flipped_in(name: &str, at: usize) -> Vec<u8> {
    bit_flipped(fixture_bytes(name), at)
}

pub fn start(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.truncate(length);
    bytes
}

pub fn half(bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() / 2;
    start(bytes, length)
}

pub fn without_last(bytes: Vec<u8>, count: usize) -> Vec<u8> {
    let length = bytes.len() - count;
    start(bytes, length)
}

pub fn bit_flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x40;
    bytes
}

/// Height and width in the frame header are the largest that there are.
pub fn huge_jpeg() -> Vec<u8> {
    let (mut bytes, header) = jpeg_with_header();
    bytes[header + 5..header + 9].fill(0xFF);
    bytes
}

/// The frame header declares 72 bits a sample in the place of 8.
pub fn bit_flipped_jpeg() -> Vec<u8> {
    let (bytes, header) = jpeg_with_header();
    bit_flipped(bytes, header + 4)
}

/// A JPEG, and where its frame header begins.
fn jpeg_with_header() -> (Vec<u8>, usize) {
    let bytes = fixture_bytes("baseline.jpg");
    let header = bytes.windows(2).position(|marker| marker == [0xFF, 0xC0]).expect("a frame header");
    (bytes, header)
}

pub fn huge_gif() -> Vec<u8> {
    let mut bytes = fixture_bytes("palette.gif");
    bytes[6..10].fill(0xFF);
    bytes
}

pub fn huge_bmp() -> Vec<u8> {
    let mut bytes = fixture_bytes("rgb.bmp");
    bytes[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bytes[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    bytes
}

/// An extended file that declares a square canvas.
pub fn webp_of(side: u32) -> Vec<u8> {
    let mut bytes = fixture_bytes("animated.webp");
    assert_eq!(&bytes[12..16], b"VP8X");
    let side = &(side - 1).to_le_bytes()[..3];
    bytes[24..30].copy_from_slice(&[side, side].concat());
    bytes
}

/// A link, where there are links.
pub fn link(target: &str, path: &Path) {
    #[cfg(unix)]
    std::os::unix::fs::symlink(target, path).expect("a link");
    #[cfg(not(unix))]
    std::fs::copy(target, path).map_or((), |_| ());
}
