//! What a caller may choose for a painting, from a query string or from a page's message, checked.

use serde::Deserialize;

use super::answer::Refusal;
use super::catalogue::Catalogue;
use crate::paint::{PaintOptions, STROKE_SCALE};
use crate::picture::Format;

/// A style and what is done around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Index in the catalogue.
    pub style: usize,
    /// 0 the photo, 1 the painting.
    pub strength: f32,
    /// Scale at which the network sees the picture.
    pub stroke_scale: f32,
    /// Luminance from the painting, colour from the photo.
    pub keep_colors: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { style: 0, strength: 1.0, stroke_scale: 1.0, keep_colors: false }
    }
}

impl Settings {
    /// For [`crate::paint`].
    pub fn options(&self, size: Option<usize>) -> PaintOptions {
        PaintOptions {
            size,
            stroke_scale: self.stroke_scale,
            strength: self.strength,
            keep_colors: self.keep_colors,
            side_by_side: false,
        }
    }

    /// Changes what a page's message names and keeps the rest.
    ///
    /// # Errors
    /// A [`Refusal`] that names the setting; nothing is changed then.
    pub fn update(&mut self, change: &Change, catalogue: &Catalogue) -> Result<(), Refusal> {
        let mut next = *self;
        if let Some(name) = &change.style {
            next.style = catalogue.find(name)?;
        }
        if let Some(strength) = change.strength {
            next.strength = within("strength", strength, 0.0..=1.0)?;
        }
        if let Some(scale) = change.stroke_scale {
            next.stroke_scale = within("stroke_scale", scale, STROKE_SCALE)?;
        }
        if let Some(keep) = change.keep_colors {
            next.keep_colors = keep;
        }
        *self = next;
        Ok(())
    }
}

/// A page's message: what is to change.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Name of the style.
    pub style: Option<String>,
    /// See [`Settings::strength`].
    pub strength: Option<f32>,
    /// See [`Settings::stroke_scale`].
    pub stroke_scale: Option<f32>,
    /// See [`Settings::keep_colors`].
    pub keep_colors: Option<bool>,
}

/// What a request to `/api/stylize` asks for.
#[derive(Debug, PartialEq)]
pub struct Wish {
    /// Style and what is done around it.
    pub settings: Settings,
    /// Longer side of the result.
    pub size: Option<usize>,
    /// Format of the result; `None`: that of the picture that came.
    pub format: Option<Format>,
    /// Quality of a JPEG.
    pub quality: u8,
}

impl Wish {
    /// From a query string's pairs.
    ///
    /// # Errors
    /// A [`Refusal`] that names the parameter, its value and what was expected.
    pub fn from_query(pairs: &[(String, String)], catalogue: &Catalogue) -> Result<Self, Refusal> {
        let mut change = Change::default();
        let mut wish = Wish {
            settings: Settings::default(),
            size: None,
            format: None,
            quality: crate::picture::DEFAULT_QUALITY,
        };
        for (at, (name, value)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                let once = "every parameter is expected once";
                return Err(Refusal::bad_request(format!("`{}` is there twice", shorten(name)), once));
            }
            match name.as_str() {
                "style" => change.style = Some(value.clone()),
                "strength" => change.strength = Some(parse(name, value, "a number from 0 to 1")?),
                "stroke_scale" => change.stroke_scale = Some(parse(name, value, &number(STROKE_SCALE))?),
                "keep_colors" => {
                    // Python writes its `True`.
                    change.keep_colors = Some(match value.to_ascii_lowercase().as_str() {
                        "1" | "true" | "" => true,
                        "0" | "false" => false,
                        _ => return Err(unexpected(name, value, "true or false")),
                    });
                }
                "size" => {
                    let expected = "a whole number from 1 to 65535";
                    let size: u16 = parse(name, value, expected)?;
                    wish.size = Some(usize::from(size));
                    if size == 0 {
                        return Err(unexpected(name, value, expected));
                    }
                }
                "format" => {
                    let format = Format::from_extension(value).filter(|format| *format != Format::Tiff);
                    wish.format = Some(format.ok_or_else(|| unexpected(name, value, "png, jpeg or webp"))?);
                }
                "quality" => {
                    let expected = "a whole number from 1 to 100";
                    wish.quality = parse(name, value, expected)?;
                    if !(1..=100).contains(&wish.quality) {
                        return Err(unexpected(name, value, expected));
                    }
                }
                // The page's and a program's ways of showing who they are; checked elsewhere.
                "token" => {}
                _ => {
                    return Err(Refusal::bad_request(
                        format!("unknown parameter `{}`", shorten(name)),
                        "expected style, strength, stroke_scale, keep_colors, size, format or quality",
                    ));
                }
            }
        }
        wish.settings.update(&change, catalogue)?;
        Ok(wish)
    }
}

fn within(name: &str, value: f32, range: std::ops::RangeInclusive<f32>) -> Result<f32, Refusal> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(unexpected(name, &value.to_string(), &number(range)))
}

/// What is expected, in words.
fn number(range: std::ops::RangeInclusive<f32>) -> String {
    format!("a number from {} to {}", range.start(), range.end())
}

fn parse<T: std::str::FromStr>(name: &str, value: &str, expected: &str) -> Result<T, Refusal> {
    value.parse().map_err(|_| unexpected(name, value, expected))
}

fn unexpected(name: &str, value: &str, expected: &str) -> Refusal {
    Refusal::bad_request(format!("{name}: `{}`", shorten(value)), format!("expected {expected}"))
}

/// A caller's own text in a message: the first 60 characters, on one line.
pub fn shorten(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(query: &str) -> Result<Wish, String> {
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Wish::from_query(&pairs, &Catalogue::of_names(&["mondrian", "wave"]))
            .map_err(|refusal| format!("{} {} {}", refusal.status.as_u16(), refusal.error, refusal.hint))
    }

    #[test]
    fn a_query_is_read_and_its_defaults_are_those_of_the_command() {
        let plain = wish("").unwrap();
        assert_eq!(plain.settings, Settings::default());
        assert_eq!((plain.size, plain.format, plain.quality), (None, None, 90));
        assert_eq!(plain.settings.options(None), PaintOptions::default());
        let full =
            wish("style=wave&strength=0.5&stroke_scale=2&keep_colors=true&size=300&format=webp&quality=7");
        let full = full.unwrap();
        assert_eq!(full.settings, Settings { style: 1, strength: 0.5, stroke_scale: 2.0, keep_colors: true });
        assert_eq!((full.size, full.format, full.quality), (Some(300), Some(Format::WebP), 7));
        assert_eq!(full.settings.options(None).seen_pixels(10, 5), 200);
        for (value, keep) in [("True", true), ("1", true), ("False", false)] {
            assert_eq!(wish(&format!("keep_colors={value}")).unwrap().settings.keep_colors, keep, "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, expected) in [
            ("style=sunflowers", "404 no style `sunflowers` expected mondrian or wave"),
            ("strength=2", "400 strength: `2` expected a number from 0 to 1"),
            ("strength=NaN", "400 strength: `NaN` expected a number from 0 to 1"),
            ("stroke_scale=99", "400 stroke_scale: `99` expected a number from 0.05 to 8"),
            ("keep_colors=maybe", "400 keep_colors: `maybe` expected true or false"),
            ("size=0", "400 size: `0` expected a whole number from 1 to 65535"),
            ("size=-1", "400 size: `-1` expected a whole number from 1 to 65535"),
            ("format=tiff", "400 format: `tiff` expected png, jpeg or webp"),
            ("quality=0", "400 quality: `0` expected a whole number from 1 to 100"),
            ("model=/etc/passwd", "400 unknown parameter `model`"),
        ] {
            let error = wish(query).unwrap_err();
            assert!(error.starts_with(expected), "{query}: {error}");
        }
    }

    #[test]
    fn a_change_that_is_refused_changes_nothing() {
        let catalogue = Catalogue::of_names(&["a", "b"]);
        let mut settings = Settings::default();
        let change = Change { style: Some("b".into()), strength: Some(7.0), ..Change::default() };
        assert!(settings.update(&change, &catalogue).is_err());
        assert_eq!(settings, Settings::default());
    }
}
