-- SQLite does not notice a bit that the disk has flipped in a row. Absent for rows that were written before.
ALTER TABLE publications ADD COLUMN sum INTEGER;
