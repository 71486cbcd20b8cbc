//! The few requests that the harness itself makes, a few bytes each.
//!
//! Written by hand, in versions that every broker here speaks, so that the judge does not depend on
//! the codec it judges.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::Duration,
};

/// A connection to a broker that has answered ApiVersions.
pub(crate) struct Broker {
    stream: TcpStream,
}

/// What a topic is to be.
pub(crate) struct NewTopic<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: i32,
    pub(crate) replicas: i16,
    pub(crate) configs: &'a [(&'a str, &'a str)],
}

impl Broker {
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let limit = Duration::from_secs(30);
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        let mut broker = Self { stream };
        match broker.exchange(API_VERSIONS, 0, &[])?.i16()? {
            0 => Ok(broker),
            error => Err(refused(format!("ApiVersions answered error {error}"))),
        }
    }

    /// The ids of the brokers it knows of, once there is a controller.
    pub(crate) fn brokers(&mut self) -> std::io::Result<Vec<i32>> {
        let no_topics = 0_i32.to_be_bytes();
        let mut metadata = self.exchange(METADATA, 1, &no_topics)?;
        let brokers = brokers(&mut metadata)?;
        match metadata.i32()? {
            0.. => Ok(brokers.into_iter().map(|broker| broker.id).collect()),
            _ => Err(refused("no controller yet".to_owned())),
        }
    }

    /// The partitions of `topic` that have a leader, with its address.
    pub(crate) fn led_partitions(
        &mut self,
        topic: &str,
    ) -> std::io::Result<Vec<(i32, SocketAddr)>> {
        let mut body = 1_i32.to_be_bytes().to_vec();
        put_string(&mut body, topic);
        let mut metadata = self.exchange(METADATA, 1, &body)?;
        let brokers = brokers(&mut metadata)?;
        metadata.i32()?; // controller
        metadata.i32()?; // one topic
        metadata.i16()?; // its error
        metadata.string()?;
        metadata.take(1)?; // is it internal
        let mut led = Vec::new();
        for _ in 0..metadata.i32()? {
            let error = metadata.i16()?;
            let index = metadata.i32()?;
            let leader = metadata.i32()?;
            for _replicas_then_isr in 0..2 {
                for _ in 0..metadata.i32()? {
                    metadata.i32()?;
                }
            }
            let leader = brokers.iter().find(|broker| broker.id == leader);
            if let (0, Some(leader)) = (error, leader) {
                led.push((index, leader.address()?));
            }
        }
        Ok(led)
    }

    /// Whether this broker leads `partition` and serves it: it takes over a moment after the cluster says so.
    pub(crate) fn serves(&mut self, topic: &str, partition: i32) -> std::io::Result<bool> {
        let mut body = (-1_i32).to_be_bytes().to_vec(); // no replica
        body.extend(1_i32.to_be_bytes());
        put_string(&mut body, topic);
        body.extend(1_i32.to_be_bytes());
        body.extend(partition.to_be_bytes());
        body.extend((-1_i64).to_be_bytes()); // where it ends
        let mut answer = self.exchange(LIST_OFFSETS, 1, &body)?;
        answer.i32()?; // one topic
        answer.string()?;
        answer.i32()?; // one partition
        answer.i32()?; // its index
        Ok(answer.i16()? == 0)
    }

    pub(crate) fn create_topic(&mut self, topic: &NewTopic<'_>) -> std::io::Result<()> {
        let mut body = 1_i32.to_be_bytes().to_vec();
        put_string(&mut body, topic.name);
        body.extend(topic.partitions.to_be_bytes());
        body.extend(topic.replicas.to_be_bytes());
        body.extend(0_i32.to_be_bytes()); // no assignments
        body.extend((topic.configs.len() as i32).to_be_bytes());
        for (key, value) in topic.configs {
            put_string(&mut body, key);
            put_string(&mut body, value);
        }
        body.extend(20_000_i32.to_be_bytes()); // timeout
        body.push(0); // not only to validate
        let mut answer = self.exchange(CREATE_TOPICS, 4, &body)?;
        answer.i32()?; // throttle time
        answer.i32()?; // one topic
        let name = answer.string()?;
        let error = answer.i16()?;
        let message = answer.string()?;
        if error == 0 {
            return Ok(());
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (name, message) = (text(name), text(message));
        Err(refused(format!(
            "creating topic {name}: error {error}: {message}"
        )))
    }

    fn exchange(&mut self, api_key: i16, version: i16, body: &[u8]) -> std::io::Result<Reply> {
        let mut frame = Vec::new();
        frame.extend((10 + body.len() as u32).to_be_bytes());
        frame.extend(api_key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(CORRELATION_ID.to_be_bytes());
        frame.extend((-1_i16).to_be_bytes()); // no client id
        frame.extend(body);
        self.stream.write_all(&frame)?;

        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if !(4..1 << 20).contains(&length) {
            return Err(refused(format!("an answer of {length} bytes")));
        }
        let mut answer = vec![0; length as usize];
        self.stream.read_exact(&mut answer)?;
        let body = answer.split_off(4);
        if answer != CORRELATION_ID.to_be_bytes() {
            return Err(refused("an answer to another request".to_owned()));
        }
        Ok(Reply(body))
    }
}

/// A broker as others tell of it.
struct Known {
    id: i32,
    host: String,
    port: i32,
}

impl Known {
    fn address(&self) -> std::io::Result<SocketAddr> {
        let port = u16::try_from(self.port).map_err(std::io::Error::other)?;
        let mut addresses = (self.host.as_str(), port).to_socket_addrs()?;
        addresses
            .next()
            .ok_or_else(|| refused(format!("{} has no address", self.host)))
    }
}

fn brokers(metadata: &mut Reply) -> std::io::Result<Vec<Known>> {
    let mut brokers = Vec::new();
    for _ in 0..metadata.i32()? {
        brokers.push(Known {
            id: metadata.i32()?,
            host: String::from_utf8_lossy(&metadata.string()?).into_owned(),
            port: metadata.i32()?,
        });
        metadata.string()?; // rack
    }
    Ok(brokers)
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

struct Reply(Vec<u8>);

impl Reply {
    fn take(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        if self.0.len() < count {
            return Err(refused("an answer cut short".to_owned()));
        }
        let rest = self.0.split_off(count);
        Ok(std::mem::replace(&mut self.0, rest))
    }

    fn i16(&mut self) -> std::io::Result<i16> {
        let bytes = self.take(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn i32(&mut self) -> std::io::Result<i32> {
        let bytes = self.take(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self) -> std::io::Result<Vec<u8>> {
        let length = self.i16()?.max(0);
        self.take(length.unsigned_abs().into())
    }
}

fn refused(what: String) -> std::io::Error {
    std::io::Error::other(what)
}

const LIST_OFFSETS: i16 = 2;
const API_VERSIONS: i16 = 18;
const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;
const CORRELATION_ID: i32 = 1;
