//! The output of Rust's test programs, read line by line. Runs nothing.

use super::Summary;

/// What the test programs have said so far.
#[derive(Debug, Default)]
pub(super) struct Results {
    passed: usize,
    failed: usize,
    ignored: usize,
    failed_tests: Vec<String>,
}

impl Results {
    /// Takes in one line of output.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            for (count, kind) in result.split(['.', ';']).filter_map(count) {
                match kind {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.ignored += count,
                    _ => {}
                }
            }
        } else if let Some(test) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed_tests.push(test.to_owned());
        }
    }

    /// Tests that failed, by name.
    pub(super) fn failed_tests(&self) -> &[String] {
        &self.failed_tests
    }

    /// The sum, given how many of the passed tests were skipped, and whether cargo was content.
    pub(super) fn summary(&self, skipped: usize, success: bool) -> Summary {
        // A program that did not compile or was killed says nothing, but cargo does.
        let failed = if success {
            self.failed
        } else {
            self.failed.max(1)
        };
        Summary {
            passed: self.passed.saturating_sub(skipped),
            failed,
            skipped: self.ignored + skipped,
        }
    }
}

/// `8 passed` as its parts.
fn count(words: &str) -> Option<(usize, &str)> {
    let (number, kind) = words.trim().split_once(' ')?;
    Some((number.parse().ok()?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Results {
        let mut results = Results::default();
        text.lines().for_each(|line| results.read(line));
        results
    }

    const OUTPUT: &str = "\
running 4 tests
test a ... ok
test tests::b ... FAILED
test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.33s
test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s
a test that prints: 7 failed
";

    #[test]
    fn results_are_added_up_and_failures_named() {
        let results = read(OUTPUT);
        assert_eq!(
            results.summary(0, false).to_string(),
            "7 passed, 1 failed, 1 skipped"
        );
        assert_eq!(results.failed_tests(), ["tests::b"]);
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        assert_eq!(
            read(OUTPUT).summary(2, false).to_string(),
            "5 passed, 1 failed, 3 skipped"
        );
    }

    #[test]
    fn a_program_without_a_result_is_a_failure() {
        assert_eq!(read("").summary(0, false).failed, 1);
        assert_eq!(read("").summary(0, true).failed, 0);
    }
}
