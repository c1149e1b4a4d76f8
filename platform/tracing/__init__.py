"""Traces in OpenTelemetry's form: where the time of one request went, across API worker and engine."""
