//! The other end: takes what it is sent, answers at once as the vendor does, and keeps everything for the count.

mod http;
mod syslog;
pub mod tls;

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Outcome,
    count::{Lines, Taken},
};

/// What carries the records, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1; each request is answered with this.
    Http(Answer),
    /// A stream without answers.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A successful answer over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code and phrase.
    pub status: &'static str,
    /// Media type of the body.
    pub media_type: &'static str,
    /// Body.
    pub body: &'static str,
}

/// What a receiver does with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Takes them.
    #[default]
    Healthy,
    /// Reads them and answers with this status.
    Refusing(u16),
    /// Reads them and never answers.
    Silent,
    /// Reads them and closes the connection.
    Closing,
    /// Takes them and answers one byte a second.
    Dripping,
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    taken: Vec<Taken>,
    /// Requests that were read to their end, whatever became of them.
    requests: usize,
    /// Those that were refused since the mode was changed.
    refused: usize,
    /// Connections that are open.
    open: usize,
    last: Option<Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A receiver; it listens until the benchmark ends.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Listens on loopback.
    pub fn start(wire: Wire, encrypted: bool) -> Outcome<Self> {
        let shared = Arc::new(Shared::default());
        let address = if wire == Wire::Udp {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let address = socket.local_addr()?;
            let shared = Arc::clone(&shared);
            syslog::widen(&socket)?;
            thread::spawn(move || syslog::datagrams(&socket, &shared).is_ok());
            address
        } else {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, wire, encrypted, &shared));
            address
        };
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of the requests that come from now on.
    pub fn become_(&self, mode: Mode) {
        let mut state = self.shared.lock();
        state.mode = mode;
        state.refused = 0;
    }

    /// Waits until `fact` is true of the number of requests.
    pub fn until_requests(
        &self,
        what: &str,
        limit: Duration,
        fact: impl Fn(usize) -> bool,
    ) -> Outcome<()> {
        self.until_state(what, limit, |state| fact(state.requests))
    }

    /// Waits until a request was refused.
    pub fn until_refused(&self, limit: Duration) -> Outcome<()> {
        self.until_state("a refused request", limit, |state| state.refused > 0)
    }

    /// Waits until every connection is closed: what their senders wrote before they ended has then been read.
    pub fn settle(&self) -> Outcome<()> {
        let limit = Duration::from_secs(10);
        self.until_state("the end of every connection", limit, |state| {
            state.open == 0
        })
    }

    fn until_state(
        &self,
        what: &str,
        limit: Duration,
        fact: impl Fn(&State) -> bool,
    ) -> Outcome<()> {
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), limit, |state| !fact(state))
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            let requests = state.requests;
            return Err(format!("waited {limit:?} for {what}; {requests} requests came").into());
        }
        Ok(())
    }

    /// Waits until something has come and then nothing more for `pause`.
    pub fn until_rest(&self, pause: Duration, limit: Duration) -> Outcome<()> {
        let begun = Instant::now();
        let mut state = self.shared.lock();
        loop {
            let rested = state.last.map(|last| last.elapsed());
            if state.taken.is_empty() || rested.is_none() {
                if begun.elapsed() > limit {
                    return Err(format!("nothing came for {limit:?}").into());
                }
            } else if rested >= Some(pause) {
                return Ok(());
            }
            (state, _) = self
                .shared
                .changed
                .wait_timeout(state, pause)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts what came since the last count.
    pub fn count(&self, lines: &mut Lines) -> Outcome<()> {
        let taken = std::mem::take(&mut self.shared.lock().taken);
        lines.add(&taken)
    }

    /// Counts until every line has come.
    ///
    /// # Errors
    /// When nothing new came for `limit`.
    pub fn until_complete(&self, lines: &mut Lines, limit: Duration) -> Outcome<()> {
        self.until(lines, limit, Lines::complete)
    }

    /// Counts until `fact` is true of the lines.
    pub fn until(
        &self,
        lines: &mut Lines,
        limit: Duration,
        fact: impl Fn(&Lines) -> bool,
    ) -> Outcome<()> {
        loop {
            self.count(lines)?;
            if fact(lines) {
                return Ok(());
            }
            let (state, _) = self
                .shared
                .changed
                .wait_timeout_while(self.shared.lock(), limit, |state| state.taken.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            if state.taken.is_empty() {
                return Err(format!(
                    "of {} lines {} came and nothing more for {limit:?}",
                    lines.arrived.len(),
                    lines.unique
                )
                .into());
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, taken: Taken) {
        let mut state = self.lock();
        state.last = Some(taken.at);
        state.requests += 1;
        state.taken.push(taken);
        self.changed.notify_all();
    }
}

fn accept(listener: &TcpListener, wire: Wire, encrypted: bool, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        let shared = Arc::clone(shared);
        shared.lock().open += 1;
        thread::spawn(move || {
            // A sender that breaks off has what it was answered.
            let _ = serve(stream, wire, encrypted, &shared);
            shared.lock().open -= 1;
            shared.changed.notify_all();
        });
    }
}

fn serve(stream: TcpStream, wire: Wire, encrypted: bool, shared: &Shared) -> Outcome<()> {
    // Answers are small and must not wait for the sender's acknowledgement.
    stream.set_nodelay(true)?;
    match (wire, encrypted) {
        (Wire::Http(answer), false) => http::serve(stream, answer, shared),
        (Wire::Http(answer), true) => http::serve(tls::accept(stream)?, answer, shared),
        (_, false) => syslog::stream(stream, shared),
        (_, true) => syslog::stream(tls::accept(stream)?, shared),
    }
}
