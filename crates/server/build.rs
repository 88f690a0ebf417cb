//! Makes the table of the pages' files that are built into the binary.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let dist = root.join("../../web/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    if !dist.join("index.html").is_file() {
        println!(
            "cargo::error=the pages are not built: run `make web` (Node.js and npm are needed) and build again"
        );
        return Ok(());
    }
    let dist = dist.canonicalize()?;
    let mut files = Vec::new();
    collect(&dist, &mut files)?;
    files.sort();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("pages.rs");
    let mut table = fs::File::create(out)?;
    writeln!(table, "&[")?;
    for file in files {
        let path = file
            .strip_prefix(&dist)
            .unwrap_or(&file)
            .display()
            .to_string();
        writeln!(
            table,
            "    ({path:?}, include_bytes!({:?})),",
            file.display().to_string()
        )?;
    }
    writeln!(table, "]")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?
        } else {
            files.push(path)
        }
    }
    Ok(())
}
