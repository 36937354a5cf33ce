//! HTTP/1.1 as far as log agents speak it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    thread,
    time::{Duration, Instant},
};

use super::{Answer, Mode, Shared};
use crate::{
    Outcome,
    count::{Encoding, Taken},
};

/// Time between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_secs(1);

/// How a request's body is framed and encoded.
struct Head {
    length: Option<usize>,
    encoding: Encoding,
    /// The sender waits until it is told to go on (RFC 9110 §10.1.1).
    expects: bool,
}

pub(super) fn serve(stream: impl Read + Write, answer: Answer, shared: &Shared) -> Outcome<()> {
    let mut stream = BufReader::with_capacity(256 << 10, stream);
    while let Some(head) = read_head(&mut stream)? {
        if head.expects {
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut bytes = Vec::new();
        match head.length {
            Some(length) => {
                bytes.resize(length, 0);
                stream.read_exact(&mut bytes)?;
            }
            None => read_chunks(&mut stream, &mut bytes)?,
        }
        let mode = shared.lock().mode;
        if matches!(mode, Mode::Healthy | Mode::Dripping) {
            shared.take(Taken {
                at: Instant::now(),
                encoding: head.encoding,
                bytes,
            });
        } else {
            let mut state = shared.lock();
            state.requests += 1;
            state.refused += usize::from(mode != Mode::Silent);
            drop(state);
            shared.changed.notify_all();
        }
        let text = match mode {
            Mode::Healthy | Mode::Dripping => format!(
                "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}",
                answer.status,
                answer.media_type,
                answer.body.len(),
                answer.body
            ),
            Mode::Refusing(status) => {
                format!("HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\n\r\n")
            }
            Mode::Silent => {
                // Until the sender gives up.
                let _ = stream.read(&mut [0]);
                return Ok(());
            }
            Mode::Closing => return Ok(()),
        };
        if mode == Mode::Dripping {
            for byte in text.bytes() {
                stream.get_mut().write_all(&[byte])?;
                thread::sleep(DRIP);
            }
        } else {
            stream.get_mut().write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

/// None when the sender has closed the connection.
fn read_head(stream: &mut impl BufRead) -> Outcome<Option<Head>> {
    let mut head = Head {
        length: Some(0),
        encoding: Encoding::Plain,
        expects: false,
    };
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some(head));
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = Some(value.parse()?),
            "transfer-encoding" => head.length = None,
            "expect" => head.expects = true,
            "content-encoding" => {
                head.encoding = match value {
                    "gzip" => Encoding::Gzip,
                    "zstd" => Encoding::Zstd,
                    _ => return Err(format!("content coding {value}").into()),
                }
            }
            _ => {}
        }
    }
}

/// A body in chunks (RFC 9112 §7.1).
fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> Outcome<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim_end(), 16)?;
        let begin = body.len();
        body.resize(begin + size, 0);
        stream.read_exact(&mut body[begin..])?;
        stream.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(());
        }
    }
}
