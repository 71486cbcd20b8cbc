//! The harness itself: the Kafka it starts serves, obeys, and leaves nothing behind.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ottla_protocol_tests::{
    Direction, Fate, Kafka, KafkaCluster, Kcat, Options, Python, Sample, Tool, Version, or_skip,
    sample, unique,
};

#[test]
fn kafkas_own_producer_and_consumer_work() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("harness");
    let tools = kafka.tools();
    tools.run(Tool::Topics, &["--create", "--topic", &topic]);
    tools.feed(
        Tool::ConsoleProducer,
        &["--topic", &topic],
        b"one\ntwo\nthree\n",
    );
    let read = tools.run(
        Tool::ConsoleConsumer,
        &["--topic", &topic, "--from-beginning", "--max-messages", "3"],
    );
    assert_eq!(read.text(), "one\ntwo\nthree\n");
}

#[test]
fn a_node_can_be_killed_restarted_paused_and_stopped() {
    let options = Options {
        version: Version::V3_9,
        ..Options::default()
    };
    let Some(cluster) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let address = cluster.address(1);
    let topic = unique("harness");
    cluster
        .tools()
        .run(Tool::Topics, &["--create", "--topic", &topic]);

    cluster.kill(1);
    assert!(!cluster.is_running(1));
    TcpStream::connect(address).expect_err("a killed node listens on nothing");

    cluster.restart(1).unwrap();
    assert_eq!(cluster.address(1), address, "on the port it had");
    let topics = cluster.tools().run(Tool::Topics, &["--list"]);
    assert!(
        topics.text().contains(&topic),
        "with the data it had: {}",
        topics.text()
    );

    cluster.pause(1);
    let list = ["--list"];
    let limit = Duration::from_secs(3);
    cluster
        .tools()
        .try_run(Tool::Topics, &list, None, limit)
        .expect_err("a paused node is silent");
    cluster.resume(1);
    cluster.tools().run(Tool::Topics, &list);

    let data = cluster.log_dir(1);
    assert!(data.exists());
    cluster.stop(1);
    drop(cluster);
    assert!(!data.exists(), "nothing is left behind");
}

#[test]
fn the_judges_agree_on_every_shape() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    let topic = unique("shapes");
    let tools = kafka.tools();
    kafka.create_topic(&topic, 1, &[("retention.ms", "-1")]);
    let mut samples = sample::every_shape();
    samples.push(sample::one_megabyte());
    for sample in &mut samples {
        sample.timestamp = sample.timestamp.max(1); // librdkafka takes 0 for "now"
    }
    python.produce(kafka.bootstrap(), &topic, "lz4", &samples);

    let by_python = python.consume(kafka.bootstrap(), &topic, samples.len());
    let by_kafka = tools.consume(&topic, samples.len(), &[]);
    assert_eq!(by_kafka, by_python);
    let read: Vec<_> = by_kafka.into_iter().map(|seen| seen.sample).collect();
    sample::assert_same("Python to Kafka", &read, &samples);

    let Some(cluster) = kafka.cluster() else {
        return;
    };
    let dump = cluster.dump(1, &topic, 0);
    assert_eq!(dump.records, samples.len());
    assert_eq!(
        dump.numbers("count").iter().sum::<i64>(),
        samples.len() as i64
    );
    assert!(!cluster.segment_bytes(1, &topic, 0).is_empty());
}

#[test]
fn the_console_producer_writes_nulls_and_headers() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("console");
    let tools = kafka.tools();
    kafka.create_topic(&topic, 1, &[]);
    let samples = [
        Sample::new(Some(b"k"), Some(b"v"))
            .header("h", Some(b"1"))
            .header("h", Some(b"2")),
        Sample::new(None, Some(b"")),
        Sample::new(Some(b""), None).header("n", None),
    ];
    tools.produce(&topic, "zstd", &samples);
    let read = tools.consume(&topic, samples.len(), &[]);
    assert_eq!(read.len(), samples.len());
    for (seen, sample) in read.iter().zip(&samples) {
        assert_eq!(seen.sample.clone().at(0), sample.clone().at(0));
    }
}

#[test]
fn kcat_and_python_reach_the_shared_broker() {
    let Some(kafka) = Kafka::shared() else { return };
    if let Some(kcat) = or_skip(Kcat::find()) {
        let metadata = kcat.run(&["-b", kafka.bootstrap(), "-L"], None);
        assert!(metadata.text().contains("broker"), "{}", metadata.text());
    }
    if let Some(python) = or_skip(Python::get()) {
        let script = "import sys; from confluent_kafka.admin import AdminClient\n\
                      print(len(AdminClient({'bootstrap.servers': sys.argv[1]})\
                      .list_topics(timeout=30).brokers))";
        let brokers = python.run(script, &[kafka.bootstrap()], None);
        assert!(brokers.text().trim().parse::<u32>().unwrap() >= 1);
    }
}

#[test]
fn clients_stay_on_the_proxy_and_rules_decide() {
    let options = Options {
        proxied: true,
        ..Options::default()
    };
    let Some(cluster) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let Some(kcat) = or_skip(Kcat::find()) else {
        return;
    };
    let topic = unique("proxied");
    cluster
        .tools()
        .run(Tool::Topics, &["--create", "--topic", &topic]);

    let bootstrap = cluster.proxied_bootstrap();
    let (sender, produced) = std::sync::mpsc::channel();
    cluster.proxy(1).rule(move |passing| {
        if passing.api_key == 0 {
            let _ = sender.send(passing.direction);
        }
        Fate::Pass
    });
    kcat.run(
        &["-P", "-b", &bootstrap, "-t", &topic],
        Some(b"through the proxy\n"),
    );
    let seen: Vec<_> = produced.try_iter().collect();
    assert_eq!(
        seen,
        [Direction::Request, Direction::Reply],
        "the producer came this way"
    );

    cluster.proxy(1).rule(|passing| match passing.direction {
        Direction::Reply => Fate::Cut,
        Direction::Request => Fate::Pass,
    });
    let read = ["-C", "-b", &bootstrap, "-t", &topic, "-e", "-q"];
    let failed = std::panic::catch_unwind(|| kcat.run(&read, None));
    assert!(failed.is_err(), "no reply arrives whole");

    cluster.proxy(1).pass_all();
    assert_eq!(kcat.run(&read, None).text(), "through the proxy\n");
}

#[test]
fn a_cluster_dies_with_the_process_that_started_it() {
    // Skips as the other tests do, and fetches what the child would otherwise fetch.
    let Some(_kafka) = Kafka::shared() else {
        return;
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_kafka"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let bootstrap: SocketAddr = lines.next().unwrap().unwrap().parse().unwrap();
    let node = lines.next().unwrap().unwrap();
    let data = Path::new(node.split_once("data in ").unwrap().1);
    assert!(data.exists());
    TcpStream::connect(bootstrap).unwrap();

    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while (data.exists() || TcpStream::connect(bootstrap).is_ok()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    TcpStream::connect(bootstrap).expect_err("the broker is gone");
    assert!(!data.exists(), "and so is its data");
}

#[test]
fn without_java_a_test_skips_aloud_or_fails_as_required() {
    let run = |required: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kafkas_own_producer_and_consumer_work"])
            .env("PATH", "/nonexistent")
            .env_remove("JAVA_HOME")
            .env_remove("OTTLA_BOOTSTRAP")
            .env("OTTLA_REQUIRE_KAFKA", required)
            .output()
            .unwrap()
    };
    let skipped = run("0");
    let said = String::from_utf8_lossy(&skipped.stderr);
    assert!(skipped.status.success(), "{said}");
    assert!(
        said.contains("skipped kafkas_own_producer_and_consumer_work: no Java"),
        "{said}"
    );
    assert!(said.contains("install Java 17"), "{said}");

    let failed = run("1");
    assert!(!failed.status.success());
    let said = String::from_utf8_lossy(&failed.stdout);
    assert!(said.contains("OTTLA_REQUIRE_KAFKA"), "{said}");
}
