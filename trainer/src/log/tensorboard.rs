//! TensorBoard's event files: records of `tensorboard-rs`, written to a file of our own.
//!
//! Its `SummaryWriter` writes from a thread that panics when the disk is full, and swaps a picture's width and
//! height; its record format and messages are used here without that thread.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use impasto::Frame;
use impasto::picture::{EncodeOptions, Format, Picture};
use protobuf::{Message, RepeatedField};
use tensorboard_proto::event::Event;
use tensorboard_proto::summary::{Summary, Summary_Image, Summary_Value};
use tensorboard_rs::record_writer::RecordWriter;

/// An event file.
pub struct EventFile {
    writer: RecordWriter<File>,
}

impl EventFile {
    /// Starts an event file in `folder`; TensorBoard reads all of a folder's files as one run.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn create(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The name's order is the order in which TensorBoard reads; the process keeps two runs apart.
        let name = format!(
            "events.out.tfevents.{:010}.{:09}.impasto.{}",
            now.as_secs(),
            now.subsec_nanos(),
            std::process::id()
        );
        let mut events = EventFile { writer: RecordWriter::new(File::create(folder.join(name))?) };
        let mut event = Event::new();
        event.set_file_version("brain.Event:2".to_owned());
        events.write(event, 0)?;
        Ok(events)
    }

    /// Adds numbers at a step.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn scalars<'a>(&mut self, step: u64, values: impl Iterator<Item = (&'a str, f64)>) -> io::Result<()> {
        let values = values.map(|(tag, value)| {
            let mut entry = Summary_Value::new();
            entry.set_tag(tag.to_owned());
            entry.set_simple_value(value as f32);
            entry
        });
        self.summary(step, values.collect())
    }

    /// Adds a picture at a step.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn picture(&mut self, step: u64, tag: &str, frame: &Frame) -> io::Result<()> {
        let png = Picture::from(frame.clone())
            .encode(Format::Png, &EncodeOptions::default())
            .map_err(|error| io::Error::other(error.to_string()))?;
        let mut image = Summary_Image::new();
        image.set_height(frame.height() as i32);
        image.set_width(frame.width() as i32);
        image.set_colorspace(3);
        image.set_encoded_image_string(png);
        let mut entry = Summary_Value::new();
        entry.set_tag(tag.to_owned());
        entry.set_image(image);
        self.summary(step, vec![entry])
    }

    fn summary(&mut self, step: u64, values: Vec<Summary_Value>) -> io::Result<()> {
        let mut summary = Summary::new();
        summary.set_value(RepeatedField::from_vec(values));
        let mut event = Event::new();
        event.set_summary(summary);
        self.write(event, step)
    }

    fn write(&mut self, mut event: Event, step: u64) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        event.set_wall_time(now.as_secs_f64());
        event.set_step(i64::try_from(step).unwrap_or(i64::MAX));
        let bytes = event.write_to_bytes().map_err(io::Error::other)?;
        self.writer.write(&bytes)
    }
}
