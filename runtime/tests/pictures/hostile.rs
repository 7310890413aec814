//! What is refused: bombs, cut-off files, files that are no pictures, and some thousand damaged ones.

use std::io::Cursor;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use impasto::RuntimeError;
use impasto::picture::{DecodeOptions, Picture};

use crate::{assert_shows, base, fixture, fixture_bytes, png_declaring};

/// One file of each decoder's kinds.
const KINDS: [&str; 16] = [
    "baseline.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "icc.png",
    "palette_alpha.png",
    "grey16.png",
    "alpha.webp",
    "lossy.webp",
    "heic.heic",
    "alpha.heic",
    "rgb.bmp",
    "palette.bmp",
    "alpha.tiff",
    "bits.tiff",
    "palette.gif",
    "animated.gif",
];

fn read(bytes: &[u8]) -> Result<Picture, RuntimeError> {
    Picture::from_bytes(bytes, "some.file", &DecodeOptions::default())
}

/// The message, after checking that it is one line that names the file first.
#[track_caller]
fn message(result: Result<Picture, RuntimeError>) -> String {
    let message = result.expect_err("an error").to_string();
    assert!(message.starts_with("some.file: "), "{message}");
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
    message
}

#[test]
fn a_declared_size_over_the_limit_is_refused() {
    let mut jpeg = fixture_bytes("baseline.jpg");
    let frame_header = jpeg.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    jpeg[frame_header + 5..frame_header + 9].fill(0xFF);
    let mut gif = fixture_bytes("palette.gif");
    gif[6..10].fill(0xFF);
    let mut bmp = fixture_bytes("rgb.bmp");
    bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    for (kind, bytes) in [("png", png_declaring(60_000, 60_000)), ("jpeg", jpeg), ("gif", gif), ("bmp", bmp)]
    {
        let result = read(&bytes);
        assert!(matches!(result, Err(RuntimeError::TooManyPixels { .. })), "{kind}: {result:?}");
        assert!(message(result).contains("150000000"), "{kind}");
    }
    // PNG's largest size: its pixels do not fit 32 bits.
    assert!(matches!(
        read(&png_declaring(0x7FFF_FFFF, 0x7FFF_FFFF)),
        Err(RuntimeError::TooManyPixels { .. })
    ));
}

#[test]
fn the_limit_is_exact() {
    let bytes = fixture_bytes("icc.png");
    let at = |max_pixels| Picture::from_bytes(&bytes, "some.file", &DecodeOptions { max_pixels });
    assert!(at(24 * 16).is_ok());
    assert!(matches!(at(24 * 16 - 1), Err(RuntimeError::TooManyPixels { pixels: 384, limit: 383, .. })));
}

#[test]
fn a_profile_that_unpacks_to_too_much_does_not() {
    let bomb = |bytes: usize| {
        let mut profile = vec![0; bytes];
        profile[16..20].copy_from_slice(b"RGB ");
        profile[36..40].copy_from_slice(b"acsp");
        let mut png = Cursor::new(Vec::new());
        let mut encoder = PngEncoder::new(&mut png);
        encoder.set_icc_profile(profile).unwrap();
        encoder.write_image(base().rgb(), 24, 16, ExtendedColorType::Rgb8).unwrap();
        png.into_inner()
    };
    assert_eq!(read(&bomb(1000)).unwrap().icc_profile.unwrap().len(), 1000);
    // Over what is carried, and over what a decoder may unpack at all.
    for bytes in [5 << 20, 80 << 20] {
        let picture = read(&bomb(bytes)).unwrap();
        assert_eq!(picture.icc_profile, None);
        assert_shows("bomb", &picture.frame, &base(), 0);
    }
}

#[test]
fn what_is_no_picture_is_told_what_was_expected() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "the file is empty"),
        (b"just some text, in a file called .png\n", "not a picture"),
        (b"\xFF", "not a picture"),
        (b"\0\0\0\x1Cftypavif\0\0\0\0", "AVIF files"),
        (b"qoif\0\0\0\x01\0\0\0\x01\x03\0", "QOI files"),
    ];
    for (bytes, found) in cases {
        let message = message(read(bytes));
        assert!(message.contains(found), "{message}");
        assert!(message.contains("expected a JPEG, PNG, WebP, HEIC, BMP, TIFF or GIF picture"), "{message}");
    }
}

/// Raw files of cameras are TIFFs that begin with a small picture: that is not what is to be painted.
#[test]
fn a_tiff_that_begins_with_a_preview_is_refused() {
    let whole = fixture_bytes("icc.tiff");
    let directory = u32::from_le_bytes(*whole[4..].first_chunk().unwrap()) as usize;
    let count = usize::from(u16::from_le_bytes(*whole[directory..].first_chunk().unwrap()));
    let entries = &whole[directory + 2..][..count * 12];
    // The same picture with other entries before its own, and another directory behind.
    let with = |more: &[(u16, u32)], next: u32| {
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&(whole.len() as u32).to_le_bytes());
        bytes.extend(((count + more.len()) as u16).to_le_bytes());
        let mut all: Vec<Vec<u8>> = entries.chunks(12).map(<[u8]>::to_vec).collect();
        for (tag, value) in more {
            let head = [tag.to_le_bytes(), 4u16.to_le_bytes()].concat();
            all.push([&head[..], &1u32.to_le_bytes(), &value.to_le_bytes()].concat());
        }
        all.sort_by_key(|entry| u16::from_le_bytes([entry[0], entry[1]]));
        bytes.extend(all.concat());
        bytes.extend(next.to_le_bytes());
        bytes
    };
    assert!(whole.starts_with(b"II*\0"));
    for bytes in [with(&[(254, 1)], directory as u32), with(&[(254, 1), (330, directory as u32)], 0)] {
        let message = message(read(&bytes));
        assert!(message.contains("a small preview of another") && message.contains("hint"), "{message}");
    }
    // A page of several, and what calls itself reduced and is all there is.
    for bytes in [with(&[(254, 2)], directory as u32), with(&[(254, 1)], 0), with(&[], directory as u32)] {
        assert_shows("whole", &read(&bytes).unwrap().frame, &base(), 0);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("missing.jpg"), folder.path().to_path_buf()] {
        let error = Picture::open(&path, &DecodeOptions::default()).unwrap_err();
        assert!(matches!(error, RuntimeError::Io { action: "read", .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("{}: cannot read: ", path.display())), "{message}");
    }
    let error = Picture::open(fixture("srgb.icc"), &DecodeOptions::default()).unwrap_err().to_string();
    assert!(error.contains("srgb.icc: not a picture"), "{error}");
}

#[test]
fn half_a_file_is_an_error_in_every_format() {
    for name in KINDS {
        let bytes = fixture_bytes(name);
        let message = message(read(&bytes[..bytes.len() / 2]));
        assert!(message.contains("expected a complete"), "{name}: {message}");
    }
}

#[test]
fn a_jpeg_cut_anywhere_is_an_error() {
    for name in ["baseline.jpg", "progressive.jpg", "cmyk.jpg", "restart_markers.jpg", "thumbnail.jpg"] {
        let bytes = fixture_bytes(name);
        for length in 3..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{name} cut to {length} of {} bytes", bytes.len());
        }
        assert!(read(&bytes).is_ok(), "{name}");
    }
}

/// Marsaglia's xorshift64: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[test]
fn damaged_files_are_pictures_or_one_line_errors() {
    // Small, so that a damaged size costs neither memory nor time.
    let options = DecodeOptions { max_pixels: 1 << 20 };
    for (at, name) in KINDS.into_iter().enumerate() {
        let whole = fixture_bytes(name);
        let mut random = Random(0x9E37_79B9_7F4A_7C15 + at as u64);
        let (mut pictures, mut errors) = (0, 0);
        for round in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random.below(6) {
                // Half of the damage goes to the headers, where it does the most.
                let reach = if random.below(2) == 0 { bytes.len().min(80) } else { bytes.len() };
                bytes[random.below(reach)] = random.below(256) as u8;
            }
            if round % 4 == 0 {
                bytes.truncate(random.below(whole.len()));
            }
            match Picture::from_bytes(&bytes, "some.file", &options) {
                Ok(picture) => {
                    pictures += 1;
                    assert!(picture.alpha.is_none_or(|a| a.len() * 3 == picture.frame.rgb().len()), "{name}");
                }
                result => {
                    errors += 1;
                    message(result);
                }
            }
        }
        assert_eq!(pictures + errors, 400);
        assert!(errors > 0, "{name}: damage was not noticed once");
    }
}
