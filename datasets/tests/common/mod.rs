//! Folders of photos for the tests, good ones and every kind of bad one.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use impasto_datasets::{FolderOptions, PhotoFolder};

/// A picture that differs from others of another `seed` everywhere, smooth enough to survive JPEG.
pub fn picture(width: u32, height: u32, seed: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([seed * 20, (x * 255 / width) as u8, (y * 255 / height) as u8])
    })
}

/// The bytes of a picture in a format.
pub fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture.into().write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// Writes a file, with the folders above it.
pub fn put(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Eight good photos, wide, tall and square.
pub fn put_good(root: &Path) {
    for (i, (width, height)) in
        [(48, 32), (32, 48), (40, 40), (64, 33), (33, 70), (90, 31), (32, 32), (57, 41)]
            .into_iter()
            .enumerate()
    {
        let format = if i % 2 == 0 { ImageFormat::Jpeg } else { ImageFormat::Png };
        let name = format!("part{}/{i}.{}", i % 3, format.extensions_str()[0]);
        put(root, &name, &encoded(picture(width, height, i as u8), format));
    }
}

/// Files with the names of photos that are none; returns how many.
pub fn put_bad(root: &Path) -> usize {
    let jpeg = encoded(picture(64, 48, 9), ImageFormat::Jpeg);
    let mut garbled = encoded(picture(64, 48, 9), ImageFormat::Png);
    garbled[60..].fill(0x55);
    let mut bad = vec![
        ("bad/empty.jpg".to_owned(), Vec::new()),
        ("bad/text.jpg".to_owned(), b"<html>404 not found</html>".to_vec()),
        ("bad/header.jpg".to_owned(), jpeg[..jpeg.len() / 8].to_vec()),
        ("bad/all but the end.jpg".to_owned(), jpeg[..jpeg.len() - 2].to_vec()),
        ("bad/garbled.png".to_owned(), garbled),
    ];
    let mut hole = jpeg.clone();
    let half = hole.len() / 2;
    hole[half..].fill(0);
    bad.push(("bad/rest is zero.jpg".to_owned(), hole));
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Gif,
    ] {
        let whole = encoded(picture(64, 48, 9), format);
        bad.push((format!("bad/half.{}", format.extensions_str()[0]), whole[..whole.len() / 2].to_vec()));
    }
    for (name, bytes) in &bad {
        put(root, name, bytes);
    }
    bad.len()
}

/// The folder, all of it for training, without a cache.
pub fn open(root: &Path) -> PhotoFolder {
    PhotoFolder::open(root, &FolderOptions::default()).unwrap()
}
