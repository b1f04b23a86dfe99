//! What the clients make of answers that a healthy server does not give, from a receiver that answers by a script.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use plimsoll_loadtest::{
    Compression, Connection, Endpoint, Load, LoadReport, Mix, Pace, Protocol, Reply, Shape, Signal, Until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

/// Answers the nth request of each connection, after a pause, with what `script` says.
async fn receiver(script: fn(usize) -> (Duration, &'static str)) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("the system has free ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, script));
        }
    });
    address
}

async fn serve(stream: TcpStream, script: fn(usize) -> (Duration, &'static str)) {
    let mut stream = BufReader::new(stream);
    for nth in 0.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let (pause, answer) = script(nth);
        tokio::time::sleep(pause).await;
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address, protocol: Protocol::Http, compression: Compression::None, timeout: Duration::from_secs(20) }
}

async fn load(address: SocketAddr, pace: Pace) -> LoadReport {
    let load = Load {
        endpoint: endpoint(address),
        mix: Mix::Logs,
        shape: Shape { run: "stall".into(), instance: "a".into(), small: true, trace_len: 1 },
        batch: 1,
        connections: 1,
        in_flight: 1,
        pace,
        until: Until::Requests(60),
        age: Duration::ZERO,
        respect_retry: false,
        server_pid: None,
        sql: None,
        probe_freshness: false,
    };
    load.run().await.unwrap_or_else(|problem| panic!("{problem}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_rate_a_stall_is_charged_to_every_request_that_it_kept_waiting() {
    // The first answer takes longer than all sixty requests are apart; each waits its share of that.
    let stall = |nth| (if nth == 0 { Duration::from_millis(900) } else { Duration::ZERO }, TAKEN);
    let at_a_rate = load(receiver(stall).await, Pace::RecordsPerSecond(100.0)).await;
    assert_eq!(at_a_rate.counts.acked_records, 60);
    assert!(at_a_rate.ack.p50_ms > 400.0, "{at_a_rate:?}");
    let closed = load(receiver(stall).await, Pace::Closed).await;
    assert!(closed.ack.p50_ms < 400.0 && closed.ack.max_ms >= 900.0, "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_whether_and_when_to_come_again() {
    let script = |nth| {
        let answer = match nth {
            0 => "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            1 => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            2 => "HTTP/1.1 400 Bad Request\r\ncontent-length: 5\r\n\r\n\x12\x03bad",
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x03",
        };
        (Duration::ZERO, answer)
    };
    let mut connection = Connection::open(endpoint(receiver(script).await)).await.expect("it listens");
    let mut replies = Vec::new();
    for _ in 0..4 {
        replies.push(connection.send_message(Signal::Traces, b"").await.expect("it answers"));
    }
    let refused =
        |retryable, retry_after, problem: &str| Reply::Refused { retryable, retry_after, problem: problem.into() };
    assert_eq!(
        replies,
        [
            refused(true, Some(Duration::from_secs(7)), "HTTP 429: "),
            refused(true, None, "HTTP 503: "),
            refused(false, None, "HTTP 400: bad"),
            Reply::Accepted { rejected: 3 },
        ]
    );
}
