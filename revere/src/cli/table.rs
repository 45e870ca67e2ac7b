//! Columns as wide as their widest cell.

use std::io::{self, Write};

/// Writes a head and rows to standard output.
pub(super) fn print(head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    io::stdout().lock().write_all(render(head, rows).as_bytes())
}

fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["/a".to_owned(), "10".to_owned()],
            vec!["/long".to_owned(), String::new()],
        ];
        assert_eq!(render(&["ID", "N"], &rows), "ID     N\n/a     10\n/long\n");
    }
}
