"""Requests that nobody would send, made from the interface's own description: none may make the server fail."""

import pytest
from hypothesis import HealthCheck, given, settings

from boneage.serve.app import create_app

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")


# Schemathesis 4.32 draws some of its requests so.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_no_request_makes_the_server_fail(mode, live, reader):
    schema = schemathesis.openapi.from_url(f"{live(create_app(reader))}/openapi.json")
    statuses = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode == "NEGATIVE" and operation.method != "post":  # they take nothing that could be wrong
            continue
        cases = operation.as_strategy(generation_mode=getattr(schemathesis.GenerationMode, mode))

        @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=cases)
        def ask(case):
            response = case.call()
            statuses.add(response.status_code)
            assert response.status_code < 500, (response.status_code, response.text)

        ask()
    assert 200 in statuses if mode == "POSITIVE" else statuses & {405, 415, 422, 400, 404}
