//! The smallest client there can be: one request, one answer, over a blocking socket.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use ottla_wire::{Bytes, Request, decode_response, encode_request};

pub(crate) struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects to the first of `bootstrap`'s addresses.
    pub(crate) fn open(bootstrap: &str) -> Self {
        let address = bootstrap.split(',').next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(15)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            correlation_id: 0,
        }
    }

    /// The broker's answer; panics when there is none that can be understood.
    pub(crate) fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.try_call(request, version)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The broker's answer, or what was asked and why there is none.
    pub(crate) fn try_call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, String> {
        let asked = format!("{} {version} (API {})", R::NAME, R::KEY as i16);
        let body = self
            .exchange(request, version)
            .map_err(|error| format!("{asked} got no answer: {error}"))?;
        decode_response::<R>(version, body.clone())
            .map_err(|error| format!("the answer to {asked}: {error}\n{body:02x?}"))
    }

    fn exchange<R: Request>(&mut self, request: &R, version: i16) -> std::io::Result<Bytes> {
        self.correlation_id += 1;
        let frame = encode_request(request, version, self.correlation_id, Some("ottla-tests"))
            .unwrap_or_else(|error| panic!("{error}"));
        self.stream.write_all(&frame.to_bytes())?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        assert_eq!(
            body[..4],
            self.correlation_id.to_be_bytes(),
            "the answer to this request"
        );
        Ok(body.into())
    }
}
