//! Apache Kafka as it is run here: a Java, and a directory of jars from Maven Central.
//!
//! Owns the cache entries of each version, and the command line that every Kafka class is run with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    time::Duration,
};

use crate::{Error, Options, cache, cluster::KafkaCluster, process::Process};

/// The Kafka versions that the tests know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Version {
    /// 4.3.1, the newest.
    #[default]
    V4_3_1,
    /// 3.9.2, the newest patch of the oldest line that is still maintained.
    V3_9,
}

impl Version {
    /// The version's number.
    pub fn number(self) -> &'static str {
        match self {
            Self::V4_3_1 => "4.3.1",
            Self::V3_9 => "3.9.2",
        }
    }

    fn pom(self) -> &'static str {
        match self {
            Self::V4_3_1 => include_str!("../kafka/4.3.1/pom.xml"),
            Self::V3_9 => include_str!("../kafka/3.9.2/pom.xml"),
        }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "4" | "4.3" | "4.3.1" => Ok(Self::V4_3_1),
            "3" | "3.9" | "3.9.2" => Ok(Self::V3_9),
            _ => Err(format!("no Kafka {text} here: 4.3.1 and 3.9.2 are known")),
        }
    }
}

/// A Kafka ready to be run.
#[derive(Debug, Clone)]
pub struct Distribution {
    version: Version,
    java: PathBuf,
    dir: PathBuf,
    classes: ClassArchive,
}

/// Java's class data sharing: what one run of a broker parsed and verified, kept for every later
/// run. It takes a third off the start of a broker or tool.
#[derive(Debug, Clone)]
enum ClassArchive {
    None,
    Write(PathBuf),
    Use(PathBuf),
}

impl Distribution {
    /// Finds Java, and fetches the jars unless an earlier run did.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without Java 17, without Maven when the jars must be fetched, and when
    /// Maven cannot reach its repository.
    pub fn get(version: Version) -> Result<Self, Error> {
        let (java, java_version) = java()?;
        let name = format!("kafka-{}", version.number());
        let recipe = format!("{}{LOG4J2}{LOG4J}", version.pom());
        let dir = cache::entry(&name, &recipe, |dir| fetch(version, dir))?;
        let mut kafka = Self {
            version,
            java,
            dir,
            classes: ClassArchive::None,
        };

        let recipe = format!("{java_version}{recipe}");
        let archived = cache::entry(&format!("{name}-classes"), &recipe, |dir| {
            kafka.archive_classes(dir)
        });
        if let Ok(dir) = archived {
            kafka.classes = ClassArchive::Use(dir.join(CLASSES));
        }
        Ok(kafka)
    }

    /// The version of this Kafka.
    pub fn version(&self) -> Version {
        self.version
    }

    /// `java`, ready for the name of a class of Kafka, or of `more_classes`, and its arguments.
    pub(crate) fn java(
        &self,
        heap_mb: u32,
        log_level: &str,
        more_classes: Option<&Path>,
    ) -> Command {
        let mut java = Command::new(&self.java);
        java.arg(format!("-Xmx{heap_mb}m"))
            // A test's JVM lives for seconds: the second compiler never pays itself back, and one
            // collector thread suits machines with two cores.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            // Silences the archive's warnings; a Java that cannot use it goes on without.
            .args(["-Xlog:disable", "-Xshare:auto"])
            .arg(format!("-Dottla.log.level={log_level}"))
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                self.path("log4j2.xml")
            ))
            .arg(format!(
                "-Dlog4j.configuration=file:{}",
                self.path("log4j.properties")
            ));
        match &self.classes {
            ClassArchive::None => {}
            ClassArchive::Write(path) => {
                java.arg(format!("-XX:ArchiveClassesAtExit={}", path.display()));
            }
            ClassArchive::Use(path) => {
                java.arg(format!("-XX:SharedArchiveFile={}", path.display()));
            }
        }
        // Kafka's first: the class archive holds for what the class path begins with.
        let mut classes = self.jars();
        if let Some(more) = more_classes {
            classes = format!("{classes}:{}", more.display());
        }
        java.args(["-cp", &classes]);
        java
    }

    /// The class path of Kafka's own jars.
    pub(crate) fn jars(&self) -> String {
        self.path("libs/*")
    }

    /// The compiler that belongs to this Java.
    pub(crate) fn compiler(&self) -> PathBuf {
        self.java.with_file_name("javac")
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn archive_classes(&self, dir: &Path) -> Result<(), Error> {
        let classes = ClassArchive::Write(dir.join(CLASSES));
        let writing = Self {
            classes,
            ..self.clone()
        };
        let cluster = KafkaCluster::start_on(&writing, Options::default())?;
        for node in cluster.nodes() {
            cluster.stop(node);
        }
        if dir.join(CLASSES).exists() {
            Ok(())
        } else {
            Err(Error::failed("Java wrote no class archive"))
        }
    }
}

fn fetch(version: Version, dir: &Path) -> Result<(), Error> {
    let number = version.number();
    let write = |name: &str, text: &str| {
        fs::write(dir.join(name), text).map_err(|e| Error::io(&format!("writing {name}"), &e))
    };
    write("pom.xml", version.pom())?;
    write("log4j2.xml", LOG4J2)?;
    write("log4j.properties", LOG4J)?;
    if Command::new("mvn").arg("-v").output().is_err() {
        return Err(Error::missing(
            format!("no Maven (`mvn`) to fetch Kafka {number} with"),
            "install it (Debian: apt-get install maven)",
        ));
    }
    let mut maven = Command::new("mvn");
    maven
        .args(["-B", "-q", "dependency:copy-dependencies"])
        .arg("-f")
        .arg(dir.join("pom.xml"))
        .arg(format!("-DoutputDirectory={}", dir.join("libs").display()));
    let output = Process::run("mvn", &mut maven, None, FETCH_LIMIT)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::missing(
        format!(
            "Maven could not fetch Kafka {number}: {}",
            output.text().trim()
        ),
        "give it access to Maven Central or a mirror (~/.m2/settings.xml)",
    ))
}

/// A Java that runs Kafka 4, and what it says of its version.
fn java() -> Result<(PathBuf, String), Error> {
    let java = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home).join("bin").join("java"),
        None => PathBuf::from("java"),
    };
    let remedy = "install Java 17 or newer (Debian: apt-get install default-jdk-headless) or set \
                  JAVA_HOME";
    let output = Command::new(&java)
        .arg("-version")
        .output()
        .map_err(|e| Error::missing(format!("no Java at {} ({e})", java.display()), remedy))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // `openjdk version "17.0.15" 2025-04-15`, and `"1.8.0_392"` before Java 9.
    let major = said
        .split('"')
        .nth(1)
        .and_then(|version| version.split(['.', '-', '+']).next()?.parse::<u32>().ok());
    match major {
        Some(17..) => Ok((java, said)),
        _ => Err(Error::missing(
            format!(
                "{} is too old: {}",
                java.display(),
                said.lines().next().unwrap_or_default()
            ),
            remedy,
        )),
    }
}

const CLASSES: &str = "classes.jsa";
const LOG4J2: &str = include_str!("../kafka/log4j2.xml");
const LOG4J: &str = include_str!("../kafka/log4j.properties");
const FETCH_LIMIT: Duration = Duration::from_secs(600);
