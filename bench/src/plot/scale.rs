//! Where values lie on an axis, and which of them are named.

/// How values are placed on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from zero on.
    Linear,
    /// By their magnitude. Values of zero and less stand at the low end.
    Logarithmic,
    /// By how rare it is to be above them: 90, 99, 99.9 per cent have equal distances.
    Percentile,
}

/// A scale with the span of its values.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    scale: Scale,
    /// In the scale's own measure.
    low: f64,
    high: f64,
}

/// The rarest that is told apart on an axis of percentiles, in nines.
const NINES_MAX: f64 = 4.0;

/// Steps between named values that read well.
const STEPS: [f64; 4] = [1.0, 2.0, 2.5, 5.0];

/// Named values of a linear axis, at most.
const TICKS_MAX: f64 = 8.0;

impl Scale {
    /// Fits the scale to `values`.
    pub(super) fn fit(&self, values: Vec<f64>) -> Fitted {
        let measured = values
            .iter()
            .map(|&value| self.measure(value))
            .filter(|value| value.is_finite());
        let (mut low, mut high) = measured
            .fold((f64::INFINITY, f64::NEG_INFINITY), |span, value| {
                (span.0.min(value), span.1.max(value))
            });
        match self {
            Self::Linear => {
                low = 0.0;
                let step = step(high.max(f64::MIN_POSITIVE));
                high = (high / step).ceil() * step;
            }
            Self::Logarithmic => {
                // Whole powers of ten where they are near, otherwise a third of one.
                low = (low * 3.0).floor() / 3.0;
                high = (high * 3.0).ceil() / 3.0;
            }
            Self::Percentile => (low, high) = (0.0, high.max(1.0)),
        }
        if !low.is_finite() || !high.is_finite() || high <= low {
            (low, high) = match low.is_finite() {
                true => (low, low + 1.0),
                false => (0.0, 1.0),
            };
        }
        Fitted {
            scale: *self,
            low,
            high,
        }
    }

    fn measure(&self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Logarithmic => value.log10(),
            Self::Percentile => (-(1.0 - value / 100.0).log10()).clamp(0.0, NINES_MAX),
        }
    }
}

impl Fitted {
    /// From 0 at the low end to 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let measured = self.scale.measure(value);
        let place = (measured - self.low) / (self.high - self.low);
        if place.is_finite() {
            place.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Values with their names.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.high);
                let count = (self.high / step).round() as usize;
                let values = (0..=count).map(|index| index as f64 * step);
                values.map(|value| (value, number(value))).collect()
            }
            Scale::Logarithmic => self.powers(),
            Scale::Percentile => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99]
                .into_iter()
                .filter(|&value| self.scale.measure(value) <= self.high + 1e-9)
                .map(|value| (value, format!("p{value}")))
                .collect(),
        }
    }

    fn powers(&self) -> Vec<(f64, String)> {
        let factors: &[f64] = match self.high - self.low {
            wide if wide > 3.0 => &[1.0],
            middle if middle > 1.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        };
        let exponents = self.low.floor() as i32..=self.high.ceil() as i32;
        exponents
            .flat_map(|exponent| {
                factors
                    .iter()
                    .map(move |factor| factor * 10_f64.powi(exponent))
            })
            .filter(|value| {
                let measured = value.log10();
                measured >= self.low - 1e-9 && measured <= self.high + 1e-9
            })
            .map(|value| (value, number(value)))
            .collect()
    }
}

/// A step between named values from 0 to `high`.
fn step(high: f64) -> f64 {
    let rough = high / TICKS_MAX;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let found = STEPS
        .iter()
        .map(|step| step * magnitude)
        .find(|step| *step >= rough * (1.0 - 1e-9));
    found.unwrap_or(magnitude * 10.0)
}

/// A number for people: short, with k, M and G.
pub(crate) fn number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let mut text = format!("{scaled:.digits$}");
    if text.contains('.') {
        text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(fitted: &Fitted) -> Vec<String> {
        fitted.ticks().into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_names_round_values() {
        let fitted = Scale::Linear.fit(vec![3.0, 87.0]);
        assert_eq!(fitted.place(0.0), 0.0);
        assert!(fitted.place(87.0) > 0.8 && fitted.place(87.0) <= 1.0);
        assert_eq!(names(&fitted)[..3], ["0", "20", "40"]);
        assert!(names(&fitted).len() <= TICKS_MAX as usize + 1);
    }

    #[test]
    fn a_logarithmic_axis_has_equal_distances_for_equal_factors() {
        let fitted = Scale::Logarithmic.fit(vec![1.0, 1_000.0]);
        let step = fitted.place(10.0) - fitted.place(1.0);
        assert!((fitted.place(1_000.0) - fitted.place(100.0) - step).abs() < 1e-9);
        assert_eq!(fitted.place(0.0), 0.0);
        assert!(names(&fitted).contains(&"100".to_owned()));
        let narrow = Scale::Logarithmic.fit(vec![20.0, 30.0]);
        assert!(names(&narrow).len() >= 2, "{narrow:?}");
    }

    #[test]
    fn an_axis_of_percentiles_counts_nines() {
        let fitted = Scale::Percentile.fit(vec![50.0, 99.9]);
        let (p90, p99, p999) = (fitted.place(90.0), fitted.place(99.0), fitted.place(99.9));
        assert!((p99 - p90 - (p999 - p99)).abs() < 1e-9);
        assert_eq!(fitted.place(100.0), 1.0);
        assert_eq!(names(&fitted), ["p0", "p50", "p90", "p99", "p99.9"]);
    }

    #[test]
    fn an_axis_without_values_does_not_break() {
        for scale in [Scale::Linear, Scale::Logarithmic, Scale::Percentile] {
            for values in [vec![], vec![0.0], vec![5.0], vec![f64::NAN]] {
                let fitted = scale.fit(values);
                assert!((0.0..=1.0).contains(&fitted.place(5.0)), "{fitted:?}");
                assert!(fitted.ticks().len() < 100);
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.25"),
            (1.5, "1.5"),
            (100.0, "100"),
            (1_000.0, "1000"),
            (10_000.0, "10k"),
            (1_495_000.0, "1.5M"),
            (2.5e9, "2.5G"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
    }
}
