//! What somebody meant who wrote something else.

/// The one of `words` that a mistyped word was probably to be.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).clamp(1, 3);
    words
        .into_iter()
        .map(|one| (distance(&word, &one.to_lowercase()), one))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, one)| one)
}

/// Least number of letters to change, add, leave out or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Whatever is so long is not mistyped.
    if a.len().max(b.len()) > 64 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (index, row) in rows.iter_mut().enumerate() {
        row[0] = index;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_recognised_and_another_is_not() {
        let words = ["splunk", "endpoint", "tokenSecretRef", "url"];
        assert_eq!(nearest("endpont", words), Some("endpoint"));
        assert_eq!(nearest("slpunk", words), Some("splunk"));
        assert_eq!(nearest("tokensecretref", words), Some("tokenSecretRef"));
        assert_eq!(nearest("uri", words), Some("url"));
        assert_eq!(nearest("retention", words), None);
        assert_eq!(nearest(&"x".repeat(1000), words), None);
    }
}
