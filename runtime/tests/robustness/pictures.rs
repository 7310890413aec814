//! The table of pictures: what comes out of the good ones, what is said of the bad ones.

use std::fs;
use std::path::Path;

use impasto::Frame;

use super::files::*;
use super::fixtures::{HEIGHT, WIDTH, base, base_grey, fixture_bytes, grey_frame, plane, png_declaring};

/// JPEG at quality 95 on a smooth picture.
const JPEG: u8 = 5;
/// Colour at half the resolution.
const HALF: u8 = 14;

/// A picture that is painted.
pub struct Good {
    pub name: &'static str,
    pub bytes: fn() -> Vec<u8>,
    /// What it shows, upright.
    pub shows: fn() -> Frame,
    /// By how much a value may be off.
    pub within: u8,
}

const fn good(name: &'static str, bytes: fn() -> Vec<u8>, shows: fn() -> Frame, within: u8) -> Good {
    Good { name, bytes, shows, within }
}

/// A row for a file of `tests/fixtures/pictures`.
macro_rules! fixture {
    ($name:literal, $shows:expr, $within:expr) => {
        good($name, || fixture_bytes($name), $shows, $within)
    };
}

pub const GOOD: &[Good] = &[
    // name, what it shows, within how much
    fixture!("baseline.jpg", base, JPEG),
    fixture!("progressive.jpg", base, JPEG),
    fixture!("subsampled.jpg", base, HALF),
    fixture!("restart_markers.jpg", base, JPEG),
    fixture!("thumbnail.jpg", base, JPEG),
    fixture!("grey.jpg", grey, 3),
    fixture!("cmyk.jpg", base, JPEG),
    fixture!("icc.jpg", base, JPEG),
    fixture!("icc_cmyk.jpg", base, JPEG),
    fixture!("orientation_1.jpg", base, JPEG),
    fixture!("orientation_2.jpg", base, JPEG),
    fixture!("orientation_3.jpg", base, JPEG),
    fixture!("orientation_4.jpg", base, JPEG),
    fixture!("orientation_5.jpg", base, JPEG),
    fixture!("orientation_6.jpg", base, JPEG),
    fixture!("orientation_7.jpg", base, JPEG),
    fixture!("orientation_8.jpg", base, JPEG),
    fixture!("orientation_6.png", base, 0),
    fixture!("orientation_6.webp", base, 0),
    fixture!("orientation_6.tiff", base, 0),
    fixture!("icc.png", base, 0),
    fixture!("grey.png", grey, 0),
    fixture!("grey16.png", grey, 0),
    fixture!("grey_alpha.png", grey, 0),
    fixture!("palette.png", palette, 0),
    fixture!("palette_alpha.png", palette, 0),
    fixture!("bits.png", bits, 0),
    good("rgb16.png", || deep(Kind::Png), base, 0),
    good("interlaced.png", interlaced_png, base, 0),
    good("dot.png", || flat_png(1, 1), || flat(1, 1), 0),
    good("thread.png", || flat_png(1, 5000), || flat(1, 5000), 0),
    good("hair.png", || flat_png(5000, 1), || flat(5000, 1), 0),
    fixture!("lossy.webp", base, HALF),
    fixture!("heic.heic", base, HALF),
    good("heic orientation_5.heic", || fixture_bytes("orientation_5.heic"), base, JPEG),
    fixture!("deep.heic", base, JPEG),
    good("heic called.jpg", || fixture_bytes("heic.heic"), base, HALF),
    fixture!("alpha.webp", base, 0),
    fixture!("animated.webp", base, 0),
    fixture!("alpha.tiff", base, 0),         // deflate
    fixture!("orientation_1.tiff", base, 0), // LZW
    fixture!("icc.tiff", base, 0),           // not compressed
    fixture!("cmyk.tiff", base, 1),
    fixture!("bits.tiff", bits, 0), // fax, group 4
    good("rgb16.tiff", || deep(Kind::Tiff), base, 0),
    good("float.tiff", || float_tiff(&[]), base, 0),
    good(
        "values.tiff",
        || float_tiff(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 2.0]),
        odd_values,
        0,
    ),
    fixture!("rgb.bmp", base, 0),
    good("bmp palette.bmp", || fixture_bytes("palette.bmp"), palette, 0),
    good("gif palette.gif", || fixture_bytes("palette.gif"), palette, 0),
    fixture!("animated.gif", palette, 0),
    // Names that say something else, or are awkward.
    good("jpeg called.png", || fixture_bytes("baseline.jpg"), base, JPEG),
    good("-o.png", || fixture_bytes("icc.png"), base, 0),
    good("--help.png", || fixture_bytes("icc.png"), base, 0),
    good("two\nlines.png", || fixture_bytes("icc.png"), base, 0),
    good("\u{1b}[31mred\u{7}.png", || fixture_bytes("icc.png"), base, 0),
    good("\u{FFFD}.png", || fixture_bytes("icc.png"), base, 0), // a byte that is not UTF-8
    good("波 'x' \"y\" %d $HOME ;.png", || fixture_bytes("icc.png"), base, 0),
    // Damage that costs nothing that is seen.
    good(
        "appended.jpg",
        || [fixture_bytes("baseline.jpg"), b"a video, as phones append it".to_vec()].concat(),
        base,
        JPEG,
    ),
    good("appended.png", || [fixture_bytes("icc.png"), vec![0; 1000]].concat(), base, 0),
];

/// A picture that is refused.
pub struct Bad {
    pub name: &'static str,
    pub make: Make,
    /// What the line says, beside the name.
    pub says: &'static [&'static str],
}

/// How a case's file comes to be.
pub enum Make {
    /// Its bytes.
    Bytes(fn() -> Vec<u8>),
    /// Something else than a file, put in its place.
    Place(fn(&Path)),
}

pub const fn bad(name: &'static str, bytes: fn() -> Vec<u8>, says: &'static [&'static str]) -> Bad {
    Bad { name, make: Make::Bytes(bytes), says }
}

pub const fn place(name: &'static str, put: fn(&Path), says: &'static [&'static str]) -> Bad {
    Bad { name, make: Make::Place(put), says }
}

const NO_PICTURE: &[&str] = &["not a picture", "expected a JPEG, PNG, WebP, HEIC, BMP, TIFF or GIF picture"];

const CUT_JPEG: &[&str] = &["truncated JPEG: its end is missing; expected a complete file"];
const BROKEN_JPEG: &[&str] = &["broken or unsupported JPEG: ", "; expected a complete JPEG file"];
const BROKEN_PNG: &[&str] = &["broken or unsupported PNG: ", "; expected a complete PNG file"];
const BROKEN_WEBP: &[&str] = &["broken or unsupported WebP: ", "; expected a complete WebP file"];
const BROKEN_HEIC: &[&str] = &["broken or unsupported HEIC: ", "; expected a complete HEIC file"];
const BROKEN_BMP: &[&str] = &["broken or unsupported BMP: ", "; expected a complete BMP file"];
const BROKEN_TIFF: &[&str] = &["broken or unsupported TIFF: ", "; expected a complete TIFF file"];
const BROKEN_GIF: &[&str] = &["broken or unsupported GIF: ", "; expected a complete GIF file"];
/// The server counts in megapixels and has another hint.
pub const MORE: &str = "over the limit of 150000000; hint: raise --max-pixels if you trust the file";

pub const BAD: &[Bad] = &[
    // name, how it is made, what is said
    bad("empty.png", Vec::new, &["the file is empty", "expected a JPEG, PNG"]),
    bad("text.png", || b"Dear photo, I am a text.\n".to_vec(), NO_PICTURE),
    bad("byte.jpg", || vec![0xFF], NO_PICTURE),
    bad("zeros.png", || vec![0; 100_000], NO_PICTURE),
    bad("page.jpg", || b"<!doctype html><title>404</title>".to_vec(), NO_PICTURE),
    bad(
        "avif.png",
        || b"\0\0\0\x1Cftypavif\0\0\0\0avifmif1".to_vec(),
        &["AVIF files are not read", "expected"],
    ),
    bad("a phone's.jpg", || b"\0\0\0\x1Cftypheic\0\0\0\0mif1heic".to_vec(), BROKEN_HEIC),
    bad("profile.png", || fixture_bytes("srgb.icc"), NO_PICTURE),
    bad("\u{1b}[31mtext\n\u{7}.png", || b"text".to_vec(), &["not a picture"]),
    bad("\u{FFFD}text.png", || b"text".to_vec(), &["not a picture"]),
    bad("head.jpg", || head_of("baseline.jpg", 20), CUT_JPEG),
    bad("head.png", || head_of("icc.png", 20), BROKEN_PNG),
    bad("head.webp", || head_of("lossy.webp", 20), BROKEN_WEBP),
    bad("bmp head.bmp", || head_of("rgb.bmp", 20), BROKEN_BMP),
    bad("head.tiff", || head_of("alpha.tiff", 6), BROKEN_TIFF),
    bad("gif head.gif", || head_of("palette.gif", 8), BROKEN_GIF),
    bad("middle.jpg", || half_of("baseline.jpg"), CUT_JPEG),
    bad("middle progressive.jpg", || half_of("progressive.jpg"), CUT_JPEG),
    bad("middle.png", || half_of("icc.png"), BROKEN_PNG),
    bad("middle interlaced.png", || half(interlaced_png()), BROKEN_PNG),
    bad("middle.webp", || half_of("lossy.webp"), BROKEN_WEBP),
    bad("middle lossless.webp", || half_of("alpha.webp"), BROKEN_WEBP),
    bad("middle animated.webp", || half_of("animated.webp"), BROKEN_WEBP),
    bad("bmp middle.bmp", || half_of("rgb.bmp"), BROKEN_BMP),
    bad("middle deflate.tiff", || half_of("alpha.tiff"), BROKEN_TIFF),
    bad("middle lzw.tiff", || half_of("orientation_1.tiff"), BROKEN_TIFF),
    bad("gif middle.gif", || half_of("palette.gif"), BROKEN_GIF),
    bad("end.jpg", || without_end_of("baseline.jpg", 2), CUT_JPEG),
    bad("end.png", || without_end_of("icc.png", 20), BROKEN_PNG),
    bad("end.webp", || without_end_of("lossy.webp", 9), BROKEN_WEBP),
    bad("heic head.heic", || head_of("heic.heic", 400), BROKEN_HEIC),
    bad("heic middle.heic", || half_of("heic.heic"), BROKEN_HEIC),
    bad("heic end.heic", || without_end_of("heic.heic", 9), BROKEN_HEIC),
    bad("heic bit.heic", || flipped_in("heic.heic", 100), BROKEN_HEIC),
    bad("heic huge.heic", huge_heic, &["60000×60000 is 3600000000 pixels", MORE]),
    bad("bmp end.bmp", || without_end_of("rgb.bmp", 9), BROKEN_BMP),
    bad("end.tiff", || without_end_of("alpha.tiff", 9), BROKEN_TIFF),
    bad("gif end.gif", || without_end_of("palette.gif", 9), BROKEN_GIF),
    bad("bit.jpg", bit_flipped_jpeg, BROKEN_JPEG),
    bad("bit.png", || flipped_in("icc.png", 24), &["broken or unsupported PNG", "CRC"]),
    bad("bit.webp", || flipped_in("lossy.webp", 23), BROKEN_WEBP),
    bad("bmp bit.bmp", || flipped_in("rgb.bmp", 14), BROKEN_BMP),
    bad("bit.tiff", || flipped_in("alpha.tiff", 4), BROKEN_TIFF),
    bad(
        "palette.tiff",
        || photometric("icc.tiff", 3),
        &["broken or unsupported TIFF: ", "Palette", "; hint: save it as JPEG or PNG"],
    ),
    bad("gif bit.gif", || flipped_in("palette.gif", 3), NO_PICTURE),
    bad("huge.png", || png_declaring(60_000, 60_000), &["60000×60000 is 3600000000 pixels", MORE]),
    bad("largest.png", || png_declaring(0x7FFF_FFFF, 0x7FFF_FFFF), &["2147483647×2147483647", MORE]),
    bad("nothing.png", || png_declaring(0, 0), BROKEN_PNG),
    bad("huge.jpg", huge_jpeg, &["65535×65535 is 4294836225 pixels", MORE]),
    bad("gif huge.gif", huge_gif, &["65535×65535", MORE]),
    bad("bmp huge.bmp", huge_bmp, &["60000×60000", MORE]),
    bad("huge.webp", || webp_of(20_000), &["20000×20000", MORE]),
    bad("largest.webp", || webp_of(1 << 24), &["broken or unsupported WebP", "Image too large"]),
    place("missing.png", |_| (), &["cannot read: No such file"]),
    place("folder.png", make_folder, &["cannot read: Is a directory"]),
    place("broken link.png", |path| link("nowhere", path), &["cannot read: No such file"]),
    place("loop.png", |path| link("loop.png", path), &["cannot read: Too many levels of symbolic links"]),
    place("endless.png", |path| link("/dev/zero", path), NO_PICTURE),
];

/// All sizes in it are said to be 60,000 × 60,000 (boxes `ispe`: version, width, height).
fn huge_heic() -> Vec<u8> {
    let mut bytes = fixture_bytes("heic.heic");
    let places: Vec<usize> =
        (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"ispe\0\0\0\0")).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 8..at + 12].copy_from_slice(&60_000u32.to_be_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&60_000u32.to_be_bytes());
    }
    bytes
}

/// A TIFF that is said to hold its colours in another way (tag 262, a short).
fn photometric(name: &str, kind: u8) -> Vec<u8> {
    let mut bytes = fixture_bytes(name);
    let entry = [6, 1, 3, 0, 1, 0, 0, 0];
    let at = bytes.windows(entry.len()).position(|window| window == entry).expect("the tag");
    bytes[at + entry.len()] = kind;
    bytes
}

fn make_folder(path: &Path) {
    fs::create_dir(path).expect("made");
}

fn grey() -> Frame {
    grey_frame(&base_grey())
}

/// What is outside of 0 to 1 is the nearer end; what is no number counts as too large.
fn odd_values() -> Frame {
    let mut frame = base();
    frame.rgb_mut()[..5].copy_from_slice(&[255, 255, 0, 0, 255]);
    frame
}

fn bits() -> Frame {
    grey_frame(&plane(|x, _| 255 * (x % 2) as u8))
}

fn palette() -> Frame {
    let colors = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [40, 50, 60]];
    Frame::new(WIDTH, HEIGHT, (0..HEIGHT * WIDTH).flat_map(|at| colors[at % WIDTH / 6]).collect())
        .expect("a frame")
}
