"""The Hugging Face hub: names of its repositories, access to it, and its errors as one line."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from boneage.base.errors import BoneAgeError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB_PREFIX = "hf://"
MAIN = "main"
# A path has one slash where a name has two.
_NAME = re.compile(r"hf:/{1,2}(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DEFAULT_ENDPOINT = "https://huggingface.co"


class HubError(BoneAgeError):
    """The Hugging Face hub cannot be reached, or does not hold what is asked for."""


@dataclasses.dataclass(frozen=True)
class HubName:
    """A bundle on the hub.

    Args:
        repository: Owner and name of the repository, `owner/name`.
        revision: Branch, tag or full commit; empty for the branch `main`.
    """

    repository: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{HUB_PREFIX}{self.repository}{self.revision and '@'}{self.revision}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a full commit, which never changes."""
        return is_commit(self.revision)

    @property
    def page(self) -> str:
        """Address of its list of files."""
        return f"{find_endpoint()}/{self.repository}/tree/{self.revision or MAIN}"


def is_commit(text: str) -> bool:
    """Whether a text is a full commit."""
    return _COMMIT.fullmatch(text) is not None


def parse_hub_name(name: str) -> HubName:
    """Parse `hf://owner/name` or `hf://owner/name@revision`.

    Raises:
        HubError: If it is neither.
    """
    match = _NAME.fullmatch(name)
    if match is None or ".." in name:
        raise HubError(f"{name}: no name of a bundle on the hub; give hf://owner/name or hf://owner/name@revision.")
    return HubName(match["repository"], match["revision"] or "")


def find_endpoint() -> str:
    """Return the address of the hub: `HF_ENDPOINT`, or that of Hugging Face."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or _DEFAULT_ENDPOINT


def open_hub() -> "HfApi":
    """Return access to the hub, with the token of `HF_TOKEN` if there is one."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi

    return HfApi(endpoint=find_endpoint())


@contextlib.contextmanager
def convert_hub_errors(name: HubName, *, unreachable: str) -> Iterator[None]:
    """Convert an error of the hub in the body to a HubError.

    Args:
        name: What is asked for.
        unreachable: What to do where the hub cannot be reached, for the error message.

    Raises:
        HubError: If the body raises an error of the hub or of the network.
        OSError: If it raises one of this machine's disk.
    """
    from huggingface_hub import errors

    private = "if it is private, set HF_TOKEN to a token that may read it"
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(f"{name}: asks for consent to its terms: give it at {name.page}, and set HF_TOKEN.") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(f"{name}: there is no such repository at {find_endpoint()}; {private}.") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{name}: the repository has no such branch, tag or commit; see {name.page}.") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = "set HF_TOKEN to a token that may do this" if status in (401, 403) else "try again later"
        raise HubError(f"{name}: {find_endpoint()} answers with the HTTP status {status}; {hint}.") from error
    except BoneAgeError:
        raise
    except Exception as error:  # the library's HTTP client, and with it the errors, depend on its version
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise
        reason = type(error.__cause__ or error).__name__
        raise HubError(f"{name}: {find_endpoint()} cannot be reached ({reason}); {unreachable}.") from error
