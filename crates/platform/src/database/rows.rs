//! Many rows in one statement: a statement costs more than its rows.

/// Rows in one statement. As many are taken as fit, the largest number first.
const TOGETHER: [usize; 3] = [16, 4, 1];

/// An insert, made once for each number of rows that go together.
#[derive(Debug)]
pub struct InsertRows([String; TOGETHER.len()]);

impl InsertRows {
    /// `sql` makes the statement around `($1, $2), ($3, $4)`, whose first parameter is `first`.
    pub fn new(columns: usize, first: usize, sql: impl Fn(&str) -> String) -> Self {
        let row = |row: usize| {
            let places: Vec<String> =
                (0..columns).map(|column| format!("${}", first + row * columns + column)).collect();
            format!("({})", places.join(", "))
        };
        Self(TOGETHER.map(|rows| sql(&(0..rows).map(row).collect::<Vec<_>>().join(", "))))
    }

    /// Each statement, and the rows that it takes.
    pub fn parts<'a, T>(&'static self, rows: &'a [T]) -> impl Iterator<Item = (&'static str, &'a [T])> {
        let mut rest = rows;
        std::iter::from_fn(move || {
            let (size, sql) = TOGETHER.iter().zip(&self.0).find(|(size, _)| **size <= rest.len())?;
            let (now, later) = rest.split_at(*size);
            rest = later;
            Some((sql.as_str(), now))
        })
    }
}
