//! The folder of the embedded database.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Finding, SAMPLES, judge_flush, median};

/// What is written to measure a flush: a page of the database.
const PAGE: [u8; 4096] = [0; 4096];

/// Examines the folder for the embedded database: whether it can be made, written and flushed. Blocks on the disk, and
/// leaves nothing behind.
#[must_use]
pub fn examine_folder(folder: &Path) -> Vec<Finding> {
    let shown = folder.display();
    if folder.exists() && !folder.is_dir() {
        return vec![Finding::fail(format!(
            "{shown} is a file; name a folder with --data, or move the file away"
        ))];
    }
    let target = nearest(folder);
    match measure_flush(&target) {
        Ok(time) if folder.is_dir() => vec![
            Finding::ok(format!("the folder {shown} can be written")),
            judge_flush("flush to its disk", time),
        ],
        Ok(time) => vec![
            Finding::ok(format!(
                "the folder {shown} is not there yet and can be made"
            )),
            judge_flush("flush to its disk", time),
        ],
        Err(error) => vec![Finding::fail(format!(
            "{} cannot be written: {error}; give it to the server's user, or name another folder with --data",
            target.display()
        ))],
    }
}

/// The folder itself, or the nearest one above it that is there.
fn nearest(folder: &Path) -> PathBuf {
    let mut above = folder
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty());
    above
        .find(|path| path.exists())
        .unwrap_or(Path::new("."))
        .to_owned()
}

fn measure_flush(folder: &Path) -> io::Result<Duration> {
    let path = folder.join(format!(".fanfare-doctor-{}", std::process::id()));
    let result = write_and_flush(&path);
    let removed = fs::remove_file(&path);
    let time = result?;
    removed?;
    Ok(time)
}

fn write_and_flush(path: &Path) -> io::Result<Duration> {
    let mut file = File::create_new(path)?;
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(median(times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Grade;

    #[test]
    fn a_folder_is_examined_without_a_trace() {
        let root = std::env::temp_dir().join(format!("fanfare-doctor-test-{}", std::process::id()));
        fs::create_dir(&root).unwrap();
        let there = examine_folder(&root);
        let not_there = examine_folder(&root.join("a/b"));
        let file = root.join("file");
        let left = fs::read_dir(&root).unwrap().count();
        File::create(&file).unwrap();
        let (is_file, below_file) = (examine_folder(&file), examine_folder(&file.join("data")));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(left, 0);
        assert!(there.len() == 2 && there[0].grade == Grade::Ok, "{there:?}");
        assert!(not_there[0].text.contains("not there yet"), "{not_there:?}");
        assert_eq!(is_file[0].grade, Grade::Fail);
        assert_eq!(below_file[0].grade, Grade::Fail, "{below_file:?}");
    }
}
