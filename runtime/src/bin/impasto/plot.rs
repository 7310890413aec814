//! A line chart as SVG and as pixels: what is needed of one, drawn twice from the same description.

use std::fmt::Write;

use impasto::Frame;

use crate::lettering;

/// A line through points, and what it is called.
pub struct Line {
    pub name: String,
    pub color: [u8; 3],
    pub points: Vec<(f64, f64)>,
}

/// A chart: x from 0 on a linear axis, y on a logarithmic one.
pub struct Chart {
    pub title: String,
    pub x_name: String,
    pub y_name: String,
    pub lines: Vec<Line>,
    /// A level with a point on it: the fast network.
    pub level: Line,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 420.0;
/// Left, top, right, bottom.
const MARGIN: [f64; 4] = [76.0, 40.0, 20.0, 52.0];
const GREY: [u8; 3] = [120, 120, 120];
const BLACK: [u8; 3] = [20, 20, 20];

/// What either form is drawn with.
trait Pen {
    fn line(&mut self, from: (f64, f64), to: (f64, f64), color: [u8; 3], thick: bool);
    fn dot(&mut self, at: (f64, f64), color: [u8; 3]);
    /// `anchor` 0 begins at the point, 0.5 is centred on it, 1 ends there; the point is on the base line.
    fn text(&mut self, at: (f64, f64), text: &str, anchor: f64, color: [u8; 3]);
}

impl Chart {
    /// As an SVG file.
    pub fn svg(&self) -> String {
        let mut pen = Svg(String::new());
        self.draw(&mut pen);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
            pen.0
        )
    }

    /// As a picture, twice as large.
    pub fn frame(&self) -> Frame {
        let mut frame = Frame::black((WIDTH * Raster::SCALE) as usize, (HEIGHT * Raster::SCALE) as usize);
        frame.rgb_mut().fill(255);
        let mut pen = Raster(frame);
        self.draw(&mut pen);
        pen.0
    }

    fn draw(&self, pen: &mut dyn Pen) {
        let all = || self.lines.iter().chain([&self.level]).flat_map(|line| line.points.iter().copied());
        let shown = || all().filter(|(x, y)| x.is_finite() && *y > 0.0 && y.is_finite());
        let right = shown().map(|point| point.0).fold(0.0, f64::max).max(1e-9);
        let low = shown().map(|point| point.1).fold(f64::INFINITY, f64::min).min(1e300).log10() - 0.05;
        let high = shown().map(|point| point.1).fold(1e-300, f64::max).log10().max(low + 0.1) + 0.05;
        let (x0, x1) = (MARGIN[0], WIDTH - MARGIN[2]);
        let (y0, y1) = (HEIGHT - MARGIN[3], MARGIN[1]);
        let place = |(x, y): (f64, f64)| {
            let up = (y.max(1e-300).log10() - low) / (high - low);
            (x0 + (x1 - x0) * x / right, y0 + (y1 - y0) * up.clamp(0.0, 1.0))
        };
        pen.text((WIDTH / 2.0, 20.0), &self.title, 0.5, BLACK);
        pen.line((x0, y0), (x1, y0), GREY, false);
        pen.line((x0, y0), (x0, y1), GREY, false);
        let step = nice(right / 6.0);
        for at in 0..=(right / step + 1e-9) as usize {
            let value = at as f64 * step;
            let (x, _) = place((value, 1.0));
            pen.line((x, y0), (x, y0 + 4.0), GREY, false);
            pen.text((x, y0 + 18.0), &number(value), 0.5, BLACK);
        }
        for decade in low.floor() as i32..=high.ceil() as i32 {
            for digit in [1.0, 2.0, 5.0] {
                let value = digit * 10f64.powi(decade);
                if (low..=high).contains(&value.log10()) {
                    let (_, y) = place((0.0, value));
                    pen.line((x0 - 4.0, y), (x0, y), GREY, false);
                    pen.text((x0 - 8.0, y + 4.0), &number(value), 1.0, BLACK);
                }
            }
        }
        pen.text(((x0 + x1) / 2.0, HEIGHT - 12.0), &self.x_name, 0.5, BLACK);
        pen.text((8.0, y1 - 8.0), &self.y_name, 0.0, BLACK);
        for line in &self.lines {
            for pair in line.points.windows(2) {
                pen.line(place(pair[0]), place(pair[1]), line.color, true);
            }
        }
        if let Some(&(x, y)) = self.level.points.first() {
            pen.line(place((0.0, y)), place((right, y)), self.level.color, false);
            pen.dot(place((x, y)), self.level.color);
        }
        for (row, line) in self.lines.iter().chain([&self.level]).enumerate() {
            pen.text((x1, y1 + 4.0 + 16.0 * row as f64), &line.name, 1.0, line.color);
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn nice(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * decade)
        .find(|&value| value >= step)
        .unwrap_or(10.0 * decade)
}

fn number(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e5).contains(&value) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

struct Svg(String);

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

impl Pen for Svg {
    fn line(&mut self, from: (f64, f64), to: (f64, f64), color: [u8; 3], thick: bool) {
        // Writing to a string does not fail.
        let _ = writeln!(
            self.0,
            "<line x1=\"{:.2}\" y1=\"{:.2}\" x2=\"{:.2}\" y2=\"{:.2}\" stroke=\"{}\" stroke-width=\"{}\" stroke-linecap=\"round\"/>",
            from.0,
            from.1,
            to.0,
            to.1,
            hex(color),
            if thick { 2 } else { 1 }
        );
    }

    fn dot(&mut self, at: (f64, f64), color: [u8; 3]) {
        let _ = writeln!(
            self.0,
            "<circle cx=\"{:.2}\" cy=\"{:.2}\" r=\"5\" fill=\"{}\"/>",
            at.0,
            at.1,
            hex(color)
        );
    }

    fn text(&mut self, at: (f64, f64), text: &str, anchor: f64, color: [u8; 3]) {
        let anchor = match anchor {
            0.0 => "start",
            1.0 => "end",
            _ => "middle",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.0,
            "<text x=\"{:.2}\" y=\"{:.2}\" text-anchor=\"{anchor}\" fill=\"{}\">{text}</text>",
            at.0,
            at.1,
            hex(color)
        );
    }
}

struct Raster(Frame);

impl Raster {
    const SCALE: f64 = 2.0;

    fn square(&mut self, at: (f64, f64), side: f64, color: [u8; 3]) {
        let (width, height) = (self.0.width() as f64, self.0.height() as f64);
        let range = |middle: f64, end: f64| {
            let start = (middle - side / 2.0).round().clamp(0.0, end) as usize;
            start..(middle + side / 2.0).round().clamp(0.0, end) as usize
        };
        let row = self.0.width();
        for y in range(at.1, height) {
            for x in range(at.0, width) {
                self.0.rgb_mut()[(y * row + x) * 3..][..3].copy_from_slice(&color);
            }
        }
    }
}

impl Pen for Raster {
    fn line(&mut self, from: (f64, f64), to: (f64, f64), color: [u8; 3], thick: bool) {
        let scale = Self::SCALE;
        let (dx, dy) = ((to.0 - from.0) * scale, (to.1 - from.1) * scale);
        let steps = dx.abs().max(dy.abs()).ceil().max(1.0) as usize;
        for step in 0..=steps {
            let part = step as f64 / steps as f64;
            let at = (from.0 * scale + dx * part, from.1 * scale + dy * part);
            self.square(at, if thick { 4.0 } else { 2.0 }, color);
        }
    }

    fn dot(&mut self, at: (f64, f64), color: [u8; 3]) {
        self.square((at.0 * Self::SCALE, at.1 * Self::SCALE), 16.0, color);
    }

    fn text(&mut self, at: (f64, f64), text: &str, anchor: f64, color: [u8; 3]) {
        const DOT: usize = 2;
        let left = at.0 * Self::SCALE - anchor * lettering::width(text, DOT) as f64;
        let top = at.1 * Self::SCALE - (lettering::ROWS * DOT) as f64;
        lettering::write(&mut self.0, text, (left as isize, top as isize), DOT, color);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        Chart {
            title: "a & b".into(),
            x_name: "steps".into(),
            y_name: "loss".into(),
            lines: vec![Line {
                name: "Gatys".into(),
                color: [200, 0, 0],
                points: (0..50).map(|x| (f64::from(x), 4.0 / (1.0 + f64::from(x)))).collect(),
            }],
            level: Line { name: "fast".into(), color: [0, 0, 200], points: vec![(0.0, 1.0)] },
        }
    }

    #[test]
    fn both_forms_show_the_line_and_the_level() {
        let svg = chart().svg();
        assert_eq!(svg.matches("stroke=\"#c80000\"").count(), 49);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("a &amp; b") && svg.contains(">0.1</text>") && svg.ends_with("</svg>\n"));
        let frame = chart().frame();
        let count = |color: [u8; 3]| frame.rgb().chunks_exact(3).filter(|pixel| **pixel == color).count();
        assert!(count([200, 0, 0]) > 2000 && count([0, 0, 200]) > 2000);
    }

    #[test]
    fn numbers_and_ticks_are_round() {
        assert_eq!([0.0, 0.05, 2.0, 150.0, 2e6].map(number), ["0", "0.05", "2", "150", "2e6"]);
        assert_eq!([0.9, 17.0, 0.03].map(nice), [1.0, 20.0, 0.05]);
    }
}
