//! Ridge-regularised logistic regression by Newton's method: small, exact, the same every time.

/// Coefficients, the intercept last; the intercept is not shrunk.
pub fn logistic(rows: &[(Vec<f64>, bool)], ridge: f64) -> Vec<f64> {
    let width = rows.first().map_or(0, |row| row.0.len()) + 1;
    let mut weights = vec![0.0; width];
    for _ in 0..25 {
        let mut slope = vec![0.0; width];
        let mut curve = vec![vec![0.0; width]; width];
        for (values, bad) in rows {
            let p = probability(&weights, values);
            let x: Vec<f64> = values.iter().copied().chain([1.0]).collect();
            for i in 0..width {
                slope[i] += x[i] * (f64::from(u8::from(*bad)) - p);
                for j in 0..=i {
                    curve[i][j] += x[i] * x[j] * p * (1.0 - p);
                }
            }
        }
        let below = curve.clone();
        for i in 0..width {
            for (j, value) in below[i].iter().enumerate().take(i) {
                curve[j][i] = *value;
            }
            if i + 1 < width {
                slope[i] -= ridge * weights[i];
                curve[i][i] += ridge;
            }
            curve[i][i] += 1e-9;
        }
        let step = solve(curve, slope);
        for (weight, change) in weights.iter_mut().zip(&step) {
            *weight += change;
        }
        if step.iter().all(|change| change.abs() < 1e-8) {
            break;
        }
    }
    weights
}

/// The probability that a row is bad.
pub fn probability(weights: &[f64], values: &[f64]) -> f64 {
    let sum: f64 = values.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() + weights[weights.len() - 1];
    1.0 / (1.0 + (-sum).exp())
}

/// Gaussian elimination with partial pivoting.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let width = right.len();
    for column in 0..width {
        let pivot = (column..width)
            .max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))
            .expect("a column has rows");
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let top = matrix[column].clone();
        for row in column + 1..width {
            let factor = matrix[row][column] / top[column];
            for (cell, above) in matrix[row].iter_mut().zip(&top).skip(column) {
                *cell -= factor * above;
            }
            right[row] -= factor * right[column];
        }
    }
    for column in (0..width).rev() {
        let known: f64 = (column + 1..width).map(|j| matrix[column][j] * right[j]).sum();
        right[column] = (right[column] - known) / matrix[column][column];
    }
    right
}
