//! [`Picture`]s to PNG, JPEG, WebP and TIFF, written whole or not at all.

use std::io::{self, Cursor, Seek, Write};
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::tiff::TiffEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};
use impasto_checkpoints::write_atomically;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, EncodingError, SamplingFactor};

use super::Picture;
use super::alpha::over_white;
use crate::{Frame, RuntimeError};

/// JPEG quality unless told otherwise.
pub const DEFAULT_QUALITY: u8 = 90;
/// From this quality up, JPEGs are 4:4:4.
const FULL_CHROMA_QUALITY: u8 = 90;

/// A format that pictures are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Format {
    /// PNG, 8 bits a channel, with alpha if there is any.
    ///
    /// Written with the encoder's fast setting: on photos and paintings of about 768×600 its files are a tenth
    /// larger than the default setting's and take less than a tenth of its time. Choosing the filter row by row
    /// would save 1 % more, for four times the time.
    Png,
    /// JPEG; alpha is laid over white.
    Jpeg,
    /// Lossless WebP, with alpha if there is any.
    #[cfg_attr(feature = "cli", value(name = "webp"))]
    WebP,
    /// Uncompressed TIFF, 8 bits a channel, with alpha if there is any.
    Tiff,
}

impl Format {
    /// The extensions there are, for messages.
    pub const EXTENSIONS: &'static str = ".png, .jpg, .jpeg, .webp, .tif or .tiff";

    /// The format that an extension names (no dot, any case).
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "png" => Some(Format::Png),
            "jpg" | "jpeg" => Some(Format::Jpeg),
            "webp" => Some(Format::WebP),
            "tif" | "tiff" => Some(Format::Tiff),
            _ => None,
        }
    }

    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`RuntimeError::Picture`], listing the known extensions, when there is none or an unknown one.
    pub fn from_path(path: &Path) -> Result<Self, RuntimeError> {
        let extension = path.extension().map(|extension| extension.to_string_lossy());
        extension.as_deref().and_then(Self::from_extension).ok_or_else(|| RuntimeError::Picture {
            path: path.display().to_string(),
            reason: match extension {
                Some(extension) => {
                    format!("cannot write `.{extension}` pictures; expected {}", Self::EXTENSIONS)
                }
                None => format!("the name has no extension; expected {}", Self::EXTENSIONS),
            },
        })
    }

    /// The extension that files of this format get here, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpg",
            Format::WebP => "webp",
            Format::Tiff => "tiff",
        }
    }

    /// The longest side that the format can state.
    pub(crate) fn longest_side(self) -> usize {
        match self {
            Format::Png => i32::MAX as usize,
            Format::Jpeg => 65_535,
            Format::WebP => 16_384,
            Format::Tiff => u32::MAX as usize,
        }
    }

    /// Checks that the format can state a picture's size; `name` stands for the file in the message.
    ///
    /// # Errors
    /// [`RuntimeError::Picture`] when a side is longer than 65,535 pixels in a JPEG, 16,384 in a WebP, 2³¹ − 1 in a PNG
    /// or 2³² − 1 in a TIFF.
    pub fn check_size(self, width: usize, height: usize, name: &str) -> Result<(), RuntimeError> {
        let longest = self.longest_side();
        if width.max(height) <= longest {
            return Ok(());
        }
        let extension = self.extension();
        Err(RuntimeError::Picture {
            path: name.to_string(),
            reason: format!(
                "{width}×{height} is too large for .{extension}; expected at most {longest} pixels a side; \
                 hint: write a .png"
            ),
        })
    }
}

/// How a picture is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// JPEG quality, 1 to 100 (values outside are brought to the nearer end). The lossless formats take no
    /// notice. From 90 up colour is stored at full resolution (4:4:4): a painting is strokes of strong colour
    /// beside each other, and their edges are what 4:2:0 blurs. Below, who asked for small files gets 4:2:0.
    pub quality: u8,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions { quality: DEFAULT_QUALITY }
    }
}

impl Picture {
    /// Writes the picture in the format that the file's extension names, through a temporary file, so that
    /// no half picture is ever there. An existing file is replaced.
    ///
    /// # Errors
    /// [`RuntimeError::Picture`] for an unknown extension or a size that the format cannot state (nothing is
    /// written), [`RuntimeError::Io`] when writing fails (the old file, if any, is still there).
    pub fn save(&self, path: impl AsRef<Path>, options: &EncodeOptions) -> Result<(), RuntimeError> {
        let path = path.as_ref();
        self.save_as(path, Format::from_path(path)?, options)
    }

    /// As [`Picture::save`], in a given format whatever the file's name says.
    ///
    /// # Errors
    /// As [`Picture::save`].
    pub fn save_as(
        &self,
        path: impl AsRef<Path>,
        format: Format,
        options: &EncodeOptions,
    ) -> Result<(), RuntimeError> {
        let path = path.as_ref();
        self.check_size(format, &path.display().to_string())?;
        write_atomically(path, |file| self.encode_to(file, format, options))
            .map_err(|source| RuntimeError::Io { action: "write", path: path.to_path_buf(), source })
    }

    /// The picture as the bytes of a file.
    ///
    /// # Errors
    /// [`RuntimeError::Picture`] when the format cannot state the picture's size, or its alpha channel is
    /// not one byte a pixel.
    pub fn encode(&self, format: Format, options: &EncodeOptions) -> Result<Vec<u8>, RuntimeError> {
        const NAME: &str = "the painted picture";
        self.check_size(format, NAME)?;
        let mut bytes = Cursor::new(Vec::new());
        self.encode_to(&mut bytes, format, options)
            .map_err(|error| RuntimeError::Picture { path: NAME.to_string(), reason: error.to_string() })?;
        Ok(bytes.into_inner())
    }

    fn check_size(&self, format: Format, name: &str) -> Result<(), RuntimeError> {
        let (width, height) = (self.width(), self.height());
        format.check_size(width, height, name)?;
        match &self.alpha {
            Some(alpha) if alpha.len() != width * height => {
                let reason = format!("an alpha channel of {} bytes; expected {width}×{height}", alpha.len());
                Err(RuntimeError::Picture { path: name.to_string(), reason })
            }
            _ => Ok(()),
        }
    }

    fn encode_to(
        &self,
        mut sink: impl Write + Seek,
        format: Format,
        options: &EncodeOptions,
    ) -> io::Result<()> {
        // One copy of each encoder, whatever is written to.
        let sink: &mut dyn Sink = &mut sink;
        match format {
            Format::Png => {
                let (compression, filter) = (CompressionType::Fast, FilterType::Paeth);
                self.encode_lossless(PngEncoder::new_with_quality(sink, compression, filter))
            }
            Format::WebP => self.encode_lossless(WebPEncoder::new_lossless(sink)),
            Format::Tiff => self.encode_lossless(TiffEncoder::new(sink)),
            Format::Jpeg => self.encode_jpeg(sink, options),
        }
    }

    fn encode_lossless(&self, mut encoder: impl ImageEncoder) -> io::Result<()> {
        if let Some(profile) = &self.icc_profile {
            encoder.set_icc_profile(profile.clone()).map_err(io::Error::other)?;
        }
        let (width, height) = (self.width() as u32, self.height() as u32);
        let written = match &self.alpha {
            None => encoder.write_image(self.frame.rgb(), width, height, ExtendedColorType::Rgb8),
            Some(alpha) => {
                let rgba = join_alpha(&self.frame, alpha);
                encoder.write_image(&rgba, width, height, ExtendedColorType::Rgba8)
            }
        };
        written.map_err(|error| match error {
            ImageError::IoError(error) => error,
            other => io::Error::other(other.to_string()),
        })
    }

    fn encode_jpeg(&self, sink: &mut dyn Sink, options: &EncodeOptions) -> io::Result<()> {
        let failed = |error| match error {
            EncodingError::IoError(error) => error,
            other => io::Error::other(other.to_string()),
        };
        let quality = options.quality.clamp(1, 100);
        let mut encoder = Encoder::new(sink, quality);
        encoder.set_sampling_factor(if quality < FULL_CHROMA_QUALITY {
            SamplingFactor::F_2_2
        } else {
            SamplingFactor::F_1_1
        });
        // The crate's default takes every second sample, which turns fine colour into dots.
        encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
        if let Some(profile) = &self.icc_profile {
            encoder.add_icc_profile(profile).map_err(failed)?;
        }
        // `check_size` has been here: both sides fit 16 bits.
        let (width, height) = (self.width() as u16, self.height() as u16);
        match &self.alpha {
            None => encoder.encode(self.frame.rgb(), width, height, ColorType::Rgb),
            Some(alpha) => encoder.encode(&over_white(&self.frame, alpha), width, height, ColorType::Rgb),
        }
        .map_err(failed)
    }
}

/// What the encoders write to: TIFF goes back to fill in its offsets.
trait Sink: Write + Seek {}
impl<T: Write + Seek> Sink for T {}

fn join_alpha(frame: &Frame, alpha: &[u8]) -> Vec<u8> {
    let mut rgba = vec![0; alpha.len() * 4];
    for ((to, rgb), &opacity) in rgba.chunks_exact_mut(4).zip(frame.rgb().chunks_exact(3)).zip(alpha) {
        to[..3].copy_from_slice(rgb);
        to[3] = opacity;
    }
    rgba
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_name_formats() {
        for (name, format) in [
            ("a.PNG", Format::Png),
            ("a.b.jpeg", Format::Jpeg),
            ("d/a.jpg", Format::Jpeg),
            ("a.webp", Format::WebP),
            ("a.tif", Format::Tiff),
        ] {
            assert_eq!(Format::from_path(Path::new(name)).unwrap(), format, "{name}");
        }
        for (name, found) in [("a.gif", "`.gif`"), ("png", "no extension"), (".png", "no extension")] {
            let error = Format::from_path(Path::new(name)).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(found), "{error}");
            assert!(error.contains(Format::EXTENSIONS), "{error}");
        }
    }

    #[test]
    fn a_size_that_the_format_cannot_state_is_an_error() {
        for (width, format, limit) in [(65_536, Format::Jpeg, "65535"), (16_385, Format::WebP, "16384")] {
            let picture = Picture::from(Frame::black(width, 1));
            let error = picture.encode(format, &EncodeOptions::default()).unwrap_err().to_string();
            assert!(error.contains(limit) && error.contains("hint"), "{error}");
        }
    }
}
