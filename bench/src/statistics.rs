//! Numbers out of several runs, and the fit of unit costs that cannot be negative.

/// The middle one; of an even number the mean of the two in the middle. 0 when there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// The least and the greatest; zeros when there are none.
pub(crate) fn span(values: &[f64]) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values
        .iter()
        .fold(start, |span, &value| (span.0.min(value), span.1.max(value)));
    if values.is_empty() {
        (0.0, 0.0)
    } else {
        (low, high)
    }
}

/// Rounds of the fit before it is taken as it is.
const ROUNDS_MAX: usize = 200_000;

/// The fit is done when no factor moves by more than this share of itself.
const CLOSE_ENOUGH: f64 = 1e-10;

/// Factors, none below zero, with which the columns of `rows` come closest to the targets: the sum of squared *relative*
/// errors is least. A column that is zero everywhere gets the factor 0.
///
/// Each row is (columns, target). Targets are known up to `noise`: below it an error does not count for more because the
/// target is small. It must be above zero.
pub(crate) fn fit_not_negative(rows: &[(Vec<f64>, f64)], noise: f64) -> Vec<f64> {
    let width = rows.first().map_or(0, |row| row.0.len());
    // Relative errors: every equation is divided by its target, and by the noise where that is more.
    let scaled: Vec<(Vec<f64>, f64)> = rows
        .iter()
        .map(|(columns, target)| {
            let scale = target.max(noise);
            let columns = columns.iter().map(|column| column / scale);
            (columns.collect(), target / scale)
        })
        .collect();
    let product =
        |a: usize, b: usize| -> f64 { scaled.iter().map(|row| row.0[a] * row.0[b]).sum() };
    let gram: Vec<Vec<f64>> = (0..width)
        .map(|a| (0..width).map(|b| product(a, b)).collect())
        .collect();
    let aims: Vec<f64> = (0..width)
        .map(|a| scaled.iter().map(|row| row.0[a] * row.1).sum())
        .collect();
    let mut factors = vec![0.0_f64; width];
    for _ in 0..ROUNDS_MAX {
        let mut moved = 0.0_f64;
        for a in 0..width {
            if gram[a][a] <= 0.0 {
                continue;
            }
            let others: f64 = (0..width)
                .filter(|&b| b != a)
                .map(|b| gram[a][b] * factors[b])
                .sum();
            let factor = ((aims[a] - others) / gram[a][a]).max(0.0);
            moved = moved.max((factor - factors[a]).abs() / factor.max(f64::MIN_POSITIVE));
            factors[a] = factor;
        }
        if moved < CLOSE_ENOUGH {
            break;
        }
    }
    factors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends_are_found() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(span(&[2.0, -1.0, 3.0]), (-1.0, 3.0));
        assert_eq!(span(&[]), (0.0, 0.0));
    }

    #[test]
    fn factors_are_found_again() {
        let truth = [4.0, 0.0, 25.0];
        let rows: Vec<(Vec<f64>, f64)> = [
            [1.0, 5.0, 2.0],
            [10.0, 1.0, 0.0],
            [3.0, 3.0, 30.0],
            [0.0, 9.0, 1.0],
        ]
        .iter()
        .map(|columns| {
            let target = columns.iter().zip(truth).map(|(a, b)| a * b).sum();
            (columns.to_vec(), target)
        })
        .collect();
        let found = fit_not_negative(&rows, 1e-9);
        for (found, truth) in found.iter().zip(truth) {
            assert!((found - truth).abs() < 1e-3, "{found} for {truth}");
        }
    }

    #[test]
    fn a_cost_is_never_negative() {
        // The best line through these falls, so the second factor would be below zero.
        let rows = vec![
            (vec![1.0, 1.0], 5.0),
            (vec![1.0, 2.0], 4.0),
            (vec![1.0, 3.0], 3.0),
        ];
        let found = fit_not_negative(&rows, 1e-9);
        assert!(found[1] == 0.0 && found[0] > 3.0, "{found:?}");
        assert_eq!(fit_not_negative(&[], 1.0), Vec::<f64>::new());
        assert_eq!(fit_not_negative(&[(vec![0.0], 3.0)], 1.0), [0.0]);
    }

    #[test]
    fn what_is_below_the_noise_says_little() {
        // A second of work at 5 each, and two looks at next to nothing that were disturbed.
        let rows = vec![(vec![1.0], 5.0), (vec![0.001], 0.015), (vec![0.001], 0.0)];
        let trusting = fit_not_negative(&rows, 1e-9)[0];
        let careful = fit_not_negative(&rows, 0.1)[0];
        assert!(
            (careful - 5.0).abs() < 0.1 && (trusting - 5.0).abs() > 0.1,
            "{careful} {trusting}"
        );
    }
}
