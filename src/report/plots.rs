//! Curves as SVG inside the page: no scripts, no fonts, no external files.

use super::metrics::{Series, smoothed, thinned};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Placeholder colour of elements with the text colour of the page; no other element has it.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
/// Largest number of points of a curve on the page.
const MOST_POINTS: usize = 400;

const BLUE: RGBColor = RGBColor(0x2f, 0x80, 0xd0);
const ORANGE: RGBColor = RGBColor(0xdd, 0x7a, 0x24);
const GREEN: RGBColor = RGBColor(0x1f, 0x9d, 0x6b);
const PURPLE: RGBColor = RGBColor(0x8a, 0x56, 0xc2);
const RED: RGBColor = RGBColor(0xd0, 0x44, 0x3c);
const TEAL: RGBColor = RGBColor(0x1a, 0x9a, 0xaa);
const OLIVE: RGBColor = RGBColor(0x8d, 0x8a, 0x1f);
const PINK: RGBColor = RGBColor(0xd0, 0x5a, 0x9c);
const PALETTE: [RGBColor; 8] = [BLUE, ORANGE, GREEN, PURPLE, RED, TEAL, OLIVE, PINK];

/// Largest number of curves that differ in colour.
pub const MOST_CURVES: usize = PALETTE.len();

/// A named curve.
pub struct Curve {
    pub name: String,
    pub points: Series,
    /// Lower and upper ends of an interval at these steps.
    pub band: Option<(Series, Series)>,
    /// Noisy: drawn faintly, with its running mean on top.
    pub noisy: bool,
}

impl Curve {
    /// A curve of few, exact points: each is marked.
    pub fn marked(name: &str, points: Series) -> Self {
        Self { name: name.into(), points, band: None, noisy: false }
    }

    /// A curve with one value per step.
    pub fn noisy(name: &str, points: Series) -> Self {
        Self { name: name.into(), points, band: None, noisy: true }
    }

    pub fn with_band(mut self, lo: Series, hi: Series) -> Self {
        if lo.len() == hi.len() && !lo.is_empty() {
            self.band = Some((lo, hi));
        }
        self
    }
}

/// Size of a drawing in its own units, and the reference line of the y axis.
pub struct Frame {
    pub width: u32,
    pub height: u32,
    pub reference: Option<f64>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Curves over optimizer steps as one `<svg>` element; `None` without points.
pub fn curves(curves: &[Curve], frame: &Frame) -> Result<Option<String>> {
    let curves: Vec<&Curve> = curves.iter().filter(|curve| !curve.points.is_empty()).collect();
    if curves.is_empty() {
        return Ok(None);
    }
    draw(frame, |area| {
        let mut chart = axes(area, &curves, frame)?;
        for (curve, colour) in curves.iter().zip(PALETTE) {
            draw_curve(&mut chart, curve, colour)?;
        }
        Ok(())
    })
    .map(Some)
}

/// Ten (or so) values side by side, for example margins by tenth of the noise scale; absent ones leave a gap.
pub fn bars(values: &[Option<f64>], frame: &Frame) -> Result<Option<String>> {
    let known: Vec<f64> = values.iter().flatten().copied().filter(|v| v.is_finite()).collect();
    if known.is_empty() {
        return Ok(None);
    }
    let (low, high) = limits(known.into_iter(), Some(0.0));
    draw(frame, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..values.len() as f64, low..high)
            .map_err(failed)?;
        mesh(&mut chart, values.len() + 1, high - low, &whole)?;
        let bar = |(i, value): (usize, &Option<f64>)| {
            let corners = [(i as f64 + 0.12, 0.0), (i as f64 + 0.88, (*value)?)];
            Some(Rectangle::new(corners, BLUE.mix(0.8).filled()))
        };
        chart.draw_series(values.iter().enumerate().filter_map(bar)).map_err(failed)?;
        Ok(())
    })
    .map(Some)
}

/// Points (x, y, whether they are filled) as one `<svg>` element, filled ones joined by a line in their order over x; `None`
/// without points.
///
/// # Errors
/// A drawing that fails.
pub fn scatter(points: &[(f64, f64, bool)], frame: &Frame) -> Result<Option<String>> {
    let finite: Vec<&(f64, f64, bool)> = points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    if finite.is_empty() {
        return Ok(None);
    }
    let (left, right) = limits(finite.iter().map(|p| p.0), None);
    let (low, high) = limits(finite.iter().map(|p| p.1), None);
    let mut front: Series = finite.iter().filter(|p| p.2).map(|p| (p.0, p.1)).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    draw(frame, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(58)
            .build_cartesian_2d(left..right, low..high)
            .map_err(failed)?;
        mesh(&mut chart, 7, high - low, &move |x| tick(*x, right - left))?;
        chart.draw_series(LineSeries::new(front, BLUE.mix(0.5).stroke_width(1))).map_err(failed)?;
        let mark = |p: &&(f64, f64, bool)| match p.2 {
            true => Circle::new((p.0, p.1), 5, BLUE.filled()),
            false => Circle::new((p.0, p.1), 4, INK.stroke_width(1)),
        };
        chart.draw_series(finite.iter().map(mark)).map_err(failed)?;
        Ok(())
    })
    .map(Some)
}

/// The colours of the curves in their order, for a legend in HTML.
pub fn colours() -> Vec<String> {
    PALETTE.iter().map(|c| format!("#{:02x}{:02x}{:02x}", c.0, c.1, c.2)).collect()
}

fn draw(frame: &Frame, paint: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (frame.width, frame.height)).into_drawing_area();
        paint(&area)?;
        area.present().map_err(failed)?;
    }
    // The page's text colour differs between light and dark mode.
    Ok(svg.replace(INK_TEXT, "currentColor"))
}

fn axes<'a, 'b>(area: &'a Area<'b>, curves: &[&Curve], frame: &Frame) -> Result<Chart<'a, 'b>> {
    let steps = || curves.iter().flat_map(|c| c.points.iter().map(|p| p.0));
    let (first, last) = (steps().fold(f64::INFINITY, f64::min), steps().fold(f64::NEG_INFINITY, f64::max));
    let bands = curves.iter().filter_map(|c| c.band.as_ref()).flat_map(|(lo, hi)| lo.iter().chain(hi));
    let drawn = curves.iter().flat_map(|c| visible(c)).chain(bands.map(|p| p.1).collect::<Vec<_>>());
    let (low, high) = limits(drawn, frame.reference);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(58)
        .build_cartesian_2d(first.min(last - 1.0)..last, low..high)
        .map_err(failed)?;
    mesh(&mut chart, 7, high - low, &whole)?;
    if let Some(level) = frame.reference {
        let line = [(first.min(last - 1.0), level), (last, level)];
        chart.draw_series(LineSeries::new(line, INK.mix(0.45).stroke_width(1))).map_err(failed)?;
    }
    Ok(chart)
}

/// Values that set the axis: the middle 98 % of a noisy curve, so that single outliers do not flatten the rest.
fn visible(curve: &Curve) -> Vec<f64> {
    let mut values: Vec<f64> = thinned(&curve.points, MOST_POINTS).iter().map(|p| p.1).collect();
    if curve.noisy && values.len() > 50 {
        values.sort_by(f64::total_cmp);
        let cut = values.len() / 100 + 1;
        values = values[cut..values.len() - cut].to_vec();
    }
    values
}

fn draw_curve(chart: &mut Chart, curve: &Curve, colour: RGBColor) -> Result<()> {
    if let Some((lo, hi)) = &curve.band {
        let outline: Series = lo.iter().chain(hi.iter().rev()).copied().collect();
        chart.draw_series(std::iter::once(Polygon::new(outline, colour.mix(0.18)))).map_err(failed)?;
    }
    let points = thinned(&curve.points, MOST_POINTS);
    if curve.noisy {
        chart.draw_series(LineSeries::new(points.clone(), colour.mix(0.25).stroke_width(1))).map_err(failed)?;
        chart.draw_series(LineSeries::new(smoothed(&points), colour.stroke_width(2))).map_err(failed)?;
        return Ok(());
    }
    chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2))).map_err(failed)?;
    let marks = points.iter().map(|p| Circle::new(*p, 3, colour.filled()));
    chart.draw_series(marks).map_err(failed)?;
    Ok(())
}

fn mesh(chart: &mut Chart, x_labels: usize, span: f64, x_label: &dyn Fn(&f64) -> String) -> Result<()> {
    let style = ("sans-serif", 13).into_font().color(&INK.mix(0.75));
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK.mix(0.4))
        .label_style(style)
        .x_labels(x_labels)
        .y_labels(6)
        .x_label_formatter(&|x| x_label(x))
        .y_label_formatter(&move |y| tick(*y, span))
        .draw()
        .map_err(failed)
}

/// A label of an axis of steps.
fn whole(x: &f64) -> String {
    format!("{x:.0}")
}

/// An axis label with the digits that its axis needs.
fn tick(value: f64, span: f64) -> String {
    if value.abs() < span * 1e-9 {
        return "0".into();
    }
    if (1e-3..1e5).contains(&span) {
        let digits = (2.0 - span.log10()).ceil().clamp(0.0, 5.0) as usize;
        return format!("{value:.digits$}");
    }
    format!("{value:.1e}")
}

/// The range of the values with a margin, including `level`.
fn limits(values: impl Iterator<Item = f64>, level: Option<f64>) -> (f64, f64) {
    let (low, high) =
        values.chain(level).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let span = high - low;
    // A constant curve still needs a range.
    let air = if span > 0.0 { span * 0.06 } else { high.abs().max(1e-6) * 0.5 };
    (low - air, high + air)
}

fn failed<E: std::fmt::Debug>(error: E) -> anyhow::Error {
    anyhow!("cannot draw a plot of the report: {error:?}")
}
