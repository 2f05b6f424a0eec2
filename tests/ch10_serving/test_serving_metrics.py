"""/metrics: what it says while no client is there, while it is full, and afterwards."""

from prometheus_client.parser import text_string_to_metric_families

from tests.ch10_serving.live import NUM_BLOCKS, Live, completion, parsed, read_all, until
from tests.simulated import needs_simulator

pytestmark = needs_simulator


def scraped(live: Live) -> dict[tuple[str, ...], float]:
    """(name, label values ...) -> value, of all samples."""
    text = live.get("/metrics").data.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def test_what_was_served(live):
    before = scraped(live)
    live.completion("Hello", n=2)
    live.completion("Hello", stream=True)
    live.completion("Hello", temperature=3)
    live.get("/nowhere/at/all")
    after = scraped(live)

    def more(*sample: str) -> float:
        return after[sample] - before.get(sample, 0.0)

    assert more("engine_tokens_total") == 24 and more("http_prompt_tokens_total") == 10
    assert more("engine_requests_ended_total", "length") == 3
    assert more("http_answers_total", "/v1/completions", "200") == 2
    assert more("http_answers_total", "/v1/completions", "400") == 1
    assert more("http_answers_total", "other", "404") == 1
    assert more("http_first_token_seconds_count") == more("http_between_tokens_seconds_count") == 3
    assert more("http_first_token_seconds_sum") > 0 and more("engine_steps_total") >= 8
    assert 0 <= after["engine_idle_share",] <= 1


def test_queue_rows_and_blocks(live):
    assert scraped(live)["engine_kv_blocks",] == scraped(live)["engine_kv_blocks_free",] == NUM_BLOCKS
    with live.held() as let:
        inside = [live.open(completion(max_tokens=20)) for _ in range(20)]
        until(lambda: live.service.server.gate.inside == 20, "20 are inside")
        let(4)
        until(lambda: live.engine.metrics.running == 16, "16 of them run")
        seen = scraped(live)
        assert (seen["engine_requests_running",], seen["engine_requests_waiting",]) == (16, 4)
        assert seen["engine_kv_blocks_free",] < NUM_BLOCKS
        let(200)
        assert {parsed(read_all(each)).status for each in inside} == {200}
    seen = scraped(live)
    assert (seen["engine_requests_running",], seen["engine_requests_waiting",]) == (0, 0)
