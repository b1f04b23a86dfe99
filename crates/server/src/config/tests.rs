//! What a configuration may say, and what it is told when it is wrong.

use std::io::Write;

use super::*;

fn load_with(yaml: &str, env: &[(&str, &str)], overrides: &Overrides) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(yaml.as_bytes()).expect("is writable");
    let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Config::load(Some(file.path()), overrides, &env)
}

fn load(yaml: &str) -> Result<Config, ConfigError> {
    load_with(yaml, &[], &Overrides::default())
}

#[test]
fn an_empty_file_is_the_documented_default() {
    let config = load("").expect("defaults are valid");
    assert_eq!(config.listen.otlp_grpc.to_string(), "127.0.0.1:4317");
    assert_eq!(config.listen.otlp_http.to_string(), "127.0.0.1:4318");
    assert_eq!(config.listen.api.to_string(), "127.0.0.1:4319");
    assert_eq!(config.listen.grpc_api.to_string(), "127.0.0.1:4320");
    assert_eq!(config.listen.postgres.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:5433"));
    assert_eq!(config.memory.limit, 512 << 20);
    assert_eq!(config.data_dir, PathBuf::from("./plimsoll-data"));
}

#[test]
fn all_problems_are_reported_at_once_and_name_the_nearest_key() {
    let error = load(
        "data_dirr: /x\nlisten:\n  otlp_grcp: 127.0.0.1:1\n  api: nonsense\nstore:\n  retention: soon\nmemory_limit: 1MiB\n\
         watch:\n  tolerances:\n    latency_ration: 1\nquery: 7\nalerts:\n  sinks:\n    - name: ops\n      typ: webhook\n",
    )
    .expect_err("much is wrong");
    let all = error.to_string();
    for expected in [
        "`data_dirr` is not a setting; did you mean `data_dir`?",
        "`listen.otlp_grcp` is not a setting; did you mean `listen.otlp_grpc`?",
        "`listen.api` must be an address",
        "`store.retention` must be a duration",
        "`memory_limit` is 1MiB",
        "`watch.tolerances.latency_ration` is not a setting; did you mean `watch.tolerances.latency_ratio`?",
        "`alerts.sinks[0].typ` is not a setting; did you mean `alerts.sinks[0].type`?",
        "`query` must be a section",
    ] {
        assert!(all.contains(expected), "missing `{expected}` in:\n{all}");
    }
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let file = "listen:\n  api: 127.0.0.1:1\n  otlp_http: 127.0.0.1:11\nquery:\n  timeout: 1s\n";
    let env = [("PLIMSOLL_LISTEN_API", "127.0.0.1:2"), ("PLIMSOLL_QUERY_TIMEOUT", "2s")];
    let overrides = Overrides { api: Some("127.0.0.1:3".to_owned()), ..Overrides::default() };
    let config = load_with(file, &env, &overrides).expect("valid");
    assert_eq!(load("listen:\n  api: localhost:7\n").expect("valid").listen.api.to_string(), "127.0.0.1:7");
    assert_eq!(config.listen.api.port(), 3);
    assert_eq!(config.listen.otlp_http.port(), 11);
    assert_eq!(config.query.timeout, Duration::from_secs(2));
}

#[test]
fn an_address_others_can_reach_is_refused_until_it_is_asked_for() {
    let error = load("listen:\n  api: 0.0.0.0:4319\n").expect_err("exposed").to_string();
    assert!(error.contains("without TLS") && error.contains("`listen.allow_insecure: true`"), "{error}");
    assert!(load("listen:\n  api: 0.0.0.0:4319\n  allow_insecure: true\n").is_ok());
}

#[test]
fn the_postgres_listener_can_be_turned_off_and_is_held_to_the_same_rules() {
    assert_eq!(load("listen:\n  postgres: off\n").expect("valid").listen.postgres, None);
    let flag = Overrides { postgres: Some("off".to_owned()), ..Overrides::default() };
    assert_eq!(load_with("listen:\n  postgres: 127.0.0.1:9\n", &[], &flag).expect("valid").listen.postgres, None);
    let over =
        load_with("listen:\n  postgres: off\n", &[("PLIMSOLL_LISTEN_POSTGRES", "127.0.0.1:9")], &Overrides::default());
    assert_eq!(over.expect("valid").listen.postgres.map(|address| address.port()), Some(9));
    let exposed = load("listen:\n  postgres: 0.0.0.0:5433\n").expect_err("exposed").to_string();
    assert!(exposed.contains("`listen.postgres`") && exposed.contains("without TLS"), "{exposed}");
    let clash = load("listen:\n  postgres: 127.0.0.1:4319\n").expect_err("clash").to_string();
    assert!(clash.contains("`listen.postgres` and `listen.api`"), "{clash}");
    let none = load("postgres:\n  connections_max: 0\n  idle_timeout: 1ms\n").expect_err("no sense").to_string();
    assert!(none.contains("`postgres.connections_max`") && none.contains("`postgres.idle_timeout`"), "{none}");
}

#[test]
fn memory_parts_that_do_not_fit_are_refused_with_the_sum() {
    let error =
        load("memory_limit: 256MiB\nmemory:\n  tail: 128MiB\n  query: 128MiB\n").expect_err("too much").to_string();
    assert!(error.contains("add up to") && error.contains("`memory_limit` (256MiB)"), "{error}");
}

#[test]
fn the_least_limit_is_taken_with_all_defaults_and_one_byte_less_is_refused() {
    let config = load("memory_limit: 224MiB\n").expect("the least that is documented");
    let memory = config.memory;
    let parts = [memory.in_flight, memory.tail, memory.encoder, memory.signals, memory.query];
    assert!(parts.iter().all(|part| *part >= 8 << 20), "{memory:?}");
    let sum = memory.process + memory.connections + memory.retries + memory.verdicts + parts.iter().sum::<u64>();
    assert!(sum <= memory.limit && sum + 8 > memory.limit, "{memory:?}");
    let error = load(&format!("memory_limit: {}\n", (224 << 20) - 1)).expect_err("one byte too few").to_string();
    assert!(error.contains("`memory_limit` is 234881023B, the least is 224MiB"), "{error}");
    assert!(error.contains("1 problem:"), "{error}");
    // What does not fit beside more connections is said with the sum, not as parts that nobody set.
    let error = load("memory_limit: 224MiB\ningest:\n  connections_max: 4096\n").expect_err("too many").to_string();
    assert!(error.contains("add up to") && error.contains("1 problem:"), "{error}");
    let error = load(&format!("memory:\n  tail: {}\n", (8 << 20) - 1)).expect_err("too small a part").to_string();
    assert!(error.contains("`memory.tail` is 8388607B, the least is 8MiB"), "{error}");
}

#[test]
fn parts_that_fill_the_limit_leave_what_is_kept_of_deploys_the_rest() {
    let parts = "memory:\n  in_flight: 91MiB\n  tail: 110MiB\n  encoder: 36MiB\n  signals: 55MiB\n  query: 73MiB\n";
    let memory = load(parts).expect("it fits").memory;
    assert!(memory.verdicts < 8 << 20, "{memory:?}");
}

#[test]
fn too_little_memory_to_tell_repeats_by_is_refused_unless_none_are_told() {
    let error = load("memory:\n  retries: 100KiB\n").expect_err("too little").to_string();
    assert!(error.contains("`memory.retries` is 100KiB, the least is 1MiB"), "{error}");
    load("memory:\n  retries: 0B\ningest:\n  retry_window: 0s\n").expect("valid");
    load("memory:\n  retries: 1MiB\n").expect("valid");
}

#[test]
fn a_small_limit_makes_do_with_smaller_requests() {
    let config = load("memory_limit: 256MiB\n").expect("valid");
    assert!(config.ingest.request_bytes_max < 64 << 20 && config.ingest.request_bytes_max >= 16 << 20);
    let sum = [config.memory.process, config.memory.connections, config.memory.in_flight, config.memory.tail];
    let rest = [config.memory.encoder, config.memory.signals, config.memory.verdicts, config.memory.query];
    assert!(sum.iter().chain(&rest).sum::<u64>() <= config.memory.limit);
}

#[test]
fn services_have_tolerances_of_their_own() {
    let config = load(
        "watch:\n  tolerances:\n    latency_ratio: 0.3\n  services:\n    - service: payment\n      environment: prod\n      \
         tolerances:\n        error_points: 0.001\n        requests_min: 200\n",
    )
    .expect("valid");
    let of = |service: &str| config.watch.tolerances.of(&plimsoll_model::ServiceKey::new("prod", service));
    let (payment, cart) = (of("payment"), of("cart"));
    assert_eq!((payment.error_points, payment.requests_min, payment.latency_ratio), (0.001, 200, 0.3));
    assert_eq!((cart.error_points, cart.requests_min, cart.latency_ratio), (0.005, 50, 0.3));

    let error = load(
        "watch:\n  services:\n    - servce: payment\n    - service: cart\n      tolerances:\n        eror_points: 0.1\n    - \
         service: web\n      tolerances:\n        alpha: 7\n    - 9\n",
    )
    .expect_err("much is wrong")
    .to_string();
    for expected in [
        "`watch.services[0].servce` is not a setting; did you mean `watch.services[0].service`?",
        "`watch.services[0]`: name a `service`",
        "`watch.services[1].tolerances.eror_points` is not a setting; did you mean `watch.services[1].tolerances.error_points`?",
        "`alpha` is 7",
        "`watch.services[3]` must be a section of settings, found a number",
    ] {
        assert!(error.contains(expected), "missing `{expected}` in:\n{error}");
    }
}

#[test]
fn tolerances_out_of_range_are_refused() {
    let error = load("watch:\n  tolerances:\n    alpha: 7\n").expect_err("no probability").to_string();
    assert!(error.contains("`watch.tolerances`") && error.contains("`alpha` is 7"), "{error}");
    // More than is kept of a deploy, for all or for one service.
    let day = "watch:\n  services:\n    - service: cart\n      tolerances:\n        watch_max_s: 86400\n";
    let error = load(day).expect_err("longer than a deploy is kept").to_string();
    assert!(
        error.contains("`watch.services[0]`: `lookback_s` 3600 and `watch_max_s` 86400 add up to 90000"),
        "{error}"
    );
    assert!(load("watch:\n  tolerances:\n    watch_max_s: 82800\n").is_ok());
}

#[test]
fn every_kind_of_sink_is_read_from_yaml() {
    let config = load_with(
        "alerts:\n  sinks:\n    - { name: page, type: pagerduty, routing_key: '${env:KEY}', environments: [prod] }\n    \
         - { name: mesh, type: alertmanager, url: 'http://10.0.0.7:9093', allow_private: true, labels: { team: shop } }\n    \
         - { name: chat, type: slack, url: 'https://hooks.slack.com/services/T/B/x' }\n",
        &[("KEY", "0123456789abcdef0123456789ABCDEF")],
        &Overrides::default(),
    );
    let sinks = config.expect("valid").sinks;
    assert_eq!(sinks.iter().map(|sink| sink.kind.as_str()).collect::<Vec<_>>(), ["pagerduty", "alertmanager", "slack"]);
}

#[test]
fn a_port_used_twice_is_refused() {
    let error = load("listen:\n  api: 127.0.0.1:9\n  grpc_api: 127.0.0.1:9\n").expect_err("clash").to_string();
    assert!(error.contains("are both `127.0.0.1:9`"), "{error}");
}

#[test]
fn a_sink_is_read_and_a_wrong_one_is_named() {
    let good = "alerts:\n  sinks:\n    - name: ops\n      type: webhook\n      url: https://hooks.example.com/plimsoll\n      \
                secret: ${env:OPS_SECRET}\n";
    let secret = [("OPS_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    let config = load_with(good, &secret, &Overrides::default()).expect("valid");
    assert_eq!(config.sinks.len(), 1);
    let error = load("alerts:\n  sinks:\n    - name: ops\n      type: pigeon\n      url: https://x.example\n")
        .expect_err("unknown");
    assert!(error.to_string().contains("`alerts.sinks[0].type` must be"), "{error}");
}

#[test]
fn a_missing_variable_hides_no_other_problem_and_makes_none() {
    let text = "data_dir: ${env:NONE}\nlistn: 1\nauth: { token: '${env:TOKEN}' }\nalerts:\n  sinks:\n    \
                - { name: a, type: webhook, url: 'https://x.example', secret: '${env:SECRET}' }\n";
    let problems = load(text).expect_err("much is missing").problems;
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems[3].contains("`listn`"), "{problems:#?}");
}

#[test]
fn values_that_would_only_fail_later_are_refused_at_once() {
    let text = "public_url: shop.example\nquery: { timeout: 0s, rows_max: 0 }\ningest: { connections_max: 0, lanes: 100000 }\nstore: { encoders: 9 }\n\
                telemetry: { log: 'plimsoll=loud', otlp_endpoint: 'localhost:4317' }\nmemory_limit: 1MiB\n";
    let problems = load(text).expect_err("nothing of it works").problems;
    for (key, at) in [
        "memory_limit",
        "ingest.connections_max",
        "ingest.lanes",
        "store.encoders",
        "query.timeout",
        "query.rows_max",
        "public_url",
        "telemetry.log",
        "telemetry.otlp_endpoint",
    ]
    .into_iter()
    .zip(0..)
    {
        let found = problems.get(at).map_or("", String::as_str);
        assert!(found.starts_with(&format!("`{key}` ")), "{key}: {problems:#?}");
    }
    assert_eq!(problems.len(), 9, "{problems:#?}");
}

#[test]
fn a_word_that_would_switch_logging_off_by_accident_is_refused() {
    let refused = ["inof", "''", "'-1'", "'info,inof'", "loud", "'info,'"];
    for written in refused {
        let error = load(&format!("telemetry: {{ log: {written} }}\n")).expect_err(written).to_string();
        assert!(error.contains("`telemetry.log` must be a level"), "{written}: {error}");
    }
    for written in
        ["info", "DEBUG", "off", "'warn,plimsoll_store=debug'", "plimsoll_query", "'plimsoll[span{x=1}]=info'"]
    {
        assert!(load(&format!("telemetry: {{ log: {written} }}\n")).is_ok(), "{written}");
    }
}

#[test]
fn what_is_wrong_is_said_in_words_of_this_file() {
    let error = load(
        "alerts:\n  sinks:\n    - { name: a, type: webhok }\n    - { name: on, type: slack, url: 'https://x.example/y', \
         environments: prod }\n    - 7\nstore:\n  retention_rules:\n    - { table: logs }\nwatch:\n  services:\n    \
         - { service: 'pay*ment', tolerances: { alpha: 0.02 } }\nlisten: { api: here, postgres: there }\n",
    );
    let error = error.expect_err("much is wrong").to_string();
    for expected in [
        "`alerts.sinks[0].type` must be `webhook`, `pagerduty`, `alertmanager` or `slack`, found `webhok`; did you mean `webhook`?",
        "`alerts.sinks[1].environments` must be a list, found `prod`",
        "`alerts.sinks[2]` must be a section of settings, found the number `7`",
        "`store.retention_rules[0]`: `keep` is missing",
        "`watch.services[0].service` is `pay*ment`: a `*` may stand at the end only",
        "`listen.api` must be an address such as `127.0.0.1:4319`, found `here`",
        "`listen.postgres` must be an address such as `127.0.0.1:5433`, or `off`, found `there`",
    ] {
        assert!(error.contains(expected), "missing `{expected}` in:\n{error}");
    }
}

#[test]
fn a_sink_hears_of_names_and_of_beginnings_only() {
    let sink = |services: &str| {
        load(&format!(
            "alerts: {{ sinks: [{{ name: on, type: slack, url: 'https://x.example/y', environments: [no, y], services: ['{services}'] }}] }}\n"
        ))
    };
    assert_eq!(sink("pay*").expect("valid").sinks[0].environments, ["no", "y"]);
    let error = sink("*ment").expect_err("a star at the beginning").to_string();
    assert!(error.contains("`services` of `on` is `*ment`"), "{error}");
}

#[test]
fn sizes_beyond_measure_add_up_to_a_problem() {
    let most = 9_000_000_000_000_000_000_u64;
    let error = load(&format!("memory: {{ tail: {most}, query: {most}, retries: {most} }}\n")).expect_err("too much");
    assert!(error.to_string().contains("add up to"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = load(&text);
    }
}
