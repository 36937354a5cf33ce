//! A diagnosis as lines for a terminal or a file.

use super::{Diagnosis, Verdict};
use crate::overview::text::{Palette, Tone, columns};

/// The lines, each ended by a line break: what is wrong has what to do below it.
pub fn text(diagnosis: &Diagnosis, palette: Palette) -> String {
    let rows: Vec<Vec<String>> = diagnosis
        .findings
        .iter()
        .map(|finding| {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            vec![
                verdict.to_owned(),
                finding.check.to_owned(),
                finding.subject.clone(),
                finding.message.clone(),
            ]
        })
        .collect();
    let mut text = String::new();
    for (row, finding) in columns(&rows).into_iter().zip(&diagnosis.findings) {
        let tone = match finding.verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warn => Tone::Open,
            Verdict::Fail => Tone::Bad,
        };
        if let [verdict, rest @ ..] = &row[..] {
            text.push_str(&palette.paint(tone, verdict));
            text.push_str(&rest.concat());
        }
        text.push('\n');
        if let Some(mend) = &finding.mend {
            text.push_str("      → ");
            text.push_str(mend);
            text.push('\n');
        }
    }
    let count = |verdict| {
        let findings = diagnosis.findings.iter();
        findings.filter(|one| one.verdict == verdict).count()
    };
    let (ok, warn, fail) = (
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail),
    );
    let sum = format!("{ok} ok, {warn} to be aware of, {fail} to be mended\n");
    text.push_str(&sum);
    text
}
