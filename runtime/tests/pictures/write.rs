//! What is written: each format with and without alpha, with a profile, at odd sizes, whole or not at all.

use impasto::Frame;
use impasto::picture::{EncodeOptions, Format, Picture};

use crate::{HEIGHT, WIDTH, assert_shows, base, base_alpha, decode, fixture_bytes};

const FORMATS: [Format; 4] = [Format::Png, Format::Jpeg, Format::WebP, Format::Tiff];

fn options() -> EncodeOptions {
    EncodeOptions::default()
}

#[test]
fn every_format_round_trips_with_alpha_and_profile() {
    let full =
        Picture { frame: base(), alpha: Some(base_alpha()), icc_profile: Some(fixture_bytes("srgb.icc")) };
    let opaque = Picture { alpha: None, ..full.clone() };
    for format in FORMATS {
        let name = format!("{format:?}");
        let bytes = opaque.encode(format, &options()).unwrap();
        let read = decode(&bytes);
        assert_shows(&name, &read.frame, &base(), if format == Format::Jpeg { 6 } else { 0 });
        assert_eq!((&read.alpha, &read.icc_profile), (&None, &full.icc_profile), "{name}");
        assert_eq!(bytes, opaque.encode(format, &options()).unwrap(), "{name}: the same bytes each time");

        let read = decode(&full.encode(format, &options()).unwrap());
        assert_eq!(read.icc_profile, full.icc_profile, "{name}");
        if format != Format::Jpeg {
            assert_eq!(read, full, "{name}");
        }
    }
}

#[test]
fn a_jpeg_shows_transparency_as_white() {
    let alpha: Vec<u8> = (0..HEIGHT * WIDTH).map(|at| if at % WIDTH < 8 { 0 } else { 255 }).collect();
    let picture = Picture { frame: base(), alpha: Some(alpha.clone()), icc_profile: None };
    let read = decode(&picture.encode(Format::Jpeg, &EncodeOptions { quality: 100 }).unwrap());
    let mut expected = base();
    for (pixel, opacity) in expected.rgb_mut().chunks_exact_mut(3).zip(alpha) {
        if opacity == 0 {
            pixel.fill(255);
        }
    }
    // Transparent and opaque meet at a block's edge, so nothing rings.
    assert_shows("jpeg", &read.frame, &expected, 4);
    assert_eq!(read.alpha, None);
}

#[test]
fn every_small_size_is_kept() {
    for (width, height) in [(1, 1), (1, 9), (9, 1), (2, 3), (17, 15)] {
        let rgb: Vec<u8> = (0..width * height * 3).map(|at| (at * 7 % 256) as u8).collect();
        let frame = Frame::new(width, height, rgb).unwrap();
        for format in FORMATS {
            let read = decode(&Picture::from(frame.clone()).encode(format, &options()).unwrap()).frame;
            assert_eq!((read.width(), read.height()), (width, height), "{format:?}");
            if format != Format::Jpeg {
                assert_eq!(read, frame, "{format:?}");
            }
        }
    }
}

#[test]
fn jpeg_quality_is_obeyed() {
    let noise = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let frame = Frame::new(96, 96, (0..96 * 96 * 3).map(noise).collect()).unwrap();
    let picture = Picture::from(frame);
    let size = |quality| picture.encode(Format::Jpeg, &EncodeOptions { quality }).unwrap().len();
    let sizes = [1, 30, 60, 89, 90, 100].map(size);
    assert!(sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
    assert_eq!((size(0), size(255)), (size(1), size(100)), "values outside are brought to the nearer end");
    assert_eq!(picture.encode(Format::Jpeg, &options()).unwrap().len(), size(90));
}

#[test]
fn strong_colour_keeps_its_edges_at_the_default_quality() {
    // Red and blue in turns, one pixel wide: with colour at half size all of it would be purple.
    let rgb = (0..32 * 32).flat_map(|at| if at % 2 == 0 { [220, 20, 20] } else { [20, 20, 220] }).collect();
    let frame = Frame::new(32, 32, rgb).unwrap();
    let read = decode(&Picture::from(frame.clone()).encode(Format::Jpeg, &options()).unwrap()).frame;
    let worst = read.rgb().iter().zip(frame.rgb()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(worst <= 40, "{worst}");
}

#[test]
fn files_are_written_by_extension_and_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let picture = Picture::from(base());
    for (name, start) in
        [("a.png", &b"\x89PNG"[..]), ("a.JPG", b"\xFF\xD8\xFF"), ("a.webp", b"RIFF"), ("a.tif", b"II*\0")]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, "old").unwrap();
        picture.save(&path, &options()).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(start), "{name}");
    }
    let path = folder.path().join("a.jpg.part");
    picture.save_as(&path, Format::Png, &options()).unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "no temporary file is left");
}

#[test]
fn what_cannot_be_written_is_one_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let unknown = folder.path().join("out.xyz");
    let no_folder = folder.path().join("missing/out.png");
    let too_large = folder.path().join("out.webp");
    let small = Picture::from(base());
    let wide = Picture::from(Frame::black(20_000, 1));
    for (picture, path, expected) in [
        (&small, &unknown, ".png, .jpg, .jpeg, .webp, .tif or .tiff"),
        (&small, &no_folder, "cannot write"),
        (&wide, &too_large, "at most 16384"),
    ] {
        let error = picture.save(path, &options()).unwrap_err().to_string();
        assert!(error.starts_with(&*path.to_string_lossy()) && error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let wrong = Picture { alpha: Some(vec![0; 3]), ..small };
    let error = wrong.encode(Format::Png, &options()).unwrap_err().to_string();
    assert!(error.contains("alpha") && error.contains("24×16"), "{error}");
}
