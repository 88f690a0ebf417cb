//! The straight line through measured points, for memory per connection.

/// Least squares fit of `y = intercept + slope * x`; `None` when the points do not span a line.
pub(crate) fn fit(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let spread: f64 = points.iter().map(|point| (point.0 - mean_x).powi(2)).sum();
    if points.len() < 2 || spread == 0.0 {
        return None;
    }
    let product: f64 = points
        .iter()
        .map(|point| (point.0 - mean_x) * (point.1 - mean_y))
        .sum();
    let slope = product / spread;
    Some((mean_y - slope * mean_x, slope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again() {
        let points: Vec<_> = (1..=5)
            .map(|step| {
                (
                    2_000.0 * f64::from(step),
                    9_000.0 + 4.0 * 2_000.0 * f64::from(step),
                )
            })
            .collect();
        let (intercept, slope) = fit(&points).unwrap();
        assert!((slope - 4.0).abs() < 1e-9, "{slope}");
        assert!((intercept - 9_000.0).abs() < 1e-6, "{intercept}");
    }

    #[test]
    fn noise_is_averaged() {
        let (intercept, slope) = fit(&[(0.0, 1.0), (1.0, 0.0), (2.0, 3.0), (3.0, 2.0)]).unwrap();
        assert!((slope - 0.6).abs() < 1e-9, "{slope}");
        assert!((intercept - 0.6).abs() < 1e-9, "{intercept}");
    }

    #[test]
    fn points_above_each_other_have_no_slope() {
        assert_eq!(fit(&[]), None);
        assert_eq!(fit(&[(1.0, 2.0)]), None);
        assert_eq!(fit(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }
}
