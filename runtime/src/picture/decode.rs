//! Picture files to [`Picture`]s: the one place where formats, orientation, depth and alpha are sorted out.
//!
//! Files are hostile until decoded: the size is checked before any pixel is allocated, allocations are
//! bounded, and a decoder that panics is fenced.

use std::cell::Cell;
use std::fmt::Display;
use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use image::codecs::tiff::TiffDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::Picture;
use crate::{Frame, RuntimeError};

/// Pixels a picture may have unless told otherwise: 150 million, more than any camera makes.
pub const DEFAULT_MAX_PIXELS: u64 = 150_000_000;

/// The formats that are read, for messages.
pub const READABLE_FORMATS: &str = if cfg!(feature = "heic") {
    "JPEG, PNG, WebP, HEIC, BMP, TIFF or GIF"
} else {
    "JPEG, PNG, WebP, BMP, TIFF or GIF"
};

/// What to do with a picture of a kind that is not read.
pub(super) const SAVE_ANEW: &str = "; hint: save it as JPEG or PNG";
/// Bytes at a file's beginning that tell its format; the longest signature has 12.
const SIGNATURE_BYTES: u64 = 32;
/// Bytes a pixel may take in the decoder's output: 16-bit RGBA. Of wider ones half as many are allowed.
const MAX_BYTES_PER_PIXEL: u64 = 8;
/// What a decoder may allocate before the size is known (PNG text and profile chunks, TIFF directories).
const HEADER_ALLOCATION: u64 = 64 << 20;
/// A camera's profile is 0.5 to 4 KB, a printer's up to about 3 MB; what is larger is dropped.
const MAX_ICC_BYTES: usize = 4 << 20;

/// What a file may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Most pixels (width · height) a picture may declare.
    pub max_pixels: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions { max_pixels: DEFAULT_MAX_PIXELS }
    }
}

impl Picture {
    /// Reads a picture file; the format is found from its content, whatever its name says.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when it cannot be read, [`RuntimeError::TooManyPixels`] when it declares more
    /// than `options.max_pixels` (it is not decoded then), [`RuntimeError::Picture`] when it is not a
    /// picture, or a broken one.
    pub fn open(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Picture, RuntimeError> {
        let (path, bytes) = (path.as_ref(), read_file(path.as_ref(), options)?);
        Picture::from_bytes(&bytes, &path.display().to_string(), options)
    }

    /// Reads a picture from a pipe; `name` stands for the file in messages. What does not begin like a picture is not
    /// read to its end.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn read(source: impl Read, name: &str, options: &DecodeOptions) -> Result<Picture, RuntimeError> {
        let bytes = read_bytes(source, Path::new(name), options)?;
        Picture::from_bytes(&bytes, name, options)
    }

    /// Decodes a picture from memory; `name` stands for the file in messages.
    ///
    /// A JPEG must reach its end marker: a file that was cut off is an error and not a picture with a grey
    /// bottom, even where only the marker itself is missing (the two cannot be told apart). Bytes after the
    /// marker are ignored, as phones append videos and gain maps there. Of an animation, the first picture
    /// is read. 16-bit samples are rounded to 8.
    ///
    /// A decoder's panic is caught and becomes an error; its message is kept off stderr by a panic hook that
    /// is put before the program's own at the first call.
    ///
    /// # Errors
    /// As [`Picture::open`], without [`RuntimeError::Io`].
    pub fn from_bytes(bytes: &[u8], name: &str, options: &DecodeOptions) -> Result<Picture, RuntimeError> {
        let kind = kind_of(bytes, name)?;
        if kind == Kind::Common(ImageFormat::Jpeg) && !jpeg_reaches_its_end(bytes) {
            let reason = "truncated JPEG: its end is missing; expected a complete file".to_string();
            return Err(RuntimeError::Picture { path: name.to_string(), reason });
        }
        let decoded = fenced(|| match kind {
            Kind::Common(format) => decode(bytes, format, name, options),
            #[cfg(feature = "heic")]
            Kind::Heic => super::heic::decode(bytes, name, options),
        });
        decoded.unwrap_or_else(|| Err(broken(name, kind, &"the decoder gave up on it", "")))
    }
}

/// The bytes of a picture's file, for who wants them beside the picture. What does not begin like a picture is not read
/// to its end: it may have none, as `/dev/zero`.
///
/// # Errors
/// [`RuntimeError::Io`] when it cannot be read, [`RuntimeError::Picture`] when it does not begin like a picture, or is
/// larger than one of `options.max_pixels` can be.
pub fn read_file(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Vec<u8>, RuntimeError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| RuntimeError::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?;
    read_bytes(file, path, options)
}

fn read_bytes(mut source: impl Read, path: &Path, options: &DecodeOptions) -> Result<Vec<u8>, RuntimeError> {
    let io = |source| RuntimeError::Io { action: "read", path: path.to_path_buf(), source };
    let name = path.display().to_string();
    // No honest picture of this many pixels has a larger file.
    let most = options.max_pixels.saturating_mul(MAX_BYTES_PER_PIXEL).saturating_add(2 * HEADER_ALLOCATION);
    let mut bytes = Vec::new();
    source.by_ref().take(SIGNATURE_BYTES).read_to_end(&mut bytes).map_err(io)?;
    kind_of(&bytes, &name)?;
    source.take(most - SIGNATURE_BYTES).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 == most {
        return Err(not_a_picture(&name, format!("the file has {most} bytes or more")));
    }
    Ok(bytes)
}

/// Which decoder a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of the crate image.
    Common(ImageFormat),
    #[cfg(feature = "heic")]
    Heic,
}

impl Kind {
    fn name(self) -> String {
        match self {
            Kind::Common(format) => format_name(format),
            #[cfg(feature = "heic")]
            Kind::Heic => "HEIC".to_string(),
        }
    }
}

/// The kind of a file that begins with these bytes.
fn kind_of(bytes: &[u8], name: &str) -> Result<Kind, RuntimeError> {
    if bytes.is_empty() {
        return Err(not_a_picture(name, "the file is empty".into()));
    }
    match image::guess_format(bytes) {
        Ok(format) if format.reading_enabled() => Ok(Kind::Common(format)),
        Ok(format) => Err(not_read(name, &format_name(format))),
        #[cfg(feature = "heic")]
        Err(_) if is_heif(bytes) => Ok(Kind::Heic),
        #[cfg(not(feature = "heic"))]
        Err(_) if is_heif(bytes) => Err(not_read(name, "HEIC")),
        Err(_) => Err(not_a_picture(name, "not a picture".into())),
    }
}

/// Is this a phone's picture in HEVC, or likely one? (ISO/IEC 23008-12, the brands of its first box.)
fn is_heif(bytes: &[u8]) -> bool {
    const BRANDS: [&[u8; 4]; 8] = [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"];
    bytes.get(4..8) == Some(b"ftyp") && BRANDS.iter().any(|brand| bytes.get(8..12) == Some(&brand[..]))
}

fn decode(
    bytes: &[u8],
    format: ImageFormat,
    name: &str,
    options: &DecodeOptions,
) -> Result<Picture, RuntimeError> {
    let failed = |error: ImageError| {
        let is_whole = matches!(error, ImageError::Unsupported(_));
        broken(name, Kind::Common(format), &error, if is_whole { SAVE_ANEW } else { "" })
    };
    let check = |width: u32, height: u32, bytes_per_pixel: u64| {
        let (width, height) = (u64::from(width), u64::from(height));
        // Samples of 32 bits take twice the memory: half as many pixels of them.
        let limit = options.max_pixels / if bytes_per_pixel > MAX_BYTES_PER_PIXEL { 2 } else { 1 };
        let pixels = width * height;
        if pixels > limit {
            return Err(RuntimeError::TooManyPixels { path: name.to_string(), width, height, pixels, limit });
        }
        Ok(())
    };
    if format == ImageFormat::Tiff && begins_with_preview(bytes) == Some(true) {
        return Err(RuntimeError::Picture {
            path: name.to_string(),
            reason: "its first picture is a small preview of another, as in the raw files of cameras, which are not \
                     read; expected a developed picture; hint: save it as JPEG or PNG"
                .to_string(),
        });
    }
    // The PNG decoder refuses the largest sizes for reasons of its own before it can be asked for them.
    if let (ImageFormat::Png, Some((width, height))) = (format, png_size(bytes)) {
        check(width, height, 1)?;
    }

    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(HEADER_ALLOCATION);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // `into_decoder` hands these limits to the decoder's header pass; the picture's own follow below.
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;

    let (width, height) = decoder.dimensions();
    check(width, height, u64::from(decoder.color_type().bytes_per_pixel()))?;
    // The output itself, and twice that for what decoders keep beside it (progressive JPEG coefficients).
    let total = decoder.total_bytes();
    limits.max_alloc = Some(total.saturating_mul(3).saturating_add(HEADER_ALLOCATION));
    limits.reserve(total).map_err(failed)?;
    decoder.set_limits(limits).map_err(failed)?;

    // Broken metadata is no reason to refuse the pixels.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let icc_profile = match format {
        ImageFormat::Tiff => tiff_profile(bytes),
        _ => decoder.icc_profile().unwrap_or(None),
    }
    .filter(|profile| is_rgb_profile(profile));
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    picture.apply_orientation(orientation);

    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (rgb, mut alpha) = if picture.color().has_alpha() {
        let (rgb, alpha) = split_alpha(picture.into_rgba8().into_raw());
        (rgb, Some(alpha))
    } else {
        (picture.into_rgb8().into_raw(), None)
    };
    // GIF pictures always come as RGBA; one that uses no transparency has no alpha channel to keep.
    if format == ImageFormat::Gif {
        alpha = alpha.filter(|alpha| alpha.iter().any(|&opacity| opacity != 255));
    }
    let frame =
        Frame::new(width, height, rgb).map_err(|error| broken(name, Kind::Common(format), &error, ""))?;
    Ok(Picture { frame, alpha, icc_profile })
}

/// The size that a PNG's first chunk declares.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    Some((side(16)?, side(20)?))
}

/// Whether a TIFF's first picture is a reduced version of another one in the file: raw files (DNG, NEF, ARW) are TIFFs
/// that begin so. (TIFF 6.0, pages 14 and 36: NewSubfileType, bit 0; the others are in further directories, or in those
/// that SubIFDs names.) `None` where the file is too short to say, or not the classic kind.
fn begins_with_preview(tiff: &[u8]) -> Option<bool> {
    const NEW_SUBFILE_TYPE: u16 = 254;
    const SUB_IFDS: u16 = 330;
    let little = tiff.starts_with(b"II*\0");
    if !little && !tiff.starts_with(b"MM\0*") {
        return None;
    }
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = long(4)? as usize;
    let entries = directory.checked_add(2)?;
    let end = entries.checked_add(usize::from(short(directory)?) * 12)?;
    let (mut is_reduced, mut has_others) = (false, long(end).is_some_and(|next| next != 0));
    for entry in (entries..end).step_by(12) {
        match short(entry)? {
            NEW_SUBFILE_TYPE => is_reduced = long(entry + 8)? & 1 == 1,
            SUB_IFDS => has_others = true,
            _ => {}
        }
    }
    Some(is_reduced && has_others)
}

/// A TIFF's profile, by a decoder of its own: one that `ImageReader` has set limits on refuses tags of more
/// than a thirtieth of the picture's bytes, and so a small picture's profile.
fn tiff_profile(bytes: &[u8]) -> Option<Vec<u8>> {
    TiffDecoder::new(Cursor::new(bytes)).ok()?.icc_profile().ok()?
}

/// Splits RGBA into RGB and alpha, the RGB in the buffer that came in.
pub(super) fn split_alpha(mut rgba: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let pixels = rgba.len() / 4;
    let alpha = rgba.iter().skip(3).step_by(4).copied().collect();
    for pixel in 1..pixels {
        rgba.copy_within(pixel * 4..pixel * 4 + 3, pixel * 3);
    }
    rgba.truncate(pixels * 3);
    (rgba, alpha)
}

/// Is this an ICC profile for RGB values, of a size worth carrying? (ICC.1:2010, header bytes 16..20 and
/// 36..40.)
pub(super) fn is_rgb_profile(profile: &[u8]) -> bool {
    profile.len() <= MAX_ICC_BYTES
        && profile.get(16..20) == Some(b"RGB ".as_slice())
        && profile.get(36..40) == Some(b"acsp".as_slice())
}

/// Walks a JPEG's segments and scans: is there an end-of-image marker after the last scan?
///
/// The decoder fills what is missing with grey and reports success, so this is asked first. Looking at the
/// last two bytes would not do: phones append data, and the EXIF thumbnail has an end marker of its own.
/// `datasets/src/jpeg.rs` asks the same of training photos.
fn jpeg_reaches_its_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    // Up to the next marker, over entropy-coded data and stray bytes between segments alike.
    while let Some(at) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[at + 1..];
        match rest.first() {
            None => return false,
            Some(0xD9) => return true,
            // Fill byte: the marker's code is still to come.
            Some(0xFF) => {}
            // A stuffed 0xFF of the data, a restart marker, or a marker without a body.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => rest = &rest[1..],
            // A segment: the marker, then a length that counts itself.
            Some(_) => {
                let Some(&[_, high, low]) = rest.first_chunk::<3>() else { return false };
                let length = usize::from(u16::from_be_bytes([high, low])).max(2);
                rest = rest.get(1 + length..).unwrap_or_default();
            }
        }
    }
    false
}

/// What a picture in memory says of its size (width, height in pixels, as stored), read from its head alone.
#[cfg(feature = "serve")]
pub(crate) fn declared_size(bytes: &[u8]) -> Option<(usize, usize)> {
    let size = || {
        #[cfg(feature = "heic")]
        if is_heif(bytes) {
            return super::heic::declared_size(bytes);
        }
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?.into_dimensions().ok()
    };
    fenced(size).flatten().map(|(width, height)| (width as usize, height as usize))
}

/// Runs `work`, turning a panic into `None` without a word on stderr.
fn fenced<T>(work: impl FnOnce() -> T) -> Option<T> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                previous(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    // Everything `work` touches is dropped with the error, so nothing half-changed is seen afterwards.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    result.ok()
}

fn not_a_picture(name: &str, found: String) -> RuntimeError {
    RuntimeError::Picture {
        path: name.to_string(),
        reason: format!("{found}; expected a {READABLE_FORMATS} picture"),
    }
}

/// A picture, but of a format that is not read.
fn not_read(name: &str, format: &str) -> RuntimeError {
    RuntimeError::Picture {
        path: name.to_string(),
        reason: format!("{format} files are not read; expected a {READABLE_FORMATS} picture{SAVE_ANEW}"),
    }
}

pub(super) fn broken(name: &str, kind: Kind, detail: &dyn Display, hint: &str) -> RuntimeError {
    // Decoders put several lines, and bytes of the file, into their messages.
    let detail: String =
        detail.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    // What the standard library says of a reader that runs dry.
    let detail = detail.trim().replace("failed to fill whole buffer", "it ends too early");
    let format = kind.name();
    RuntimeError::Picture {
        path: name.to_string(),
        reason: format!("broken or unsupported {format}: {detail}; expected a complete {format} file{hint}"),
    }
}

fn format_name(format: ImageFormat) -> String {
    match format {
        ImageFormat::WebP => "WebP".to_string(),
        other => format!("{other:?}").to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_fenced_and_the_next_call_works() {
        assert_eq!(fenced(|| 1), Some(1));
        assert_eq!(fenced(|| -> u8 { panic!("a decoder's own message") }), None);
        assert_eq!(fenced(|| 2), Some(2));
    }

    #[test]
    fn the_end_of_a_jpeg_is_found_by_walking_it() {
        let segment = [0xFF, 0xE1, 0, 6, 0xFF, 0xD9, 0xFF, 0xD9];
        let scan = [0xFF, 0xDA, 0, 3, 1, 0x12, 0xFF, 0x00, 0x34, 0xFF, 0xD0, 0x56];
        let head = [&[0xFF, 0xD8][..], &segment, &scan].concat();
        let walk = |tail: &[u8]| jpeg_reaches_its_end(&[&head[..], tail].concat());
        // The end markers inside the first segment are a thumbnail's.
        assert!(!walk(&[]));
        assert!(!walk(&[0xFF]));
        assert!(walk(&[0xFF, 0xD9]));
        assert!(walk(&[0xFF, 0xFF, 0xD9]), "fill bytes before a marker");
        assert!(walk(&[0xFF, 0xD9, 1, 2, 3]), "bytes after the end");
        assert!(walk(&[&scan[..], &[0xFF, 0xD9]].concat()), "a second scan");
        assert!(!walk(&[0xFF, 0xFE, 0x7F, 0xFF, 0xFF, 0xD9]), "a segment that reaches past the end");
    }

    #[test]
    fn alpha_is_split_off_in_place() {
        assert_eq!(split_alpha(vec![1, 2, 3, 4, 5, 6, 7, 8]), (vec![1, 2, 3, 5, 6, 7], vec![4, 8]));
    }
}
