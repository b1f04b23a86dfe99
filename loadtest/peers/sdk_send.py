"""Sends known numbers of spans, logs and metric points with the OpenTelemetry Python SDK, and prints what it sent as JSON.

    sdk_send.py --protocol grpc|http --endpoint URL --compression none|gzip --run NAME --spans N --logs N --points N

Everything goes through the SDK's own processors and exporters with their default settings. Exit code 1 where an exporter
reports a failure.
"""

import argparse
import json
import logging
import sys
import time

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode


def exporters(protocol, endpoint, compression):
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        how = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        common = {"endpoint": endpoint, "insecure": True, "compression": how}
        return OTLPSpanExporter(**common), OTLPLogExporter(**common), OTLPMetricExporter(**common)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    how = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    return (
        OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", compression=how),
        OTLPLogExporter(endpoint=f"{endpoint}/v1/logs", compression=how),
        OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", compression=how),
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--protocol", choices=["grpc", "http"], required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--compression", choices=["none", "gzip"], default="none")
    parser.add_argument("--run", required=True)
    parser.add_argument("--spans", type=int, default=0)
    parser.add_argument("--logs", type=int, default=0)
    parser.add_argument("--points", type=int, default=0)
    args = parser.parse_args()

    # The SDK reports failed exports through logging and otherwise goes on.
    problems = []

    class Collect(logging.Handler):
        def emit(self, record):
            problems.append(record.getMessage())

    logging.getLogger("opentelemetry").addHandler(Collect(level=logging.WARNING))

    span_exporter, log_exporter, metric_exporter = exporters(args.protocol, args.endpoint, args.compression)
    resource = Resource.create(
        {
            "service.name": "python-shop",
            "service.namespace": args.run,
            "service.version": "3.1.0",
            "service.instance.id": "python-1",
            "deployment.environment.name": "test",
        }
    )

    if args.spans:
        # The queue holds all of them: what the SDK drops was never sent.
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(span_exporter, max_queue_size=args.spans + 2048))
        tracer = provider.get_tracer("python-shop", "3.1.0")
        for at in range(args.spans):
            with tracer.start_as_current_span("GET /orders/{id}", kind=SpanKind.SERVER) as span:
                span.set_attribute("http.route", "/orders/{id}")
                span.set_attribute("http.response.status_code", 500 if at % 10 == 0 else 200)
                span.set_attribute("order.number", at)
                span.set_attribute("order.tags", ["gift", "été"])
                span.set_attribute("order.ratio", at / 7)
                if at % 10 == 0:
                    span.record_exception(ValueError(f"order {at} has no lines"))
                    span.set_status(Status(StatusCode.ERROR, "no lines"))
        provider.force_flush(60_000)
        provider.shutdown()

    if args.logs:
        provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_log_record_processor(BatchLogRecordProcessor(log_exporter, max_queue_size=args.logs + 2048))
        logger = provider.get_logger("python-shop", "3.1.0")
        for at in range(args.logs):
            logger.emit(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.WARN,
                severity_text="WARN",
                body=f"order {at} is late",
                attributes={"order.number": at},
            )
        provider.force_flush(60_000)
        provider.shutdown()

    if args.points:
        # One collection, which shutdown makes, so that each time series is one point.
        reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=3_600_000)
        provider = MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)
        meter = provider.get_meter("python-shop", "3.1.0")
        counter = meter.create_counter("orders", unit="{order}")
        histogram = meter.create_histogram("order.duration", unit="s")
        for at in range(args.points):
            if at % 2 == 0:
                counter.add(at + 1, {"order.lane": at})
            else:
                histogram.record(at / 100, {"order.lane": at})
        provider.shutdown(60_000)

    json.dump(
        {"spans": args.spans, "logs": args.logs, "points": args.points, "problems": problems}, sys.stdout
    )
    print()
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
