//! Log lines of known templates: how many of them are put into exactly the right group.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use plimsoll_model::UnixNanos;
use plimsoll_model::log::Level;
use plimsoll_model::template::{group, template};
use plimsoll_otlp::{Signal, Table, decode};
use plimsoll_signals::{OTHER, SignalLimits, SignalState};
use prost::Message;

use crate::build::{MS, T0, always, key, resource, state};

/// Templates as their authors wrote them, by style; `{..}` names what varies.
const STYLES: &[(&str, &[&str])] = &[
    (
        "web server",
        &[
            "{ip} - - [{date}] \"GET {path} HTTP/1.1\" {code} {num}",
            "[{date}] [error] [client {ip}] File does not exist: {path}",
            "[{date}] [notice] caught SIGTERM, shutting down",
            "[{date}] [notice] child pid {num} exit signal Segmentation fault ({num})",
            "upstream timed out ({num}: Connection timed out) while reading response header from upstream, client: {ip}, server: {host}",
            "worker process {num} exited on signal {num}",
            "signal process started",
            "a client request body is buffered to a temporary file {path}",
        ],
    ),
    (
        "secure shell",
        &[
            "Failed password for {user} from {ip} port {num} ssh2",
            "Failed password for invalid user {user} from {ip} port {num} ssh2",
            "Accepted publickey for {user} from {ip} port {num} ssh2: RSA {hex}",
            "pam_unix(sshd:session): session opened for user {user} by (uid={num})",
            "pam_unix(sshd:session): session closed for user {user}",
            "Received disconnect from {ip}: {num}: Bye Bye [preauth]",
            "Connection closed by {ip} [preauth]",
            "reverse mapping checking getaddrinfo for {host} [{ip}] failed - POSSIBLE BREAK-IN ATTEMPT!",
        ],
    ),
    (
        "storage",
        &[
            "Receiving block {blk} src: /{ip}:{num} dest: /{ip}:{num}",
            "PacketResponder {num} for block {blk} terminating",
            "BLOCK* NameSystem.addStoredBlock: blockMap updated: {ip}:{num} is added to {blk} size {num}",
            "Verification succeeded for {blk}",
            "Deleting block {blk} file {path}",
            "Exception in receiveBlock for block {blk} java.io.IOException: Connection reset by peer",
            "Served block {blk} to /{ip}",
            "Starting thread to transfer block {blk} to {ip}:{num}",
        ],
    ),
    (
        "application",
        &[
            "User {user} logged in from {host}",
            "User {user} logged out after {dur}",
            "Order {uuid} placed by {user} for {num} items totalling {num}.{num} EUR",
            "Order {uuid} cancelled by {user}",
            "Payment for order {uuid} declined: insufficient funds",
            "Payment for order {uuid} declined: card expired",
            "Cache miss for key '{user}' in region {user}",
            "Retrying request to {host} in {dur} (attempt {num} of {num})",
            "Circuit breaker for {svc} is now open",
            "Circuit breaker for {svc} is now closed",
            "Could not reach {svc}: connection refused",
            "Processed {num} messages from topic {topic} in {dur}",
        ],
    ),
    (
        "logfmt",
        &[
            "ts={date} level=info msg=\"request handled\" method=GET path={path} status={code} dur={dur}",
            "ts={date} level=warn msg=\"slow query\" table={topic} dur={dur}",
            "ts={date} level=error msg=\"could not connect\" host={host} err=\"connection refused\"",
            "ts={date} level=error msg=\"could not connect\" host={host} err=\"no route to host\"",
            "ts={date} level=info msg=\"config reloaded\" file={path}",
            "ts={date} level=info component={svc} msg=\"compaction finished\" blocks={num} took={dur}",
            "ts={date} level=info component={svc} msg=\"compaction started\" blocks={num}",
        ],
    ),
    (
        "json",
        &[
            "{{\"level\":\"info\",\"msg\":\"user signed up\",\"user\":\"{user}\",\"id\":{num}}}",
            "{{\"level\":\"info\",\"msg\":\"mail sent\",\"to\":\"{user}@example.org\",\"ms\":{num}}}",
            "{{\"level\":\"error\",\"msg\":\"mail bounced\",\"to\":\"{user}@example.org\",\"reason\":\"mailbox full\"}}",
            "{{\"level\":\"error\",\"msg\":\"job {num} failed after {num} tries\",\"queue\":\"{topic}\"}}",
            "{{\"time\":\"{date}\",\"level\":\"debug\",\"msg\":\"lock acquired\",\"owner\":\"{svc}\",\"ok\":true}}",
            "{{\"time\":\"{date}\",\"level\":\"debug\",\"msg\":\"lock released\",\"owner\":\"{svc}\",\"ok\":false}}",
        ],
    ),
    (
        "cluster",
        &[
            "pod {svc}-{hex} scheduled on node {host}",
            "Back-off restarting failed container {svc} in pod {svc}-{hex}",
            "Readiness probe failed: HTTP probe failed with statuscode: {code}",
            "Successfully pulled image \"{host}/{svc}:{num}.{num}.{num}\" in {dur}",
            "Killing container with id docker://{hex}: Need to kill Pod",
            "Node {host} status is now: NodeNotReady",
            "Scaled up replica set {svc}-{hex} to {num}",
            "leader election lost",
        ],
    ),
    (
        "kernel",
        &[
            "{month} {num} {clock} {host} kernel: [{num}.{num}] Out of memory: Kill process {num} ({svc}) score {num} or sacrifice child",
            "{month} {num} {clock} {host} kernel: [{num}.{num}] EXT4-fs ({dev}): mounted filesystem with ordered data mode",
            "{month} {num} {clock} {host} kernel: [{num}.{num}] TCP: request_sock_TCP: Possible SYN flooding on port {num}. Sending cookies.",
            "{month} {num} {clock} {host} systemd[{num}]: Started Session {num} of user {user}.",
            "{month} {num} {clock} {host} CRON[{num}]: ({user}) CMD ({path})",
            "{month} {num} {clock} {host} systemd[{num}]: Stopped target Timers.",
        ],
    ),
];

/// Lines written one by one, with the group each belongs to: what is easily got wrong.
const HARD: &[(u8, &str)] = &[
    (0, "state changed from open to closed"),
    (1, "connection opened"),
    (2, "connection closed"),
    (3, "disk usage at 91%"),
    (3, "disk usage at 7%"),
    (4, "loaded [] plugins"),
    (5, "loaded plugins [a1, b2, c3]"),
    (5, "loaded plugins [z9]"),
    (6, "retry=true host=a.example"),
    (6, "retry=false host=b.example"),
    (7, "can't stat 'my file.txt': No such file or directory"),
    (7, "can't stat 'x': No such file or directory"),
    (8, "took 1h2m3.5s"),
    (8, "took 15ms"),
    (9, "temperature -3.5 C"),
    (9, "temperature 21 C"),
    (10, "GET https://shop.example/cart?id=7&x=y took 12ms"),
    (10, "GET http://shop.example/ took 3ms"),
    (11, "2024-02-29T23:59:59.999Z leap"),
    (11, "2023-01-01T00:00:00Z leap"),
    (12, "received 0x7f3a from peer"),
    (12, "received 0xdeadbeef from peer"),
    (13, "key=value"),
    (14, "shutting down"),
    (15, "starting up"),
    (16, "rule 12 matched: allow"),
    (17, "rule 12 matched: deny"),
];

/// A small generator that is the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[self.below(16) as usize])).collect()
    }

    fn value(&mut self, name: &str) -> String {
        const USERS: [&str; 24] = [
            "root", "admin", "ann", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy",
            "mallory", "niaj", "olivia", "peggy", "rupert", "sybil", "trent", "victor", "walter", "oracle", "postgres",
            "guest",
        ];
        const SERVICES: [&str; 12] = [
            "cart",
            "checkout",
            "payment",
            "search",
            "catalog",
            "gateway",
            "mailer",
            "billing",
            "shipping",
            "auth",
            "inventory",
            "pricing",
        ];
        match name {
            "ip" => format!("{}.{}.{}.{}", self.below(255), self.below(255), self.below(255), self.below(255)),
            "num" => self.below(100_000).to_string(),
            "code" => self.pick(&["200", "404", "500", "301"]).to_owned(),
            "user" => self.pick(&USERS).to_owned(),
            "svc" => self.pick(&SERVICES).to_owned(),
            "topic" => {
                self.pick(&["orders", "payments", "events", "users", "audit", "clicks", "stock", "prices"]).to_owned()
            }
            "host" => {
                let name = self.pick(&SERVICES);
                format!("{name}-{}.{}.example.com", self.below(30), self.pick(&["eu", "us", "ap"]))
            }
            "path" => format!("/{}/{}/{}", self.pick(&["var", "srv", "api"]), self.pick(&SERVICES), self.hex(4)),
            "blk" => format!("blk_{}{}", self.pick(&["", "-"]), self.below(1 << 60)),
            "hex" => self.hex(10),
            "uuid" => format!("{}-{}-{}-{}-{}", self.hex(8), self.hex(4), self.hex(4), self.hex(4), self.hex(12)),
            "dur" => format!("{}{}", self.below(5_000), self.pick(&["ms", "s", "us"])),
            "date" => format!(
                "2024-0{}-1{}T0{}:1{}:2{}Z",
                1 + self.below(9),
                self.below(9),
                self.below(9),
                self.below(9),
                self.below(9)
            ),
            "clock" => format!("{:02}:{:02}:{:02}", self.below(24), self.below(60), self.below(60)),
            "month" => self
                .pick(&["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"])
                .to_owned(),
            "dev" => format!("sda{}", self.below(9)),
            other => panic!("`{other}` is no sort of value"),
        }
    }

    fn line(&mut self, written: &str) -> String {
        let mut line = String::new();
        let mut rest = written;
        while let Some(at) = rest.find(['{', '}']) {
            line.push_str(&rest[..at]);
            if rest[at..].starts_with("{{") || rest[at..].starts_with("}}") {
                line.push_str(&rest[at..=at]);
                rest = &rest[at + 2..];
                continue;
            }
            let end = at + rest[at..].find('}').expect("closed");
            line.push_str(&self.value(&rest[at + 1..end]));
            rest = &rest[end + 1..];
        }
        line + rest
    }
}

/// The share of lines whose group holds exactly the lines of their own template.
fn accuracy(lines: &[(usize, String)]) -> f64 {
    let masked: Vec<String> = lines.iter().map(|(_, line)| template(line)).collect();
    let distinct: Vec<&str> = masked.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
    let groups = group(&distinct);
    let of = |text: &String| &groups[distinct.binary_search(&text.as_str()).expect("it is there")];
    let mut found: BTreeMap<&String, BTreeSet<usize>> = BTreeMap::new();
    let mut truth: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (at, (label, _)) in lines.iter().enumerate() {
        found.entry(of(&masked[at])).or_default().insert(at);
        truth.entry(*label).or_default().insert(at);
    }
    let right: usize =
        truth.values().filter(|lines| found.values().any(|group| group == *lines)).map(BTreeSet::len).sum();
    right as f64 / lines.len() as f64
}

fn lines(written: &[&str], each: usize) -> Vec<(usize, String)> {
    let mut chance = Chance(7);
    (0..written.len() * each).map(|i| (i % written.len(), chance.line(written[i % written.len()]))).collect()
}

#[test]
fn nearly_every_line_is_put_with_its_like_in_every_style() {
    let mut all = Vec::new();
    for (style, written) in STYLES {
        let lines = lines(written, 60);
        let share = accuracy(&lines);
        assert!(share >= 0.85, "{style}: {share}");
        all.push(share);
    }
    let hard: Vec<(usize, String)> =
        HARD.iter().map(|(label, line)| (usize::from(*label), (*line).to_owned())).collect();
    let share = accuracy(&hard);
    all.push(share);
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    assert!(mean >= 0.95, "{mean}");
    let count: usize = STYLES.iter().map(|(_, written)| written.len() * 60).sum();
    assert!(count >= 2_000);
}

fn send(state: &mut SignalState, version: &str, received: u64, lines: &[(i32, String)]) {
    let record = |(severity, line): &(i32, String)| LogRecord {
        time_unix_nano: T0 + received * MS,
        severity_number: *severity,
        body: Some(AnyValue { value: Some(Value::StringValue(line.clone())) }),
        ..LogRecord::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource("a", version, ""),
            scope_logs: vec![ScopeLogs { log_records: lines.iter().map(record).collect(), ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec();
    let decoded = decode(Signal::Logs, &request, UnixNanos(T0 + received * MS)).expect("well-formed");
    state.fold(Table::Logs, &decoded.batch).expect("the stored schema");
}

#[test]
fn templates_are_counted_by_version_and_severity_with_their_first_sight() {
    let mut state = state();
    let lines = |n: u64| (0..n).map(|i| (17, format!("order {i} failed: out of stock"))).collect::<Vec<_>>();
    send(&mut state, "1", 0, &lines(5));
    send(&mut state, "2", 60_000, &lines(7));
    send(&mut state, "2", 60_000, &[(9, "ready".to_owned())]);
    let logs = state.aggregates(&key("a"), always()).logs;
    let told: Vec<_> = logs
        .iter()
        .map(|s| (s.version.as_str(), s.template.as_str(), s.level, s.cells[0].1.count, s.first_seen.0 - T0))
        .collect();
    let failed = "order <*> failed: out of stock";
    assert_eq!(
        told,
        [
            ("1", failed, Level::Error, 5, 0),
            ("2", "ready", Level::Info, 1, 60_000 * MS),
            ("2", failed, Level::Error, 7, 0),
        ]
    );
}

#[test]
fn a_bomb_of_messages_is_bounded_and_what_is_new_is_still_told_where_only_words_vary() {
    let limits = SignalLimits { templates_per_service_max: 50, ..SignalLimits::default() };
    let mut state = SignalState::new(limits.clone());
    let word = |mut i: u64| {
        let mut word = String::new();
        loop {
            word.push(char::from(b'a' + (i % 26) as u8));
            i /= 26;
            if i == 0 {
                return word;
            }
        }
    };
    for second in 0..20_u64 {
        let lines: Vec<_> =
            (0..100).map(|i| (9, format!("session of {} ended by timeout rule", word(second * 100 + i)))).collect();
        send(&mut state, "1", second * 10_000, &lines);
    }
    send(&mut state, "1", 200_000, &[(17, "the disk is full".to_owned())]);
    let logs = state.aggregates(&key("a"), always()).logs;
    let count = |template: &str| {
        logs.iter().filter(|s| s.template == template).flat_map(|s| &s.cells).map(|(_, c)| c.count).sum::<u64>()
    };
    assert_eq!(count("session of <*> ended by timeout rule") + count(OTHER), 2_000);
    assert!(count(OTHER) < 700, "{}", count(OTHER));
    assert_eq!(count("the disk is full"), 1);

    // Nothing alike: what does not fit is `{other}`, and that is said.
    let mut state = SignalState::new(limits);
    let lines: Vec<_> =
        (0..500).map(|i| (9, format!("{} {} {}", word(i), word(i * 31 + 7), word(i * 17 + 3)))).collect();
    send(&mut state, "1", 0, &lines);
    let logs = state.aggregates(&key("a"), always()).logs;
    assert!(logs.len() <= 51 && logs.iter().any(|s| s.template == OTHER), "{}", logs.len());
    assert!(state.data_quality(&key("a")).contains(&"collapsed_logs".to_owned()));
}
