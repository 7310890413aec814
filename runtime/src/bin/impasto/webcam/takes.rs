//! Screenshots and recordings: where they go and whether one is under way.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use impasto::Frame;
use impasto::picture::{EncodeOptions, Picture};
use impasto::video::{Recorder, Tools};

use crate::interrupt;
use crate::say::Say;

/// What has been taken.
pub struct Takes<'a> {
    tools: &'a Tools,
    folder: &'a Path,
    /// Started with the first frame, whose size it needs.
    wanted: bool,
    recording: Option<(Recorder, Instant)>,
}

impl<'a> Takes<'a> {
    pub fn new(tools: &'a Tools, folder: &'a Path) -> Self {
        Takes { tools, folder, wanted: false, recording: None }
    }

    pub fn start_recording_soon(&mut self) {
        self.wanted = true;
    }

    pub fn recording_seconds(&self) -> Option<u64> {
        self.recording.as_ref().map(|(_, began)| began.elapsed().as_secs())
    }

    /// A frame that was shown.
    pub fn add(&mut self, painted: &Frame, say: Say) -> Result<()> {
        if std::mem::take(&mut self.wanted) {
            std::fs::create_dir_all(self.folder)?;
            let path = self.free_name("mp4");
            let recorder = Recorder::start(self.tools, &path, (painted.width(), painted.height()))?;
            say.note(&format!("recording to {}", path.display()));
            self.recording = Some((recorder, Instant::now()));
        }
        if let Some((recorder, _)) = &mut self.recording {
            recorder.add(painted)?;
        }
        Ok(())
    }

    pub fn toggle_recording(&mut self, say: Say) {
        if self.recording.is_some() { self.finish(say) } else { self.wanted = true }
    }

    /// Ends a recording that is under way.
    pub fn finish(&mut self, say: Say) {
        let Some((recorder, _)) = self.recording.take() else { return };
        match recorder.finish() {
            Ok(path) => say.note(&format!("recorded {}", path.display())),
            Err(error) => say.error(&error.into()),
        }
    }

    /// Writes a frame; the show goes on if that fails.
    pub fn screenshot(&self, painted: &Frame, say: Say) {
        let save = || -> Result<PathBuf> {
            std::fs::create_dir_all(self.folder)?;
            let path = self.free_name("png");
            let _guard = interrupt::writing();
            Picture::from(painted.clone()).save(&path, &EncodeOptions::default())?;
            Ok(path)
        };
        match save() {
            Ok(path) => say.note(&format!("saved {}", path.display())),
            Err(error) => say.error(&error),
        }
    }

    /// `impasto-0001.png`, with the first number whose file is not there.
    fn free_name(&self, extension: &str) -> PathBuf {
        let name = |number: u32| self.folder.join(format!("impasto-{number:04}.{extension}"));
        (1..).map(name).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| name(0))
    }
}
