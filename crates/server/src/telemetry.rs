//! Plimsoll's own logs and spans.
//!
//! Logs go to standard error, as text or JSON. Spans go out over OTLP where an endpoint is set. Nothing on the path of an
//! export request opens a span, so that a server may send its own spans to itself without feeding on them.

use std::io::{self, IsTerminal};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::TelemetryConfig;

/// Keeps the exporter alive.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging, and exporting where that is wanted. Must be called within a runtime.
///
/// # Errors
/// The filter or the endpoint makes no sense; the message names the setting.
pub fn init(config: &TelemetryConfig) -> Result<Telemetry, String> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| {
        format!("`telemetry.log` is not a filter such as `info` or `plimsoll_store=debug`: {error}")
    })?;
    let logs = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let logs = if config.log_json { logs.json().boxed() } else { logs.boxed() };
    let provider = config.otlp_endpoint.as_deref().map(provider).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("plimsoll"))
            .with_filter(EnvFilter::new("off,plimsoll=info,plimsoll_server=info,plimsoll_store=info,plimsoll_watch=info,plimsoll_query=info,plimsoll_alert=info"))
    });
    // A second server in the same process, as tests start it, keeps the first one's logging.
    let _ = tracing_subscriber::registry().with(logs.with_filter(filter)).with(spans).try_init();
    Ok(Telemetry { provider })
}

fn provider(endpoint: &str) -> Result<SdkTracerProvider, String> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| format!("`telemetry.otlp_endpoint` is not usable: {error}"))?;
    let resource = Resource::builder()
        .with_service_name("plimsoll")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl Telemetry {
    /// Sends what is still waiting.
    pub async fn shutdown(self) {
        if let Some(provider) = self.provider {
            // The exporter needs this runtime's threads while it waits.
            let _ = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        }
    }
}
