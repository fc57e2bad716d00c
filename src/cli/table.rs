//! Columns as docker's tables have them: at least ten wide, three blanks between, nothing after the last one.

use super::text::width;

const MIN_COLUMN: usize = 10;
const PADDING: usize = 3;

/// Lays out `rows`, the first of which is the header. A line of a cell that holds a newline stays as it is.
pub(crate) fn layout(rows: &[Vec<String>]) -> String {
    padded(rows, MIN_COLUMN, PADDING)
}

/// The same with columns of at least `min`, and `padding` blanks between them.
pub(crate) fn padded(rows: &[Vec<String>], min: usize, padding: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![min; columns];
    for row in rows {
        // The last cell ends the line and makes no column wider.
        for (column, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
            widths[column] = widths[column].max(width(cell) + padding);
        }
    }
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                out.push_str(&" ".repeat(widths[column] - width(cell)));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::layout;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect()
    }

    // Expected: docker 28.2 `docker images`.
    #[test]
    fn columns_are_those_of_docker() {
        let text = layout(&rows(&[
            &["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"],
            &["debian", "bookworm", "4bcff63911fc", "2 weeks ago", "117MB"],
        ]));
        assert_eq!(
            text,
            "REPOSITORY   TAG        IMAGE ID       CREATED       SIZE\n\
             debian       bookworm   4bcff63911fc   2 weeks ago   117MB\n"
        );
    }

    #[test]
    fn narrow_columns_are_ten_wide_and_wide_characters_count_twice() {
        assert_eq!(layout(&rows(&[&["A", "B"], &["x", "y"]])), "A         B\nx         y\n");
        assert_eq!(
            layout(&rows(&[&["名前名前名前", "B"], &["x", "y"]])),
            "名前名前名前   B\nx              y\n"
        );
        assert_eq!(layout(&[]), "");
    }
}
