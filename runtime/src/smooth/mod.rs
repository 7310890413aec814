//! Calms painted video: each painting is mixed with the ones before it, moved along with the picture.
//!
//! - `luma`: the source frame, small
//! - `motion`: where each part of it was in the frame before
//! - `trust`: where that is not to be believed: uncovered, cut, another light
//! - `mix`: the painting so far, moved, held to the new painting's range, and mixed with it
//! - `team`: the threads
//!
//! A style's network sees each frame alone. Camera noise, and the picture's place on the network's own grid, make it
//! paint the same thing a little differently each time, and a video of such paintings flickers.
//!
//! # Source
//! Ruder et al., "Artistic style transfer for videos" (2016) for holding paintings to the picture's motion; Yang et
//! al., "A Survey of Temporal Antialiasing Techniques" (2020) for what keeps such a history from ghosting; Kroeger
//! et al., "Fast Optical Flow using Dense Inverse Search" (2016) for the motion.

mod luma;
mod mix;
mod motion;
mod team;
mod trust;

use std::fmt;

use crate::engine::default_threads;
use crate::frame::Frame;

use luma::Pyramid;
use mix::{BAND, History, Mix, Tally};
use motion::Motion;
use team::Team;
use trust::Trust;

/// Weight of the history at strength 1: ten frames' mean.
const MOST: f32 = 0.9;
/// Share of a frame that is not trusted from which on it is a cut, and the video starts afresh.
const CUT: f32 = 0.6;
/// Mean squared difference of equal places, in 255ths, until it has been measured.
const NOISE: f32 = 2.0;
/// Sharpness of the smoothed painting that is aimed at, the painting's own as 1. Some of that is noise.
const SHARPNESS: f32 = 0.95;
/// Most that the history's detail is raised by.
const SHARPEN: f32 = 0.17;

/// Calms a painted video, frame by frame. Buffers are kept from frame to frame.
///
/// `out = painted + weight · trust · (history − painted)`, where `history` is the frame before's `out`, moved along
/// with the source, and `weight` is 0.9 times the strength. Results do not depend on the number of threads.
///
/// ```
/// # use impasto::{Frame, smooth::Smoother};
/// let mut smoother = Smoother::new(Smoother::DEFAULT_STRENGTH);
/// let video = [Frame::black(64, 48), Frame::black(64, 48)];
/// for source in &video {
///     let mut painted = source.clone(); // by a `Stylizer`
///     smoother.apply(source, &mut painted);
/// }
/// ```
pub struct Smoother {
    weight: f32,
    team: Team,
    /// Whether `before` and `history` hold a frame.
    warm: bool,
    size: (usize, usize),
    now: Pyramid,
    before: Pyramid,
    motion: Motion,
    trust: Trust,
    /// Mean squared difference of equal places in the two sources, in 255ths.
    noise: f32,
    margin: f32,
    sharpen: f32,
    own: Vec<u8>,
    history: History,
    next: History,
    tallies: Vec<Tally>,
}

impl fmt::Debug for Smoother {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smoother")
            .field("weight", &self.weight)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Smoother {
    /// The strength to use unless told: change along a camera's motion falls to under half in every style measured,
    /// to two fifths on the average (`benches/examples/smooth`), and what is mixed in is two frames old on the average.
    pub const DEFAULT_STRENGTH: f32 = 0.75;

    /// A smoother of a strength from 0 (off) to 1 (most), with a thread for each physical core from its first frame on.
    pub fn new(strength: f32) -> Self {
        Self::with_threads(strength, default_threads())
    }

    /// As [`Smoother::new`], with this many threads, the calling one included.
    pub fn with_threads(strength: f32, threads: usize) -> Self {
        let mut smoother = Smoother {
            weight: 0.0,
            team: Team::new(threads),
            warm: false,
            size: (0, 0),
            now: Pyramid::default(),
            before: Pyramid::default(),
            motion: Motion::default(),
            trust: Trust::default(),
            noise: NOISE,
            margin: 0.0,
            sharpen: 0.0,
            own: Vec::new(),
            history: History::default(),
            next: History::default(),
            tallies: Vec::new(),
        };
        smoother.set_strength(strength);
        smoother
    }

    /// Changes the strength; what is not between 0 and 1 is brought there.
    pub fn set_strength(&mut self, strength: f32) {
        // A strength that is no number is none.
        self.weight = if strength > 0.0 { MOST * strength.min(1.0) } else { 0.0 };
        if self.weight == 0.0 {
            self.reset();
        }
    }

    /// Whether it does anything.
    #[cfg(feature = "pictures")]
    pub(crate) fn is_on(&self) -> bool {
        self.weight > 0.0
    }

    /// Forgets the video so far: the next frame is left as it is. To be called when frames were skipped on purpose, or
    /// when the style changes.
    pub fn reset(&mut self) {
        self.warm = false;
    }

    /// Smooths the next frame: `painted` is the network's painting of `source`, and on return the smoothed one.
    ///
    /// The first frame, one of another size than the last, and the first after a cut are left as they are. So is a
    /// painting that has not its source's size.
    pub fn apply(&mut self, source: &Frame, painted: &mut Frame) {
        let size = (source.width(), source.height());
        if self.weight == 0.0 || size != (painted.width(), painted.height()) {
            return self.reset();
        }
        if self.size != size {
            self.reshape(size);
        }
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.take(source, &mut self.team);
        if !self.warm {
            (self.noise, self.warm) = (NOISE, true);
            return self.start(painted);
        }
        self.motion.find(&self.now, &self.before, self.noise, &mut self.team);
        let (field, planes) = (self.motion.finest(), [&self.now.levels[0], &self.before.levels[0]]);
        let noise = self.trust.compare(planes[0], planes[1], field, self.noise, &mut self.team);
        if self.trust.lost() > CUT {
            return self.start(painted);
        }
        self.noise = noise;
        self.own.copy_from_slice(painted.rgb());
        let mix = Mix {
            history: &self.history,
            field,
            trust: &self.trust,
            own: &self.own,
            weight: self.weight,
            margin: self.margin,
            sharpen: self.sharpen,
        };
        mix.run(painted, &mut self.next, &mut self.tallies, &mut self.team);
        std::mem::swap(&mut self.history, &mut self.next);
        let tally = Tally::total(&self.tallies);
        // Beyond its neighbourhood's range by what the style flickers, and by rounding.
        self.margin = tally.flicker() + 2.0;
        let most = mix::most_sharpen(self.weight).min(SHARPEN);
        self.sharpen = (self.sharpen + 0.3 * (SHARPNESS - tally.sharpness())).clamp(0.0, most);
    }

    /// Makes a painting the whole history.
    fn start(&mut self, painted: &Frame) {
        // How much the style flickers here is not known yet.
        (self.margin, self.sharpen) = (255.0, 0.0);
        self.history.take(painted);
    }

    fn reshape(&mut self, size: (usize, usize)) {
        let (width, height) = size;
        (self.size, self.warm) = (size, false);
        self.now.reshape(width, height);
        self.before.reshape(width, height);
        self.motion.reshape(&self.now);
        self.trust.reshape(&self.now.levels[0]);
        self.own.resize(width * height * 3, 0);
        self.history.reshape(width, height);
        self.next.reshape(width, height);
        self.tallies.resize(height.div_ceil(BAND), Tally::default());
    }
}
