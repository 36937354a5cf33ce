//! Resource quantities, as far as they have to be compared.

/// A quantity in thousandths of its unit.
///
/// The grammar is that of Kubernetes (`apimachinery/pkg/api/resource`): a decimal number and a binary suffix (`Ki` … `Ei`),
/// a decimal suffix (`n` … `E`) or an exponent. A container whose request exceeds its limit, or whose quantity does
/// not parse, is refused with its whole pod: so both are checked before any pod is touched.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Quantity(f64);

impl Quantity {
    /// Reads a quantity; `None` when it is none, or negative.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let scale = match suffix {
            "" => 1.0,
            "n" => 1e-9,
            "u" => 1e-6,
            "m" => 1e-3,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "P" => 1e15,
            "E" => 1e18,
            "Ki" => 2f64.powi(10),
            "Mi" => 2f64.powi(20),
            "Gi" => 2f64.powi(30),
            "Ti" => 2f64.powi(40),
            "Pi" => 2f64.powi(50),
            "Ei" => 2f64.powi(60),
            exponent => {
                let exponent = exponent.strip_prefix(['e', 'E'])?;
                10f64.powi(exponent.parse().ok()?)
            }
        };
        Some(Self(number * scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_across_units() {
        let parse = |text| Quantity::parse(text).unwrap();
        assert_eq!(parse("1Gi"), parse("1024Mi"));
        assert_eq!(parse("1000m"), parse("1"));
        assert_eq!(parse("1e3"), parse("1k"));
        assert!(parse("16Mi") < parse("32Mi"));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-1", "16MB", "Mi", "1..2", "1 Gi", "1e", "0x10"] {
            assert_eq!(Quantity::parse(text), None, "{text:?}");
        }
    }
}
