//! One file to one square picture: read, decode behind a fence, crop, resize, turn upright.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::error::{one_line, panic_text};
use crate::jpeg;

/// Larger files are no training photos; each worker may hold one of them in memory.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// The buffer of a larger file is given back: few files are, and each worker meets all of them in time.
const KEPT_BYTES: usize = 16 << 20;
/// What one decoding may allocate: enough for 100 megapixels, too little for a decompression bomb.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// Which square of a photo is taken. Its side is the photo's shorter side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Framing {
    /// The middle.
    Centre,
    /// For training: a place along the longer side, and perhaps mirrored.
    Random {
        /// Where along the longer side, in [0, 1).
        along: f32,
        /// Whether left and right change places.
        flip: bool,
    },
}

/// Why a photo cannot be used, in one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// A property of the file alone: it is no picture, or a broken one.
    Bad(String),
    /// The system does not give its content: it is gone, or the disk, the network or a permission is.
    Withheld(String),
}

/// What a worker keeps between photos: buffers, so that steady work allocates little.
#[derive(Default)]
pub(crate) struct PhotoReader {
    resizer: Resizer,
    bytes: Vec<u8>,
}

impl PhotoReader {
    /// Writes the framed square of the photo at `path` into `out`: `size`·`size` RGB pixels.
    pub(crate) fn read(
        &mut self,
        path: &Path,
        size: u32,
        framing: Framing,
        out: &mut [u8],
    ) -> Result<(), Unusable> {
        let withheld = |error: io::Error| Unusable::Withheld(one_line(&error.to_string()));
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        let len = read_file(path, &mut self.bytes).map_err(withheld)?;
        check_length(len).map_err(Unusable::Bad)?;
        let (photo, orientation) =
            fenced(|| decode(&self.bytes, MAX_DECODED_BYTES)).map_err(Unusable::Bad)?;
        fenced(|| frame(&mut self.resizer, &photo, size, framing, out)).map_err(Unusable::Bad)?;
        // The square is turned instead of the photo, which is far larger; where along the longer side
        // it lies is random or the middle, so turning first would give the same pictures.
        turn(orientation, size, out);
        if matches!(framing, Framing::Random { flip: true, .. }) {
            mirror(size, out);
        }
        Ok(())
    }
}

/// The file's length in bytes; one that is too large is not read, or not to its end.
fn read_file(path: &Path, bytes: &mut Vec<u8>) -> io::Result<u64> {
    bytes.clear();
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len > MAX_FILE_BYTES {
        return Ok(len);
    }
    // The length is not trusted: the file may grow meanwhile.
    file.take(MAX_FILE_BYTES + 1).read_to_end(bytes)?;
    Ok(bytes.len() as u64)
}

fn check_length(len: u64) -> Result<(), String> {
    match len {
        0 => Err("the file is empty".to_owned()),
        len if len > MAX_FILE_BYTES => Err(format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20)),
        _ => Ok(()),
    }
}

/// Decoders may panic on hostile input; one photo must not cost a night of training.
fn fenced<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // Unwind safe: on a panic the results are dropped, and the buffers are overwritten by the next photo.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(format!("the decoder panicked: {}", panic_text(panic.as_ref()))))
}

/// The photo and how it is to be turned; `most` is what decoding may allocate, in bytes.
fn decode(bytes: &[u8], most: u64) -> Result<(RgbImage, Orientation), String> {
    if jpeg::is_jpeg(bytes) && !jpeg::reaches_its_end(bytes) {
        return Err("the JPEG is cut off".to_owned());
    }
    let describe = |error: image::ImageError| one_line(&error.to_string());
    let mut limits = Limits::default();
    limits.max_alloc = Some(most);
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader.limits(limits.clone());
    let reader = reader.with_guessed_format().map_err(|error| one_line(&error.to_string()))?;
    let Some(format) = reader.format() else {
        return Err(format!("the content is in no known picture format ({} bytes)", bytes.len()));
    };
    let mut decoder = reader.into_decoder().map_err(describe)?;
    // Without reserving the picture itself, the limit would hold only for the decoder's extra buffers.
    limits.reserve(decoder.total_bytes()).map_err(describe)?;
    if format == ImageFormat::Tiff {
        // This decoder takes the picture off by itself; taken off twice, a third of the limit is too much.
        limits.max_alloc = Some(most);
    }
    decoder.set_limits(limits).map_err(describe)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let photo = DynamicImage::from_decoder(decoder).map_err(describe)?;
    if photo.width() == 0 || photo.height() == 0 {
        return Err("the picture has no pixels".to_owned());
    }
    Ok((opaque(photo), orientation))
}

/// To 8-bit RGB; transparent pixels show white, since the colours hidden under them are arbitrary.
fn opaque(photo: DynamicImage) -> RgbImage {
    if !photo.color().has_alpha() {
        return photo.into_rgb8();
    }
    let photo = photo.into_rgba8();
    let (width, height) = photo.dimensions();
    let mut opaque = RgbImage::new(width, height);
    for (to, from) in opaque.pixels_mut().zip(photo.pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        to.0 = [red, green, blue].map(|colour| ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    opaque
}

/// Crops and resizes in one go, so that only the square is filtered. The only function that names the
/// resizer's pixel type: each further one would compile its whole filter code again.
fn frame(
    resizer: &mut Resizer,
    photo: &RgbImage,
    size: u32,
    framing: Framing,
    out: &mut [u8],
) -> Result<(), String> {
    let (width, height) = photo.dimensions();
    let side = width.min(height);
    let spare = width.max(height) - side;
    let offset = match framing {
        Framing::Centre => spare / 2,
        // Whole pixels: a fraction would blur photos that already have the right size.
        Framing::Random { along, .. } => ((f64::from(along) * (f64::from(spare) + 1.0)) as u32).min(spare),
    };
    let (left, top) = if width > height { (offset, 0) } else { (0, offset) };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).crop(
        left.into(),
        top.into(),
        side.into(),
        side.into(),
    );
    let source = TypedImageRef::<U8x3>::from_buffer(width, height, photo.as_raw())
        .map_err(|error| error.to_string())?;
    let mut target = TypedImage::<U8x3>::from_buffer(size, size, out).map_err(|error| error.to_string())?;
    resizer.resize_typed(&source, &mut target, &options).map_err(|error| error.to_string())
}

fn turn(orientation: Orientation, size: u32, square: &mut [u8]) {
    if orientation == Orientation::NoTransforms {
        return;
    }
    if let Some(picture) = RgbImage::from_raw(size, size, square.to_vec()) {
        let mut picture = DynamicImage::ImageRgb8(picture);
        picture.apply_orientation(orientation);
        square.copy_from_slice(picture.as_bytes());
    }
}

fn mirror(size: u32, square: &mut [u8]) {
    for row in square.chunks_exact_mut(size as usize * 3) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panicking_decoder_is_a_bad_file() {
        let error = fenced::<()>(|| panic!("index 9\nout of range")).unwrap_err();
        assert_eq!(error, "the decoder panicked: index 9 out of range");
    }

    #[test]
    fn transparent_pixels_show_white() {
        let pixel =
            |alpha| DynamicImage::from(image::RgbaImage::from_pixel(1, 1, image::Rgba([200, 0, 100, alpha])));
        assert_eq!(opaque(pixel(0)).into_raw(), [255, 255, 255]);
        assert_eq!(opaque(pixel(255)).into_raw(), [200, 0, 100]);
    }

    #[test]
    fn crops_reach_both_ends_and_flips_mirror() {
        // Eight columns of different red, two rows: squares of two columns.
        let photo = RgbImage::from_fn(8, 2, |x, _| image::Rgb([x as u8 * 30, 0, 0]));
        let mut resizer = Resizer::default();
        let mut columns = |framing| {
            let mut out = [0; 12];
            frame(&mut resizer, &photo, 2, framing, &mut out).unwrap();
            [out[0] / 30, out[3] / 30]
        };
        assert_eq!(columns(Framing::Centre), [3, 4]);
        assert_eq!(columns(Framing::Random { along: 0.0, flip: false }), [0, 1]);
        assert_eq!(columns(Framing::Random { along: 0.999_999, flip: false }), [6, 7]);
        let mut square = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        mirror(2, &mut square);
        assert_eq!(square, [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
    }

    #[test]
    fn large_files_are_not_held_and_huge_ones_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = PhotoReader::default();
        let mut read = |name: &str, len: u64| {
            let path = folder.path().join(name);
            File::create(&path).unwrap().set_len(len).unwrap();
            let read = reader.read(&path, 1, Framing::Centre, &mut [0; 3]);
            (read.unwrap_err(), reader.bytes.capacity())
        };
        let (_, held) = read("large", 20 << 20);
        assert!(held >= 20 << 20);
        let (reason, held) = read("huge", MAX_FILE_BYTES + 1);
        assert_eq!((reason, held), (Unusable::Bad("the file is larger than 256 MiB".to_owned()), 0));
        let (_, held) = read("small", 1 << 10);
        assert!((1 << 10..1 << 20).contains(&held), "{held} bytes");
    }

    #[test]
    fn bombs_are_refused_before_they_are_decoded() {
        // A PNG header that promises 60,000 × 60,000 pixels.
        let mut bytes = Vec::new();
        RgbImage::new(1, 1).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        bytes[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        let reason = decode(&bytes, MAX_DECODED_BYTES).unwrap_err();
        assert!(reason.to_lowercase().contains("limit") || reason.contains("too large"), "{reason}");
    }

    #[test]
    fn every_format_may_fill_half_of_the_limit() {
        // 200 × 100 pixels are 60,000 bytes; a TIFF's strip is counted beside the picture.
        for format in
            [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff]
        {
            let mut bytes = Vec::new();
            RgbImage::new(200, 100).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
            let decoded = decode(&bytes, 130_000).map(|(photo, _)| photo.dimensions());
            assert_eq!(decoded, Ok((200, 100)), "{format:?}");
            assert!(decode(&bytes, 59_999).is_err(), "{format:?}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    }
}
