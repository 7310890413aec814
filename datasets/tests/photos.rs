//! Photos as found in the wild: every format and shape gives a picture, and no bad file stops anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::fs;

use common::{encoded, open, picture, put, put_bad, put_good};
use image::{DynamicImage, ImageFormat};
use impasto_datasets::{DatasetError, FolderOptions, Holdout, PhotoFolder, Source};
use impasto_test_support::test_data;

/// The only photo of a folder, whole: 16×16.
fn only(name: &str, bytes: &[u8]) -> Result<Vec<u8>, DatasetError> {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), name, bytes);
    Ok(Source::from(open(root.path())).batch(1, 0, 1, 16)?.images)
}

/// The mean colour of the four quarters: upper left, upper right, lower left, lower right.
fn quarters(square: &[u8]) -> [[i32; 3]; 4] {
    let mut sums = [[0; 3]; 4];
    for (at, pixel) in square.chunks_exact(3).enumerate() {
        let quarter = at / 16 / 8 * 2 + at % 16 / 8;
        (0..3).for_each(|c| sums[quarter][c] += i32::from(pixel[c]));
    }
    sums.map(|sum| sum.map(|sum| sum / 64))
}

#[test]
fn every_kind_of_pixel_decodes() {
    let rgb = DynamicImage::from(picture(32, 32, 6));
    let kinds = [
        ("grey.jpg", encoded(rgb.to_luma8(), ImageFormat::Jpeg), true),
        ("rgb.JPEG", encoded(rgb.to_rgb8(), ImageFormat::Jpeg), false),
        ("grey.png", encoded(rgb.to_luma8(), ImageFormat::Png), true),
        ("grey16.png", encoded(rgb.to_luma16(), ImageFormat::Png), true),
        ("grey alpha.png", encoded(rgb.to_luma_alpha8(), ImageFormat::Png), true),
        ("rgba.png", encoded(rgb.to_rgba8(), ImageFormat::Png), false),
        ("rgb16.png", encoded(rgb.to_rgb16(), ImageFormat::Png), false),
        ("rgba16.png", encoded(rgb.to_rgba16(), ImageFormat::Png), false),
        ("rgb16.tif", encoded(rgb.to_rgb16(), ImageFormat::Tiff), false),
        ("rgba.webp", encoded(rgb.to_rgba8(), ImageFormat::WebP), false),
        ("rgb.bmp", encoded(rgb.to_rgb8(), ImageFormat::Bmp), false),
        ("palette.gif", encoded(rgb.to_rgb8(), ImageFormat::Gif), false),
        // Judged by content, not by name.
        ("webp named.jpg", encoded(rgb.to_rgb8(), ImageFormat::WebP), false),
    ];
    let expected = only("reference.png", &encoded(rgb.to_rgb8(), ImageFormat::Png)).unwrap();
    let grey = only("reference.png", &encoded(rgb.to_luma8(), ImageFormat::Png)).unwrap();
    for (name, bytes, is_grey) in kinds {
        let found = only(name, &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = if is_grey { &grey } else { &expected };
        let error: i32 = found.iter().zip(expected).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).sum();
        let mean = f64::from(error) / found.len() as f64;
        // JPEG and the palette of GIF lose a little; a wrong channel order would be off by dozens.
        assert!(mean < 6.0, "{name}: off by {mean:.1} grey levels");
    }
}

#[test]
fn cmyk_jpegs_keep_their_colours() {
    // Cyan above, half black below, as an Adobe program writes it: inverted.
    let pixels: Vec<u8> =
        (0..32 * 32).flat_map(|at| if at < 512 { [255, 0, 0, 0] } else { [0, 0, 0, 128] }).collect();
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, 95)
        .encode(&pixels, 32, 32, jpeg_encoder::ColorType::Cmyk)
        .unwrap();
    let [upper, _, lower, _] = quarters(&only("cmyk.jpg", &bytes).unwrap());
    assert!(upper[0] < 20 && upper[1] > 230 && upper[2] > 230, "cyan became {upper:?}");
    assert!(lower.iter().all(|level| (110..145).contains(level)), "grey became {lower:?}");
}

#[test]
fn photos_are_turned_upright() {
    // The camera lay on its side: red is left in the file, and on top in the picture (orientation 6).
    let lying =
        image::RgbImage::from_fn(32, 32, |x, _| image::Rgb(if x < 16 { [255, 0, 0] } else { [0, 0, 255] }));
    let mut bytes = encoded(lying, ImageFormat::Jpeg);
    let exif = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    bytes.splice(2..2, exif.iter().copied());
    let [upper_left, upper_right, lower_left, lower_right] = quarters(&only("a.jpg", &bytes).unwrap());
    for (colour, red) in [(upper_left, true), (upper_right, true), (lower_left, false), (lower_right, false)]
    {
        assert_eq!(colour[0] > 200, red, "{colour:?}");
        assert_eq!(colour[2] < 60, red, "{colour:?}");
    }
}

#[test]
fn tiny_and_extreme_shapes_are_enlarged() {
    for (width, height) in [(1, 1), (1, 400), (400, 1), (3, 2)] {
        let flat = image::RgbImage::from_pixel(width, height, image::Rgb([10, 120, 230]));
        let found = only("tiny.png", &encoded(flat, ImageFormat::Png)).unwrap();
        assert!(found.chunks_exact(3).all(|pixel| pixel == [10, 120, 230]), "{width}×{height}");
    }
}

#[test]
fn the_shorter_side_is_kept_whole_and_both_flips_occur() {
    // Green rises to the right, blue downwards.
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "wide.png", &encoded(picture(200, 100, 0), ImageFormat::Png));
    let batch = Source::from(open(root.path())).batch(5, 0, 40, 16).unwrap();
    let (mut mirrored, mut offsets) = (0, std::collections::BTreeSet::new());
    for square in batch.images.chunks_exact(16 * 16 * 3) {
        let pixel = |x: usize, y: usize| &square[(y * 16 + x) * 3..][..3];
        assert!(pixel(8, 0)[2] < 20 && pixel(8, 15)[2] > 235, "cut off above or below");
        let (left, right) = (pixel(0, 8)[1], pixel(15, 8)[1]);
        // Half of the photo's width, so half of the range of green.
        assert!((110..130).contains(&left.abs_diff(right)), "{left} to {right}");
        mirrored += usize::from(left > right);
        offsets.insert(left.min(right) / 8);
    }
    assert!((8..=32).contains(&mirrored), "{mirrored} of 40 mirrored");
    assert!(offsets.len() > 8, "crops at {offsets:?} only");
}

#[test]
fn bad_files_are_named_counted_once_and_replaced() {
    let root = tempfile::tempdir().unwrap();
    put_good(root.path());
    let bad = put_bad(root.path());
    let folder = open(root.path());
    let source = Source::from(folder.clone());
    assert_eq!(folder.training_len(), 8 + bad);
    let two_epochs = source.batch(3, 0, 2 * (8 + bad), 16).unwrap();
    let files = folder.bad_files();
    assert_eq!(folder.bad_count(), bad, "{files:#?}");
    assert!(files.iter().all(|file| file.path.starts_with("bad") && !file.reason.is_empty()), "{files:#?}");
    assert!(files.iter().all(|file| !file.reason.contains('\n')), "{files:#?}");
    // Every place holds one of the good photos: their red is their number times 20.
    for square in two_epochs.images.chunks_exact(16 * 16 * 3) {
        let red = square.iter().step_by(3).map(|&red| u32::from(red)).sum::<u32>() / 256;
        assert!(red % 20 <= 2 || red % 20 >= 18, "red {red} is none of the good photos");
    }
    // A fresh folder, which has to find the bad files anew, gives the same.
    assert_eq!(Source::from(open(root.path())).batch(3, 0, 2 * (8 + bad), 16).unwrap(), two_epochs);
}

#[test]
fn one_good_photo_among_many_bad_ones_is_found() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..300 {
        put(root.path(), &format!("{i}.jpg"), b"nothing");
    }
    put(root.path(), "good.png", &encoded(picture(20, 20, 5), ImageFormat::Png));
    let batch = Source::from(open(root.path())).batch(0, 0, 4, 16).unwrap();
    assert!(batch.images.iter().step_by(3).all(|&red| red == 100));
}

/// As after a download that was cut off: names without content, one after the other.
#[test]
fn a_long_run_of_bad_photos_favours_no_good_one() {
    let root = tempfile::tempdir().unwrap();
    let good = 25;
    for i in 0..500 {
        put(root.path(), &format!("a/{i:03}.jpg"), b"");
    }
    for i in 0..good {
        let flat = image::RgbImage::from_pixel(8, 8, image::Rgb([i * 10, 0, 0]));
        put(root.path(), &format!("b/{i}.png"), &encoded(flat, ImageFormat::Png));
    }
    let batch = Source::from(open(root.path())).batch(3, 0, 2_500, 1).unwrap();
    let mut counts = vec![0; usize::from(good)];
    batch.images.chunks_exact(3).for_each(|pixel| counts[usize::from(pixel[0] / 10)] += 1);
    // 100 expected each, standard deviation 10.
    assert!(counts.iter().all(|count| (50..150).contains(count)), "{counts:?}");
}

/// A sub-folder on a disk that was taken away: what is beside it is enough to go on with.
#[test]
fn most_of_the_photos_gone_does_not_end_a_training() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..400 {
        put(root.path(), &format!("a/{i}.png"), b"gone soon");
    }
    for i in 0..100 {
        put(root.path(), &format!("b/{i}.png"), &encoded(picture(8, 8, 5), ImageFormat::Png));
    }
    let source = Source::from(open(root.path()));
    fs::remove_dir_all(root.path().join("a")).unwrap();
    source.batch(3, 0, 1_000, 1).unwrap();
}

#[test]
fn only_bad_files_are_a_clear_error() {
    let root = tempfile::tempdir().unwrap();
    let bad = put_bad(root.path());
    let error = Source::from(open(root.path())).batch(0, 7, 2, 16).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, DatasetError::NothingDecodes { tried, .. } if tried == bad), "{message}");
    assert!(message.contains("hint: ") && message.contains("bad/") && !message.contains('\n'), "{message}");
}

#[test]
fn a_folder_without_photos_is_a_clear_error() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "readme.txt", b"no photos");
    let error = PhotoFolder::open(root.path(), &FolderOptions::default()).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, DatasetError::Empty { .. }), "{message}");
    assert!(message.contains("jpg") && message.contains("hint: ") && !message.contains('\n'), "{message}");
}

#[cfg(unix)]
#[test]
fn what_could_not_be_read_is_told_with_an_empty_folder_and_not_by_the_thousand() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    for i in 0..100 {
        symlink("gone", root.path().join(format!("{i:02}.jpg"))).unwrap();
    }
    let message = PhotoFolder::open(root.path(), &FolderOptions::default()).unwrap_err().to_string();
    assert!(message.contains("no photos") && message.contains("/00.jpg: No such file"), "{message}");
    assert!(message.contains("; and 99 more; hint: ") && !message.contains('\n'), "{message}");
    put_good(root.path());
    let folder = open(root.path());
    assert_eq!(folder.warnings().len(), 17);
    assert!(folder.warnings()[16].ends_with(": 84 more files or folders cannot be read"));
}

/// A file's name may hold line ends and what terminals obey.
#[cfg(unix)]
#[test]
fn odd_names_stay_on_one_line() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("my\nphotos");
    put(&root, "red\u{1b}[31m\n.jpg", b"nothing");
    std::os::unix::fs::symlink("gone", root.join("a\n.jpg")).unwrap();
    let folder = open(&root);
    let error = Source::from(folder.clone()).batch(0, 0, 1, 16).unwrap_err().to_string();
    let bad = folder.bad_files()[0].to_string();
    assert!(bad.starts_with("red\u{fffd}[31m\u{fffd}.jpg: the content"), "{bad}");
    for line in [&error, &bad, &folder.warnings()[0]] {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    let message = PhotoFolder::open(root.join("no\n"), &FolderOptions::default()).unwrap_err().to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[cfg(unix)]
#[test]
fn links_to_the_same_photo_count_once() {
    let root = tempfile::tempdir().unwrap();
    put_good(root.path());
    std::os::unix::fs::symlink(root.path(), root.path().join("part0/loop")).unwrap();
    std::os::unix::fs::symlink(root.path().join("part1"), root.path().join("a")).unwrap();
    assert_eq!(open(root.path()).training_len(), 8);
}

#[test]
fn held_out_photos_are_never_trained_on_and_do_not_change() {
    let root = tempfile::tempdir().unwrap();
    put_good(root.path());
    put_bad(root.path());
    let options = FolderOptions { holdout: Holdout::Count(12), ..FolderOptions::default() };
    let folder = PhotoFolder::open(root.path(), &options).unwrap();
    assert_eq!((folder.validation_len(), folder.training_len()), (12, 8));
    let source = Source::from(folder);
    let pictures: Vec<_> = source.validation(16).unwrap().collect();
    assert!(!pictures.is_empty() && pictures.iter().all(|picture| !picture.name.starts_with("bad/")));
    assert_eq!(source.validation(16).unwrap().collect::<Vec<_>>(), pictures);
    // The same order at another size, and the same first ones when fewer are asked for.
    let larger: Vec<_> = source.validation(24).unwrap().take(2).collect();
    assert!(larger.iter().zip(&pictures).all(|(a, b)| a.name == b.name && a.rgb.len() == 24 * 24 * 3));
    let red = |rgb: &[u8]| (rgb.iter().step_by(3).map(|&red| u32::from(red)).sum::<u32>() / 256 + 5) / 20;
    let trained: Vec<_> =
        source.batch(0, 0, 32, 16).unwrap().images.chunks_exact(16 * 16 * 3).map(red).collect();
    assert!(pictures.iter().all(|picture| !trained.contains(&red(&picture.rgb))));
}

#[test]
fn a_photo_that_vanishes_after_listing_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    put_good(root.path());
    let folder = open(root.path());
    fs::remove_dir_all(root.path().join("part0")).unwrap();
    assert_eq!(Source::from(folder.clone()).batch(0, 0, 8, 16).unwrap().batch_size, 8);
    assert_eq!(folder.bad_count(), 3);
    assert!(folder.bad_files().iter().all(|file| file.path.starts_with("part0")));
}

#[test]
fn a_photo_that_comes_back_is_used_again() {
    let root = tempfile::tempdir().unwrap();
    put_good(root.path());
    let before = Source::from(open(root.path())).batch(0, 0, 8, 16).unwrap();
    let folder = open(root.path());
    let source = Source::from(folder.clone());
    fs::rename(root.path().join("part0"), root.path().join("elsewhere")).unwrap();
    assert_ne!(source.batch(0, 0, 8, 16).unwrap(), before);
    fs::rename(root.path().join("elsewhere"), root.path().join("part0")).unwrap();
    assert_eq!(source.batch(0, 0, 8, 16).unwrap(), before);
    assert_eq!(folder.bad_count(), 3, "each is named once");
}

/// A disk that was taken away leaves its mount point, an empty folder, or nothing.
#[test]
fn photos_that_are_all_gone_are_no_bad_photos() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("photos");
    for i in 0..300 {
        put(&root, &format!("{i}.png"), &encoded(picture(20, 20, 5), ImageFormat::Png));
    }
    put(&root, "bad.jpg", b"nothing");
    let folder = open(&root);
    let source = Source::from(folder.clone());
    source.batch(0, 0, 1, 16).unwrap();
    fs::remove_dir_all(&root).unwrap();
    let gone = source.batch(0, 1, 1, 16).unwrap_err();
    assert!(matches!(gone, DatasetError::Unreadable { .. }), "{gone}");
    fs::create_dir(&root).unwrap();
    let empty = source.batch(0, 1, 1, 16).unwrap_err();
    // The bad photo may or may not have been met before the 64th that is missing.
    assert!(matches!(&empty, DatasetError::Withheld { tried: 64, .. }), "{empty}");
    for message in [gone.to_string(), empty.to_string()] {
        assert!(message.contains(&root.display().to_string()) && message.contains("hint: "), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

/// What is no file any more can be read by nobody, root included.
#[test]
fn few_photos_that_cannot_be_read_are_tried_to_the_last() {
    let root = tempfile::tempdir().unwrap();
    put_good(root.path());
    let folder = open(root.path());
    let source = Source::from(folder.clone());
    for photo in ["part0/0.jpg", "part0/3.png", "part0/6.jpg", "part1/1.png", "part1/4.jpg", "part1/7.png"] {
        fs::remove_file(root.path().join(photo)).unwrap();
        fs::create_dir(root.path().join(photo)).unwrap();
    }
    fs::remove_file(root.path().join("part2/2.jpg")).unwrap();
    // One of eight is left.
    let batch = source.batch(0, 0, 8, 16).unwrap();
    let left = only("a.png", &fs::read(root.path().join("part2/5.png")).unwrap()).unwrap();
    let red = |square: &[u8]| square.iter().step_by(3).map(|&red| u32::from(red)).sum::<u32>() / 256;
    assert!(batch.images.chunks_exact(16 * 16 * 3).all(|square| red(square) == red(&left)));
    fs::remove_file(root.path().join("part2/5.png")).unwrap();
    let error = source.batch(0, 0, 8, 16).unwrap_err();
    assert!(matches!(&error, DatasetError::Withheld { tried: 8, .. }), "{error}");
}

#[test]
fn real_photos_all_decode() {
    let Some(data) = test_data("real photos") else { return };
    let folder = open(&data.join("photos/train"));
    let source = Source::from(folder.clone());
    for step in 0..folder.training_len().div_ceil(64) as u64 {
        source.batch(0, step, 64, 32).unwrap();
    }
    assert_eq!(folder.bad_files(), []);
}
