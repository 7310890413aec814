//! What is read: each format, depth and colour type, upright, with alpha and profile.

use std::io::Cursor;

use image::{DynamicImage, ImageBuffer, ImageFormat};
use impasto::Frame;
use impasto::picture::{DecodeOptions, Picture};
use impasto_test_support::test_data;

use crate::{
    HEIGHT, WIDTH, assert_shows, base, base_alpha, base_grey, decode, fixture_bytes, grey_frame, open, plane,
};

/// JPEG at quality 95 on a smooth picture.
const JPEG_TOLERANCE: u8 = 5;
/// HEIC at quality 95.
const HEIC_TOLERANCE: u8 = 5;

#[test]
fn every_orientation_is_applied_in_every_format_that_has_it() {
    for number in 1..=8 {
        for (extension, tolerance) in
            [("jpg", JPEG_TOLERANCE), ("heic", HEIC_TOLERANCE), ("png", 0), ("webp", 0), ("tiff", 0)]
        {
            let name = format!("orientation_{number}.{extension}");
            assert_shows(&name, &open(&name).frame, &base(), tolerance);
        }
        let name = format!("orientation_{number}.png");
        assert_eq!(open(&name).alpha, Some(base_alpha()), "{name}: alpha");
    }
}

#[test]
fn every_kind_of_jpeg_is_read() {
    for name in ["baseline.jpg", "progressive.jpg", "cmyk.jpg", "restart_markers.jpg", "thumbnail.jpg"] {
        let picture = open(name);
        assert_shows(name, &picture.frame, &base(), JPEG_TOLERANCE);
        assert_eq!(picture.alpha, None, "{name}");
    }
    assert_shows("subsampled.jpg", &open("subsampled.jpg").frame, &base(), 14);
    assert_shows("grey.jpg", &open("grey.jpg").frame, &grey_frame(&base_grey()), 3);
    let appended = [fixture_bytes("baseline.jpg"), b"a video, as phones append it".to_vec()].concat();
    assert_shows("bytes after the end", &decode(&appended).frame, &base(), JPEG_TOLERANCE);
}

#[test]
fn the_pictures_of_phones_are_read() {
    for (name, tolerance) in [("heic.heic", 14), ("icc.heic", HEIC_TOLERANCE), ("deep.heic", HEIC_TOLERANCE)]
    {
        let picture = open(name);
        assert_shows(name, &picture.frame, &base(), tolerance);
        assert_eq!(picture.alpha, None, "{name}");
    }
}

#[test]
fn lossless_colour_is_read_exactly() {
    for name in ["rgb.bmp", "animated.webp", "icc.tiff", "icc.png"] {
        let picture = open(name);
        assert_shows(name, &picture.frame, &base(), 0);
        assert_eq!(picture.alpha, None, "{name}");
    }
    assert_shows("lossy.webp", &open("lossy.webp").frame, &base(), 14);
    assert_shows("cmyk.tiff", &open("cmyk.tiff").frame, &base(), 1);
}

#[test]
fn alpha_is_kept() {
    for name in ["alpha.webp", "alpha.tiff"] {
        let picture = open(name);
        assert_shows(name, &picture.frame, &base(), 0);
        assert_eq!(picture.alpha, Some(base_alpha()), "{name}");
    }
    let picture = open("alpha.heic");
    assert_shows("alpha.heic", &picture.frame, &base(), 2);
    let off = picture.alpha.unwrap().iter().zip(base_alpha()).map(|(a, b)| a.abs_diff(b)).max();
    assert!(off.unwrap() <= 2, "alpha.heic: {off:?}");
    let picture = open("grey_alpha.png");
    assert_shows("grey_alpha.png", &picture.frame, &grey_frame(&base_grey()), 0);
    assert_eq!(picture.alpha, Some(base_alpha()));
}

#[test]
fn grey_and_one_bit_pictures_become_rgb() {
    for name in ["grey.png", "grey16.png", "icc_grey.png"] {
        let picture = open(name);
        assert_shows(name, &picture.frame, &grey_frame(&base_grey()), 0);
        assert_eq!((picture.alpha, picture.icc_profile), (None, None), "{name}");
    }
    for name in ["bits.png", "bits.tiff"] {
        assert_shows(name, &open(name).frame, &grey_frame(&plane(|x, _| 255 * (x % 2) as u8)), 0);
    }
}

#[test]
fn palettes_are_looked_up() {
    let colors = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [40, 50, 60]];
    let rgb = (0..HEIGHT * WIDTH).flat_map(|at| colors[at % WIDTH / 6]).collect();
    let expected = Frame::new(WIDTH, HEIGHT, rgb).unwrap();
    for name in ["palette.png", "palette.bmp", "palette.gif", "animated.gif"] {
        let picture = open(name);
        assert_shows(name, &picture.frame, &expected, 0);
        assert_eq!(picture.alpha, None, "{name}");
    }
    let picture = open("palette_alpha.png");
    assert_shows("palette_alpha.png", &picture.frame, &expected, 0);
    assert_eq!(picture.alpha, Some(plane(|x, _| [255, 128, 0, 255][x / 6])));
    let alpha = open("transparent.gif").alpha.unwrap();
    assert_eq!(alpha, plane(|x, _| [255, 255, 0, 255][x / 6]));
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    // 16-bit values a little above and below `value · 257`, which stands for the 8-bit value.
    let deep = |value: u8, at: usize| {
        (i32::from(value) * 257 + [0, 100, -100, 128, -128][at % 5]).clamp(0, 65_535) as u16
    };
    let deepen =
        |values: &[u8]| -> Vec<u16> { values.iter().enumerate().map(|(at, &v)| deep(v, at)).collect() };
    let (rgb, grey, alpha) = (base(), base_grey(), base_alpha());
    let interleave = |colors: &[u8], channels: usize| -> Vec<u8> {
        colors
            .chunks_exact(channels)
            .zip(&alpha)
            .flat_map(|(color, &a)| color.iter().copied().chain([a]))
            .collect()
    };
    let (width, height) = (WIDTH as u32, HEIGHT as u32);
    let pictures = [
        DynamicImage::ImageRgb16(ImageBuffer::from_raw(width, height, deepen(rgb.rgb())).unwrap()),
        DynamicImage::ImageRgba16(
            ImageBuffer::from_raw(width, height, deepen(&interleave(rgb.rgb(), 3))).unwrap(),
        ),
        DynamicImage::ImageLuma16(ImageBuffer::from_raw(width, height, deepen(&grey)).unwrap()),
        DynamicImage::ImageLumaA16(
            ImageBuffer::from_raw(width, height, deepen(&interleave(&grey, 1))).unwrap(),
        ),
    ];
    for picture in pictures {
        for format in [ImageFormat::Png, ImageFormat::Tiff] {
            let name = format!("{format:?} {:?}", picture.color());
            let mut bytes = Cursor::new(Vec::new());
            // The TIFF encoder has no grey with alpha.
            if picture.write_to(&mut bytes, format).is_err() {
                assert_eq!(name, "Tiff La16");
                continue;
            }
            let read = decode(bytes.get_ref());
            let expected = if picture.color().has_color() { rgb.clone() } else { grey_frame(&grey) };
            assert_shows(&name, &read.frame, &expected, 0);
            assert_eq!(read.alpha, picture.color().has_alpha().then(|| alpha.clone()), "{name}");
        }
    }
}

#[test]
fn an_rgb_profile_is_carried_and_others_are_not() {
    let srgb = fixture_bytes("srgb.icc");
    for name in ["icc.jpg", "icc.png", "icc.webp", "icc.tiff", "icc.heic"] {
        assert_eq!(open(name).icc_profile.as_ref(), Some(&srgb), "{name}");
    }
    let picture = open("icc_cmyk.jpg");
    assert_eq!(picture.icc_profile, None);
    assert_shows("icc_cmyk.jpg", &picture.frame, &base(), JPEG_TOLERANCE);
}

#[test]
fn one_pixel_is_a_picture() {
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP, ImageFormat::Gif]
    {
        let pixel = DynamicImage::ImageRgb8(ImageBuffer::from_raw(1, 1, vec![250, 3, 7]).unwrap());
        let mut bytes = Cursor::new(Vec::new());
        pixel.write_to(&mut bytes, format).unwrap();
        assert_eq!(decode(bytes.get_ref()).frame, Frame::new(1, 1, vec![250, 3, 7]).unwrap(), "{format:?}");
    }
}

#[test]
fn the_content_decides_and_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.png");
    std::fs::write(&path, fixture_bytes("baseline.jpg")).unwrap();
    let picture = Picture::open(&path, &DecodeOptions::default()).unwrap();
    assert_shows("a JPEG called .png", &picture.frame, &base(), JPEG_TOLERANCE);
}

#[test]
fn every_real_photo_is_read() {
    let Some(data) = test_data("real pictures") else { return };
    let mut read = 0;
    for folder in ["photos/train", "photos/eval", "paintings"] {
        let folder = data.join(folder);
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "jpg" || extension == "png") {
                let picture = Picture::open(&path, &DecodeOptions::default()).unwrap();
                assert!(picture.width() > 1 && picture.height() > 1, "{}", path.display());
                read += 1;
            }
        }
    }
    assert!(read > 1000, "{read} photos; expected the whole training set");
}
