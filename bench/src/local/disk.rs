//! A small disk: a file system in memory with a fixed size, to see what a server does when it is full.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::local::process::run_tool;
use crate::local::{LocalError, TempDir};

/// Where a disk is mounted in its folder.
const MOUNT: &str = "disk";

/// The file that takes the room of others.
const BALLAST: &str = "ballast";

/// A mounted file system of a fixed size. It is unmounted with its handle; only root may have one.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    /// Held, never read: the folder goes after the mount.
    _dir: TempDir,
}

impl SmallDisk {
    /// Mounts one of `mib` MiB.
    ///
    /// # Errors
    /// [`LocalError::Ended`] with the words of `mount` where mounting is not permitted.
    pub fn mount(mib: u64) -> Result<Self, LocalError> {
        let dir = TempDir::new()?;
        let path = dir.path().join(MOUNT);
        fs::create_dir(&path).map_err(|source| LocalError::io("make a folder", source))?;
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={mib}m,mode=0755"))
            .arg("fanfare-local")
            .arg(&path)
            .stdin(Stdio::null());
        run_tool("mount", command)?;
        // The folder that servers get is one below: they want to own it, and the ballast stays outside of it.
        let disk = Self { path, _dir: dir };
        fs::create_dir(disk.path())
            .map_err(|source| LocalError::io("make a folder on a small disk", source))?;
        Ok(disk)
    }

    /// An empty folder on it.
    pub fn path(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// [`LocalError::Io`] when it fails for another reason than a full disk.
    pub fn fill(&self) -> Result<(), LocalError> {
        let fail = |source| LocalError::io("fill a small disk", source);
        let mut ballast = File::create(self.path.join(BALLAST)).map_err(fail)?;
        // Large pieces first; what is left in the end is less than a page.
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; size];
            loop {
                match ballast.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(fail(error)),
                }
            }
        }
        Ok(())
    }

    /// Gives back what [`fill`](Self::fill) took.
    ///
    /// # Errors
    /// [`LocalError::Io`] when nothing was taken.
    pub fn relieve(&self) -> Result<(), LocalError> {
        fs::remove_file(self.path.join(BALLAST))
            .map_err(|source| LocalError::io("make room on a small disk", source))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// Unmounts what an owner that was killed has left in its folder, if that is a disk.
pub(super) fn unmount_in(dir: &Path) {
    let path = dir.join(MOUNT);
    if path.is_dir() {
        unmount(&path);
    }
}

fn unmount(path: &Path) {
    // Lazily: whoever still has a file open on it keeps it until it ends. What is no disk is left alone with an error.
    let _ = Command::new("umount")
        .arg("--lazy")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_and_then_has_room_again_where_mounting_is_permitted() {
        let disk = match SmallDisk::mount(2) {
            Ok(disk) => disk,
            Err(error) => {
                assert!(error.to_string().contains("mount"), "{error}");
                return;
            }
        };
        let file = disk.path().join("file");
        fs::write(&file, "x").unwrap();
        disk.fill().unwrap();
        let error = fs::write(disk.path().join("other"), vec![1; 8_192]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        disk.relieve().unwrap();
        fs::write(disk.path().join("other"), vec![1; 8_192]).unwrap();
        let mounted = disk.path.clone();
        drop(disk);
        assert!(!mounted.exists());
        // What an owner that was killed leaves behind.
        let left = SmallDisk::mount(2).unwrap();
        unmount_in(left._dir.path());
        assert!(!left.path().exists());
    }
}
