//! One picture through a style: sizes, the network, and what is done to the painting afterwards. Every command
//! that paints (pictures, video, camera, server) goes through here.

use std::fmt;
use std::ops::RangeInclusive;

use crate::Device;
use crate::ahead::Ahead;
use crate::engine::default_threads;
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::picture::{self, Picture, Resizer};
use crate::post::PostSteps;
use crate::progress::Progress;
use crate::smooth::Smoother;
use crate::stylizer::Stylizer;

/// The scales at which a network may see a picture: below, it sees next to nothing; above, cost grows with the square.
pub const STROKE_SCALE: RangeInclusive<f32> = 0.05..=8.0;

/// What is to be done around the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaintOptions {
    /// Resize first, so that the longer side has this many pixels.
    pub size: Option<usize>,
    /// Scale at which the network sees the picture, in [`STROKE_SCALE`]; the painting is brought back to the picture's
    /// size. Below 1 strokes grow, above 1 they shrink.
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

impl PaintOptions {
    /// Width and height that [`paint`] gives a picture of this size.
    pub fn painted_size(&self, width: usize, height: usize) -> (usize, usize) {
        let (width, height) = self.resized(width, height);
        (width.saturating_mul(if self.side_by_side { 2 } else { 1 }), height)
    }

    /// The size to which a picture is brought before it is painted.
    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        match self.size {
            Some(size) => picture::fit_longer_side(width, height, size),
            None => (width, height),
        }
    }

    /// Pixels that the network sees of a picture of this size.
    pub fn seen_pixels(&self, width: usize, height: usize) -> u64 {
        let (width, height) = self.resized(width, height);
        (width as f64 * height as f64 * f64::from(self.stroke_scale).powi(2)).ceil() as u64
    }
}

/// Paints a picture. Alpha and colour profile are carried over; the result has the picture's size unless
/// [`PaintOptions::size`] or [`PaintOptions::side_by_side`] change it.
///
/// # Errors
/// As for [`Stylizer::stylize`], and [`RuntimeError::Picture`] for a stroke scale outside [`STROKE_SCALE`] or a size
/// beyond 32 bits.
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
    let mut painted = Frame::black(1, 1);
    let options = PaintOptions { side_by_side: false, ..*options };
    FramePainter::new(stylizer, options).paint_into(frame, &mut painted, progress)?;
    Ok(painted)
}

/// Paints frame after frame (video, camera) with everything but the change of size, and keeps its buffers.
pub struct FramePainter<'a> {
    stylizer: &'a Stylizer,
    options: PaintOptions,
    resizer: Resizer,
    /// The frame at the scale that the network sees, and its painting.
    seen: Frame,
    seen_painted: Frame,
    /// The painting that goes beside its frame.
    half: Frame,
    /// Calms what changes from frame to frame.
    smoother: Smoother,
    /// Frames on their way through a GPU, from the first [`FramePainter::begin`] on.
    ahead: Option<Ahead>,
}

impl fmt::Debug for FramePainter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("FramePainter");
        shown.field("stylizer", self.stylizer).field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> FramePainter<'a> {
    /// A painter that has not allocated anything yet.
    pub fn new(stylizer: &'a Stylizer, options: PaintOptions) -> Self {
        let nothing = || Frame::black(1, 1);
        let (seen, seen_painted, half) = (nothing(), nothing(), nothing());
        // As many threads as paint on the CPU; a GPU leaves all of them free.
        let threads = stylizer.options().threads.unwrap_or_else(default_threads);
        let smoother = Smoother::with_threads(0.0, threads);
        let resizer = Resizer::new();
        FramePainter { stylizer, options, resizer, seen, seen_painted, half, smoother, ahead: None }
    }

    /// Smooths from frame to frame by this strength, 0 (off, as it begins) to 1: see [`Smoother`].
    pub fn set_smoothing(&mut self, strength: f32) {
        self.smoother.set_strength(strength);
    }

    /// Paints differently from the next frame on.
    pub fn set_options(&mut self, options: PaintOptions) {
        self.options = options;
    }

    /// On a GPU, starts on a frame that will be painted soon, so that it goes up while the one before is worked on;
    /// `false` where that gains nothing. Frames begun must be painted in this order, with the same options and the same
    /// smoothing.
    ///
    /// # Errors
    /// As for [`Stylizer::stylize`].
    pub fn begin(&mut self, frame: &Frame) -> Result<bool, RuntimeError> {
        if self.options.strength == 0.0 {
            return Ok(false);
        }
        let post = self.on_gpu().unwrap_or(PostSteps::NONE);
        if self.ahead.is_none() {
            self.ahead = self.stylizer.ahead()?;
        }
        let Some(ahead) = &mut self.ahead else { return Ok(false) };
        if self.options.stroke_scale == 1.0 {
            ahead.begin_and(frame, post)?;
        } else {
            scale_into(&mut self.resizer, frame, self.options.stroke_scale, &mut self.seen)?;
            ahead.begin(&self.seen)?;
        }
        Ok(true)
    }

    /// Strength and kept colours, where a GPU does them with the network, so that a frame goes up and comes down once.
    /// Smoothing is the CPU's, as is bringing a painting of another scale to the frame's size, and what follows them is
    /// then too.
    fn on_gpu(&self) -> Option<PostSteps> {
        let PaintOptions { stroke_scale, strength, keep_colors, .. } = self.options;
        let there = self.stylizer.options().device != Device::Cpu;
        (there && stroke_scale == 1.0 && !self.smoother.is_on())
            .then_some(PostSteps { strength, keep_colors })
    }

    /// Paints a frame into another, whose size is set and whose buffer is reused. The result has the frame's size,
    /// twice its width with [`PaintOptions::side_by_side`].
    ///
    /// # Errors
    /// As for [`Stylizer::stylize_with`].
    pub fn paint_into(
        &mut self,
        frame: &Frame,
        painted: &mut Frame,
        progress: &Progress<'_>,
    ) -> Result<(), RuntimeError> {
        if !self.options.side_by_side {
            return self.paint_plain(frame, painted, progress);
        }
        let mut half = std::mem::replace(&mut self.half, Frame::black(1, 1));
        let result = self.paint_plain(frame, &mut half, progress);
        picture::side_by_side_into(frame, &half, painted);
        self.half = half;
        result
    }

    fn paint_plain(
        &mut self,
        frame: &Frame,
        painted: &mut Frame,
        progress: &Progress<'_>,
    ) -> Result<(), RuntimeError> {
        let (width, height) = (frame.width(), frame.height());
        if self.options.strength == 0.0 {
            self.smoother.reset();
            painted.reshape(width, height);
            painted.rgb_mut().copy_from_slice(frame.rgb());
            return Ok(());
        }
        let on_gpu = self.on_gpu();
        let begun = self.ahead.as_mut().filter(|ahead| ahead.in_flight() > 0);
        if self.options.stroke_scale == 1.0 {
            match begun {
                Some(ahead) => _ = ahead.finish(painted)?,
                None => {
                    let post = on_gpu.unwrap_or(PostSteps::NONE);
                    self.stylizer.stylize_and(frame, painted, post, progress)?;
                }
            }
        } else {
            match begun {
                Some(ahead) => _ = ahead.finish(&mut self.seen_painted)?,
                None => {
                    scale_into(&mut self.resizer, frame, self.options.stroke_scale, &mut self.seen)?;
                    self.stylizer.stylize_with(&self.seen, &mut self.seen_painted, progress)?;
                }
            }
            painted.reshape(width, height);
            self.resizer.resize_into(&self.seen_painted, painted)?;
        }
        // Here it sees the painting itself, at the frame's size, before the photo's colours and the photo are mixed in.
        self.smoother.apply(frame, painted);
        if on_gpu.is_some() {
            return Ok(());
        }
        if self.options.keep_colors {
            picture::keep_colors(painted, frame)?;
        }
        picture::blend(painted, frame, self.options.strength)
    }
}

/// A frame at the scale at which the network is to see it.
fn scale_into(
    resizer: &mut Resizer,
    frame: &Frame,
    scale: f32,
    seen: &mut Frame,
) -> Result<(), RuntimeError> {
    if !STROKE_SCALE.contains(&scale) {
        let (low, high) = (STROKE_SCALE.start(), STROKE_SCALE.end());
        return Err(RuntimeError::Picture {
            path: "stroke scale".to_string(),
            reason: format!("{scale}; expected a number from {low} to {high}"),
        });
    }
    let scaled = |side: usize| ((side as f32 * scale).round() as usize).max(1);
    seen.reshape(scaled(frame.width()), scaled(frame.height()));
    resizer.resize_into(frame, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto_checkpoints::{Architecture, StyleModel};

    use crate::stylizer::StylizerOptions;

    #[test]
    fn a_stroke_scale_out_of_range_is_an_error_and_not_a_picture_of_any_size() {
        let model = StyleModel::random(Architecture::johnson(1).unwrap(), 1).unwrap();
        let stylizer = Stylizer::new(&model, StylizerOptions::default()).unwrap();
        for stroke_scale in [f32::NAN, 0.0, -1.0, 1e4, f32::INFINITY] {
            let options = PaintOptions { stroke_scale, ..PaintOptions::default() };
            let error = paint_frame(&stylizer, &Frame::black(37, 21), &options).unwrap_err().to_string();
            assert_eq!(error, format!("stroke scale: {stroke_scale}; expected a number from 0.05 to 8"));
        }
        for stroke_scale in [0.05, 0.5, 2.0] {
            let options = PaintOptions { stroke_scale, ..PaintOptions::default() };
            assert_eq!(paint_frame(&stylizer, &Frame::black(37, 21), &options).unwrap().width(), 37);
        }
        let options = PaintOptions { size: Some(usize::MAX), ..PaintOptions::default() };
        let error = paint(&stylizer, Frame::black(37, 21).into(), &options).unwrap_err().to_string();
        assert!(error.contains("expected sides that fit 32 bits"), "{error}");
    }

    #[test]
    fn the_painted_size_is_known_before() {
        let model = StyleModel::random(Architecture::johnson(1).unwrap(), 1).unwrap();
        let stylizer = Stylizer::new(&model, StylizerOptions::default()).unwrap();
        for (size, side_by_side) in [(None, false), (None, true), (Some(10), false), (Some(50), true)] {
            let options = PaintOptions { size, side_by_side, ..PaintOptions::default() };
            let painted = paint(&stylizer, Frame::black(37, 21).into(), &options).unwrap();
            assert_eq!((painted.width(), painted.height()), options.painted_size(37, 21), "{options:?}");
        }
    }
}
