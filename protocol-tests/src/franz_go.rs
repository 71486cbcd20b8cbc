//! The program of `go/`, on franz-go: built once per machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{Error, Guest, Process, cache};

/// The built program.
#[derive(Debug, Clone)]
pub struct FranzGo {
    program: PathBuf,
}

impl FranzGo {
    /// Finds it, or builds it.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without Go, or when Go cannot fetch the modules; [`Error::Failed`] when it does not
    /// compile.
    pub fn get() -> Result<Self, Error> {
        let recipe: String = FILES.iter().map(|(_, text)| *text).collect();
        let dir = cache::entry("franz-go", &recipe, build)?;
        Ok(Self {
            program: dir.join(PROGRAM),
        })
    }

    /// Starts its scenario.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn guest(&self, args: &[&str]) -> Guest {
        Guest::start("franz-go", Command::new(&self.program).args(args))
    }
}

fn build(dir: &Path) -> Result<(), Error> {
    for (name, text) in FILES {
        fs::write(dir.join(name), text).map_err(|e| Error::io(&format!("writing {name}"), &e))?;
    }
    let remedy = "install Go 1.24 or newer (Debian 13: apt-get install golang-go), with access to a module proxy";
    let step = |args: &[&str]| {
        let mut go = Command::new("go");
        go.args(args).current_dir(dir).env("CGO_ENABLED", "0");
        Process::run("go", &mut go, None, BUILD_LIMIT)
            .map_err(|error| Error::missing(format!("no Go ({error})"), remedy))
    };
    let fetched = step(&["mod", "download"])?;
    if !fetched.status.success() {
        return Err(Error::missing(
            format!("go mod download failed: {}", fetched.stderr.trim()),
            remedy,
        ));
    }
    let built = step(&["build", "-o", PROGRAM, "."])?;
    if built.status.success() {
        Ok(())
    } else {
        Err(Error::failed(format!("go build failed: {}", built.stderr)))
    }
}

const FILES: [(&str, &str); 4] = [
    ("go.mod", include_str!("../go/go.mod")),
    ("go.sum", include_str!("../go/go.sum")),
    ("main.go", include_str!("../go/main.go")),
    ("member.go", include_str!("../go/member.go")),
];
const PROGRAM: &str = "guest";
const BUILD_LIMIT: Duration = Duration::from_secs(300);
