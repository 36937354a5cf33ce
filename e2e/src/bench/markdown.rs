//! Figures as a table for the documentation. Measures nothing.

/// A table whose columns but the first are numbers; a line break in a cell is one there, too.
pub fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | ").replace('\n', "<br>"));
    let alignment: Vec<String> = header
        .iter()
        .enumerate()
        .map(|(column, _)| if column == 0 { "---" } else { "---:" }.to_owned())
        .collect();
    let rows = rows.iter().map(|row| line(row));
    [line(header), line(&alignment)]
        .into_iter()
        .chain(rows)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_a_line_and_numbers_stand_to_the_right() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(&row(["what", "measured"]), &[row(["lines", "1\nof 2"])]);
        assert_eq!(
            text,
            "| what | measured |\n| --- | ---: |\n| lines | 1<br>of 2 |\n"
        );
    }
}
