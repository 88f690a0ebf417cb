//! Temporary directories that leave nothing behind, not even after a crash.
//!
//! A directory is locked for as long as its owner lives. An owner that was killed cannot clean up, so the next
//! process that makes a temporary directory removes those whose lock nobody holds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::local::{LocalError, disk};

/// First part of the name of every directory made here.
const PREFIX: &str = "fanfare-local-";

/// The file inside whose lock says that the owner lives.
const LOCK_FILE: &str = ".lock";

/// Its name until it is locked.
const LOCK_FILE_UNNAMED: &str = ".lock-new";

/// A directory that is removed with its handle.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    /// Held, never read: the lock goes with the file.
    _lock: File,
}

impl TempDir {
    /// Makes an empty directory in the system's folder for temporary files.
    ///
    /// # Errors
    /// [`LocalError::Io`] when that folder cannot be written.
    pub fn new() -> Result<Self, LocalError> {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        SWEEP.call_once(|| remove_abandoned(&std::env::temp_dir()));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
        let fail = |source| LocalError::io(format!("make the folder {}", path.display()), source);
        if path.exists() {
            // Left by an earlier process of this number whose lock could not be probed at the time.
            fs::remove_dir_all(&path).map_err(fail)?;
        }
        fs::create_dir(&path).map_err(fail)?;
        // Locked before it has its name: whoever sweeps must not find it free.
        let unnamed = path.join(LOCK_FILE_UNNAMED);
        let lock = File::create(&unnamed).map_err(fail)?;
        lock.lock().map_err(fail)?;
        fs::rename(&unnamed, path.join(LOCK_FILE)).map_err(fail)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing is left to tell about a failure; the next process sweeps what remains.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A directory without a lock file is one that its owner is making right now.
        let Ok(lock) = File::open(entry.path().join(LOCK_FILE)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            disk::unmount_in(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_with_its_handle() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn an_abandoned_directory_is_swept_and_a_held_one_is_not() {
        let parent = TempDir::new().unwrap();
        let abandoned = parent.path().join(format!("{PREFIX}1-1"));
        let held = parent.path().join(format!("{PREFIX}1-2"));
        let foreign = parent.path().join("somebody-else");
        for path in [&abandoned, &held, &foreign] {
            fs::create_dir(path).unwrap();
            File::create(path.join(LOCK_FILE)).unwrap();
        }
        let lock = File::open(held.join(LOCK_FILE)).unwrap();
        lock.lock().unwrap();
        remove_abandoned(parent.path());
        assert!(!abandoned.exists());
        assert!(held.exists());
        assert!(foreign.exists());
    }
}
