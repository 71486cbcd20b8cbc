//! One JVM that runs many tools of Kafka's one after the other.
//!
//! A tool in a JVM of its own takes a second to start, most of it the machine's two cores; here only the first does.
//! Owns the JVM and the frames to and from `kafka/Session.java`; what a tool is called and takes is [`Tools`]'s.
//!
//! [`Tools`]: crate::Tools

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::{Distribution, Error, Output, Process, cache, recording::Captured};

/// The running JVM. Tools that are asked for at the same time wait for each other.
#[derive(Debug)]
pub(crate) struct Session {
    jvm: Mutex<Jvm>,
    log: Captured,
}

#[derive(Debug)]
struct Jvm {
    process: Process,
    requests: ChildStdin,
    replies: mpsc::Receiver<io::Result<Output>>,
}

impl Session {
    /// Starts the JVM, and before that compiles what runs in it unless an earlier run did.
    pub(crate) fn start(kafka: &Distribution) -> Result<Self, Error> {
        let mut java = kafka.java(256, "WARN", Some(&classes(kafka)?));
        java.arg("Session")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::spawn("a JVM for Kafka's tools", &mut java)?;
        let (Some(requests), Some(mut stdout), Some(stderr)) = (
            process.take_stdin(),
            process.take_stdout(),
            process.take_stderr(),
        ) else {
            return Err(Error::failed("the JVM has no pipes"));
        };
        let (sender, replies) = mpsc::channel();
        thread::spawn(move || {
            loop {
                let reply = read_reply(&mut stdout);
                let failed = reply.is_err();
                if sender.send(reply).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Self {
            jvm: Mutex::new(Jvm {
                process,
                requests,
                replies,
            }),
            log: Captured::new(stderr),
        })
    }

    /// Runs a tool to its end. After an error the JVM is gone.
    pub(crate) fn run(
        &self,
        class: &str,
        args: &[String],
        input: &[u8],
        limit: Duration,
    ) -> Result<Output, Error> {
        let mut jvm = self.jvm.lock().unwrap_or_else(PoisonError::into_inner);
        let written = write_request(&mut jvm.requests, class, args, input);
        let failed = match written.map(|()| jvm.replies.recv_timeout(limit)) {
            Ok(Ok(Ok(output))) => return Ok(output),
            Ok(Err(mpsc::RecvTimeoutError::Timeout)) => format!("was not done after {limit:?}"),
            Ok(Err(mpsc::RecvTimeoutError::Disconnected)) => "has no JVM any more".to_owned(),
            Ok(Ok(Err(error))) | Err(error) => format!("ended with its JVM: {error}"),
        };
        jvm.process.kill();
        Err(Error::failed(format!(
            "{class} {args:?} {failed}; the JVM logged\n{}",
            self.log.text()
        )))
    }
}

fn write_request(
    to: &mut impl Write,
    class: &str,
    args: &[String],
    input: &[u8],
) -> io::Result<()> {
    let mut frame = Vec::with_capacity(input.len() + 1024);
    put(&mut frame, class.as_bytes());
    frame.extend((args.len() as u32).to_be_bytes());
    for arg in args {
        put(&mut frame, arg.as_bytes());
    }
    put(&mut frame, input);
    to.write_all(&frame)?;
    to.flush()
}

fn put(frame: &mut Vec<u8>, bytes: &[u8]) {
    frame.extend((bytes.len() as u32).to_be_bytes());
    frame.extend(bytes);
}

fn read_reply(from: &mut impl Read) -> io::Result<Output> {
    let status = read_number(from)?;
    let stdout = read_bytes(from)?;
    let stderr = String::from_utf8_lossy(&read_bytes(from)?).into_owned();
    Ok(Output {
        // As a process that exits with this status would end.
        status: ExitStatus::from_raw(((status & 0xff) << 8) as i32),
        stdout,
        stderr,
    })
}

fn read_bytes(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let len = read_number(from)?;
    let mut bytes = Vec::new();
    from.take(len.into()).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == u64::from(len) {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn read_number(from: &mut impl Read) -> io::Result<u32> {
    let mut number = [0; 4];
    from.read_exact(&mut number)?;
    Ok(u32::from_be_bytes(number))
}

/// The directory of the compiled sources.
fn classes(kafka: &Distribution) -> Result<PathBuf, Error> {
    let name = format!("kafka-{}-session", kafka.version().number());
    let recipe = SOURCES.map(|(_, source)| source).concat();
    cache::entry(&name, &recipe, |dir| compile(kafka, dir))
}

fn compile(kafka: &Distribution, dir: &Path) -> Result<(), Error> {
    for (name, source) in SOURCES {
        let path = dir.join(name);
        fs::write(&path, source)
            .map_err(|e| Error::io(&format!("writing {}", path.display()), &e))?;
    }
    let compiler = kafka.compiler();
    let mut javac = Command::new(&compiler);
    javac
        .args(["-cp", &kafka.jars(), "-d"])
        .arg(dir)
        .args(SOURCES.map(|(name, _)| dir.join(name)));
    let remedy = "install a JDK, not only a JRE (Debian: apt-get install default-jdk-headless)";
    let output = Process::run("javac", &mut javac, None, COMPILE_LIMIT).map_err(|error| {
        Error::missing(
            format!("no Java compiler at {} ({error})", compiler.display()),
            remedy,
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "compiling what runs beside Kafka's tools failed: {}",
        output.stderr
    )))
}

/// What runs in the JVM beside Kafka's own classes.
const SOURCES: [(&str, &str); 2] = [
    ("Session.java", include_str!("../kafka/Session.java")),
    ("Assignors.java", include_str!("../kafka/Assignors.java")),
];
const COMPILE_LIMIT: Duration = Duration::from_secs(120);
