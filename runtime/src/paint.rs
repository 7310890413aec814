//! One picture through a style: sizes, the network, and what is done to the painting afterwards. Every command
//! that paints (pictures, video, camera, server) goes through here.

use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::picture::{self, Picture};
use crate::progress::Progress;
use crate::stylizer::Stylizer;

/// What is to be done around the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaintOptions {
    /// Resize first, so that the longer side has this many pixels.
    pub size: Option<usize>,
    /// Scale at which the network sees the picture; the painting is brought back to the picture's size. Below 1
    /// strokes grow, above 1 they shrink.
    pub stroke_scale: f32,
    /// 0: the photo, 1: the painting, linear in RGB between them.
    pub strength: f32,
    /// Luminance from the painting, colour from the photo.
    pub keep_colors: bool,
    /// Photo and painting side by side.
    pub side_by_side: bool,
}

impl Default for PaintOptions {
    fn default() -> Self {
        PaintOptions { size: None, stroke_scale: 1.0, strength: 1.0, keep_colors: false, side_by_side: false }
    }
}

/// Paints a picture. Alpha and colour profile are carried over; the result has the picture's size unless
/// [`PaintOptions::size`] or [`PaintOptions::side_by_side`] change it.
///
/// # Errors
/// As for [`Stylizer::stylize`].
pub fn paint(stylizer: &Stylizer, picture: Picture, options: &PaintOptions) -> Result<Picture, RuntimeError> {
    paint_with(stylizer, picture, options, &Progress::new())
}

/// As [`paint`], telling how far the network is.
///
/// # Errors
/// As for [`Stylizer::stylize_with`].
pub fn paint_with(
    stylizer: &Stylizer,
    mut picture: Picture,
    options: &PaintOptions,
    progress: &Progress<'_>,
) -> Result<Picture, RuntimeError> {
    if let Some(size) = options.size {
        let (width, height) = picture::fit_longer_side(picture.frame.width(), picture.frame.height(), size);
        picture = picture.resized(width, height)?;
    }
    let frame = paint_frame_with(stylizer, &picture.frame, options, progress)?;
    if !options.side_by_side {
        return Ok(Picture { frame, ..picture });
    }
    let painted = Picture { frame, alpha: picture.alpha.clone(), icc_profile: None };
    Ok(picture::side_by_side_pictures(&picture, &painted))
}

/// Paints a frame with everything but the change of size and the view side by side.
///
/// # Errors
/// As for [`Stylizer::stylize`].
pub fn paint_frame(
    stylizer: &Stylizer,
    frame: &Frame,
    options: &PaintOptions,
) -> Result<Frame, RuntimeError> {
    paint_frame_with(stylizer, frame, options, &Progress::new())
}

/// As [`paint_frame`], telling how far the network is.
///
/// # Errors
/// As for [`Stylizer::stylize_with`].
pub fn paint_frame_with(
    stylizer: &Stylizer,
    frame: &Frame,
    options: &PaintOptions,
    progress: &Progress<'_>,
) -> Result<Frame, RuntimeError> {
    let stylize = |frame: &Frame| -> Result<Frame, RuntimeError> {
        let mut painted = Frame::black(frame.width(), frame.height());
        stylizer.stylize_with(frame, &mut painted, progress)?;
        Ok(painted)
    };
    if options.strength == 0.0 {
        return Ok(frame.clone());
    }
    let mut painted = if options.stroke_scale == 1.0 {
        stylize(frame)?
    } else {
        let scaled = |side: usize| ((side as f32 * options.stroke_scale).round() as usize).max(1);
        let seen = picture::resize_frame(frame, scaled(frame.width()), scaled(frame.height()))?;
        let painted = stylize(&seen)?;
        drop(seen);
        picture::resize_frame(&painted, frame.width(), frame.height())?
    };
    if options.keep_colors {
        picture::keep_colors(&mut painted, frame)?;
    }
    picture::blend(&mut painted, frame, options.strength)?;
    Ok(painted)
}
