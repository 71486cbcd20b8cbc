//! What is fetched once per machine: Kafka's jars, Python packages.
//!
//! Lives outside the repository and outside `target`, so that neither a clean build nor a second
//! clone fetches again. Test processes run in parallel: a file lock makes one of them fill an
//! entry while the others wait, and a marker written last tells a whole entry from an aborted one.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::Error;

/// The directory of the entry `name`, filled by `fill` if it is not there or not whole.
///
/// `recipe` is what the entry was made from; when it changes, the entry is made again.
pub(crate) fn entry(
    name: &str,
    recipe: &str,
    fill: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let root = root()?;
    fs::create_dir_all(&root)
        .map_err(|e| Error::io(&format!("creating {}", root.display()), &e))?;
    let dir = root.join(name);
    let marker = dir.join(MARKER);
    if is_whole(&marker, recipe) {
        return Ok(dir);
    }
    let lock_path = root.join(format!("{name}.lock"));
    let lock = File::create(&lock_path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|e| Error::io(&format!("locking {}", lock_path.display()), &e))?;
    if !is_whole(&marker, recipe) {
        if dir.exists() {
            fs::remove_dir_all(&dir)
                .map_err(|e| Error::io(&format!("removing the broken {}", dir.display()), &e))?;
        }
        fs::create_dir(&dir).map_err(|e| Error::io(&format!("creating {}", dir.display()), &e))?;
        fill(&dir)?;
        fs::write(&marker, recipe)
            .map_err(|e| Error::io(&format!("writing {}", marker.display()), &e))?;
    }
    drop(lock);
    Ok(dir)
}

fn is_whole(marker: &Path, recipe: &str) -> bool {
    fs::read_to_string(marker).is_ok_and(|made_from| made_from == recipe)
}

fn root() -> Result<PathBuf, Error> {
    let from = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    if let Some(dir) = from("OTTLA_KAFKA_CACHE") {
        return Ok(dir.into());
    }
    if let Some(dir) = from("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(dir).join("ottla"));
    }
    match from("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".cache").join("ottla")),
        None => Err(Error::missing(
            "no place to keep Kafka's jars",
            "set OTTLA_KAFKA_CACHE to a directory",
        )),
    }
}

const MARKER: &str = "complete";
