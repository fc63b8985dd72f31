import importlib.metadata

import pytest

from boneage.registry.settings import DEFAULT_URI, resolve_uri


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:1",
        "HTTPS://host",
        "sqlite:///a.db",
        "postgresql+psycopg2://u:p@h/d",
        "databricks",
        "mlruns",
        "/a/b:c",
        "none",
    ],
)
def test_resolve_uri_takes_what_mlflow_takes(uri):
    assert resolve_uri(uri) == uri


def test_resolve_uri_takes_the_scheme_of_a_plugin(monkeypatch):
    plugin = importlib.metadata.EntryPoint("ours", "a:b", "mlflow.tracking_store")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [plugin] if group == plugin.group else [])
    assert resolve_uri("ours://x") == "ours://x"
    with pytest.raises(ValueError, match="Received: theirs:"):
        resolve_uri("theirs://x")


def test_resolve_uri_names_the_variable_and_no_password(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(None) == DEFAULT_URI
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://user:secret@host")
    with pytest.raises(ValueError, match=r"^\$MLFLOW_TRACKING_URI must begin .* Did you mean 'http'\?$") as caught:
        resolve_uri(None)
    assert "secret" not in str(caught.value)
