"""The metrics: what was counted is what Prometheus reads."""

import re
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedway.ledger import UsageLine
from embedway.metrics import Fares, Load, Metrics
from tests.fakes import FakeClock


def make_line(**changes):
    """A line of one answered request."""
    return UsageLine(
        **{
            "id": "ID",
            "created_ms": 1_800_000_000_000,
            "key_id": "k1",
            "model": "m",
            "provider": "p",
            "inputs": 2,
            "tokens": 10,
            "cost": 200_000,
            "market_cost": 200_000,
            "latency_ms": 12,
            "status": 200,
            **changes,
        }
    )


def samples(metrics):
    """What the official parser reads: name and values of the labels to the number."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_the_text():
    """Names, types, labels, buckets and moments of creation are written as the client library's
    own counters and histograms write them: dashboards are built on them."""
    metrics = Metrics(FakeClock(now=1_800_000_000.0))
    metrics.count_response("/v1/embeddings", 200)
    metrics.count_request(make_line(latency_ms=2, cost=10**10))

    text = metrics.render().decode()

    told = re.findall(r"# TYPE (\S+) (\S+)", text)
    kinds = [(name, kind) for name, kind in told if not name.endswith("_created")]
    assert kinds == [
        ("embedway_http_responses_total", "counter"),
        ("embedway_requests_total", "counter"),
        ("embedway_request_duration_seconds", "histogram"),
        ("embedway_inputs_total", "counter"),
        ("embedway_input_tokens_total", "counter"),
        ("embedway_cost_usd_total", "counter"),
        ("embedway_cache_events_total", "counter"),
        ("embedway_retries_total", "counter"),
        ("embedway_skipped_rate_checks_total", "counter"),
        ("embedway_attempts_total", "counter"),
        ("embedway_breaker_state", "gauge"),
        ("embedway_attempts_in_flight", "gauge"),
        ("embedway_queue_depth", "gauge"),
        ("embedway_concurrency", "gauge"),
    ]
    lines = text.splitlines()
    for line in (
        'embedway_http_responses_total{route="/v1/embeddings",status="200"} 1.0',
        'embedway_http_responses_created{route="/v1/embeddings",status="200"} 1.8e+09',
        'embedway_requests_total{model="m",provider="p",status="200"} 1.0',
        'embedway_request_duration_seconds_bucket{le="0.001",model="m"} 0.0',
        'embedway_request_duration_seconds_bucket{le="0.002",model="m"} 1.0',
        'embedway_request_duration_seconds_bucket{le="60.0",model="m"} 1.0',
        'embedway_request_duration_seconds_bucket{le="+Inf",model="m"} 1.0',
        'embedway_request_duration_seconds_sum{model="m"} 0.002',
        'embedway_request_duration_seconds_created{model="m"} 1.8e+09',
        'embedway_inputs_total{model="m"} 2.0',
        'embedway_input_tokens_total{model="m"} 10.0',
        'embedway_cost_usd_total{model="m"} 0.01',
        'embedway_cache_events_total{event="hit"} 0.0',
    ):
        assert line in lines
    assert text.count("_bucket{") == 16


@pytest.mark.parametrize(
    ("latency_ms", "bound"),
    [(0, "0.001"), (1, "0.001"), (2, "0.002"), (3, "0.005"), (60_000, "60.0"), (60_001, "+Inf")],
)
def test_durations(latency_ms, bound):
    """A duration counts in every bucket whose bound it does not exceed, and in none before."""
    metrics = Metrics()
    metrics.count_request(make_line(latency_ms=latency_ms))

    name, found = "embedway_request_duration_seconds", samples(metrics)

    counted = [key[1] for key, value in found.items() if key[0] == f"{name}_bucket" and value]
    assert counted[0] == bound
    assert counted[-1] == "+Inf"
    assert found[f"{name}_count", "m"] == 1
    assert found[f"{name}_sum", "m"] == latency_ms / 1000


def test_requests_are_told_apart():
    """Requests are counted by model, provider and status, texts and costs by model, and a request
    that failed has embedded and billed nothing."""
    metrics = Metrics()
    metrics.count_request(make_line())
    metrics.count_request(make_line(provider="q"))
    metrics.count_request(make_line(provider=None, status=429, code="rate_limited"))
    metrics.count_request(make_line(model="n", cost=0))

    found = samples(metrics)

    assert found["embedway_requests_total", "m", "p", "200"] == 1
    assert found["embedway_requests_total", "m", "q", "200"] == 1
    assert found["embedway_requests_total", "m", "none", "429"] == 1
    assert found["embedway_request_duration_seconds_count", "m"] == 3
    assert found["embedway_inputs_total", "m"] == 4
    assert found["embedway_input_tokens_total", "m"] == 20
    assert found["embedway_cost_usd_total", "m"] == 4e-7
    assert found["embedway_inputs_total", "n"] == 2
    assert found["embedway_cost_usd_total", "n"] == 0


def test_costs_add_up():
    """Costs are added as whole picodollars: not one is lost to rounding, however many there are."""
    metrics = Metrics()
    for _ in range(1000):
        metrics.count_request(make_line(cost=10**11 + 1))

    assert samples(metrics)["embedway_cost_usd_total", "m"] == 100.000000001


def test_retries():
    """Retries that were granted and those that were refused are counted apart."""
    metrics = Metrics()
    for is_granted in (True, False, True):
        metrics.count_retry(is_granted)

    found = samples(metrics)

    assert found["embedway_retries_total", "true"] == 2
    assert found["embedway_retries_total", "false"] == 1


def test_events_from_many_threads():
    """Events of the cache are counted from any thread, and none is lost."""
    metrics = Metrics()

    def count():
        for _ in range(20_000):
            metrics.count_cache("hit", 2)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert metrics.cache_events()["hit"] == 160_000
    assert metrics.cache_events()["miss"] == 0
    assert samples(metrics)["embedway_cache_events_total", "hit"] == 160_000


def make_fares(**changes):
    """A deployment in use."""
    return Fares(
        **{
            "model": "m",
            "provider": "p",
            "outcomes": {"success": 7, "provider_timeout": 2},
            "breaker": "closed",
            "in_flight": 3,
            "waiting": 4,
            "concurrency": 20,
            **changes,
        }
    )


def test_deployments():
    """Attempts by outcome, breaker, what is in flight and waits, and the head-room are those of
    the moment of reading; a deployment without a limit has no queue to show."""
    metrics, fares = Metrics(), [make_fares()]
    metrics.watch(lambda: fares, lambda: Load(5, 600, 7, {"m": 8}))
    before = samples(metrics)
    fares[:] = [
        make_fares(breaker="open", in_flight=0, outcomes={"success": 8}),
        make_fares(provider="q", breaker="half_open", waiting=None, concurrency=None),
    ]
    after = samples(metrics)

    assert before["embedway_attempts_total", "m", "success", "p"] == 7
    assert before["embedway_attempts_total", "m", "provider_timeout", "p"] == 2
    assert before["embedway_attempts_in_flight", "m", "p"] == 3
    assert before["embedway_queue_depth", "m", "p"] == 4
    assert before["embedway_concurrency", "m", "p"] == 20
    assert before["embedway_breaker_state", "m", "p"] == 0
    assert after["embedway_attempts_total", "m", "success", "p"] == 8
    assert after["embedway_attempts_in_flight", "m", "p"] == 0
    assert after["embedway_breaker_state", "m", "p"] == 2
    assert after["embedway_breaker_state", "m", "q"] == 1
    assert ("embedway_queue_depth", "m", "q") not in after
    assert ("embedway_concurrency", "m", "q") not in after


def test_load():
    """What the server holds is read when somebody asks, and is not there without a server."""
    metrics, loads = Metrics(), [Load(5, 600, 7, {"m": 8}), Load(0, 0, 1, {})]
    assert ("embedway_requests_in_flight",) not in samples(metrics)
    metrics.watch(tuple, lambda: loads.pop(0))
    found = samples(metrics)

    assert found[("embedway_requests_in_flight",)] == 5
    assert found[("embedway_bytes_in_flight",)] == 600
    assert found[("embedway_connections",)] == 7
    assert found["embedway_waiting_requests", "m"] == 8
    assert samples(metrics)[("embedway_requests_in_flight",)] == 0


def test_two_gateways():
    """Two gateways in one process count apart."""
    one, other = Metrics(), Metrics()
    one.count_response("/v1/embeddings", 200)

    assert ("embedway_http_responses_total", "/v1/embeddings", "200") in samples(one)
    assert ("embedway_http_responses_total", "/v1/embeddings", "200") not in samples(other)
