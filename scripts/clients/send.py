"""One conversation of a real instrumented application, for scripts/clients.sh.

python3 send.py CLIENT: asks the model at $LLM_URL through the OpenAI SDK, lets the client's own exporter send the trace to
$DOOR_URL (HTTP) or $GRPC_URL with the token $DOOR_TOKEN, and prints one line of JSON: trace id, question, answer.
"""

import json
import os
import sys

CLIENT = sys.argv[1] if len(sys.argv) == 2 else ""
DOOR, TOKEN = os.environ["DOOR_URL"], os.environ["DOOR_TOKEN"]
AUTHORIZATION = {"authorization": f"Bearer {TOKEN}"}
QUESTION = f"The {CLIENT} customer asks: how long may I return the oak sofa, and who pays for it?"
MESSAGES = [
    {"role": "system", "content": "You are the support agent of a furniture shop. Answer in one sentence."},
    {"role": "user", "content": QUESTION},
]


def ask(client_class=None):
    """The application itself: one request to the model."""
    if client_class is None:
        from openai import OpenAI as client_class
    llm = client_class(base_url=os.environ["LLM_URL"], api_key="none", max_retries=0)
    reply = llm.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    return reply.choices[0].message.content


def otel_resource():
    from opentelemetry.sdk.resources import Resource

    return Resource.create({"service.name": f"clients-{CLIENT}", "deployment.environment.name": "test"})


def traced(provider):
    """The request inside a span of the application, as a web framework would make one."""
    with provider.get_tracer("shop").start_as_current_span("answer_customer") as span:
        answer = ask()
    return f"{span.get_span_context().trace_id:032x}", answer


def tracer_provider(exporter):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=otel_resource())
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def otel_openai(trace_exporter, log_exporter, metric_exporter):
    """The OpenTelemetry SDK with all three signals, and its instrumentation of openai."""
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    tracers = tracer_provider(trace_exporter)
    loggers = LoggerProvider(resource=otel_resource())
    loggers.add_log_record_processor(BatchLogRecordProcessor(log_exporter))
    meters = MeterProvider([PeriodicExportingMetricReader(metric_exporter)], resource=otel_resource())
    OpenAIInstrumentor().instrument(tracer_provider=tracers, logger_provider=loggers, meter_provider=meters)
    sent = traced(tracers)
    # Content first: on a slow machine the trace would be taken for whole before it comes.
    for provider in (loggers, tracers, meters):
        if provider.force_flush() is False:
            sys.exit(f"{CLIENT}: the exporter could not send")
        provider.shutdown()
    return sent


def otel_http():
    """Content in log records, one a message: the default of the instrumentation."""
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    def made(exporter, signal):
        url = f"{DOOR}/v1/{signal}"
        return exporter(endpoint=url, headers=AUTHORIZATION, compression=Compression.Gzip)

    return otel_openai(made(OTLPSpanExporter, "traces"), made(OTLPLogExporter, "logs"), made(OTLPMetricExporter, "metrics"))


def otel_grpc():
    """Content on the span: the newest conventions."""
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    def made(exporter):
        url = os.environ["GRPC_URL"]
        return exporter(endpoint=url, insecure=True, headers=AUTHORIZATION, compression=grpc.Compression.Gzip)

    return otel_openai(made(OTLPSpanExporter), made(OTLPLogExporter), made(OTLPMetricExporter))


def openinference():
    from openinference.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    provider = tracer_provider(OTLPSpanExporter(endpoint=f"{DOOR}/v1/traces", headers=AUTHORIZATION))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    sent = traced(provider)
    provider.shutdown()
    return sent


def traceloop():
    """OpenLLMetry's instrumentation, as traceloop-sdk sets it up."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    provider = tracer_provider(OTLPSpanExporter(endpoint=f"{DOOR}/v1/traces", headers=AUTHORIZATION))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    sent = traced(provider)
    provider.shutdown()
    return sent


def langfuse():
    os.environ.update(LANGFUSE_HOST=DOOR, LANGFUSE_PUBLIC_KEY="pk-lf-clients", LANGFUSE_SECRET_KEY=TOKEN)
    from langfuse import get_client
    from langfuse.openai import OpenAI

    client = get_client()
    with client.start_as_current_span(name="answer_customer") as span:
        answer = ask(OpenAI)
    client.flush()
    return span.trace_id, answer


def ddtrace_with(settings, **enable):
    # Set before ddtrace is imported, which reads them then.
    os.environ.update(DD_SERVICE=f"clients-{CLIENT}", DD_ENV="test", **settings)
    from ddtrace.llmobs import LLMObs

    LLMObs.enable(ml_app=f"clients-{CLIENT}", **enable)
    with LLMObs.workflow("answer_customer") as span:
        answer = ask()
        LLMObs.annotate(span, input_data=QUESTION, output_data=answer)
        trace_id = LLMObs.export_span(span)["trace_id"]
    LLMObs.flush()
    LLMObs.disable()
    return trace_id, answer


def ddtrace_agentless():
    """Straight to the intake, with an API key."""
    settings = {"DD_LLMOBS_OVERRIDE_ORIGIN": DOOR, "DD_TRACE_ENABLED": "0", "DD_TRACE_AGENT_URL": os.environ["AGENT_URL"]}
    return ddtrace_with(settings, agentless_enabled=True, api_key=TOKEN, site="datadoghq.com")


def ddtrace_agent():
    """As to an Agent, whom no key is told."""
    return ddtrace_with({"DD_TRACE_AGENT_URL": os.environ["AGENT_URL"]}, agentless_enabled=False)


CLIENTS = {
    "otel-http": otel_http,
    "otel-grpc": otel_grpc,
    "openinference": openinference,
    "traceloop": traceloop,
    "langfuse": langfuse,
    "ddtrace-agentless": ddtrace_agentless,
    "ddtrace-agent": ddtrace_agent,
}

if CLIENT not in CLIENTS:
    sys.exit(__doc__ + "\nClients: " + ", ".join(CLIENTS))
trace, said = CLIENTS[CLIENT]()
print(json.dumps({"client": CLIENT, "trace_id": str(trace), "question": QUESTION, "answer": said}))
