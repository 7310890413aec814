//! Screenshots and recordings: where they go and whether one is under way.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
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
    /// The command line asks for it: without a recording there is no point in going on.
    insisted: bool,
    recording: Option<(Recorder, Instant)>,
}

impl<'a> Takes<'a> {
    pub fn new(tools: &'a Tools, folder: &'a Path) -> Self {
        Takes { tools, folder, wanted: false, insisted: false, recording: None }
    }

    pub fn start_recording_soon(&mut self) {
        (self.wanted, self.insisted) = (true, true);
    }

    pub fn recording_seconds(&self) -> Option<u64> {
        self.recording.as_ref().map(|(_, began)| began.elapsed().as_secs())
    }

    /// A frame that was shown. Where a key began the recording, the show goes on without it if it fails.
    ///
    /// # Errors
    /// What keeps a recording that the command line asks for from being made.
    pub fn add(&mut self, painted: &Frame, say: Say) -> Result<()> {
        match self.record(painted, say) {
            Err(error) if !self.insisted => {
                self.recording = None;
                say.error(&error);
                Ok(())
            }
            result => result,
        }
    }

    fn record(&mut self, painted: &Frame, say: Say) -> Result<()> {
        if std::mem::take(&mut self.wanted) {
            self.make_folder()?;
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
        if self.recording.is_some() {
            self.finish(say);
        } else {
            (self.wanted, self.insisted) = (true, false);
        }
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
            self.make_folder()?;
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

    fn make_folder(&self) -> Result<()> {
        let failed = || format!("--folder {}: cannot be made; hint: another folder", self.folder.display());
        std::fs::create_dir_all(self.folder).with_context(failed)
    }

    /// `impasto-0001.png`, with the first number whose file is not there.
    fn free_name(&self, extension: &str) -> PathBuf {
        let name = |number: u32| self.folder.join(format!("impasto-{number:04}.{extension}"));
        (1..).map(name).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| name(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_that_fails_ends_only_what_was_started_for_it() {
        if !impasto_test_support::are_installed("failing recordings", &["ffmpeg", "ffprobe"]) {
            return;
        }
        let tools = Tools::find().expect("ffmpeg");
        let file = tempfile::NamedTempFile::new().expect("a file where a folder is expected");
        let (frame, say) = (Frame::black(16, 16), Say::new(true, false));
        let mut takes = Takes::new(&tools, file.path());
        takes.toggle_recording(say);
        takes.add(&frame, say).expect("the show goes on");
        assert_eq!(takes.recording_seconds(), None);
        takes.add(&frame, say).expect("and it is not tried again");
        takes.start_recording_soon();
        let error = format!("{:#}", takes.add(&frame, say).expect_err("nothing to go on for"));
        assert!(error.contains(&file.path().display().to_string()) && error.contains("hint"), "{error}");
    }
}
