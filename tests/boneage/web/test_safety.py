import asyncio
import threading
import time

import pytest

from boneage.serve.app import create_app
from boneage.serve.pool import Pool, PoolFullError
from boneage.serve.uploads import UploadLimits
from boneage.web.safety import check_access

PATH = "/api/v1/predict"
ORIGIN = {"Origin": "http://127.0.0.1:8000"}
TOKEN = "a-secret-of-some-length"


def test_every_answer_carries_the_headers(client, half):
    answers = [client.get(path) for path in ("/", "/healthz", "/nowhere", "/static/style.css", "/openapi.json")]
    answers += [client.post("/", headers=ORIGIN), client.post(PATH), client.get("/", headers={"Host": "evil.example"})]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Traceback" not in answer.text


def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(client, upload, half):
    page = upload(client, [("1.png", half)], sex="male")
    for inline in ("<style", "style=", "onclick", "javascript:", "<script>"):
        assert inline not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_too_many_bytes_and_files(serve, reader, half):
    client = serve(reader, limits=UploadLimits(max_bytes=2000, max_files=3))
    assert client.post(PATH, files={"files": ("1.png", bytes(3000))}).status_code == 413

    many = client.post(PATH, files=[("files", (str(number), half)) for number in range(4)])
    assert many.status_code == 413
    assert "at most 3 files" in many.json()["detail"]


def test_stops_reading_a_body_whose_length_nobody_claimed(reader):
    app, given, sent = create_app(reader, limits=UploadLimits(max_bytes=10_000)), [], []

    async def receive():
        start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        given.append(start if not given else bytes(1000))
        return {"type": "http.request", "body": given[-1], "more_body": True}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": headers, "scheme": "http"}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert len(given) == 11


def test_requests_that_hold_too_much_together_are_turned_away(reader):
    app = create_app(reader, limits=UploadLimits(max_bytes=10_000))
    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": headers, "scheme": "http"}
    start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'

    async def ask(end):
        given, sent = [], []

        async def receive():
            if len(given) == 9:
                await end.wait()
                return {"type": "http.disconnect"}
            given.append(bytes(1000) if given else start)
            return {"type": "http.request", "body": given[-1], "more_body": True}

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        end.set()
        return sent[0]["status"]

    async def ask_together():
        end = asyncio.Event()
        return [await asyncio.gather(*(ask(end) for _ in range(3))), await ask(end)]

    # The third is turned away, whereupon the others break off: what they held is free again.
    assert asyncio.run(ask_together()) == [[400, 400, 503], 400]


def test_one_request_too_many_is_turned_away(serve, reader, half):
    pool = Pool(max_requests=1)
    client = serve(reader, pool=pool)
    with pool.admit():
        full = client.post(PATH, files={"files": ("1.png", half)}, data={"sex": "male"})
        page = client.post("/", files={"files": ("1.png", half)}, headers={**ORIGIN, "Accept": "text/html"})
    assert (full.status_code, full.headers["Retry-After"]) == (503, "10")
    assert page.status_code == 503
    assert "try again later" in page.text
    assert client.post(PATH, files={"files": ("1.png", half)}, data={"sex": "male"}).status_code == 200


def test_a_pool_counts_to_its_bound():
    pool = Pool(max_requests=2)
    with pool.admit(), pool.admit(), pytest.raises(PoolFullError), pool.admit():
        pass
    with pool.admit() as until:
        assert until > time.monotonic()
    pool.close()


def test_a_closed_pool_reads_no_more():
    pool, steps, started = Pool(num_threads=1), [], threading.Event()

    def read():
        started.set()
        time.sleep(0.2)
        steps.append("read")

    async def close_while_reading():
        reading = asyncio.ensure_future(pool.run(read, until=time.monotonic() + 60))
        await asyncio.to_thread(started.wait)
        pool.close()
        steps.append("closed")
        await reading

    asyncio.run(close_while_reading())
    assert steps == ["read", "closed"]


def test_forms_of_other_sites_are_refused(client, half):
    files = {"files": ("1.png", half)}
    assert client.post("/", files=files).status_code == 403
    for origin in ("http://evil.example", "http://127.0.0.1:9", "null"):
        for path in ("/", PATH, "/forget"):
            assert client.post(path, files=files, headers={"Origin": origin}).status_code == 403
    crossed = {**ORIGIN, "Sec-Fetch-Site": "cross-site"}
    assert client.post("/", files=files, headers=crossed).status_code == 403
    assert client.post("/", files=files, headers={**ORIGIN, "Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_a_name_of_another_site_that_leads_here_is_refused(client):
    assert client.get("/", headers={"Host": "evil.example:8000"}).status_code == 421
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["[::1", "127.0.0.1:8000/login?", "a b", "me@127.0.0.1", "127.0.0.1:http", "x/login#"])
def test_a_malformed_host_or_origin_is_a_bad_request(host, client, serve, reader):
    for asked in (client, serve(reader, token=TOKEN)):
        for headers in ({"Host": host}, {"Origin": f"http://{host}"}, {"Origin": host}):
            for path in ("/", "/login", "/metrics"):
                answer = asked.get(path, headers=headers)
                assert (answer.status_code, answer.json()["detail"]) == (400, "malformed Host or Origin header.")
            assert asked.post("/login", headers=headers).status_code == 400


def test_a_host_header_opens_no_path(serve, reader):
    client = serve(reader, token=TOKEN)
    for host in ("h/login?", "h/healthz?", "h/static/style.css#", "127.0.0.1:8000/login?"):
        assert client.get("/metrics", headers={"Host": host}).status_code in (400, 401)
        assert client.post(PATH, headers={"Host": host, "Origin": f"http://{host}"}).status_code in (400, 401, 403)


def test_a_token_is_asked_of_every_request(serve, reader, half, tmp_path):
    client = serve(reader, token=TOKEN)
    assert client.get("/healthz").status_code == 200
    for path in ("/readyz", "/metrics", "/openapi.json", "/readings.csv", "/static/page.js", "/nowhere"):
        assert client.get(path).status_code == 401, path
    asked = client.post(PATH, files={"files": ("1.png", half)})
    assert (asked.status_code, asked.headers["WWW-Authenticate"]) == (401, "Bearer")
    for wrong in ("Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer "):
        assert client.get("/metrics", headers={"Authorization": wrong}).status_code == 401
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/metrics", headers=right).status_code == 200
    assert client.post(PATH, files={"files": ("1.png", half)}, data={"sex": "male"}, headers=right).status_code == 200


def test_the_token_can_be_typed_into_a_form(serve, reader, half, upload):
    client = serve(reader, token=TOKEN)
    led = client.get("/", headers={"Accept": "text/html"})
    assert (led.status_code, led.headers["Location"]) == (303, "/login")
    assert "password" in client.get("/login").text
    wrong = client.post("/login", data={"token": "wrong"}, headers=ORIGIN)
    assert wrong.status_code == 403
    assert "Wrong token" in wrong.text
    assert "Set-Cookie" not in wrong.headers
    assert client.post("/login", data={"token": TOKEN}).status_code == 403  # not from our page
    entered = client.post("/login", data={"token": TOKEN}, headers=ORIGIN)
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert "1.png" in upload(client, [("1.png", half)], sex="male")
    client.post("/forget", headers=ORIGIN)
    assert client.get("/", headers={"Accept": "text/html"}).status_code == 303


def test_a_session_from_before_the_token_is_worth_nothing(serve, reader):
    client = serve(reader, token=TOKEN)
    client.cookies.set("boneage_session", "made-up")
    assert client.get("/metrics").status_code == 401


def test_no_other_machine_without_a_token():
    check_access("127.0.0.1", None)
    check_access("::1", None)
    for host in ("0.0.0.0", "192.168.1.5", "example.org", "::"):
        with pytest.raises(ValueError, match="--token"):
            check_access(host, None)
        check_access(host, TOKEN)
    for weak in ("", "short", "ä" * 20):
        with pytest.raises(ValueError, match="16 printable"):
            check_access("0.0.0.0", weak)


def test_what_fails_outside_of_readings_tells_nothing(serve, reader, half, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("secret value")

    monkeypatch.setattr("boneage.serve.api.describe_answer", fail)
    failed = serve(reader).post(PATH, files={"files": ("1.png", half)}, data={"sex": "male"})
    assert failed.status_code == 500
    assert "secret value" not in failed.text + caplog.text
    assert "RuntimeError" in caplog.text
    assert create_app(reader).docs_url is None
