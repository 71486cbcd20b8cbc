//! One broker process: its ports, its directory, and whether it is running.

use std::{
    fs::{self, File, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{Distribution, Error, process::Process};

/// A node's `node.id`; nodes count from 1.
pub type NodeId = i32;

/// Where a node listens, on the loopback address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) broker: u16,
    pub(crate) controller: u16,
    pub(crate) proxied: Option<Proxied>,
}

/// The listener behind a proxy, and the port of the proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proxied {
    pub(crate) port: u16,
    pub(crate) proxy: u16,
}

#[derive(Debug)]
pub(crate) struct Node {
    dir: PathBuf,
    ports: Ports,
    heap_mb: u32,
    process: Option<Process>,
}

impl Node {
    /// Writes the node's settings and formats its storage; nothing runs yet.
    pub(crate) fn format(
        kafka: &Distribution,
        dir: PathBuf,
        ports: Ports,
        heap_mb: u32,
        cluster_id: &str,
        properties: &str,
    ) -> Result<Self, Error> {
        let settings = settings(&dir);
        fs::create_dir_all(&dir)
            .and_then(|()| fs::write(&settings, properties))
            .map_err(|e| Error::io(&format!("writing {}", settings.display()), &e))?;
        let mut format = kafka.java(96, "WARN", None);
        format
            .args(["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"])
            .arg(&settings);
        let output = Process::run("StorageTool format", &mut format, None, START_LIMIT)?;
        if !output.status.success() {
            let (stdout, stderr) = (output.text(), &output.stderr);
            return Err(Error::failed(format!(
                "formatting storage failed: {stdout}{stderr}"
            )));
        }
        Ok(Self {
            dir,
            ports,
            heap_mb,
            process: None,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.broker).into()
    }

    /// The listener that a proxy stands before.
    pub(crate) fn proxied_address(&self) -> Option<SocketAddr> {
        self.ports
            .proxied
            .map(|proxied| (Ipv4Addr::LOCALHOST, proxied.port).into())
    }

    pub(crate) fn data(&self) -> PathBuf {
        data(&self.dir)
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    pub(crate) fn start(&mut self, kafka: &Distribution) -> Result<(), Error> {
        if self.is_running() {
            return Ok(());
        }
        let log = log(&self.dir);
        let open = || -> std::io::Result<(File, File)> {
            let file = OpenOptions::new().create(true).append(true).open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (stdout, stderr) =
            open().map_err(|e| Error::io(&format!("opening {}", log.display()), &e))?;
        let mut broker = kafka.java(self.heap_mb, "INFO", None);
        broker
            .arg("kafka.Kafka")
            .arg(settings(&self.dir))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        self.process = Some(Process::spawn("a broker", &mut broker)?);
        Ok(())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.exit_status().is_none())
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::CONT);
            process.signal(Signal::TERM);
            process.exits_by(Instant::now() + STOP_LIMIT);
        }
    }

    pub(crate) fn pause(&mut self) {
        if let Some(process) = self.process.as_mut() {
            process.pause();
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        if let Some(process) = self.process.as_mut() {
            process.signal(signal);
        }
    }

    /// The end of what the broker logged.
    pub(crate) fn log_tail(&self) -> String {
        let log = log(&self.dir);
        let bytes = fs::read(&log).unwrap_or_default();
        let tail = &bytes[bytes.len().saturating_sub(6_000)..];
        format!("{}:\n{}", log.display(), String::from_utf8_lossy(tail))
    }

    pub(crate) fn found_its_port_taken(&self) -> bool {
        fs::read(log(&self.dir))
            .is_ok_and(|log| String::from_utf8_lossy(&log).contains("Address already in use"))
    }
}

/// Ports that nobody listens on; one more, behind the port `proxy`, if that is given.
///
/// They lie below the range from which the kernel takes the ports of outgoing connections, so that
/// a restarted node finds its port free. Another process may still take one before the broker does.
pub(crate) fn free_ports(proxy: Option<u16>) -> Result<Ports, Error> {
    let mut taken = Vec::new();
    let mut free = || {
        let port = (0..200)
            .map(|_| fastrand::u16(15_000..32_000))
            .find(|&port| {
                !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
        taken.extend(port);
        port.ok_or_else(|| Error::failed("no free port between 15000 and 32000 on 127.0.0.1"))
    };
    let (broker, controller) = (free()?, free()?);
    let proxied = match proxy {
        Some(proxy) => Some(Proxied {
            port: free()?,
            proxy,
        }),
        None => None,
    };
    Ok(Ports {
        broker,
        controller,
        proxied,
    })
}

fn settings(dir: &Path) -> PathBuf {
    dir.join("server.properties")
}

pub(crate) fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn log(dir: &Path) -> PathBuf {
    dir.join("server.log")
}

/// Long enough for a machine that builds at the same time.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(60);
