//! The pictures of phones: HEIF with HEVC inside (HEIC, ISO/IEC 23008-12), decoded by the crate heifer.
//!
//! A file's crop, rotation and mirroring are part of the picture; EXIF's orientation repeats them and is not looked at.

use heifer::{Error, Options};

use super::Picture;
use super::decode::{DecodeOptions, Kind, SAVE_ANEW, broken, is_rgb_profile, split_alpha};
use crate::{Frame, RuntimeError};

/// The first picture of a file. With an ICC profile the values are the file's own, as of other formats; without one
/// they are made sRGB, for what says its colours in another way (`nclx`) could not be said in the painting.
pub(super) fn decode(bytes: &[u8], name: &str, options: &DecodeOptions) -> Result<Picture, RuntimeError> {
    let limit = options.max_pixels;
    if let Some((width, height)) = declared_size(bytes) {
        let (width, height) = (u64::from(width), u64::from(height));
        let pixels = width * height;
        if pixels > limit {
            return Err(RuntimeError::TooManyPixels { path: name.to_string(), width, height, pixels, limit });
        }
    }
    let failed = |error: Error| {
        let is_whole = matches!(error, Error::Unsupported(_));
        broken(name, Kind::Heic, &error, if is_whole { SAVE_ANEW } else { "" })
    };
    // A limit of 0 would be heifer's own.
    let limits = Options { max_pixels: limit.max(1), ..Options::default() };
    let profile = heifer::read_metadata(bytes).map_err(failed)?.icc_profile;
    let decode = if profile.is_some() { heifer::decode_rgba8 } else { heifer::decode_srgb_rgba8 };
    let picture = decode(bytes, &limits).map_err(failed)?;
    let (width, height) = (picture.width as usize, picture.height as usize);
    let (rgb, alpha) = split_alpha(picture.data);
    let frame = Frame::new(width, height, rgb).map_err(|error| broken(name, Kind::Heic, &error, ""))?;
    let icc_profile = profile.filter(|profile| is_rgb_profile(profile));
    Ok(Picture { frame, alpha: picture.has_alpha.then_some(alpha), icc_profile })
}

/// Width and height that a file declares, before it is turned.
pub(super) fn declared_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let file = heifer::heifer_isobmff::HeifFile::parse(bytes).ok()?;
    file.image_size(file.primary_id).ok()?
}
