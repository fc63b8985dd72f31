"""The page about the REST interface: all of its description, from this server alone."""

import html
import json
import re
import shlex

import pytest


@pytest.fixture
def page(client):
    return client.get("/docs", headers={"Accept": "text/html"}).text


def test_page_describes_every_request_and_object(client, page):
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>" in page and operation["summary"] in page
    words = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))
    for name, schema in document["components"]["schemas"].items():
        assert f'id="object-{name}"' in page
        for field, described in schema["properties"].items():
            assert field in words and described.get("description", "").replace("`", "") in words
    assert "files required list of file" in words
    assert "female, male, unknown" in words and "number, 0 to 300" in words
    assert "list of SentVisit" in words and "FollowedStep or null" in words and "number by name or null" in words


def test_page_loads_nothing_and_its_links_lead_somewhere(client, page):
    assert "<script" not in page
    for place in re.findall(r'(?:href|src)="([^"]+)"', page):
        if place.startswith("#"):
            assert f'id="{place[1:]}"' in page
        else:
            assert client.get(place).status_code == 200
    assert '<a href="/docs">' in client.get("/").text


def test_examples_of_the_page_work(client, half, page):
    lines = [html.unescape(line) for line in re.findall(r"<pre[^>]*>(curl .*?)</pre>", page)]
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line)
        path = words[-1].removeprefix("http://127.0.0.1:8000")
        if "-d" in words:
            sent = client.post(path, json=json.loads(words[words.index("-d") + 1]))
        else:
            fields = dict(word.split("=", 1) for word in words if re.match(r"(sex|chrono\w+)=", word))
            sent = client.post(path, data=fields, files={"files": ("1520.png", half)})
        assert sent.status_code == 200, sent.text


def test_page_needs_the_token(serve, reader):
    client = serve(reader, token="a-secret-of-some-length")
    assert client.get("/docs", headers={"Accept": "text/html"}).status_code == 303
    told = client.get("/docs", headers={"Authorization": "Bearer a-secret-of-some-length"})
    assert told.status_code == 200 and "Authorization: Bearer TOKEN" in told.text
