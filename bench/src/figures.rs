//! Figures as tables show them.

/// The middle one, or the mean of the middle two.
pub(crate) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_unstable_by(f64::total_cmp);
    let (low, high) = (numbers.len().checked_sub(1)? / 2, numbers.len() / 2);
    Some((numbers[low] + numbers[high]) / 2.0)
}

/// The smallest one that so many per cent of all are not above.
pub(crate) fn percentile(mut numbers: Vec<f64>, percent: usize) -> Option<f64> {
    numbers.sort_unstable_by(f64::total_cmp);
    let rank = (numbers.len() * percent).div_ceil(100);
    numbers.get(rank.saturating_sub(1)).copied()
}

/// A number without fraction, its thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_even_odd_and_no_numbers() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![5.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn percentiles_are_among_the_numbers() {
        let numbers: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        let shares = [0, 50, 90, 91, 100].map(|percent| percentile(numbers.clone(), percent).unwrap());
        assert_eq!(shares, [1.0, 10.0, 18.0, 19.0, 20.0]);
        assert_eq!(percentile(vec![7.0], 90), Some(7.0));
        assert_eq!(percentile(vec![], 90), None);
    }

    #[test]
    fn thousands_are_apart() {
        for (number, text) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
