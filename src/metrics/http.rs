//! The metrics listener: one thread, a connection a task, each answered once and closed. However many
//! connect and say nothing, there are only so many connections, each for only so long, and none waits
//! for another but for the text, which is made for one at a time.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tercel_transport::Wake;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Query;

/// How much strangers may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections at once. Another one takes the place of the oldest that has not asked yet.
    connections: usize,
    /// How long a connection may last.
    lifetime: Duration,
    /// How long the executor may take to answer.
    patience: Duration,
}

const LIMITS: Limits = Limits { connections: 16, lifetime: Duration::from_secs(10), patience: Duration::from_secs(5) };
/// Longest request head read; the least the library takes.
const HEAD_LEN_MAX: usize = 8192;
/// How long to wait when no connection can be accepted, for want of descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the text comes from.
struct Source {
    queries: mpsc::Sender<Query>,
    waker: Arc<dyn Wake>,
    /// Held by whoever asks: so many scrapers at once are one after the other to the executor.
    turn: Mutex<()>,
    patience: Duration,
}

impl Source {
    /// The metrics; `None` if the executor did not make them in time.
    async fn text(&self) -> Option<String> {
        let ask = async {
            let _turn = self.turn.lock().await;
            let (reply, text) = oneshot::channel();
            self.queries.send(Query { reply }).ok()?;
            self.waker.wake();
            text.await.ok()
        };
        timeout(self.patience, ask).await.ok().flatten()
    }
}

/// Serves metrics on a listener until the process ends, on `cpus` if there are any.
///
/// # Errors
/// The thread cannot be started, or what it needs to wait for several connections is not to be had.
pub fn serve(
    listener: TcpListener,
    queries: mpsc::Sender<Query>,
    waker: Arc<dyn Wake>,
    cpus: Vec<usize>,
) -> std::io::Result<()> {
    serve_within(LIMITS, listener, queries, waker, cpus)
}

fn serve_within(
    limits: Limits,
    listener: TcpListener,
    queries: mpsc::Sender<Query>,
    waker: Arc<dyn Wake>,
    cpus: Vec<usize>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    listener.set_nonblocking(true)?;
    let source = Arc::new(Source { queries, waker, turn: Mutex::new(()), patience: limits.patience });
    let listener = {
        let _within = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        crate::process::sys::run_on(&cpus);
        runtime.block_on(accept(limits, listener, source));
    })?;
    Ok(())
}

struct Open {
    task: JoinHandle<()>,
    asked: Arc<AtomicBool>,
}

async fn accept(limits: Limits, listener: tokio::net::TcpListener, source: Arc<Source>) {
    let mut open: Vec<Open> = Vec::with_capacity(limits.connections);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("metrics: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.task.is_finished());
        if open.len() >= limits.connections {
            let idle = open.iter().position(|connection| !connection.asked.load(Ordering::Relaxed));
            open.remove(idle.unwrap_or(0)).task.abort();
        }
        let asked = Arc::new(AtomicBool::new(false));
        let answered = answer(stream, source.clone(), asked.clone());
        let task = tokio::spawn(async move {
            match timeout(limits.lifetime, answered).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("metrics: {error}"),
                Err(_) => tracing::debug!("metrics: a connection took too long"),
            }
        });
        open.push(Open { task, asked });
    }
}

async fn answer(stream: TcpStream, source: Arc<Source>, asked: Arc<AtomicBool>) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let source = source.clone();
        asked.store(true, Ordering::Relaxed);
        async move { Ok::<_, Infallible>(respond(&request, &source).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_LEN_MAX)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(request: &Request<Incoming>, source: &Source) -> Response<String> {
    let mut response = Response::new(String::new());
    if !matches!(request.uri().path(), "/metrics" | "/") {
        *response.status_mut() = StatusCode::NOT_FOUND;
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
    } else if let Some(text) = source.text().await {
        // The body of an answer to HEAD is left out by the library, its length is not.
        *response.body_mut() = text;
        let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    } else {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpStream};

    use super::*;

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    /// Long enough that nothing of it is over while a test runs.
    const LONG: Duration = Duration::from_secs(3600);
    /// A read that lasts so long has failed.
    const HANGS: Duration = Duration::from_secs(60);
    const PATIENT: Limits = Limits { connections: 64, lifetime: LONG, patience: LONG };

    /// A listener, and what it asks the executor.
    fn listening(limits: Limits) -> (SocketAddr, mpsc::Receiver<Query>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::channel();
        serve_within(limits, listener, sender, Arc::new(NoWake), Vec::new()).unwrap();
        (addr, receiver)
    }

    /// With an executor that answers at once.
    fn answering(limits: Limits) -> SocketAddr {
        let (addr, queries) = listening(limits);
        std::thread::spawn(move || queries.iter().for_each(|query| drop(query.reply.send("a 1\n".to_owned()))));
        addr
    }

    fn connect(addr: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(HANGS)).unwrap();
        stream
    }

    fn rest(mut stream: TcpStream) -> String {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn asked(addr: SocketAddr, line: &str) -> String {
        let mut stream = connect(addr);
        write!(stream, "{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        rest(stream)
    }

    fn is_open(stream: &mut TcpStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn silence_and_half_a_request_hold_nobody_up() {
        let addr = answering(PATIENT);
        let mut idle: Vec<TcpStream> = (0..5).map(|_| connect(addr)).collect();
        let mut half = connect(addr);
        half.write_all(b"GET /metrics HT").unwrap();
        let reply = asked(addr, "GET /metrics");
        assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with("\r\n\r\na 1\n"), "{reply}");
        assert!(idle.iter_mut().all(is_open), "they were ended first");
        half.write_all(b"TP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(rest(half).ends_with("a 1\n"));
    }

    #[test]
    fn what_is_asked_is_understood() {
        let addr = answering(PATIENT);
        for line in ["GET /metrics?x=1", "GET /metrics", "GET /", "GET /?a=b&c"] {
            let reply = asked(addr, line);
            assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with("\r\n\r\na 1\n"), "{line}: {reply}");
        }
        let head = asked(addr, "HEAD /metrics");
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains("Content-Length: 4\r\n") && head.contains("text/plain; version=0.0.4"), "{head}");
        for (line, status) in [
            ("GET /metric", "404 Not Found"),
            ("GET /metrics/x?/metrics", "404 Not Found"),
            ("POST /metrics", "405 Method Not Allowed"),
            ("DELETE /", "405 Method Not Allowed"),
            ("NONSENSE", "400 Bad Request"),
        ] {
            assert!(asked(addr, line).starts_with(&format!("HTTP/1.1 {status}\r\n")), "{line}");
        }
        assert!(asked(addr, "POST /").contains("Allow: GET, HEAD\r\n"));
        let mut long = connect(addr);
        let mut reply = Vec::new();
        // What it does not read may make the end of the connection an error.
        let _ = write!(long, "GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
        let _ = long.read_to_end(&mut reply);
        assert!(!reply.starts_with(b"HTTP/1.1 200"), "{}", reply.escape_ascii());
    }

    #[test]
    fn a_flood_of_connections_is_bounded() {
        let addr = answering(Limits { connections: 8, ..PATIENT });
        let mut flood: Vec<TcpStream> = (0..50).map(|_| connect(addr)).collect();
        assert!(asked(addr, "GET /metrics").ends_with("a 1\n"));
        // The scrape and the seven before it have a place; those before them gave up theirs.
        for stream in flood.drain(..43) {
            assert_eq!(rest(stream), "");
        }
        assert!(flood.iter_mut().all(is_open));
    }

    #[test]
    fn whoever_has_asked_keeps_his_place() {
        let (addr, queries) = listening(Limits { connections: 2, ..PATIENT });
        let mut scraper = connect(addr);
        scraper.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let query = queries.recv().unwrap();
        let idle: Vec<TcpStream> = (0..4).map(|_| connect(addr)).collect();
        for stream in idle.into_iter().take(3) {
            assert_eq!(rest(stream), "");
        }
        query.reply.send("b 2\n".to_owned()).unwrap();
        assert!(rest(scraper).ends_with("b 2\n"));
    }

    #[test]
    fn a_connection_ends_by_itself() {
        let addr = answering(Limits { lifetime: Duration::from_millis(1), ..PATIENT });
        assert_eq!(rest(connect(addr)), "");
    }

    #[test]
    fn the_executor_is_asked_once_at_a_time_and_not_waited_for_for_ever() {
        let (addr, queries) = listening(PATIENT);
        let ask = || {
            let mut stream = connect(addr);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        };
        let streams: Vec<TcpStream> = (0..3).map(|_| ask()).collect();
        for _ in 0..3 {
            let query = queries.recv().unwrap();
            // Answered meanwhile: whoever needs no text does not wait for it, and the others have not asked.
            assert!(asked(addr, "GET /nothing").starts_with("HTTP/1.1 404"));
            assert!(queries.try_recv().is_err(), "two were asked for at once");
            query.reply.send("c 3\n".to_owned()).unwrap();
        }
        assert!(streams.into_iter().all(|stream| rest(stream).ends_with("c 3\n")));

        let (addr, queries) = listening(Limits { patience: Duration::from_millis(1), ..PATIENT });
        assert!(asked(addr, "GET /").starts_with("HTTP/1.1 503"));
        assert!(queries.recv().unwrap().reply.is_closed(), "the executor would make a text for nobody");
    }
}
