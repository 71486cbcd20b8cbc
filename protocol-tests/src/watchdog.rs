//! Kills what this test process started when the process itself dies, however it dies.
//!
//! A shell in a process group of its own reads from a pipe whose other end only this process holds.
//! When the pipe closes, because the process returned, panicked, or was killed with -9, the shell
//! kills every process group it was told of and removes their directories, except those with a
//! file named `keep`.

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::Error;

#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Mutex<Child>,
    root: PathBuf,
    directories: AtomicU32,
}

impl Watchdog {
    /// The one watchdog of this process, started on first use.
    pub(crate) fn get() -> Result<&'static Self, Error> {
        static WATCHDOG: OnceLock<Result<Watchdog, String>> = OnceLock::new();
        WATCHDOG
            .get_or_init(|| Self::start().map_err(|e| format!("starting the watchdog: {e}")))
            .as_ref()
            .map_err(Error::failed)
    }

    fn start() -> std::io::Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("ottla-kafka-")
            .tempdir()?
            .keep();
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "ottla-watchdog"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self {
            shell: Mutex::new(shell),
            root,
            directories: AtomicU32::new(0),
        })
    }

    /// A new directory, removed when this process ends.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, Error> {
        let number = self.directories.fetch_add(1, Ordering::Relaxed);
        let dir = self.root.join(format!("{name}-{number}"));
        fs::create_dir_all(&dir)
            .map_err(|e| Error::io(&format!("creating {}", dir.display()), &e))?;
        Ok(dir)
    }

    /// Leaves `dir` in place when this process ends.
    pub(crate) fn keep(dir: &Path) {
        let _ = fs::write(dir.join("keep"), "");
    }

    /// From now on the process group `pid` dies with this process.
    pub(crate) fn watch(&self, pid: u32) {
        self.say(&format!("run {pid}\n"));
    }

    /// The process group `pid` is dead; its number may soon be someone else's.
    pub(crate) fn forget(&self, pid: u32) {
        self.say(&format!("gone {pid}\n"));
    }

    fn say(&self, line: &str) {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        // If the shell is gone there is nobody to tell, and no test is wrong for it.
        if let Some(pipe) = shell.stdin.as_mut() {
            let _ = pipe.write_all(line.as_bytes());
        }
    }
}

const SCRIPT: &str = r#"
trap '' INT TERM HUP
groups=
while read -r verb group; do
    case $verb in
        run) groups="$groups $group" ;;
        gone)
            rest=
            for g in $groups; do [ "$g" = "$group" ] || rest="$rest $g"; done
            groups=$rest
            ;;
    esac
done
for g in $groups; do kill -KILL "-$g"; done
[ -z "$groups" ] || sleep 1
for dir in "$1"/*; do [ -e "$dir/keep" ] || rm -rf "$dir"; done
rmdir "$1"
"#;
