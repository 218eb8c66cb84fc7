//! Tables: rows that can be filtered, sorted and selected, without a terminal.

use super::tone::Tone;

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// Cells.
    pub width: u16,
    /// Numbers stand on the right.
    pub right: bool,
    /// Narrow terminals leave out the highest first; 0 always stays.
    pub rank: u8,
}

/// One cell of a row.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    pub text: String,
    /// What sorts it; text cells sort by their text.
    pub order: Option<f64>,
    pub tone: Tone,
}

/// One row.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub cells: Vec<Cell>,
    /// Name and value, shown on Enter.
    pub details: Vec<(String, String)>,
}

/// How a table is looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Look {
    pub selected: usize,
    /// Column, and whether the largest is first; none: as the view thinks best.
    pub sort: Option<(usize, bool)>,
    pub filter: String,
}

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// Column and whether the largest is first.
    pub sort: (usize, bool),
    /// What an empty one says.
    pub empty: &'static str,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), order: None, tone: Tone::Text }
    }

    pub fn number(text: impl Into<String>, order: f64) -> Self {
        Self { text: text.into(), order: Some(order), tone: Tone::Text }
    }

    #[must_use]
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

impl Table {
    /// Filter and sort as a look says.
    #[must_use]
    pub fn arranged(mut self, look: &Look) -> Self {
        let wanted = look.filter.to_lowercase();
        if !wanted.is_empty() {
            self.rows.retain(|row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&wanted)));
        }
        let (column, down) = look.sort.filter(|sort| sort.0 < self.columns.len()).unwrap_or(self.sort);
        self.sort = (column, down);
        self.rows.sort_by(|a, b| {
            let (Some(a), Some(b)) = (a.cells.get(column), b.cells.get(column)) else {
                return std::cmp::Ordering::Equal;
            };
            let order = match (a.order, b.order) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => a.text.cmp(&b.text),
            };
            if down { order.reverse() } else { order }
        });
        self
    }

    /// The columns that fit, by index.
    pub fn fitting(&self, width: u16) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let needed = |shown: &[usize]| shown.iter().map(|&c| self.columns[c].width + 1).sum::<u16>();
        while needed(&shown) > width + 1 {
            let Some(place) = (0..shown.len())
                .filter(|&place| self.columns[shown[place]].rank > 0)
                .max_by_key(|&place| (self.columns[shown[place]].rank, place))
            else {
                break;
            };
            shown.remove(place);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, value: f64| Row {
            cells: vec![Cell::text(name), Cell::number(value.to_string(), value)],
            details: Vec::new(),
        };
        Table {
            columns: vec![
                Column { name: "name", width: 10, right: false, rank: 0 },
                Column { name: "value", width: 6, right: true, rank: 1 },
            ],
            rows: vec![row("IOAS_MAP", 9.0), row("DESTROY", 10.0), row("IOAS_UNMAP", 2.0)],
            sort: (1, true),
            empty: "",
        }
    }

    fn names(look: &Look) -> Vec<String> {
        table().arranged(look).rows.into_iter().map(|row| row.cells[0].text.clone()).collect()
    }

    #[test]
    fn rows_are_filtered_and_sorted_by_number_or_text() {
        assert_eq!(names(&Look::default()), ["DESTROY", "IOAS_MAP", "IOAS_UNMAP"]);
        let look = Look { sort: Some((0, false)), filter: "map".into(), ..Look::default() };
        assert_eq!(names(&look), ["IOAS_MAP", "IOAS_UNMAP"]);
        let gone = Look { sort: Some((7, false)), ..Look::default() };
        assert_eq!(names(&gone)[0], "DESTROY");
    }

    #[test]
    fn narrow_tables_keep_the_columns_that_matter() {
        assert_eq!(table().fitting(17), [0, 1]);
        assert_eq!(table().fitting(16), [0]);
        assert_eq!(table().fitting(1), [0]);
    }
}
