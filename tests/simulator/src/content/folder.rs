//! Folders of real package files. Only names and manifests are read at the start; bytes and hashes when asked for.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Map, Value};

use super::{nupkg, tarball};

/// The manifest of every `*.tgz` in `folder`, in order of file names, read on all processors.
pub(crate) fn npm(folder: &Path) -> io::Result<Vec<(PathBuf, Map<String, Value>)>> {
    read_all(folder, "tgz", |path| tarball::read_manifest(BufReader::new(File::open(path)?)))
}

/// The nuspec text of every `*.nupkg` in `folder`, in order of file names.
pub(crate) fn nuget(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    read_all(folder, "nupkg", |path| nupkg::read_nuspec(BufReader::new(File::open(path)?)))
}

fn read_all<T: Send>(
    folder: &Path,
    extension: &str,
    read: impl Fn(&Path) -> io::Result<T> + Sync,
) -> io::Result<Vec<(PathBuf, T)>> {
    let paths = list(folder, extension)?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = paths.len().div_ceil(workers).max(1);
    let read_share = |share: &[PathBuf]| -> io::Result<Vec<(PathBuf, T)>> {
        let named = |path: &PathBuf, error| io::Error::other(format!("{}: {error}", path.display()));
        share.iter().map(|path| Ok((path.clone(), read(path).map_err(|error| named(path, error))?))).collect()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = paths.chunks(share).map(|share| scope.spawn(|| read_share(share))).collect();
        let mut all = Vec::with_capacity(paths.len());
        for worker in workers {
            all.extend(worker.join().expect("reading a package file does not panic")?);
        }
        Ok(all)
    })
}

fn list(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    Ok(paths)
}
