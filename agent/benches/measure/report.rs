//! What is printed: one JSON object a line, for the table and the plots.

use serde_json::json;

/// A figure for information.
pub fn told(name: &str, value: f64, unit: &str) {
    println!(
        "{}",
        json!({"name": name, "value": rounded(value), "unit": unit})
    );
}

/// A figure that must not be above its budget.
pub fn at_most(name: &str, value: f64, unit: &str, budget: f64) {
    promised(name, value, unit, budget, value <= budget);
}

/// A figure that must not be below its budget.
pub fn at_least(name: &str, value: f64, unit: &str, budget: f64) {
    promised(name, value, unit, budget, value >= budget);
}

fn promised(name: &str, value: f64, unit: &str, budget: f64, holds: bool) {
    println!(
        "{}",
        json!({"name": name, "value": rounded(value), "unit": unit, "budget": budget, "holds": holds})
    );
}

/// A quantity over time: seconds and values.
pub fn curve(plot: &str, of: &str, points: &[(f64, f64)]) {
    let points: Vec<[f64; 2]> = points
        .iter()
        .map(|(time, value)| [rounded(*time), rounded(*value)])
        .collect();
    println!("{}", json!({"plot": plot, "of": of, "points": points}));
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The value below which `part` of the values are, by the nearest rank.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among some thousands of values"
    )]
    let rank = (part * values.len() as f64).ceil() as usize;
    values
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The middle one.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}
