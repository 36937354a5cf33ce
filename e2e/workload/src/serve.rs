//! The smallest HTTP server and client that a test of Services needs: every request is a log line.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
    thread,
};

use crate::number;

/// Answers every request with its number; never returns.
pub fn serve(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, number(port)?))
        .or_else(|_| TcpListener::bind(("0.0.0.0", number(port)?)))?;
    for (count, stream) in listener.incoming().flatten().enumerate() {
        thread::spawn(move || answer(&stream, count + 1));
    }
    Ok(())
}

fn answer(mut stream: &TcpStream, count: usize) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    writeln!(io::stdout(), "request {count:06} {path}")?;
    let body = format!("answer {count:06}\n");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Prints the body of the answer to one request.
pub fn get(address: &str, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(io::Error::other("an answer without an end of its head"));
    };
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("refused: {head}")));
    }
    io::stdout().write_all(body.as_bytes())
}
