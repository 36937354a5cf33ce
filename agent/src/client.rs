//! One connection to one sink, kept for as long as it works. Judges no answer.

mod body;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

pub use body::Outgoing;

use crate::{
    dial::{self, BoxedStream, DialError, Security},
    sink::{Answer, Destination, Quoter, Through},
};

/// A connection that was not used for so long may be gone without a word, to a firewall or a load balancer; finding out
/// would cost the time of a whole exchange, perhaps at the end of the pod.
const IDLE: Duration = Duration::from_secs(30);

/// What is read of an answer's body; more than that of it is of no use.
const MAX_ANSWER: usize = 64 << 10;

/// A load balancer needs one or two.
const MAX_COOKIES: usize = 8;
/// RFC 6265 §6.1.
const MAX_COOKIE: usize = 4096;

/// A sink's side of an exchange.
#[derive(Debug)]
pub struct Response {
    status: u16,
    retry_after: Option<Duration>,
    date: Option<SystemTime>,
    body: Vec<u8>,
}

impl Response {
    /// What time it is for the sink, if it says so.
    pub fn date(&self) -> Option<SystemTime> {
        self.date
    }

    /// For the sink to judge; `quoter` tells of it what may be told.
    pub fn answer<'a>(&'a self, quoter: &'a Quoter) -> Answer<'a> {
        Answer {
            status: self.status,
            retry_after: self.retry_after,
            body: &self.body,
            quoter,
        }
    }
}

/// Why there was no answer. Everything here is worth another attempt.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Broken off on the way.
    #[error("the exchange was broken off: {0}")]
    Exchange(#[source] hyper::Error),
    /// Not within the time for an answer.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

/// What every request of a kind has in common.
#[derive(Clone, Debug)]
struct Form {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Form {
    /// `to_proxy`: one that looks inside, and so needs the whole address; the path is enough otherwise (RFC 9112 §3.2).
    fn new(to_proxy: Option<&Through>, method: &Method, uri: &Uri, mut headers: HeaderMap) -> Self {
        if let Some(authority) = uri.authority()
            && let Ok(value) = authority.as_str().parse()
        {
            headers.insert(header::HOST, value);
        }
        if let Some(value) = to_proxy.and_then(|proxy| proxy.authorization.clone()) {
            headers.insert(header::PROXY_AUTHORIZATION, value);
        }
        let path = || uri.path_and_query().cloned().map(Uri::from);
        Self {
            method: method.clone(),
            uri: match to_proxy {
                Some(_) => uri.clone(),
                None => path().unwrap_or_default(),
            },
            headers,
        }
    }
}

/// What drives a connection in the background; it ends with the handle.
///
/// Left to itself it says farewell behind TLS, which waits for as long as the sink reads nothing: each attempt would
/// leave a socket and a body behind.
#[derive(Debug)]
struct Driver(JoinHandle<Result<(), hyper::Error>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that is ready for a request.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Outgoing>,
    _driver: Driver,
}

/// A client of one sink.
pub struct Client {
    host: String,
    port: u16,
    security: Option<Security>,
    proxy: Option<Through>,
    records: Form,
    question: Option<Form>,
    timeout: Duration,
    quoter: Quoter,
    connection: Option<(Connection, Instant)>,
    /// Kept for a collector that is asked what it has indexed: of several behind a load balancer only the one that
    /// took it knows, and a cookie leads there (Splunk: "About HTTP Event Collector Indexer Acknowledgment").
    cookies: Vec<(String, String)>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Client")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares a connection, without making one.
    ///
    /// # Errors
    /// When TLS or a proxy cannot be set up for it.
    pub fn new(destination: &Destination) -> Result<Self, DialError> {
        let uri = &destination.uri;
        let host = dial::host(uri).to_owned();
        let secure = uri.scheme_str() == Some("https");
        let proxy = match &destination.proxy {
            Some(proxy) => Some(proxy.clone()),
            None if destination.is_near => None,
            None => dial::proxy_of_environment(uri)?,
        };
        let mut quoter = destination.quoter.clone();
        // Also that of the environment, of which the sink itself knows nothing.
        let of_proxy = proxy
            .as_ref()
            .and_then(|proxy| proxy.authorization.as_ref());
        if let Some(authorization) = of_proxy {
            quoter.hide_header(authorization);
        }
        let to_proxy = proxy.as_ref().filter(|_| !secure);
        let form = |method: &Method, uri: &Uri, headers: &HeaderMap| {
            Form::new(to_proxy, method, uri, headers.clone())
        };
        Ok(Self {
            security: secure
                .then(|| Security::new(&destination.trust, &host))
                .transpose()?,
            port: dial::port(uri),
            records: form(&destination.method, uri, &destination.headers),
            question: destination
                .acknowledging
                .as_ref()
                .map(|asking| form(&Method::POST, &asking.uri, &asking.headers)),
            host,
            proxy,
            timeout: destination.timeout,
            quoter,
            connection: None,
            cookies: Vec::new(),
        })
    }

    /// Sends records and waits for the answer.
    ///
    /// # Errors
    /// When there is no answer; whether the sink has the records is then unknown.
    pub async fn send(&mut self, body: Bytes) -> Result<Response, Failure> {
        let form = self.records.clone();
        self.request(&form, body.into()).await
    }

    /// Asks what is indexed; none where the sink is not to be asked.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(&mut self, body: Bytes) -> Option<Result<Response, Failure>> {
        let form = self.question.clone()?;
        Some(self.request(&form, body.into()).await)
    }

    /// Puts an object at an address of this server, with these headers.
    ///
    /// # Errors
    /// When there is no answer; whether the sink has the object is then unknown.
    pub async fn put(
        &mut self,
        uri: &Uri,
        headers: HeaderMap,
        body: Outgoing,
    ) -> Result<Response, Failure> {
        self.ask_for(&Method::PUT, uri, headers, body).await
    }

    /// Posts something to an address of this server, with these headers.
    ///
    /// # Errors
    /// When there is no answer; whether the server has it is then unknown.
    pub async fn post(
        &mut self,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Failure> {
        self.ask_for(&Method::POST, uri, headers, body.into()).await
    }

    async fn ask_for(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: HeaderMap,
        body: Outgoing,
    ) -> Result<Response, Failure> {
        let to_proxy = self.proxy.as_ref().filter(|_| self.security.is_none());
        let form = Form::new(to_proxy, method, uri, headers);
        self.request(&form, body).await
    }

    /// The proxy on the way, that of the policy or that of the environment.
    pub fn proxy(&self) -> Option<&Through> {
        self.proxy.as_ref()
    }

    /// Tells what may be told of what is said at the other end.
    pub fn quoter(&self) -> &Quoter {
        &self.quoter
    }

    /// Gives the connection up, for a long wait.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    async fn request(&mut self, form: &Form, body: Outgoing) -> Result<Response, Failure> {
        if let Some((mut kept, used)) = self.connection.take()
            && used.elapsed() < IDLE
        {
            // A kept connection may have been closed by the sink in the meantime: that is no failure of the sink.
            if kept.sender.ready().await.is_ok() {
                match self.exchange(kept, form, body.clone()).await {
                    Err(Failure::Exchange(_)) => {}
                    outcome => return outcome,
                }
            }
        }
        let stream = dial::in_time(self.connect()).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::Exchange)?;
        let connection = Connection {
            sender,
            // What it ends with is seen by the exchange.
            _driver: Driver(tokio::spawn(driver)),
        };
        self.exchange(connection, form, body).await
    }

    async fn connect(&self) -> Result<BoxedStream, DialError> {
        match (&self.proxy, &self.security) {
            (None, None) => Ok(Box::new(dial::tcp(&self.host, self.port).await?)),
            (None, Some(security)) => {
                security
                    .secure(dial::tcp(&self.host, self.port).await?)
                    .await
            }
            (Some(proxy), security) => {
                let stream = dial::proxy(proxy).await?;
                let Some(security) = security else {
                    return Ok(Box::new(stream));
                };
                let authorization = proxy.authorization.as_ref();
                let tunnel = dial::tunnel(stream, authorization, &self.host, self.port).await?;
                security.secure(tunnel).await
            }
        }
    }

    fn cookie(&self) -> Option<HeaderValue> {
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut value = HeaderValue::try_from(pairs.join("; ")).ok()?;
        value.set_sensitive(true);
        (!pairs.is_empty()).then_some(value)
    }

    /// Name and value are enough: one server, one session (RFC 6265 §5.2).
    fn keep_cookies(&mut self, headers: &HeaderMap) {
        for header in headers.get_all(header::SET_COOKIE) {
            let Some((name, value)) = header
                .to_str()
                .ok()
                .and_then(|text| text.split(';').next()?.split_once('='))
            else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim());
            self.cookies.retain(|(known, _)| known != name);
            if self.cookies.len() < MAX_COOKIES && name.len() + value.len() <= MAX_COOKIE {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    async fn exchange(
        &mut self,
        mut connection: Connection,
        form: &Form,
        body: Outgoing,
    ) -> Result<Response, Failure> {
        let longest = self.timeout + body.longer();
        let mut request = Request::new(body);
        *request.method_mut() = form.method.clone();
        *request.uri_mut() = form.uri.clone();
        request.headers_mut().clone_from(&form.headers);
        if let Some(cookies) = self.cookie() {
            request.headers_mut().insert(header::COOKIE, cookies);
        }
        let exchange = async {
            let response = connection.sender.send_request(request).await?;
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            let date = headers.get(header::DATE).and_then(read_date);
            let retry_after = retry_after(&headers, date.unwrap_or_else(SystemTime::now));
            let mut incoming = response.into_body();
            let mut body = Vec::new();
            let mut whole = true;
            while let Some(frame) = incoming.frame().await {
                if let Ok(data) = frame?.into_data() {
                    let room = MAX_ANSWER - body.len();
                    body.extend_from_slice(&data[..data.len().min(room)]);
                    if data.len() > room {
                        whole = false;
                        break;
                    }
                }
            }
            Ok((
                Response {
                    status,
                    retry_after,
                    date,
                    body,
                },
                headers,
                whole,
            ))
        };
        let (response, headers, whole) = timeout(longest, exchange)
            .await
            .map_err(|_| Failure::Timeout(longest))?
            .map_err(Failure::Exchange)?;
        if self.question.is_some() {
            self.keep_cookies(&headers);
        }
        if whole {
            self.connection = Some((connection, Instant::now()));
        }
        Ok(response)
    }
}

/// When the sink wants to be asked again: in seconds or at a date (RFC 9110 §10.2.3), by its own clock where it says what time
/// it is: that of the node may be another.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    // A date that is over asks for nothing.
    Some(date.duration_since(now).unwrap_or_default())
}

fn read_date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let asked = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value)]), now)
        };
        let seconds = |number| Some(Duration::from_secs(number));
        assert_eq!(asked("7"), seconds(7));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:50 GMT"), seconds(13));
        assert_eq!(asked("Sunday, 06-Nov-94 08:49:50 GMT"), seconds(13));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:00 GMT"), seconds(0));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
    }
}
