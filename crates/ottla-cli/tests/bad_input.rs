//! What the tool makes of mistakes: an exit status, one paragraph on standard error, in time.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

struct Ended {
    status: i32,
    out: String,
    err: String,
}

/// Runs the tool, which must end by itself within ten seconds.
fn ottla(arguments: &[&str]) -> Ended {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(arguments)
        .env_remove("OTTLA_BOOTSTRAP")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = read_all(child.stdout.take().unwrap());
    let err = read_all(child.stderr.take().unwrap());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("{arguments:?} did not end within {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(10));
    };
    Ended {
        status: status.code().expect("no signal ended it"),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

/// Reads while it runs: a pipe that nobody empties stops who writes much.
fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

/// Fails with `status` and says each of `words`.
#[track_caller]
fn fails(arguments: &[&str], status: i32, words: &[&str]) {
    let ended = ottla(arguments);
    assert_eq!(ended.status, status, "{arguments:?}: {}", ended.err);
    assert_eq!(ended.out, "", "{arguments:?}");
    for word in words {
        assert!(
            ended.err.contains(word),
            "{arguments:?} does not say {word:?}: {}",
            ended.err
        );
    }
}

#[test]
fn mistaken_settings_are_named_with_what_would_be_right() {
    let commands: [&[&str]; 3] = [
        &["cluster"],
        &["produce", "-t", "t"],
        &["consume", "-t", "t"],
    ];
    for command in commands {
        let with = |options: &[&'static str]| [command, options].concat();
        fails(
            &with(&["-X", "lingre.ms=5"]),
            2,
            &["option -X", "lingre.ms", "did you mean `linger.ms`"],
        );
        fails(
            &with(&["-X", "linger.ms=soon"]),
            2,
            &["linger.ms", "soon", "0 to 900000 ms"],
        );
        fails(&with(&["-X", "linger.ms"]), 2, &["KEY=VALUE", "-X list"]);
        fails(
            &with(&["-X", "security.protocol=ssl"]),
            2,
            &["not implemented"],
        );
        fails(
            &with(&["-b", "http://kafka:9092"]),
            2,
            &["option -b", "URL"],
        );
        fails(&with(&["-F", "/no/such/file"]), 2, &["/no/such/file"]);
    }
    fails(
        &["produce", "-t", "t", "-z", "rar"],
        2,
        &["option -z", "rar", "zstd"],
    );
    fails(
        &["consume", "-t", "t", "-o", "middle"],
        2,
        &["middle", "beginning"],
    );
    fails(&["consume", "-t", "t", "-o", "1", "-o", "2"], 2, &["-o"]);
    fails(&["consume", "-t", "t", "-f", "%y"], 2, &["%y", "%s value"]);
    fails(&["consume", "-t", "t", "-o", "stored"], 2, &["group.id"]);
}

#[test]
fn a_properties_file_is_named_with_its_line() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "# settings\nacks = all\nfetch.max.bites = 1").unwrap();
    let path = file.path().to_str().unwrap();
    fails(
        &["cluster", "-F", path],
        2,
        &[&format!("{path}:3"), "did you mean `fetch.max.bytes`"],
    );
}

#[test]
fn nobody_at_the_address() {
    // Bound and dropped: nothing listens there now.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    for command in [
        &["cluster"][..],
        &["topics", "list"],
        &["produce", "-t", "t"],
        &["consume", "-t", "t"],
    ] {
        let all = [command, &["-b", &address, "--timeout", "1"]].concat();
        fails(&all, 3, &[&address, "cannot connect"]);
    }
}

#[test]
fn a_name_that_is_none() {
    fails(
        &[
            "cluster",
            "-b",
            "no-such-host.invalid:9092",
            "--timeout",
            "2",
        ],
        3,
        &["no-such-host.invalid"],
    );
}

#[test]
fn a_web_server_at_the_address() {
    let address = impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let address = address.to_string();
    fails(
        &["cluster", "-b", &address, "--timeout", "5"],
        3,
        &[&address, "HTTP"],
    );
}

#[test]
fn a_tls_server_at_the_address() {
    // An alert, as a server sends that was not greeted as it expects.
    let address = impostor(&[21, 3, 3, 0, 2, 2, 10]).to_string();
    fails(
        &["cluster", "-b", &address, "--timeout", "5"],
        3,
        &[&address, "TLS"],
    );
}

#[test]
fn a_silent_server_at_the_address() {
    let address = impostor(b"").to_string();
    fails(&["cluster", "-b", &address, "--timeout", "1"], 3, &[]);
}

#[test]
fn the_table_of_settings_needs_no_cluster() {
    let ended = ottla(&["-X", "list"]);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert!(ended.out.contains("linger.ms"));
    let ended = ottla(&["-X", "dump", "-X", "linger.ms=7", "-X", "sasl.password="]);
    assert!(ended.out.contains("linger.ms=7\n") && ended.out.contains("sasl.password=[hidden]\n"));
    let ended = ottla(&["completions", "bash"]);
    assert!(ended.status == 0 && ended.out.contains("_ottla"));
    assert_eq!(ottla(&[]).status, 2);
    assert_eq!(ottla(&["--version"]).status, 0);
}

/// Answers every connection's first bytes with `answer`, then says no more.
fn impostor(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut greeting = [0; 1024];
                while stream.read(&mut greeting).is_ok_and(|n| n > 0) {
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

const LIMIT: Duration = Duration::from_secs(10);
