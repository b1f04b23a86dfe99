//! Log lines of known templates in many dialects: how many of them are put into exactly the right group. All patterns and
//! values are written here.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_model::template::{group, template};

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
    (
        "java",
        &[
            "{stamp} INFO  [{thread}] o.s.w.s.DispatcherServlet - Completed initialization in {dur}",
            "{stamp} WARN  [{thread}] c.z.h.pool.HikariPool - {pool} - Thread starvation or clock leap detected (housekeeper delta={dur})",
            "{stamp} DEBUG [{thread}] c.z.h.pool.HikariPool - {pool} - Pool stats (total={num}, active={num}, idle={num}, waiting={num})",
            "{stamp} ERROR [{thread}] c.acme.orders.OrderService - Could not reserve stock for order {uuid}: java.util.concurrent.TimeoutException",
            "{stamp} INFO  [{thread}] c.acme.orders.OrderService - Order {uuid} moved from {state} to {state}",
            "{stamp} INFO  [{thread}] c.acme.cart.CartCache - Evicted {num} entries of {objid}",
            "{stamp} WARN  [{thread}] c.acme.mail.Mailer - Recipient <{email}> is on the suppression list",
            "{stamp} ERROR [{thread}] c.acme.mail.Mailer - Mail to <{email}> bounced: {quoted}",
        ],
    ),
    (
        "python",
        &[
            "{stamp} - celery.worker - INFO - Task tasks.resize[{uuid}] received",
            "{stamp} - celery.worker - INFO - Task tasks.resize[{uuid}] succeeded in {float}s: {num}",
            "{stamp} - celery.worker - ERROR - Task tasks.resize[{uuid}] raised unexpected: ValueError({quoted})",
            "{stamp} - urllib3.connectionpool - DEBUG - Starting new HTTPS connection ({num}): {host}:{num}",
            "{stamp} - urllib3.connectionpool - WARNING - Retrying (Retry(total={num}, connect=None, read=None)) after connection broken by {quoted}: {path}",
            "{stamp} - app.views - INFO - {user} uploaded {file} ({size})",
            "{stamp} - app.views - WARNING - Rejected upload of {file}: larger than {size}",
            "{stamp} - app.auth - INFO - Session {hex} of {email} expired",
        ],
    ),
    (
        "database",
        &[
            "{stamp} UTC [{num}] LOG:  checkpoint complete: wrote {num} buffers ({float}%); {num} WAL file(s) added, {num} removed; write={float} s, sync={float} s, total={float} s",
            "{stamp} UTC [{num}] LOG:  checkpoint starting: time",
            "{stamp} UTC [{num}] ERROR:  duplicate key value violates unique constraint {quoted}",
            "{stamp} UTC [{num}] ERROR:  deadlock detected",
            "{stamp} UTC [{num}] LOG:  duration: {float} ms  execute S_{num}: SELECT * FROM orders WHERE id = $1 AND tenant = $2",
            "{stamp} UTC [{num}] LOG:  automatic vacuum of table {quoted}: index scans: {num}",
            "{stamp} UTC [{num}] FATAL:  remaining connection slots are reserved for non-replication superuser connections",
            "{stamp} UTC [{num}] LOG:  connection authorized: user={user} database={topic} SSL enabled (protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits={num})",
        ],
    ),
    (
        "message broker",
        &[
            "[{stamp}] INFO [GroupCoordinator {num}]: Member {svc}-{num}-{uuid} in group {topic} has failed, removing it from the group (kafka.coordinator.group.GroupCoordinator)",
            "[{stamp}] INFO [GroupCoordinator {num}]: Preparing to rebalance group {topic} in state PreparingRebalance with old generation {num} (__consumer_offsets-{num}) (kafka.coordinator.group.GroupCoordinator)",
            "[{stamp}] INFO [Log partition={topic}-{num}, dir={path}] Rolled new log segment at offset {num} in {dur}. (kafka.log.Log)",
            "[{stamp}] INFO [Log partition={topic}-{num}, dir={path}] Deleting segment files {num} (kafka.log.Log)",
            "[{stamp}] WARN [ReplicaFetcher replicaId={num}, leaderId={num}, fetcherId={num}] Error in response for fetch request (type=FetchRequest, replicaId={num}, maxWait={num}) (kafka.server.ReplicaFetcherThread)",
            "[{stamp}] ERROR [Broker id={num}] Disk error while writing to {path} (kafka.server.LogDirFailureChannel)",
        ],
    ),
    (
        "json with nested bodies",
        &[
            "{{\"ts\":{float},\"level\":\"info\",\"logger\":\"http\",\"msg\":\"handled request\",\"request\":{{\"method\":\"GET\",\"uri\":\"{path}\",\"headers\":{{\"User-Agent\":[\"{agent}\"],\"X-Id\":[\"{uuid}\"]}}}},\"status\":{code},\"duration\":{float}}}",
            "{{\"ts\":{float},\"level\":\"error\",\"logger\":\"http\",\"msg\":\"upstream refused the connection\",\"upstream\":\"{ip}:{num}\",\"attempt\":{num}}}",
            "{{\"ts\":{float},\"level\":\"warn\",\"logger\":\"tls\",\"msg\":\"certificate of {host} expires in {num} days\",\"serial\":\"{hex}\"}}",
            "{{\"severity\":\"INFO\",\"message\":\"payment {ulid} settled\",\"amount\":{float},\"currency\":\"{currency}\",\"retried\":{bool}}}",
            "{{\"severity\":\"INFO\",\"message\":\"payment {ulid} refunded\",\"amount\":{float},\"currency\":\"{currency}\",\"retried\":{bool}}}",
            "{{\"severity\": \"ERROR\", \"message\": \"no exchange rate\", \"pair\": [\"{currency}\", \"{currency}\"], \"at\": \"{stamp}\"}}",
        ],
    ),
    (
        "key and value",
        &[
            "event=cache_hit key={topic}:{uuid} ttl={dur} node={host}",
            "event=cache_miss key={topic}:{uuid} node={host}",
            "event=rate_limited client={ip} route={path} limit={num} window={dur} reason=\"too many requests\"",
            "event=rate_limited client={ip} route={path} limit={num} window={dur} reason=\"banned client\"",
            "level=warn event=\"slow handler\" handler={svc} took={dur} query=\"select {topic} where id={num}\" rows={num}",
            "level=info event=\"feature evaluated\" flag={topic} variant={user} user={email} ok={bool}",
            "level=info event=started version={version} pid={num} args=[{path} --port {num}]",
            "level=info event=stopped version={version} pid={num} uptime={dur}",
        ],
    ),
    (
        "remote calls",
        &[
            "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial tcp {ip}:{num}: connect: connection refused\"",
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
            "finished unary call with code OK grpc.method=Charge grpc.service=shop.Payment grpc.time_ms={float} peer.address={ip}:{num}",
            "finished unary call with code Internal grpc.method=Charge grpc.service=shop.Payment grpc.time_ms={float} peer.address={ip}:{num}",
            "resolved {host} to [{ip}:{num} {ip}:{num} {ip}:{num}]",
            "subchannel {num} of {host} went from IDLE to CONNECTING",
            "subchannel {num} of {host} went from CONNECTING to READY",
            "retry budget of {svc} exhausted: {float} of {float} tokens left",
        ],
    ),
    (
        "proxy",
        &[
            "[{stamp}] \"GET {path} HTTP/2\" {code} - via_upstream - \"-\" {num} {num} {num} {num} \"-\" \"{agent}\" \"{uuid}\" \"{host}\" \"{ip}:{num}\"",
            "[{stamp}] \"POST {path} HTTP/1.1\" 503 UH no_healthy_upstream - \"-\" {num} {num} {num} - \"-\" \"{agent}\" \"{uuid}\" \"{host}\" \"-\"",
            "[{stamp}][{num}][info][upstream] cds: add {num} cluster(s), remove {num} cluster(s)",
            "[{stamp}][{num}][warning][config] gRPC config stream closed: {num}, upstream connect error or disconnect/reset before headers",
            "[{stamp}][{num}][critical][main] std::bad_alloc: out of memory at {addr}",
            "[{stamp}][{num}][info][runtime] RTDS has finished initialization",
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
            "stamp" => format!(
                "2024-{:02}-{:02} {:02}:{:02}:{:02}{}{:03}",
                1 + self.below(12),
                1 + self.below(28),
                self.below(24),
                self.below(60),
                self.below(60),
                self.pick(&[".", ","]),
                self.below(1_000)
            ),
            "thread" => match self.below(3) {
                0 => format!("http-nio-8080-exec-{}", self.below(200)),
                1 => format!("pool-{}-thread-{}", self.below(9), self.below(32)),
                _ => format!("kafka-consumer-{}", self.below(16)),
            },
            "pool" => format!("HikariPool-{}", 1 + self.below(4)),
            "state" => self
                .pick(&["NEW", "RESERVED", "PAID", "PACKED", "SHIPPED", "DELIVERED", "RETURNED", "CANCELLED"])
                .to_owned(),
            "objid" => format!("com.acme.cart.Cache@{}", self.hex(8)),
            "email" => format!("{}.{}@{}.example", self.pick(&USERS), self.hex(2), self.pick(&SERVICES)),
            "quoted" => {
                let quote = self.pick(&["'", "\""]);
                let words: Vec<&str> = (0..1 + self.below(5)).map(|_| self.pick(&SERVICES)).collect();
                format!("{quote}{}{quote}", words.join(" "))
            }
            "float" => format!("{}.{:03}", self.below(900), self.below(1_000)),
            "file" => format!("{}_{}.{}", self.pick(&USERS), self.below(900), self.pick(&["png", "pdf", "csv"])),
            "size" => format!("{}.{} {}", self.below(90), self.below(9), self.pick(&["kB", "MB", "GiB"])),
            "agent" => self
                .pick(&["Mozilla/5.0 (X11; Linux x86_64)", "curl/8.4.0", "kube-probe/1.29", "Go-http-client/2.0"])
                .to_owned(),
            "ulid" => format!("01HV{}", self.hex(22).to_uppercase()),
            "currency" => self.pick(&["EUR", "USD", "NOK", "JPY", "GBP", "CHF", "SEK", "PLN"]).to_owned(),
            "bool" => self.pick(&["true", "false"]).to_owned(),
            "version" => format!("v{}.{}.{}", self.below(9), self.below(20), self.below(30)),
            "addr" => format!("0x{}", self.hex(12)),
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

/// Lines of each template: some hundred of each dialect.
const LINES_EACH: usize = 40;

#[test]
fn nearly_every_line_is_put_with_its_like_in_every_dialect() {
    let mut shares = Vec::new();
    for (style, written) in STYLES {
        shares.push((*style, accuracy(&lines(written, LINES_EACH))));
    }
    let hard: Vec<(usize, String)> =
        HARD.iter().map(|(label, line)| (usize::from(*label), (*line).to_owned())).collect();
    shares.push(("by hand", accuracy(&hard)));
    let mean = shares.iter().map(|(_, share)| share).sum::<f64>() / shares.len() as f64;
    assert!(shares.iter().all(|(_, share)| *share >= 0.85) && mean >= 0.95, "{mean}: {shares:?}");
    assert!(shares.len() > 12 && STYLES.iter().all(|(_, written)| written.len() * LINES_EACH >= 200));
}

#[test]
fn lines_of_all_dialects_at_once_are_still_told_apart() {
    // As where one service passes on what others wrote.
    let all: Vec<&str> = STYLES.iter().flat_map(|(_, written)| written.iter().copied()).collect();
    let share = accuracy(&lines(&all, LINES_EACH));
    assert!(share >= 0.95, "{share}");
}
