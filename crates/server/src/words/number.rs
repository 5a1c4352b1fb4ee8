//! Numbers as Java prints them, and what is known of many.

/// Count, sum, least and greatest of a series of non-negative whole numbers: ZooKeeper's `AvgMinMaxCounter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The least; 0 if there were none.
    pub min: u64,
    /// The greatest; 0 if there were none.
    pub max: u64,
}

impl Summary {
    /// One more number.
    pub fn add(&mut self, number: u64) {
        self.min = if self.count == 0 { number } else { self.min.min(number) };
        self.max = self.max.max(number);
        self.sum = self.sum.saturating_add(number);
        self.count += 1;
    }

    /// The average, rounded to four decimals; 0 if there were none.
    pub fn average(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        (self.sum as f64 / self.count as f64 * 1e4).round() / 1e4
    }
}

/// `Double.toString`: at least one decimal, and an exponent below 10^-3 and from 10^7.
pub(super) fn java_double(number: f64) -> String {
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) || !number.is_finite() {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{point}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_in_java() {
        for (number, text) in [
            (0.0, "0.0"),
            (0.6186, "0.6186"),
            (13.0, "13.0"),
            (0.001, "0.001"),
            (0.0005, "5.0E-4"),
            (9_999_999.5, "9999999.5"),
            (1e7, "1.0E7"),
            (12_345_678.25, "1.234567825E7"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(java_double(number), text);
        }
    }

    #[test]
    fn a_summary_knows_least_greatest_and_average() {
        let mut summary = Summary::default();
        assert_eq!(summary.average(), 0.0);
        for number in [3, 1, 4] {
            summary.add(number);
        }
        assert_eq!(summary, Summary { count: 3, sum: 8, min: 1, max: 4 });
        assert_eq!(summary.average(), 2.6667);
    }
}
