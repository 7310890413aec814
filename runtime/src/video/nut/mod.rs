//! NUT: the container that carries raw frames with their timestamps through a pipe, to and from ffmpeg.
//!
//! Only what that needs: one stream of `rgb24` video. NUT and not Matroska, because a NUT stream counts in any
//! time base, so timestamps stay what they are in the source; Matroska counts milliseconds.
//!
//! - `read`: the bytes of a pipe to frames. Checksums are checked, sizes limited; damage is an error, since a pipe
//!   does not damage anything.
//! - `write`: frames to bytes.
//!
//! # Source
//! *NUT Open Container Format*, version 3, and the files that FFmpeg 5.1 writes.

mod read;
mod write;

pub use read::NutReader;
pub use write::NutWriter;

use super::time::Ratio;

/// What a file begins with.
const FILE_ID: &[u8; 25] = b"nut/multimedia container\0";

const MAIN: u64 = 0x4E4D_7A56_1F5F_04AD;
const STREAM: u64 = 0x4E53_1140_5BF2_F9DB;
const SYNCPOINT: u64 = 0x4E4B_E4AD_EECA_4569;
const INFO: u64 = 0x4E49_AB68_B596_BA78;
const INDEX: u64 = 0x4E58_DD67_2F23_E64E;

/// The `fourcc` of packed 8-bit RGB.
const RGB24: &[u8; 4] = b"RGB\x18";

/// What a frame code, and the code in front of a frame, may say.
mod flag {
    pub const KEY: u64 = 1;
    pub const CODED_PTS: u64 = 8;
    pub const STREAM_ID: u64 = 16;
    pub const SIZE_MSB: u64 = 32;
    pub const CHECKSUM: u64 = 64;
    pub const RESERVED: u64 = 128;
    pub const SIDE_DATA: u64 = 256;
    pub const HEADER_INDEX: u64 = 1024;
    pub const MATCH_TIME: u64 = 2048;
    pub const CODED: u64 = 4096;
    pub const INVALID: u64 = 8192;
}

/// Packets (and what the forward pointer says of them) up to here have no checksum of their own in front.
const SHORT_PACKET: u64 = 4096;

/// What a stream of frames says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHeader {
    /// Width of every frame in pixels.
    pub width: usize,
    /// Height of every frame in pixels.
    pub height: usize,
    /// Seconds a tick of the timestamps.
    pub time_base: Ratio,
    /// Width of a pixel over its height; `None` when the stream does not say.
    pub sample_aspect: Option<Ratio>,
}

impl StreamHeader {
    /// Bytes of one frame; `None` when that does not fit.
    fn frame_bytes(&self) -> Option<usize> {
        self.width.checked_mul(self.height)?.checked_mul(3)
    }
}

/// CRC-32 with the polynomial 0x04C11DB7, from 0, most significant bit first. Over data and its checksum it is 0.
fn crc32(start: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut crc = (at as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000_0000 != 0 { (crc << 1) ^ 0x04C1_1DB7 } else { crc << 1 };
                bit += 1;
            }
            table[at] = crc;
            at += 1;
        }
        table
    };
    bytes.iter().fold(start, |crc, &byte| (crc << 8) ^ TABLE[((crc >> 24) as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Frame;

    fn frame(header: &StreamHeader, seed: u8) -> Frame {
        let bytes = header.frame_bytes().unwrap();
        let rgb = (0..bytes).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        Frame::new(header.width, header.height, rgb).unwrap()
    }

    fn header(width: usize, height: usize, num: u64, den: u64) -> StreamHeader {
        let time_base = Ratio::new(num, den).unwrap();
        StreamHeader { width, height, time_base, sample_aspect: Ratio::new(4, 3) }
    }

    fn written(header: &StreamHeader, stamps: &[i64]) -> Vec<u8> {
        let mut writer = NutWriter::new(Vec::new(), header, Ratio::new(30_000, 1001)).unwrap();
        for (at, &pts) in stamps.iter().enumerate() {
            writer.frame(pts, frame(header, at as u8).rgb()).unwrap();
        }
        writer.into_inner()
    }

    #[test]
    fn the_checksum_is_that_of_the_format() {
        // A stream header as FFmpeg 5.1 writes it: 640×480, the last four bytes are its checksum.
        let packet = b"\x00\x00\x04RGB\x18\x00\x0e\x82\xf7\x00\x00\x00\x00\x85\x00\x83\x60\x00\x00\x00\x1e\xe9\x36\x5b";
        assert_eq!(crc32(0, packet), 0);
        assert_eq!(crc32(0, &packet[..packet.len() - 4]), 0x1ee9_365b);
    }

    #[test]
    fn what_is_written_is_read() {
        for (width, height, num, den) in
            [(1, 1, 1, 30), (7, 3, 1001, 30_000), (64, 48, 1, 90_000), (3, 5, 1, 1)]
        {
            let header = header(width, height, num, den);
            let stamps = [0, 1, 2, 1000, 1001, 5_000_000_000, 5_000_000_001, 1 << 50];
            let bytes = written(&header, &stamps);
            let mut reader = NutReader::new(&bytes[..]).unwrap();
            assert_eq!(reader.header(), &header);
            let mut read = Frame::black(1, 1);
            for (at, &pts) in stamps.iter().enumerate() {
                assert_eq!(reader.read_frame(&mut read).unwrap(), Some(pts));
                assert_eq!(read, frame(&header, at as u8));
            }
            assert_eq!(reader.read_frame(&mut read).unwrap(), None);
        }
    }

    /// Reads all there is; must neither panic nor go on for ever.
    fn read_all(bytes: &[u8]) -> std::io::Result<usize> {
        let mut reader = NutReader::new(bytes)?;
        let (mut frame, mut count) = (Frame::black(1, 1), 0);
        while reader.read_frame(&mut frame)?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn a_cut_is_an_error_or_ends_between_frames() {
        let header = header(3, 2, 1, 30);
        let bytes = written(&header, &[0, 1, 2]);
        let mut whole = Vec::new();
        for length in 0..bytes.len() {
            if let Ok(count) = read_all(&bytes[..length]) {
                whole.push((length, count));
            }
        }
        // After the stream header and the frame rate, after the first frame, after the second: nowhere else.
        assert_eq!(whole.iter().map(|&(_, count)| count).collect::<Vec<_>>(), [0, 0, 1, 2], "{whole:?}");
        assert_eq!(read_all(&bytes).unwrap(), 3);
    }

    #[test]
    fn damage_never_panics_and_headers_are_checked() {
        let header = header(3, 2, 1, 30);
        let good = written(&header, &[0, 1, 70_000]);
        let first_frame = written(&header, &[]).len();
        for at in 0..good.len() {
            for change in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= change;
                let result = read_all(&bad);
                if (FILE_ID.len()..first_frame).contains(&at) {
                    assert!(result.is_err(), "byte {at} of the headers, {change}");
                }
            }
        }
        // Many changes at once, by a small generator.
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..1 + random() % 6 {
                let at = random() % bad.len();
                bad[at] = random() as u8;
            }
            let _ = read_all(&bad);
        }
    }

    #[test]
    fn sizes_have_limits() {
        let huge = header(1 << 20, 1 << 20, 1, 30);
        let mut writer = Vec::new();
        NutWriter::new(&mut writer, &huge, None).unwrap();
        let error = NutReader::new(&writer[..]).unwrap_err().to_string();
        assert!(error.contains("1048576×1048576"), "{error}");
    }
}
