//! A name server that knows one name and fails as a test tells it: messages of RFC 1035, by UDP and by TCP. It forwards nothing.

mod message;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use self::message::{Question, Reply};
use super::lock;

/// The longest message by UDP (RFC 1035 §4.2.1).
const LONGEST: usize = 512;

/// What it says of its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Saying {
    /// This address, which nobody is to remember.
    Address(Ipv4Addr),
    /// That there is no such name (`NXDOMAIN`).
    NoSuchName,
    /// That it cannot say (`SERVFAIL`).
    Failure,
    /// Nothing at all.
    Nothing,
}

/// A running name server. Dropping it ends it.
#[derive(Debug)]
pub struct NameServer {
    shared: Arc<Shared>,
    serving: [AbortHandle; 2],
}

#[derive(Debug)]
struct Shared {
    name: String,
    saying: Mutex<Saying>,
    /// Questions for an IPv4 address of the name since it was told what to say.
    asked: watch::Sender<usize>,
}

impl NameServer {
    /// Answers at this address, by UDP and by TCP, what is asked about `name`; of every other name it says that there is none.
    pub async fn start(address: SocketAddr, name: &str, saying: Saying) -> Result<Self> {
        let datagrams = UdpSocket::bind(address)
            .await
            .with_context(|| format!("failed to answer questions at {address} by UDP"))?;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("failed to answer questions at {address} by TCP"))?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            saying: Mutex::new(saying),
            asked: watch::Sender::default(),
        });
        let serving = [
            tokio::spawn(serve_datagrams(datagrams, Arc::clone(&shared))).abort_handle(),
            tokio::spawn(serve_connections(listener, Arc::clone(&shared))).abort_handle(),
        ];
        Ok(Self { shared, serving })
    }

    /// Changes what it says, from the next question on.
    pub fn say(&self, saying: Saying) {
        let mut now = lock(&self.shared.saying);
        *now = saying;
        self.shared.asked.send_replace(0);
    }

    /// Waits until it was asked so often for the address of its name, since it was told what to say.
    ///
    /// # Errors
    /// When the time is over.
    pub async fn until_asked(&self, times: usize, limit: Duration) -> Result<()> {
        let mut asked = self.shared.asked.subscribe();
        let enough = asked.wait_for(|asked| *asked >= times);
        match tokio::time::timeout(limit, enough).await {
            Ok(seen) => seen.map(drop).context("failed to watch the name server"),
            Err(_) => bail!(
                "waited {limit:?} for {times} questions; came: {}, with {:?} to be said",
                *self.shared.asked.borrow(),
                *lock(&self.shared.saying)
            ),
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        for serving in &self.serving {
            serving.abort();
        }
    }
}

async fn serve_datagrams(socket: UdpSocket, shared: Arc<Shared>) {
    let mut buffer = [0; LONGEST];
    loop {
        // An error here is one of somebody who has gone away.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some(reply) = shared.reply(&buffer[..length]) {
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

async fn serve_connections(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve_connection(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Each message behind its length (RFC 1035 §4.2.2), until the other side ends it.
async fn serve_connection(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    loop {
        let length = stream.read_u16().await.ok()?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await.ok()?;
        if let Some(reply) = shared.reply(&message) {
            let length = u16::try_from(reply.len()).ok()?;
            let framed = [&length.to_be_bytes()[..], &reply].concat();
            stream.write_all(&framed).await.ok()?;
        }
    }
}

impl Shared {
    /// What is answered to a message, if anything.
    fn reply(&self, message: &[u8]) -> Option<Vec<u8>> {
        let question = match Question::parse(message) {
            Ok(question) => question,
            Err(unreadable) => return unreadable.reply(),
        };
        if !question.is_about(&self.name) {
            return Some(question.reply(Reply::NoSuchName));
        }
        let saying = lock(&self.saying);
        if question.wants_address() {
            self.asked.send_modify(|asked| *asked += 1);
        }
        match *saying {
            Saying::Address(address) if question.wants_address() => {
                Some(question.reply(Reply::Address(address)))
            }
            // There is the name, and not what was asked of it.
            Saying::Address(_) => Some(question.reply(Reply::NoData)),
            Saying::NoSuchName => Some(question.reply(Reply::NoSuchName)),
            Saying::Failure => Some(question.reply(Reply::Failure)),
            Saying::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// `logs.example.com`, for the address, as RFC 1035 §4.1 writes it down.
    const QUESTION: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04logs\x07example\x03com\x00\x00\x01\x00\x01";

    fn expected(flags: [u8; 2], answer: &[u8]) -> Vec<u8> {
        let answers = u8::from(!answer.is_empty());
        let header = [0x12, 0x34, flags[0], flags[1], 0, 1, 0, answers, 0, 0, 0, 0];
        [&header[..], &QUESTION[12..], answer].concat()
    }

    #[tokio::test]
    async fn it_says_by_both_transports_what_it_is_told() {
        let address = Ipv4Addr::new(10, 1, 2, 3);
        // Both transports at one port, which has to be free for both.
        let port = super::super::port::free().unwrap();
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = NameServer::start(here, "logs.example.com", Saying::Nothing)
            .await
            .unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(here).await.unwrap();
        // A name that points at the question, type A, class IN, for no time, four bytes.
        let answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x0a\x01\x02\x03";
        socket.send(QUESTION).await.unwrap();
        server.until_asked(1, LIMIT).await.unwrap();
        for (saying, flags, answer) in [
            (Saying::Address(address), [0x85, 0x80], &answer[..]),
            (Saying::NoSuchName, [0x85, 0x83], b""),
            (Saying::Failure, [0x85, 0x82], b""),
        ] {
            server.say(saying);
            socket.send(QUESTION).await.unwrap();
            let mut reply = [0; LONGEST];
            let length = socket.recv(&mut reply).await.unwrap();
            let expected = expected(flags, answer);
            assert_eq!(reply[..length], expected, "{saying:?}");
            let mut stream = TcpStream::connect(here).await.unwrap();
            let length = u16::try_from(QUESTION.len()).unwrap();
            stream.write_u16(length).await.unwrap();
            stream.write_all(QUESTION).await.unwrap();
            let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut reply).await.unwrap();
            assert_eq!(reply, expected, "{saying:?}");
            server.until_asked(2, LIMIT).await.unwrap();
        }
    }
}
