//! One running instance of one service, instrumented with the OpenTelemetry SDK as any service would be.
//!
//! Spans last as long as the work that was drawn for them, not as long as the machine took to wake up again: on a busy one every
//! sleep ends late, in bursts, and the demonstration would show the machine instead of the shop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::{Counter, Histogram, MeterProvider};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchConfigBuilder as LogBatch, BatchLogProcessor, SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder as SpanBatch, BatchSpanProcessor, SdkTracer, SdkTracerProvider};

/// How often telemetry leaves; SDKs wait 5 s by default, which a demonstration can do without.
const EXPORT_EVERY: Duration = Duration::from_secs(1);

/// What went wrong in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) exception: &'static str,
    pub(super) message: String,
    /// Where it was thrown; empty for a failure that was passed on by a callee.
    pub(super) stack: &'static str,
}

/// One instance with its providers.
pub(super) struct Instance {
    pub(super) service: &'static str,
    pub(super) version: &'static str,
    tracer: SdkTracer,
    logger: SdkLogger,
    duration: Histogram<f64>,
    requests: Counter<u64>,
    providers: (SdkTracerProvider, SdkLoggerProvider, SdkMeterProvider),
}

impl Instance {
    /// Starts an instance that exports to `endpoint`, an OTLP/gRPC address. Must be called within a runtime.
    pub(super) fn start(
        service: &'static str,
        version: &'static str,
        number: u32,
        endpoint: &str,
    ) -> Result<Self, ExporterBuildError> {
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attributes([
                KeyValue::new("service.version", version),
                KeyValue::new("service.namespace", "shop"),
                KeyValue::new("service.instance.id", format!("{service}-{version}-{number}")),
                KeyValue::new("deployment.environment.name", "demo"),
                KeyValue::new("k8s.pod.name", format!("{service}-{number}")),
                KeyValue::new("cloud.region", if number.is_multiple_of(2) { "eu-west-1" } else { "us-east-1" }),
            ])
            .build();
        let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let logs = LogExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let metrics = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let tracers = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(spans)
                    .with_batch_config(
                        SpanBatch::default().with_scheduled_delay(EXPORT_EVERY).with_max_queue_size(16_384).build(),
                    )
                    .build(),
            )
            .with_resource(resource.clone())
            .build();
        let loggers = SdkLoggerProvider::builder()
            .with_log_processor(
                BatchLogProcessor::builder(logs)
                    .with_batch_config(
                        LogBatch::default().with_scheduled_delay(EXPORT_EVERY).with_max_queue_size(16_384).build(),
                    )
                    .build(),
            )
            .with_resource(resource.clone())
            .build();
        let meters = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(metrics).with_interval(EXPORT_EVERY * 5).build())
            .with_resource(resource)
            .build();
        let meter = meters.meter("shop");
        Ok(Self {
            service,
            version,
            tracer: tracers.tracer("shop"),
            logger: loggers.logger("shop"),
            duration: meter.f64_histogram("http.server.request.duration").with_unit("s").build(),
            requests: meter.u64_counter("shop.requests").with_unit("{request}").build(),
            providers: (tracers, loggers, meters),
        })
    }

    /// Opens the server span of a request, as a child of the caller's span where there is one.
    pub(super) fn accept(&self, method: &'static str, route: &'static str, caller: Option<Carrier>) -> Handling<'_> {
        let began = caller.as_ref().map_or_else(SystemTime::now, |caller| caller.at);
        let parent = caller.map_or_else(Context::new, |caller| Context::new().with_remote_span_context(caller.span));
        let span = self
            .tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_start_time(began)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route),
                KeyValue::new("url.scheme", "http"),
                KeyValue::new("server.address", self.service),
            ])
            .start_with_context(&self.tracer, &parent);
        Handling { instance: self, method, route, context: parent.with_span(span), began, spent_ns: AtomicU64::new(0) }
    }

    /// Sends what is waiting and stops exporting. Blocks.
    pub(super) fn stop(&self) {
        let (tracers, loggers, meters) = &self.providers;
        let _ = tracers.shutdown();
        let _ = loggers.shutdown();
        let _ = meters.shutdown();
    }
}

/// One request being handled.
pub(super) struct Handling<'a> {
    instance: &'a Instance,
    method: &'static str,
    route: &'static str,
    context: Context,
    began: SystemTime,
    /// How long the request has taken so far.
    spent_ns: AtomicU64,
}

/// What travels with a call: what a `traceparent` header says, and when it leaves.
pub(super) struct Carrier {
    span: SpanContext,
    at: SystemTime,
}

impl Handling<'_> {
    /// Returns how long the request has taken so far.
    fn spent(&self) -> Duration {
        // Relaxed, here and below: one task handles a request.
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed))
    }

    /// Returns the moment that the request has come to.
    fn now(&self) -> SystemTime {
        self.began + self.spent()
    }

    /// Works for about `millis`, with the long tail that real work has.
    pub(super) async fn work(&self, millis: f64) {
        let normal: f64 = (0..6).map(|_| rand::random::<f64>() - 0.5).sum::<f64>() / 0.707;
        let time = Duration::from_secs_f64(millis / 1_000.0 * (normal * 0.35).exp());
        self.spend(time);
        tokio::time::sleep(time).await;
    }

    fn spend(&self, time: Duration) {
        self.spent_ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Opens the client span of a call to `callee`.
    pub(super) fn call(&self, callee: &'static str, route: &'static str) -> Call<'_> {
        let span = self
            .instance
            .tracer
            .span_builder(format!("call {callee}"))
            .with_kind(SpanKind::Client)
            .with_start_time(self.now())
            .with_attributes([KeyValue::new("server.address", callee), KeyValue::new("http.route", route)])
            .start_with_context(&self.instance.tracer, &self.context);
        Call { caller: self, context: self.context.with_span(span) }
    }

    /// Adds an attribute to the server span.
    pub(super) fn note(&self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        self.context.span().set_attribute(KeyValue::new(key, value));
    }

    /// Logs one line, correlated with the request.
    pub(super) fn log(&self, severity: Severity, text: String) {
        let mut record = self.instance.logger.create_log_record();
        record.set_timestamp(self.now());
        record.set_severity_number(severity);
        record.set_severity_text(severity.name());
        record.set_body(AnyValue::from(text));
        record.add_attribute("http.route", self.route);
        let span = self.context.span();
        let span = span.span_context();
        record.set_trace_context(span.trace_id(), span.span_id(), Some(span.trace_flags()));
        self.instance.logger.emit(record);
    }

    /// Ends the request, records its duration and outcome, and returns how long it took.
    pub(super) fn finish(self, outcome: &Result<(), Fault>) -> Duration {
        let status: i64 = if outcome.is_ok() { 200 } else { 500 };
        let span = self.context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", status));
        if let Err(fault) = outcome {
            span.set_attribute(KeyValue::new("error.type", fault.exception));
            span.set_status(Status::error(fault.message.clone()));
            if !fault.stack.is_empty() {
                span.add_event_with_timestamp(
                    "exception",
                    self.now(),
                    vec![
                        KeyValue::new("exception.type", fault.exception),
                        KeyValue::new("exception.message", fault.message.clone()),
                        KeyValue::new("exception.stacktrace", fault.stack),
                    ],
                );
                self.log(Severity::Error, format!("{}: {}", fault.exception, fault.message));
            }
        }
        span.end_with_timestamp(self.now());
        let labels = [
            KeyValue::new("http.request.method", self.method),
            KeyValue::new("http.route", self.route),
            KeyValue::new("http.response.status_code", status),
        ];
        self.instance.duration.record(self.spent().as_secs_f64(), &labels);
        self.instance.requests.add(1, &labels);
        self.spent()
    }
}

/// One outgoing call.
pub(super) struct Call<'a> {
    caller: &'a Handling<'a>,
    context: Context,
}

impl Call<'_> {
    /// Returns what travels with the call.
    pub(super) fn carrier(&self) -> Carrier {
        let span = self.context.span();
        let context = span.span_context();
        let state = context.trace_state().clone();
        let span = SpanContext::new(context.trace_id(), context.span_id(), context.trace_flags(), true, state);
        Carrier { span, at: self.caller.now() }
    }

    /// Ends the call with what the callee answered after `took`.
    pub(super) fn finish(self, outcome: &Result<(), Fault>, took: Duration) {
        self.caller.spend(took);
        let span = self.context.span();
        if outcome.is_err() {
            span.set_attribute(KeyValue::new("error.type", "500"));
            span.set_status(Status::error("callee answered 500"));
        }
        span.end_with_timestamp(self.caller.now());
    }
}
