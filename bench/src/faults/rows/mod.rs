//! The rows of the matrix, by the part that fails.

mod clients;
mod database;
mod full_disk;
mod machine;
mod network;
mod nodes;
mod redis;
mod sqlite;

use crate::faults::row::Row;

/// All rows that need nothing but this machine, in the order of their numbers.
pub(crate) fn all() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        nodes::ROWS,
        redis::ROWS,
        database::ROWS,
        sqlite::ROWS,
        network::ROWS,
        clients::ROWS,
        machine::ROWS,
    ]
    .concat();
    rows.sort_by_key(|row| order(row.number));
    rows
}

/// `12`, `12b`: the number, then the letter.
fn order(number: &str) -> (u32, &str) {
    let end = number
        .find(|mark: char| !mark.is_ascii_digit())
        .unwrap_or(number.len());
    (number[..end].parse().unwrap_or(u32::MAX), &number[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_number_of_its_own_and_says_what_it_is() {
        let rows = all();
        for pair in rows.windows(2) {
            assert!(
                order(pair[0].number) < order(pair[1].number),
                "{}",
                pair[1].number
            );
        }
        for row in rows {
            for text in [row.name, row.how, row.promise] {
                assert!(
                    !text.is_empty() && !text.contains('|'),
                    "row {}",
                    row.number
                );
            }
            let seconds = row.load.seconds;
            assert!(seconds.short <= seconds.full, "row {}", row.number);
            assert!(row.load.warmup < seconds.short, "row {}", row.number);
        }
    }
}
