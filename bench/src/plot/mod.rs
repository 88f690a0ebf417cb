//! Plots as SVG, written by hand: lines through points on one or two logarithmic axes. Readable on light and on dark
//! pages, since the colours follow the reader's preference, and without colours, since series differ in their marks.

mod scale;

use std::fmt::Write;

pub(crate) use self::scale::Scale;

/// Size of the whole picture.
const SIZE: (f64, f64) = (760.0, 420.0);

/// What is left free around the plot: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (78.0, 62.0, 24.0, 58.0);

/// Between two entries of the legend, per character of their names and beside them.
const LEGEND: (f64, f64) = (6.8, 46.0);

/// Series that can be told apart.
const SERIES_MAX: usize = 9;

/// Between two lines of the legend.
const LEGEND_LINE: f64 = 16.0;

/// Marks on one line.
const MARKS_MAX: usize = 16;

/// Colours on light and on dark pages; hues that people with any kind of colour vision tell apart.
const COLOURS: [(&str, &str); SERIES_MAX] = [
    ("#0b62c4", "#6cb0ff"),
    ("#b8430f", "#ff9d66"),
    ("#127a4b", "#5fd39b"),
    ("#8a2f9e", "#d69bea"),
    ("#7a6400", "#e0c34a"),
    ("#5a6270", "#b6bfcc"),
    ("#b3126b", "#ff8ac4"),
    ("#00737a", "#5ad1d8"),
    ("#4a3fb0", "#a9a3ff"),
];

/// One axis.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// What it measures, with the unit.
    pub(crate) label: String,
    /// How values are placed.
    pub(crate) scale: Scale,
}

/// One line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    /// Its name in the legend.
    pub(crate) name: String,
    /// Points from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A line across the plot that is not measured: a bound or a knee.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// At a height.
    Horizontal(f64, String),
    /// At a place.
    Vertical(f64, String),
}

/// One plot.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    /// What it shows, in one line.
    pub(crate) title: String,
    /// Under which circumstances, in one line.
    pub(crate) subtitle: String,
    /// Horizontal axis.
    pub(crate) x: Axis,
    /// Vertical axis.
    pub(crate) y: Axis,
    /// At most nine; more are left out.
    pub(crate) series: Vec<Series>,
    /// Bounds and knees.
    pub(crate) rules: Vec<Rule>,
}

impl Plot {
    /// A plot without series.
    pub(crate) fn new(title: &str, subtitle: &str, x: (&str, Scale), y: (&str, Scale)) -> Self {
        let axis = |(label, scale): (&str, Scale)| Axis {
            label: label.to_owned(),
            scale,
        };
        Self {
            title: title.to_owned(),
            subtitle: subtitle.to_owned(),
            x: axis(x),
            y: axis(y),
            series: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Adds a line; values that are no numbers are left out.
    pub(crate) fn line(mut self, name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        self.series.push(Series {
            name: name.to_owned(),
            points: points.into_iter().filter(finite).collect(),
        });
        self
    }

    /// Adds a bound or a knee.
    pub(crate) fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let mut picture = Picture {
            out: String::new(),
            x: self.x.scale.fit(self.values(|point| point.0, true)),
            y: self.y.scale.fit(self.values(|point| point.1, false)),
            top: MARGIN.1,
        };
        picture.head(self);
        picture.grid();
        for rule in &self.rules {
            picture.rule(rule);
        }
        for (index, series) in self.series.iter().take(SERIES_MAX).enumerate() {
            picture.series(index, series);
        }
        picture.out.push_str("</svg>\n");
        picture.out
    }

    /// All values of one axis, of the rules on it too.
    fn values(&self, pick: fn(&(f64, f64)) -> f64, horizontal: bool) -> Vec<f64> {
        let points = self.series.iter().flat_map(|series| &series.points);
        let rules = self.rules.iter().filter_map(|rule| match rule {
            Rule::Vertical(at, _) if horizontal => Some(*at),
            Rule::Horizontal(at, _) if !horizontal => Some(*at),
            _ => None,
        });
        points.map(pick).chain(rules).collect()
    }
}

struct Picture {
    out: String,
    x: scale::Fitted,
    y: scale::Fitted,
    /// Where the plot begins, below the legend.
    top: f64,
}

// Writing to a string does not fail, so results are dropped throughout.
impl Picture {
    fn head(&mut self, plot: &Plot) {
        let (width, height) = SIZE;
        let title = escape(&plot.title);
        let _ = writeln!(
            self.out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}">"#
        );
        self.style();
        let _ = writeln!(self.out, "<title>{title}</title>");
        let (left, _, right, bottom) = MARGIN;
        let legend = legend(&plot.series);
        if let Some((_, (_, last))) = legend.last() {
            self.top += last;
        }
        self.text((left, 22.0), "start", "title", &plot.title);
        self.text((left, 39.0), "start", "small", &plot.subtitle);
        let middle = (left + width - right) / 2.0;
        self.text((middle, height - 14.0), "middle", "label", &plot.x.label);
        let centre = (self.top + height - bottom) / 2.0;
        let _ = writeln!(
            self.out,
            r#"<text class="label" text-anchor="middle" transform="translate(18 {centre:.1}) rotate(-90)">{}</text>"#,
            escape(&plot.y.label)
        );
        for (index, (name, (x, y))) in legend.into_iter().enumerate() {
            self.mark(index, x + 6.0, y + 52.0);
            self.text((x + 16.0, y + 56.0), "start", "small", name);
        }
    }

    fn style(&mut self) {
        self.out.push_str(
            "<style>\n\
             text{font:12px system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif;fill:#1c2128}\n\
             .title{font-size:15px;font-weight:600}.small{font-size:11.5px}.tick{font-size:11px;fill:#57606a}\n\
             .paper{fill:#ffffff}.grid{stroke:#d8dee4;stroke-width:1}.axis{stroke:#8c959f;stroke-width:1}\n\
             .rule{stroke:#57606a;stroke-width:1;stroke-dasharray:5 4}.line{fill:none;stroke-width:2}\n",
        );
        for (index, (light, _)) in COLOURS.iter().enumerate() {
            let _ = writeln!(
                self.out,
                ".l{index}{{stroke:{light}}}.m{index}{{fill:{light};stroke:{light}}}"
            );
        }
        self.out.push_str(
            "@media (prefers-color-scheme:dark){\n\
             text{fill:#e6edf3}.tick{fill:#9aa4af}.paper{fill:#0d1117}.grid{stroke:#2a313a}.axis{stroke:#6e7681}\n\
             .rule{stroke:#9aa4af}\n",
        );
        for (index, (_, dark)) in COLOURS.iter().enumerate() {
            let _ = writeln!(
                self.out,
                ".l{index}{{stroke:{dark}}}.m{index}{{fill:{dark};stroke:{dark}}}"
            );
        }
        let (width, height) = SIZE;
        let _ = writeln!(
            self.out,
            "}}\n</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>"
        );
    }

    fn grid(&mut self) {
        let (left, top) = (MARGIN.0, self.top);
        let (right, bottom) = (SIZE.0 - MARGIN.2, SIZE.1 - MARGIN.3);
        for (value, label) in self.x.ticks() {
            let x = self.across(value);
            self.stroke("grid", (x, top), (x, bottom));
            self.text((x, bottom + 18.0), "middle", "tick", &label);
        }
        for (value, label) in self.y.ticks() {
            let y = self.up(value);
            self.stroke("grid", (left, y), (right, y));
            self.text((left - 8.0, y + 4.0), "end", "tick", &label);
        }
        self.stroke("axis", (left, bottom), (right, bottom));
        self.stroke("axis", (left, top), (left, bottom));
    }

    fn rule(&mut self, rule: &Rule) {
        let (right, bottom) = (SIZE.0 - MARGIN.2, SIZE.1 - MARGIN.3);
        match rule {
            Rule::Horizontal(at, name) => {
                let y = self.up(*at);
                self.stroke("rule", (MARGIN.0, y), (right, y));
                self.text((right - 4.0, y - 5.0), "end", "tick", name);
            }
            Rule::Vertical(at, name) => {
                let x = self.across(*at);
                self.stroke("rule", (x, self.top), (x, bottom));
                // To the side where there is room.
                let (side, anchor) = match x > SIZE.0 / 2.0 {
                    true => (-5.0, "end"),
                    false => (5.0, "start"),
                };
                self.text((x + side, self.top + 13.0), anchor, "tick", name);
            }
        }
    }

    fn series(&mut self, index: usize, series: &Series) {
        let places: Vec<(f64, f64)> = series
            .points
            .iter()
            .map(|&(x, y)| (self.across(x), self.up(y)))
            .collect();
        if places.len() > 1 {
            let _ = write!(self.out, "<polyline class=\"line l{index}\" points=\"");
            for (x, y) in &places {
                let _ = write!(self.out, "{x:.1},{y:.1} ");
            }
            self.out.push_str("\"/>\n");
        }
        // Of long lines only some points have marks: the line tells the rest.
        let stride = places.len().div_ceil(MARKS_MAX).max(1);
        let marked = places.into_iter().zip(&series.points).step_by(stride);
        for ((x, y), point) in marked {
            let told = format!(
                "{}: {}, {}",
                series.name,
                scale::number(point.0),
                scale::number(point.1)
            );
            let _ = write!(self.out, "<g><title>{}</title>", escape(&told));
            self.mark(index, x, y);
            self.out.push_str("</g>\n");
        }
    }

    /// The mark of a series: each has a shape of its own.
    fn mark(&mut self, index: usize, x: f64, y: f64) {
        let _ = match index % SERIES_MAX {
            0 => writeln!(
                self.out,
                r#"<circle class="m0" cx="{x:.1}" cy="{y:.1}" r="4"/>"#
            ),
            1 => self.polygon(
                1,
                x,
                y,
                &[(-4.0, -4.0), (4.0, -4.0), (4.0, 4.0), (-4.0, 4.0)],
            ),
            2 => self.polygon(2, x, y, &[(0.0, -5.0), (5.0, 4.0), (-5.0, 4.0)]),
            3 => self.polygon(3, x, y, &[(0.0, -5.5), (5.5, 0.0), (0.0, 5.5), (-5.5, 0.0)]),
            4 => self.polygon(4, x, y, &[(0.0, 5.0), (5.0, -4.0), (-5.0, -4.0)]),
            5 => self.polygon(
                5,
                x,
                y,
                &[(-6.0, -2.0), (6.0, -2.0), (6.0, 2.0), (-6.0, 2.0)],
            ),
            6 => self.polygon(
                6,
                x,
                y,
                &[(-2.0, -6.0), (2.0, -6.0), (2.0, 6.0), (-2.0, 6.0)],
            ),
            7 => self.polygon(7, x, y, &[(-4.0, 5.0), (-4.0, -5.0), (5.0, 0.0)]),
            _ => self.polygon(8, x, y, &[(4.0, 5.0), (4.0, -5.0), (-5.0, 0.0)]),
        };
    }

    fn polygon(
        &mut self,
        class: usize,
        x: f64,
        y: f64,
        corners: &[(f64, f64)],
    ) -> std::fmt::Result {
        let _ = write!(self.out, r#"<polygon class="m{class}" points=""#);
        for (right, down) in corners {
            let _ = write!(self.out, "{:.1},{:.1} ", x + right, y + down);
        }
        writeln!(self.out, r#""/>"#)
    }

    fn stroke(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.out,
            r#"<line class="{class}" x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}"/>"#,
            from.0, from.1, to.0, to.1
        );
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, class: &str, text: &str) {
        let _ = writeln!(
            self.out,
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
            escape(text)
        );
    }

    fn across(&self, value: f64) -> f64 {
        MARGIN.0 + self.x.place(value) * (SIZE.0 - MARGIN.0 - MARGIN.2)
    }

    fn up(&self, value: f64) -> f64 {
        SIZE.1 - MARGIN.3 - self.y.place(value) * (SIZE.1 - self.top - MARGIN.3)
    }
}

/// The names of the series, and how far right and down each stands: as many in a line as there is room for.
fn legend(series: &[Series]) -> Vec<(&str, (f64, f64))> {
    let (mut x, mut y) = (MARGIN.0, 0.0);
    let series = series.iter().take(SERIES_MAX);
    series
        .map(|series| {
            let width = series.name.chars().count() as f64 * LEGEND.0 + LEGEND.1;
            if x > MARGIN.0 && x + width > SIZE.0 {
                x = MARGIN.0;
                y += LEGEND_LINE;
            }
            let place = (x, y);
            x += width;
            (series.name.as_str(), place)
        })
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        Plot::new(
            "a < b & \"c\"",
            "s",
            ("clients", Scale::Logarithmic),
            ("ms", Scale::Linear),
        )
        .line("p50", [(10.0, 1.0), (100.0, 2.0), (1_000.0, f64::NAN)])
        .line("p99", [(10.0, 3.0)])
        .rule(Rule::Horizontal(100.0, "bound".to_owned()))
        .rule(Rule::Vertical(500.0, "knee".to_owned()))
    }

    /// Every tag that is opened is closed, in order.
    fn assert_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        for part in svg.split('<').skip(1) {
            let (tag, _) = part.split_once('>').expect("a tag has an end");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn a_picture_is_well_formed_and_follows_the_reader() {
        let svg = plot().svg();
        assert_well_formed(&svg);
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && !svg.contains("NaN"));
        assert!(svg.contains(">bound<") && svg.contains(">knee<") && svg.contains(">p99<"));
    }

    #[test]
    fn points_are_where_their_values_are() {
        let svg = plot().svg();
        let line = svg.lines().find(|line| line.contains("polyline")).unwrap();
        let points = line.split("points=\"").nth(1).unwrap();
        let places: Vec<Vec<f64>> = points
            .trim_end_matches("\"/>")
            .split_whitespace()
            .map(|pair| {
                pair.split(',')
                    .map(|number| number.parse().unwrap())
                    .collect()
            })
            .collect();
        assert_eq!(places.len(), 2, "the one without a value is left out");
        assert!(places[0][0] < places[1][0], "to the right");
        assert!(places[0][1] > places[1][1], "upwards");
        for place in places {
            assert!((MARGIN.0..=SIZE.0 - MARGIN.2).contains(&place[0]));
            assert!((MARGIN.1..=SIZE.1 - MARGIN.3).contains(&place[1]));
        }
    }

    #[test]
    fn a_legend_takes_as_many_lines_as_it_needs() {
        let empty = Plot::new("t", "s", ("x", Scale::Linear), ("y", Scale::Linear));
        let names: Vec<String> = (0..9)
            .map(|number| format!("a name of a series {number}"))
            .collect();
        let plot = names
            .iter()
            .fold(empty, |plot, name| plot.line(name, [(1.0, 1.0)]));
        let legend = legend(&plot.series);
        assert_eq!(legend.len(), 9);
        assert!(legend[0].1.1 < legend[8].1.1, "{legend:?}");
        assert!(legend.iter().all(|(_, (x, _))| *x < SIZE.0 - 100.0));
        let svg = plot.svg();
        assert_well_formed(&svg);
        for name in names {
            assert!(svg.contains(&name));
        }
    }

    #[test]
    fn nothing_to_show_is_a_picture_too() {
        let plot = Plot::new("t", "s", ("x", Scale::Linear), ("y", Scale::Logarithmic));
        assert_well_formed(&plot.svg());
        assert_well_formed(&plot.line("one", [(3.0, 0.0)]).svg());
    }
}
