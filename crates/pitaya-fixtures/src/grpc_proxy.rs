//! A proxy that knows the calls of gRPC, and can treat each method in its own way.

use std::{
    collections::HashMap,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Passes the calls of gRPC to one server, and counts them. Methods are named without their service, as in `LeaseGrant`.
pub struct GrpcProxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Hold,
    Refuse,
    Delay(Duration),
}

#[derive(Default)]
struct Rules {
    rules: watch::Sender<HashMap<&'static str, Rule>>,
    counts: Mutex<HashMap<String, Count>>,
}

#[derive(Debug, Default)]
struct Count {
    calls: Vec<Instant>,
    now: usize,
    most: usize,
}

impl GrpcProxy {
    /// Listens on a free port, in front of the server at this address.
    pub async fn to(server: impl Into<String>) -> Self {
        let server = server.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let rules = Arc::<Rules>::default();
        let shared = Arc::clone(&rules);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (server, rules) = (server.clone(), Arc::clone(&shared));
                tokio::spawn(async move { drop(connection(client, &server, rules).await) });
            }
        });
        Self { address, rules, accepting }
    }

    /// Where it listens, as `127.0.0.1:2379`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets new calls of this method wait, until something else is said.
    pub fn hold(&self, method: &'static str) {
        self.set(method, Rule::Hold);
    }

    /// Answers new calls of this method that their resources are exhausted.
    pub fn refuse(&self, method: &'static str) {
        self.set(method, Rule::Refuse);
    }

    /// Passes each new call of this method after this time.
    pub fn delay(&self, method: &'static str, time: Duration) {
        self.set(method, Rule::Delay(time));
    }

    /// Passes the calls of this method, also those that wait.
    pub fn pass(&self, method: &'static str) {
        self.rules.rules.send_modify(|rules| {
            rules.remove(method);
        });
    }

    /// When each call of this method came.
    #[must_use]
    pub fn calls(&self, method: &str) -> Vec<Instant> {
        self.rules.counts.lock().unwrap().get(method).map(|count| count.calls.clone()).unwrap_or_default()
    }

    /// How many calls of this method were waiting for the beginning of their answer at once, at the most.
    #[must_use]
    pub fn most_at_once(&self, method: &str) -> usize {
        self.rules.counts.lock().unwrap().get(method).map_or(0, |count| count.most)
    }

    /// Forgets what was counted.
    pub fn count_anew(&self) {
        for count in self.rules.counts.lock().unwrap().values_mut() {
            (count.calls, count.most) = (Vec::new(), count.now);
        }
    }

    fn set(&self, method: &'static str, rule: Rule) {
        self.rules.rules.send_modify(|rules| {
            rules.insert(method, rule);
        });
    }
}

impl Drop for GrpcProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl std::fmt::Debug for GrpcProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn connection(client: TcpStream, server: &str, rules: Arc<Rules>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let server = TcpStream::connect(server).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(server)).await?;
    tokio::spawn(async move { drop(connection.await) });
    let service = service_fn(move |request| call(request, sender.clone(), Arc::clone(&rules)));
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    Ok(served.serve_connection(TokioIo::new(client), service).await?)
}

type Answer = Response<Either<Empty<Bytes>, Incoming>>;

async fn call(
    request: Request<Incoming>,
    mut server: SendRequest<Incoming>,
    rules: Arc<Rules>,
) -> Result<Answer, hyper::Error> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let _waiting = Waiting::new(&rules, &method);
    let mut seen = rules.rules.subscribe();
    let rule = seen.wait_for(|rules| rules.get(&*method) != Some(&Rule::Hold)).await;
    match rule.ok().and_then(|rules| rules.get(&*method).copied()) {
        Some(Rule::Refuse) => return Ok(refusal()),
        Some(Rule::Delay(time)) => sleep(time).await,
        Some(Rule::Hold) | None => {}
    }
    Ok(server.send_request(request).await?.map(Either::Right))
}

fn refusal() -> Answer {
    let mut answer = Response::new(Either::Left(Empty::new()));
    let headers = [("content-type", "application/grpc"), ("grpc-status", "8"), ("grpc-message", "refused by the test")];
    for (name, value) in headers {
        answer.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    answer
}

/// A call that has no answer yet.
struct Waiting {
    rules: Arc<Rules>,
    method: String,
}

impl Waiting {
    fn new(rules: &Arc<Rules>, method: &str) -> Self {
        let mut counts = rules.counts.lock().unwrap();
        let count = counts.entry(method.to_owned()).or_default();
        count.calls.push(Instant::now());
        count.now += 1;
        count.most = count.most.max(count.now);
        drop(counts);
        Self { rules: Arc::clone(rules), method: method.to_owned() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(count) = self.rules.counts.lock().unwrap().get_mut(&self.method) {
            count.now -= 1;
        }
    }
}
