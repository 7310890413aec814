//! Frames to NUT: one stream, every frame a key frame with its full timestamp, a checksum and a syncpoint.

use std::io::{self, Write};

use super::{FILE_ID, INFO, MAIN, RGB24, SHORT_PACKET, STREAM, SYNCPOINT, StreamHeader, crc32, flag};
use crate::video::time::Ratio;

/// The one frame code in use; its flags are in front of each frame.
const FRAME_CODE: u8 = 1;
/// Timestamps below 2^this would be read as the low bits only; all are written in full.
const MSB_PTS_SHIFT: u32 = 7;

/// Writes raw frames as NUT.
#[derive(Debug)]
pub struct NutWriter<W> {
    out: W,
    frame_bytes: usize,
    /// What goes in front of a frame; kept from frame to frame.
    head: Vec<u8>,
}

impl<W: Write> NutWriter<W> {
    /// Writes the headers. `frame_rate` is what a reader may assume for frames whose duration nothing else tells.
    ///
    /// # Errors
    /// What writing reports.
    pub fn new(mut out: W, header: &StreamHeader, frame_rate: Option<Ratio>) -> io::Result<Self> {
        let frame_bytes = header.frame_bytes().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "frames too large for this machine's memory")
        })?;
        let mut bytes = FILE_ID.to_vec();
        packet(&mut bytes, MAIN, &main_header(header));
        packet(&mut bytes, STREAM, &stream_header(header));
        if let Some(rate) = frame_rate {
            packet(&mut bytes, INFO, &rate_info(rate));
        }
        out.write_all(&bytes)?;
        Ok(NutWriter { out, frame_bytes, head: Vec::new() })
    }

    /// Writes one frame.
    ///
    /// # Units
    /// `pts` in ticks of the header's time base, 0 or more; `rgb` has the header's width · height · 3 bytes.
    ///
    /// # Errors
    /// A negative timestamp, a frame of another size, and what writing reports.
    pub fn frame(&mut self, pts: i64, rgb: &[u8]) -> io::Result<()> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let stamp = u64::try_from(pts).ok().and_then(|pts| pts.checked_add(1 << MSB_PTS_SHIFT));
        let stamp = stamp.ok_or_else(|| wrong(format!("timestamp {pts}; expected 0 or more")))?;
        if rgb.len() != self.frame_bytes {
            return Err(wrong(format!("a frame of {} bytes; expected {}", rgb.len(), self.frame_bytes)));
        }
        self.head.clear();
        // The syncpoint: time base 0 of 1, pointing back at itself.
        let mut sync = Vec::with_capacity(12);
        put(&mut sync, pts as u64);
        put(&mut sync, 0);
        packet(&mut self.head, SYNCPOINT, &sync);
        let start = self.head.len();
        self.head.push(FRAME_CODE);
        put(&mut self.head, flag::KEY | flag::CODED_PTS | flag::SIZE_MSB | flag::CHECKSUM);
        put(&mut self.head, stamp);
        put(&mut self.head, rgb.len() as u64);
        let checksum = crc32(0, &self.head[start..]);
        self.head.extend(checksum.to_be_bytes());
        self.out.write_all(&self.head)?;
        self.out.write_all(rgb)
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

fn main_header(header: &StreamHeader) -> Vec<u8> {
    let mut body = Vec::new();
    // Version, streams, max_distance, time bases.
    for value in [3, 1, 65_536, 1, u64::from(header.time_base.num()), u64::from(header.time_base.den())] {
        put(&mut body, value);
    }
    // The 255 frame codes (`N` has none, it begins the startcodes): all invalid but one. Fields: flags, how many
    // fields follow, pts delta, size multiplier, stream, size, reserved, count.
    for (flags, count) in [(flag::INVALID, 1), (flag::CODED, 1), (flag::INVALID, 253)] {
        for value in [flags, 6, 0, 1, 0, 0, 0, count] {
            put(&mut body, value);
        }
    }
    put(&mut body, 0); // no headers left out of frames
    body
}

fn stream_header(header: &StreamHeader) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, 0); // the stream's number
    put(&mut body, 0); // video
    put(&mut body, RGB24.len() as u64);
    body.extend(RGB24);
    put(&mut body, 0); // its time base's number
    put(&mut body, u64::from(MSB_PTS_SHIFT));
    put(&mut body, u64::from(header.time_base.den())); // farthest timestamp without a checksum
    for value in [0, 0, 0] {
        put(&mut body, value); // decode delay, flags, no codec-specific data
    }
    let (horizontal, vertical) = header.sample_aspect.map_or((0, 0), |aspect| (aspect.num(), aspect.den()));
    for value in [header.width as u64, header.height as u64, horizontal.into(), vertical.into(), 0] {
        put(&mut body, value);
    }
    body
}

/// The frame rate, under the name that FFmpeg reads.
fn rate_info(rate: Ratio) -> Vec<u8> {
    let mut body = Vec::new();
    // Stream 0 (as 0 + 1), no chapter, start, length, one field.
    for value in [1, 0, 0, 0, 1] {
        put(&mut body, value);
    }
    text(&mut body, "r_frame_rate");
    put(&mut body, 2); // -1, in the format's signed numbers: a text follows
    text(&mut body, &rate.to_string());
    body
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    put(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// Appends startcode, length, body and checksum.
fn packet(bytes: &mut Vec<u8>, startcode: u64, body: &[u8]) {
    let start = bytes.len();
    let length = body.len() as u64 + 4;
    bytes.extend(startcode.to_be_bytes());
    put(bytes, length);
    if length > SHORT_PACKET {
        let checksum = crc32(0, &bytes[start..]);
        bytes.extend(checksum.to_be_bytes());
    }
    bytes.extend(body);
    bytes.extend(crc32(0, body).to_be_bytes());
}

/// A number in groups of 7 bits, most significant first, the top bit set on all but the last.
fn put(bytes: &mut Vec<u8>, value: u64) {
    let groups = (64 - (value | 1).leading_zeros()).div_ceil(7);
    for group in (0..groups).rev() {
        let more = if group > 0 { 0x80 } else { 0 };
        bytes.push((value >> (7 * group)) as u8 & 0x7f | more);
    }
}
