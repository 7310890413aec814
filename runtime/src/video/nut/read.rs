//! NUT to frames, from a pipe: no seeking, no resynchronizing.

use std::io::{self, BufReader, Read};

use super::{FILE_ID, INDEX, INFO, MAIN, RGB24, SHORT_PACKET, STREAM, SYNCPOINT, StreamHeader, crc32, flag};
use crate::Frame;
use crate::picture::DEFAULT_MAX_PIXELS;
use crate::video::time::Ratio;

/// Longest packet that is taken: metadata may hold a text, never a film.
const MAX_PACKET: u64 = 1 << 24;
/// Frames that repeat their beginning from the main header are no longer than this.
const MAX_ELIDED: usize = 4096;

/// A number takes 10 bytes; some writers put empty groups in front.
const MAX_NUMBER: usize = 16;

/// Reads raw frames from NUT.
#[derive(Debug)]
pub struct NutReader<R> {
    input: BufReader<R>,
    header: StreamHeader,
    main: MainHeader,
    msb_pts_shift: u32,
    last_pts: i64,
    /// The bytes in front of the frame in hand, for their checksum.
    head: Vec<u8>,
}

/// What the frame codes abbreviate.
#[derive(Debug, Clone, Copy, Default)]
struct FrameCode {
    flags: u64,
    pts_delta: i64,
    size_mul: u64,
    size_lsb: u64,
    reserved: u64,
    elided: u64,
}

#[derive(Debug)]
struct MainHeader {
    time_bases: Vec<Ratio>,
    codes: Vec<FrameCode>,
    /// Beginnings that frames may leave out; the first is empty.
    elided: Vec<Vec<u8>>,
}

impl<R: Read> NutReader<R> {
    /// Reads the headers.
    ///
    /// # Errors
    /// What reading reports, and what is wrong with the headers: not NUT, a bad checksum, more than one stream,
    /// no `rgb24` video, frames of more pixels than a picture may have.
    pub fn new(input: R) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(1 << 16, input);
        let mut id = [0; FILE_ID.len()];
        input.read_exact(&mut id)?;
        if &id != FILE_ID {
            return Err(bad("no NUT stream; expected its name in front"));
        }
        let (code, body) = packet(&mut input)?;
        if code != MAIN {
            return Err(bad("expected the main header first"));
        }
        let main = main_header(&body)?;
        let (code, body) = packet(&mut input)?;
        if code != STREAM {
            return Err(bad("expected a stream header after the main header"));
        }
        let (header, msb_pts_shift) = stream_header(&body, &main)?;
        Ok(NutReader { input, header, main, msb_pts_shift, last_pts: 0, head: Vec::new() })
    }

    /// What the stream says of its frames.
    pub fn header(&self) -> &StreamHeader {
        &self.header
    }

    /// Reads the next frame into `frame`, whose buffer is reused, and gives its timestamp in ticks of the header's
    /// time base; `None` at the end.
    ///
    /// # Errors
    /// What reading reports, an end in the middle of a frame, and what is wrong with the frame's head.
    pub fn read_frame(&mut self, frame: &mut Frame) -> io::Result<Option<i64>> {
        let mut due = false;
        loop {
            let mut first = [0];
            match self.input.read(&mut first) {
                // A syncpoint promises a frame.
                Ok(0) if due => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if first[0] != b'N' {
                return self.frame_after(first[0], frame).map(Some);
            }
            let mut startcode = [b'N'; 8];
            self.input.read_exact(&mut startcode[1..])?;
            let startcode = u64::from_be_bytes(startcode);
            let body = packet_body(&mut self.input, startcode)?;
            match startcode {
                SYNCPOINT => {
                    self.syncpoint(&body)?;
                    due = true;
                }
                // Repeated now and then, for players that tune in.
                MAIN | STREAM | INFO | INDEX => {}
                _ => return Err(bad("an unknown startcode")),
            }
        }
    }

    fn syncpoint(&mut self, body: &[u8]) -> io::Result<()> {
        let stamp = Fields(body).number()?;
        let bases = self.main.time_bases.len() as u64;
        let base = self.main.time_bases[(stamp % bases) as usize];
        let ticks = i64::try_from(stamp / bases).map_err(|_| bad("a timestamp too large"))?;
        self.last_pts = base.rescale(ticks, self.header.time_base);
        Ok(())
    }

    fn frame_after(&mut self, code: u8, frame: &mut Frame) -> io::Result<i64> {
        let FrameCode { mut flags, pts_delta, size_mul, size_lsb, mut reserved, mut elided } =
            self.main.codes[usize::from(code)];
        self.head.clear();
        self.head.push(code);
        if flags & flag::CODED != 0 {
            flags ^= self.number()?;
        }
        if flags & flag::INVALID != 0 {
            return Err(bad("an invalid frame code"));
        }
        if flags & flag::SIDE_DATA != 0 {
            return Err(bad("a frame with data besides its pixels"));
        }
        if flags & flag::STREAM_ID != 0 && self.number()? != 0 {
            return Err(bad("a frame of a second stream"));
        }
        let pts = if flags & flag::CODED_PTS != 0 {
            let coded = i64::try_from(self.number()?).map_err(|_| bad("a timestamp too large"))?;
            let full = 1i64 << self.msb_pts_shift;
            if coded >= full { coded - full } else { low_bits(coded, self.last_pts, full - 1) }
        } else {
            self.last_pts.checked_add(pts_delta).ok_or_else(|| bad("a timestamp too large"))?
        };
        let mut size = size_lsb;
        if flags & flag::SIZE_MSB != 0 {
            let more = size_mul.checked_mul(self.number()?).and_then(|more| size.checked_add(more));
            size = more.ok_or_else(|| bad("a frame too large"))?;
        }
        if flags & flag::MATCH_TIME != 0 {
            self.number()?;
        }
        if flags & flag::HEADER_INDEX != 0 {
            elided = self.number()?;
        }
        if flags & flag::RESERVED != 0 {
            reserved = self.number()?;
        }
        for _ in 0..reserved.min(MAX_PACKET) {
            self.number()?;
        }
        if flags & flag::CHECKSUM != 0 {
            let mut checksum = [0; 4];
            self.input.read_exact(&mut checksum)?;
            self.head.extend(checksum);
            if crc32(0, &self.head) != 0 {
                return Err(bad("a frame's checksum is wrong"));
            }
        }
        frame.reshape(self.header.width, self.header.height);
        let expected = frame.rgb().len();
        if size != expected as u64 {
            return Err(bad(&format!("a frame of {size} bytes; expected {expected}")));
        }
        let left_out = if expected > MAX_ELIDED { 0 } else { elided };
        let beginning = usize::try_from(left_out).ok().and_then(|index| self.main.elided.get(index));
        let beginning = beginning.ok_or_else(|| bad("a frame's beginning that no header has"))?;
        let (front, rest) = frame
            .rgb_mut()
            .split_at_mut_checked(beginning.len())
            .ok_or_else(|| bad("a frame shorter than its beginning"))?;
        front.copy_from_slice(beginning);
        self.input.read_exact(rest)?;
        self.last_pts = pts;
        Ok(pts)
    }

    /// The next number in front of a frame, remembered for the checksum.
    fn number(&mut self) -> io::Result<u64> {
        let NutReader { input, head, .. } = self;
        number(|| {
            let mut byte = [0];
            input.read_exact(&mut byte)?;
            head.push(byte[0]);
            Ok(byte[0])
        })
    }
}

/// The timestamp nearest to `last` that has these low bits.
fn low_bits(low: i64, last: i64, mask: i64) -> i64 {
    let delta = last.wrapping_sub(mask / 2);
    (low.wrapping_sub(delta) & mask).wrapping_add(delta)
}

fn main_header(body: &[u8]) -> io::Result<MainHeader> {
    let mut fields = Fields(body);
    let version = fields.number()?;
    if !(2..=4).contains(&version) {
        return Err(bad(&format!("NUT version {version}; expected 2 to 4")));
    }
    if version > 3 {
        fields.number()?; // minor version
    }
    let streams = fields.number()?;
    if streams != 1 {
        return Err(bad(&format!("{streams} streams; expected 1")));
    }
    fields.number()?; // max_distance
    let mut time_bases = Vec::new();
    for _ in 0..fields.count(256)? {
        let (num, den) = (fields.number()?, fields.number()?);
        time_bases.push(Ratio::new(num, den).ok_or_else(|| bad("a time base that is none"))?);
    }
    if time_bases.is_empty() {
        return Err(bad("no time base"));
    }
    let codes = frame_codes(&mut fields)?;
    let mut elided = vec![Vec::new()];
    if !fields.0.is_empty() {
        for _ in 0..fields.count(127)? {
            let length = fields.count(255)?;
            elided.push(fields.bytes(length)?.to_vec());
        }
    }
    // What follows is for later versions.
    Ok(MainHeader { time_bases, codes, elided })
}

/// The table of the 256 frame codes, run by run.
fn frame_codes(fields: &mut Fields<'_>) -> io::Result<Vec<FrameCode>> {
    let mut codes = Vec::with_capacity(256);
    let mut current = FrameCode { size_mul: 1, ..FrameCode::default() };
    while codes.len() < 256 {
        current.flags = fields.number()?;
        let count = fields.number()?;
        if count > 0 {
            current.pts_delta = fields.signed()?;
        }
        if count > 1 {
            current.size_mul = fields.number()?;
        }
        if count > 2 && fields.number()? != 0 {
            return Err(bad("a frame code of a second stream"));
        }
        current.size_lsb = if count > 3 { fields.number()? } else { 0 };
        current.reserved = if count > 4 { fields.number()? } else { 0 };
        let run = match count {
            0..=5 => current.size_mul.checked_sub(current.size_lsb),
            _ => Some(fields.number()?),
        };
        if count > 6 {
            fields.signed()?; // match time
        }
        if count > 7 {
            current.elided = fields.number()?;
        }
        for _ in 8..count {
            fields.number()?;
        }
        let run = run.filter(|run| (1..=256).contains(run)).ok_or_else(|| bad("frame codes without end"))?;
        for step in 0..run {
            if codes.len() == usize::from(b'N') {
                codes.push(FrameCode { flags: flag::INVALID, ..FrameCode::default() });
            }
            if codes.len() == 256 {
                return Err(bad("more than 256 frame codes"));
            }
            let size_lsb = current.size_lsb.checked_add(step).ok_or_else(|| bad("a frame too large"))?;
            codes.push(FrameCode { size_lsb, ..current });
        }
    }
    Ok(codes)
}

fn stream_header(body: &[u8], main: &MainHeader) -> io::Result<(StreamHeader, u32)> {
    let mut fields = Fields(body);
    let (stream, class) = (fields.number()?, fields.number()?);
    let length = fields.count(16)?;
    let fourcc = fields.bytes(length)?;
    if (stream, class) != (0, 0) || fourcc != RGB24 {
        return Err(bad("expected one stream of rgb24 video"));
    }
    let base = fields.number()?;
    let time_base = usize::try_from(base).ok().and_then(|base| main.time_bases.get(base)).copied();
    let time_base = time_base.ok_or_else(|| bad("a stream without a time base"))?;
    let shift = fields.count(15)? as u32;
    for _ in 0..3 {
        fields.number()?; // max_pts_distance, decode delay, flags
    }
    let extra = fields.count(MAX_PACKET as usize)?;
    fields.bytes(extra)?;
    let (width, height) = (fields.number()?, fields.number()?);
    if width == 0 || height == 0 || width.checked_mul(height).is_none_or(|pixels| pixels > DEFAULT_MAX_PIXELS)
    {
        return Err(bad(&format!("frames of {width}×{height}; expected 1 to {DEFAULT_MAX_PIXELS} pixels")));
    }
    let sample_aspect = Ratio::new(fields.number()?, fields.number()?);
    // Both fit: their product does.
    Ok((StreamHeader { width: width as usize, height: height as usize, time_base, sample_aspect }, shift))
}

/// A packet with its startcode; the body comes without its checksum.
fn packet(input: &mut impl Read) -> io::Result<(u64, Vec<u8>)> {
    let mut startcode = [0; 8];
    input.read_exact(&mut startcode)?;
    let startcode = u64::from_be_bytes(startcode);
    Ok((startcode, packet_body(input, startcode)?))
}

/// What follows a startcode.
fn packet_body(input: &mut impl Read, startcode: u64) -> io::Result<Vec<u8>> {
    let mut head = startcode.to_be_bytes().to_vec();
    let length = number(|| {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        head.push(byte[0]);
        Ok(byte[0])
    })?;
    if length > SHORT_PACKET {
        let mut checksum = [0; 4];
        input.read_exact(&mut checksum)?;
        head.extend(checksum);
        if crc32(0, &head) != 0 {
            return Err(bad("the checksum of a packet's length is wrong"));
        }
    }
    if !(4..=MAX_PACKET).contains(&length) {
        return Err(bad(&format!("a packet of {length} bytes; expected 4 to {MAX_PACKET}")));
    }
    // Grows with what comes, not with what was promised.
    let mut body = Vec::new();
    input.take(length).read_to_end(&mut body)?;
    if body.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if crc32(0, &body) != 0 {
        return Err(bad("a packet's checksum is wrong"));
    }
    body.truncate(body.len() - 4);
    Ok(body)
}

/// The fields of a packet, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> io::Result<u64> {
        number(|| Ok(self.bytes(1)?[0]))
    }

    /// A number that says how many of something follow.
    fn count(&mut self, limit: usize) -> io::Result<usize> {
        let count = self.number()?;
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= limit)
            .ok_or_else(|| bad(&format!("{count} of something; expected {limit} at most")))
    }

    /// 0, 1, -1, 2, -2, … are written as 0, 1, 2, 3, 4, ….
    fn signed(&mut self) -> io::Result<i64> {
        let number = self.number()?;
        let half = (number / 2) as i64;
        Ok(if number % 2 == 1 { half.saturating_add(1) } else { -half })
    }

    fn bytes(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (bytes, rest) =
            self.0.split_at_checked(length).ok_or_else(|| bad("a packet that ends too soon"))?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// A number in groups of 7 bits, most significant first.
fn number(mut byte: impl FnMut() -> io::Result<u8>) -> io::Result<u64> {
    let mut value = 0u64;
    for _ in 0..MAX_NUMBER {
        let next = byte()?;
        if value >> 57 != 0 {
            break;
        }
        value = value << 7 | u64::from(next & 0x7f);
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(bad("a number of more than 64 bits"))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("NUT: {what}"))
}
