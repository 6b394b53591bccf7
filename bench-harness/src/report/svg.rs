//! Pictures as SVG text: lines over linear or logarithmic axes, with marks.

use anyhow::{Context, anyhow, ensure};
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::histogram::human_ns;

const WIDTH: u32 = 860;
const HEIGHT: u32 = 420;

/// Colours that stay apart for most eyes, also in grey.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(120, 120, 120),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// A line of a picture.
#[derive(Clone, Debug)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// Which colour; lines that belong together share one.
    pub colour: usize,
    /// A thin line in the background.
    pub faint: bool,
    /// Whether points get a dot.
    pub dots: bool,
}

/// What is along the horizontal axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Seconds.
    Time,
    /// Requests a second.
    Rate,
    /// Quantiles: the points' x is the number of nines, `-log10(1 - q)`.
    Nines,
}

/// A picture of latencies, in nanoseconds and on a logarithmic scale.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its name as a file.
    pub name: String,
    /// What is above it.
    pub title: String,
    /// What is along the horizontal axis.
    pub axis: Axis,
    /// Lines.
    pub lines: Vec<Line>,
    /// Spans of time with a text, shaded.
    pub marks: Vec<(f64, f64, String)>,
}

/// The number of nines of a quantile: 1 for 0.9, 3 for 0.999.
#[must_use]
pub fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-12).log10()
}

/// A position as a percentile's name.
fn nines_name(nines: f64) -> String {
    let left = 10f64.powf(-nines);
    let digits = (nines.round() as usize).saturating_sub(2);
    format!("{:.digits$} %", (1.0 - left) * 100.0)
}

/// An axis whose labelled points are the whole nines, since even steps would be no percentiles.
struct NinesAxis(f64);

impl Ranged for NinesAxis {
    type FormatOption = plotters::coord::ranged1d::DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (value / self.0 * f64::from(limit.1 - limit.0)) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..=self.0.floor() as i32).map(f64::from).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.0
    }
}

impl Picture {
    /// Draws it.
    ///
    /// # Errors
    /// There is nothing in it to draw.
    pub fn draw(&self) -> anyhow::Result<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && *y > 0.0);
        ensure!(points().next().is_some(), "the picture {:?} has no points", self.title);
        let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max).max(1e-9);
        let y_min = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
        let y_max = points().map(|(_, y)| *y).fold(0.0, f64::max);
        // Whole decades would waste half of the picture; a margin on both sides does not.
        let (y_min, y_max) = (y_min * 0.8, (y_max * 1.25).max(y_min * 2.0));
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area();
            let drawn = match self.axis {
                Axis::Nines => self.draw_on(&root, NinesAxis(x_max * 1.02), y_min..y_max, &|x| nines_name(*x)),
                Axis::Time => self.draw_on(&root, RangedPlain(x_max), y_min..y_max, &|x| format!("{x} s")),
                Axis::Rate => {
                    self.draw_on(&root, RangedPlain(x_max * 1.02), y_min..y_max, &|x| super::layout::rate(*x))
                }
            };
            drawn.with_context(|| format!("cannot draw {:?}", self.title))?;
        }
        Ok(text)
    }

    fn draw_on<X>(
        &self,
        root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        x_axis: X,
        y: std::ops::Range<f64>,
        name: &dyn Fn(&f64) -> String,
    ) -> anyhow::Result<()>
    where
        X: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        let failed = |error: &dyn std::fmt::Display| anyhow!("{error}");
        root.fill(&WHITE).map_err(|error| failed(&error))?;
        let mut chart = ChartBuilder::on(root)
            .caption(&self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(72)
            .build_cartesian_2d(x_axis, y.clone().log_scale())
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .light_line_style(RGBColor(238, 238, 238))
            .bold_line_style(RGBColor(214, 214, 214))
            .x_label_formatter(&|x| name(x))
            .y_label_formatter(&|ns| human_ns(*ns))
            .y_desc("latency")
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(|error| failed(&error))?;
        for (from, to, label) in &self.marks {
            let area = Rectangle::new([(*from, y.start), (*to, y.end)], RGBColor(255, 214, 120).mix(0.45).filled());
            chart.draw_series([area]).map_err(|error| failed(&error))?;
            let style = TextStyle::from(("sans-serif", 13)).pos(Pos::new(HPos::Left, VPos::Top));
            chart
                .draw_series([Text::new(label.clone(), (*from, y.end * 0.97), style)])
                .map_err(|error| failed(&error))?;
        }
        for line in &self.lines {
            let colour = COLOURS[line.colour % COLOURS.len()];
            let style = if line.faint { colour.mix(0.35).stroke_width(1) } else { colour.stroke_width(2) };
            let points: Vec<(f64, f64)> =
                line.points.iter().copied().filter(|(x, y)| x.is_finite() && *y > 0.0).collect();
            if points.is_empty() {
                continue;
            }
            if line.dots {
                let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
                chart.draw_series(dots).map_err(|error| failed(&error))?;
            }
            let series = chart.draw_series(LineSeries::new(points, style)).map_err(|error| failed(&error))?;
            if !line.name.is_empty() {
                series.label(line.name.clone()).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font(("sans-serif", 13))
            .draw()
            .map_err(|error| failed(&error))?;
        root.present().map_err(|error| failed(&error))
    }
}

/// A plain axis from 0.
struct RangedPlain(f64);

impl Ranged for RangedPlain {
    type FormatOption = plotters::coord::ranged1d::DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (value / self.0 * f64::from(limit.1 - limit.0)) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let raw = self.0 / hint.max_num_points().clamp(2, 10) as f64;
        let magnitude = 10f64.powf(raw.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= raw).unwrap_or(raw);
        (0..)
            .map(|at| f64::from(at) * step)
            .map(|at| (at * 1e6).round() / 1e6)
            .take_while(|at| *at <= self.0)
            .take(20)
            .collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_axis_draws_and_nothing_is_an_error() {
        for axis in [Axis::Time, Axis::Rate, Axis::Nines] {
            let points = (1..50).map(|x| (f64::from(x) * 0.1, f64::from(x * x) * 1000.0)).collect();
            let picture = Picture {
                name: "x".into(),
                title: "<of> & \"what\"".into(),
                axis,
                lines: vec![Line { name: "a < b".into(), points, colour: 0, faint: false, dots: true }],
                marks: vec![(1.0, 2.0, "event".into())],
            };
            let svg = picture.draw().unwrap();
            assert!(svg.starts_with("<svg") && svg.contains("polyline") && svg.contains("&lt;of&gt;"), "{svg}");
            assert!(svg.contains("99") || axis != Axis::Nines);
        }
        let empty =
            Picture { name: "x".into(), title: "y".into(), axis: Axis::Time, lines: Vec::new(), marks: Vec::new() };
        assert!(empty.draw().is_err());
    }

    #[test]
    fn nines_have_names() {
        for (quantile, name) in [(0.0, "0 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")] {
            assert_eq!(nines_name(nines(quantile)), name);
        }
    }
}
