//! What keys change: the style and how it is applied.

use std::path::PathBuf;

use anyhow::Result;
use impasto::checkpoints::{StyleModel, shipped};
use impasto::paint::PaintOptions;
use impasto::smooth::Smoother;
use impasto::{Stylizer, StylizerOptions};

/// A style that can be switched to.
#[derive(Debug, Clone, PartialEq)]
pub enum StyleRef {
    Shipped(String),
    File(PathBuf),
}

impl StyleRef {
    pub fn open(&self, options: StylizerOptions) -> Result<Stylizer> {
        let model = match self {
            StyleRef::Shipped(name) => shipped::load(name)?,
            StyleRef::File(path) => StyleModel::load(path)?,
        };
        Ok(Stylizer::new(&model, options)?)
    }

    /// The name, or the file's name.
    pub fn name(&self) -> &str {
        match self {
            StyleRef::Shipped(name) => name,
            StyleRef::File(path) => path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("model"),
        }
    }
}

/// How frames are to be painted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Which of the styles.
    pub style: usize,
    pub strength: f32,
    pub keep_colors: bool,
    pub side_by_side: bool,
    /// How much is smoothed from frame to frame.
    pub smooth: f32,
    pub mirror: bool,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Quit,
    Overlay,
    Help,
    Screenshot,
    Record,
    Change(Change),
}

/// A change of the look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    NextStyle,
    PreviousStyle,
    Stronger,
    Weaker,
    KeepColors,
    SideBySide,
    Smooth,
    Mirror,
}

impl Look {
    /// Applies a change; there are so many styles, and after the last comes the first.
    pub fn apply(&mut self, change: Change, styles: usize) {
        match change {
            Change::NextStyle => self.style = (self.style + 1) % styles,
            Change::PreviousStyle => self.style = (self.style + styles - 1) % styles,
            Change::Stronger => self.strength = ((self.strength * 10.0).round() / 10.0 + 0.1).min(1.0),
            Change::Weaker => self.strength = ((self.strength * 10.0).round() / 10.0 - 0.1).max(0.0),
            Change::KeepColors => self.keep_colors = !self.keep_colors,
            Change::SideBySide => self.side_by_side = !self.side_by_side,
            Change::Smooth if self.smooth > 0.0 => self.smooth = 0.0,
            Change::Smooth => self.smooth = Smoother::DEFAULT_STRENGTH,
            Change::Mirror => self.mirror = !self.mirror,
        }
    }

    /// For the painter; what is shown side by side is put together for the window.
    pub fn paint_options(&self) -> PaintOptions {
        PaintOptions { strength: self.strength, keep_colors: self.keep_colors, ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_go_round_and_stay_within_bounds() {
        let mut look = Look {
            style: 0,
            strength: 0.95,
            keep_colors: false,
            side_by_side: false,
            smooth: 0.0,
            mirror: true,
        };
        look.apply(Change::PreviousStyle, 3);
        assert_eq!(look.style, 2);
        look.apply(Change::NextStyle, 3);
        assert_eq!(look.style, 0);
        for (change, expected) in [(Change::Stronger, 1.0), (Change::Weaker, 0.0)] {
            for _ in 0..12 {
                look.apply(change, 3);
            }
            assert_eq!(look.strength, expected);
        }
        look.apply(Change::Mirror, 3);
        look.apply(Change::KeepColors, 3);
        look.apply(Change::Smooth, 3);
        assert!(look.smooth > 0.0);
        assert!(!look.mirror && look.paint_options().keep_colors);
    }
}
