//! The window: frames with text on them, and keys.

use anyhow::{Context, Result};
use impasto::Frame;
use minifb::{Key, KeyRepeat, ScaleMode, Window, WindowOptions};

use super::look::{Action, Change};
use crate::lettering;

/// Side of a dot of the overlay's letters.
const DOT: usize = 2;
/// From one line of the overlay to the next, and from the border.
const LINE: usize = (lettering::ROWS + 4) * DOT;

/// The window and what it shows.
pub struct Screen {
    window: Window,
    frame: Frame,
    pixels: Vec<u32>,
}

impl Screen {
    pub fn open(title: &str, (width, height): (usize, usize)) -> Result<Self> {
        let options = WindowOptions {
            resize: true,
            scale_mode: ScaleMode::AspectRatioStretch,
            ..WindowOptions::default()
        };
        let mut window = Window::new(title, width, height, options)
            .context("no window can be opened; hint: impasto serve paints the camera in a browser")?;
        window.set_target_fps(0); // frames come when they are painted
        Ok(Screen { window, frame: Frame::black(1, 1), pixels: Vec::new() })
    }

    pub fn is_open(&self) -> bool {
        self.window.is_open()
    }

    /// Looks at the keys without showing anything new.
    pub fn refresh(&mut self) {
        self.window.update();
    }

    pub fn show(&mut self, frame: &Frame, lines: &[String]) -> Result<()> {
        self.frame.reshape(frame.width(), frame.height());
        self.frame.rgb_mut().copy_from_slice(frame.rgb());
        for (row, line) in lines.iter().enumerate() {
            let at = (DOT * 4) as isize;
            let y = at + (row * LINE) as isize;
            // Black below white is legible on every painting.
            for (dx, dy) in [(1, 1), (-1, 0), (0, -1), (1, 0), (0, 1)] {
                lettering::write(&mut self.frame, line, (at + dx, y + dy), DOT, [0; 3]);
            }
            lettering::write(&mut self.frame, line, (at, y), DOT, [255; 3]);
        }
        let packed = |pixel: &[u8]| u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]]);
        self.pixels.clear();
        self.pixels.extend(self.frame.rgb().chunks_exact(3).map(packed));
        self.window
            .update_with_buffer(&self.pixels, frame.width(), frame.height())
            .context("the window is gone")
    }

    /// What the keys that were pressed since the last look ask for.
    pub fn actions(&self) -> Vec<Action> {
        self.window.get_keys_pressed(KeyRepeat::No).into_iter().filter_map(action).collect()
    }
}

fn action(key: Key) -> Option<Action> {
    Some(match key {
        Key::Q | Key::Escape => Action::Quit,
        Key::O => Action::Overlay,
        Key::H => Action::Help,
        Key::Space => Action::Screenshot,
        Key::R => Action::Record,
        Key::Right | Key::N => Action::Change(Change::NextStyle),
        Key::Left | Key::P => Action::Change(Change::PreviousStyle),
        Key::Up => Action::Change(Change::Stronger),
        Key::Down => Action::Change(Change::Weaker),
        Key::C => Action::Change(Change::KeepColors),
        Key::S => Action::Change(Change::SideBySide),
        Key::F => Action::Change(Change::Smooth),
        Key::M => Action::Change(Change::Mirror),
        _ => return None,
    })
}
