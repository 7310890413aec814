//! Time as video files count it: whole ticks of a rational base, so that nothing is rounded on the way.

use std::fmt;
use std::str::FromStr;

/// A ratio of two whole numbers, in lowest terms: a time base (seconds a tick), a frame rate, an aspect ratio.
///
/// # Units
/// As a time base, seconds; as a frame rate, frames a second. Neither number is 0 or above 2³¹ - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    num: u32,
    den: u32,
}

impl Ratio {
    /// `num / den` in lowest terms; `None` when one of them is 0 or does not fit 31 bits.
    pub fn new(num: u64, den: u64) -> Option<Self> {
        if num == 0 || den == 0 {
            return None;
        }
        let divisor = greatest_common_divisor(num, den);
        let side = |value: u64| u32::try_from(value / divisor).ok().filter(|&value| value <= i32::MAX as u32);
        Some(Ratio { num: side(num)?, den: side(den)? })
    }

    /// The number above the line.
    pub fn num(self) -> u32 {
        self.num
    }

    /// The number below the line.
    pub fn den(self) -> u32 {
        self.den
    }

    /// The value as a number.
    pub fn value(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// One over this.
    #[must_use]
    pub fn inverse(self) -> Self {
        Ratio { num: self.den, den: self.num }
    }

    /// Seconds that `ticks` of this time base take.
    pub fn seconds(self, ticks: i64) -> f64 {
        ticks as f64 * f64::from(self.num) / f64::from(self.den)
    }

    /// `ticks` of this time base in ticks of another, to the nearest (halves away from 0): exact where `to`
    /// divides this one. Values that do not fit are brought to the ends of the range.
    pub fn rescale(self, ticks: i64, to: Ratio) -> i64 {
        let scaled = i128::from(ticks) * i128::from(self.num) * i128::from(to.den);
        let divisor = i128::from(self.den) * i128::from(to.num);
        let rounded = (scaled.abs() + divisor / 2) / divisor * scaled.signum();
        rounded.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

impl FromStr for Ratio {
    type Err = ();

    /// `30000/1001` or `1:90000`; nothing for `0/0`, which is how ffprobe writes what it does not know.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (num, den) = text.split_once(['/', ':']).ok_or(())?;
        let side = |text: &str| text.trim().parse::<u64>().map_err(|_| ());
        Ratio::new(side(num)?, side(den)?).ok_or(())
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Seconds from `12`, `12.5`, `1:02.5` or `1:02:03`.
///
/// # Errors
/// What was expected, for text that is none of these, is negative, or is more than a year.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    const YEAR: f64 = 366.0 * 86_400.0;
    let wrong = || format!("`{}` is no time; expected seconds or hh:mm:ss", text.escape_debug());
    let mut seconds = 0.0;
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return Err(wrong());
    }
    for (at, part) in parts.iter().enumerate() {
        let last = at + 1 == parts.len();
        let plain = part.bytes().all(|byte| byte.is_ascii_digit() || (last && byte == b'.'));
        let value: f64 = part.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
        if at > 0 && value >= 60.0 {
            return Err(wrong());
        }
        seconds = seconds * 60.0 + value;
    }
    if seconds > YEAR { Err(wrong()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_in_lowest_terms_and_parse() {
        assert_eq!(Ratio::new(2, 60_000), Ratio::new(1, 30_000));
        assert_eq!("60000/2002".parse::<Ratio>().unwrap().to_string(), "30000/1001");
        for text in ["0/0", "0/1", "1/0", "1", "", "a/b", "-1/2", "1/4294967296"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }

    #[test]
    fn rescaling_to_a_finer_base_and_back_is_exact() {
        for (num, den, finer) in [(1, 3000, 48_000), (1001, 30_000, 30_000), (1, 90_000, 90_000), (1, 7, 49)]
        {
            let (base, fine) = (Ratio::new(num, den).unwrap(), Ratio::new(1, finer).unwrap());
            for ticks in [0, 1, -1, 17, 185_000, i64::from(u32::MAX), -12_345_678] {
                assert_eq!(fine.rescale(base.rescale(ticks, fine), base), ticks, "{base}");
            }
        }
        let (seconds, ms) = (Ratio::new(1, 1).unwrap(), Ratio::new(1, 1000).unwrap());
        assert_eq!(
            (ms.rescale(1500, seconds), ms.rescale(-1500, seconds), ms.rescale(499, seconds)),
            (2, -2, 0)
        );
        assert_eq!(seconds.rescale(i64::MAX, ms), i64::MAX);
    }

    #[test]
    fn times_in_seconds_and_in_hours() {
        for (text, seconds) in
            [("0", 0.0), ("12.5", 12.5), ("1:02.5", 62.5), ("01:02:03", 3723.0), (".5", 0.5), ("90", 90.0)]
        {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "-1", "1:60", "1:2:3:4", "a", "1e3", "nan", "inf", "1:", "1.5:00", "99999999999"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
