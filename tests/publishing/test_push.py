"""Push: a dry run by default, whole benchmarks only, no pixels that may not be shared, nothing half-way, no token told."""

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

from afbench.core import AfbenchError, UsageError
from afbench.storage.derived import DERIVED_FILES
from afbench.storage.manifests import read_json
from afbench.storage.verify import verify
from afbench.workflows.publishing import push
from afbench.workflows.publishing.export import export
from afbench.workflows.publishing.push import prepare, send


class Hub:
    """What `HfApi` does, in memory: the calls, and the files that are there."""

    def __init__(self, **already: bytes) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.files: dict[str, bytes] = dict(already)
        self.private: bool | None = False if already else None
        self.fail: dict[str, Exception] = {}
        self.commits = 0

    def _called(self, name: str, told: Any = None) -> None:
        if name in self.fail:
            raise self.fail[name]
        self.calls.append((name, told))

    def whoami(self) -> dict[str, str]:
        self._called("whoami")
        return {"name": "user"}

    def repo_info(self, repo: str, *, repo_type: str) -> Any:
        assert repo_type == "dataset"
        if self.private is None:
            raise RepositoryNotFoundError("404", response=_response(404))
        return SimpleNamespace(private=self.private)

    def list_repo_files(self, repo: str, *, repo_type: str) -> list[str]:
        return list(self.files)

    def create_repo(self, repo: str, *, repo_type: str, private: bool, exist_ok: bool) -> str:
        self._called("create_repo", private)
        self.private = private
        self.files.setdefault(".gitattributes", b"")
        return f"https://hub/datasets/{repo}"

    def update_repo_settings(self, repo: str, *, repo_type: str, gated: str) -> None:
        self._called("gate", gated)

    def create_commit(self, repo: str, *, repo_type: str, operations: list[Any], commit_message: str) -> None:
        self.commits += 1
        if self.commits == self.fail.get("at"):
            raise OSError("connection reset")
        self._called("commit", [one.path_in_repo for one in operations])
        for one in operations:
            with one.as_file() as stream:
                self.files[one.path_in_repo] = stream.read()


def _response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


def test_the_hub_in_memory_is_called_as_the_real_one_can_be() -> None:
    for name in (
        "whoami",
        "repo_info",
        "list_repo_files",
        "create_repo",
        "update_repo_settings",
        "create_commit",
    ):
        real, ours = (
            inspect.signature(getattr(one, name)).parameters for one in (huggingface_hub.HfApi, Hub)
        )
        assert {one for one in ours if one != "repo"} <= {*real}, name
        assert "repo" not in ours or list(real)[1] == "repo_id"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_what_arrives_is_a_benchmark_that_verifies(folder: Path, tmp_path: Path) -> None:
    (folder / "log" / "secret").write_text("a host name")
    hub = Hub()
    upload = prepare(folder, "user/name")
    assert send(upload, api=hub) == "https://hub/datasets/user/name"
    assert set(hub.files) == {
        *read_json(folder / "MANIFEST.json")["files"],
        "MANIFEST.json",
        *DERIVED_FILES,
        ".gitattributes",
    }
    for path, data in hub.files.items():
        (tmp_path / "down" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "down" / path).write_bytes(data)
    assert verify(tmp_path / "down", level="deep") == []
    assert not (folder / "bagit.txt").exists()  # nothing is added to what was pushed
    assert [name for name, _ in hub.calls] == ["whoami", "create_repo", "commit", "commit"]


def test_what_describes_the_data_comes_last_and_an_interrupted_push_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "BATCH_FILES", 2)
    upload, hub = prepare(folder, "user/name"), Hub()
    hub.fail["at"] = 3  # type: ignore[assignment]
    with pytest.raises(AfbenchError, match=r"connection reset.*run again to go on"):
        send(upload, api=hub)
    assert len([path for path in hub.files if path.startswith("data/")]) == 4
    assert "README.md" not in hub.files and "MANIFEST.json" not in hub.files
    del hub.fail["at"]
    send(upload, api=hub)
    assert set(upload.files) <= set(hub.files)
    assert "README.md" in hub.calls[-1][1] and not any(one.startswith("data/") for one in hub.calls[-1][1])


def test_batches_are_held_to_a_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "BATCH_BYTES", 1)
    hub = Hub()
    send(prepare(folder, "user/name"), api=hub)
    assert [len(told) for name, told in hub.calls if name == "commit"][:-1] == [1] * 6


def test_a_grown_benchmark_goes_over_the_old_one_and_a_strange_one_does_not(folder: Path) -> None:
    hub = Hub()
    send(prepare(folder, "user/name"), api=hub)
    send(prepare(folder, "user/name"), api=hub)
    hub.files["thesis.pdf"] = b""
    before = dict(hub.files)
    with pytest.raises(
        UsageError, match=r"holds 1 files that are not of this benchmark \(first: thesis.pdf\)"
    ):
        send(prepare(folder, "user/name"), api=hub)
    assert hub.files == before


def test_private_is_asked_for_and_never_taken_for_granted(folder: Path) -> None:
    hub = Hub()
    send(prepare(folder, "user/name", private=True), api=hub)
    assert ("create_repo", True) in hub.calls
    with pytest.raises(UsageError, match="exists and is public"):
        send(prepare(folder, "user/name", private=True), api=Hub(**{"README.md": b""}))


def test_forbidden_pixels_are_refused_whatever_is_said(of_terms: Callable[[str], Path]) -> None:
    for may_share in (False, True):
        with pytest.raises(UsageError, match=r"pixels of synthetic, which may not be shared.*--residuals"):
            prepare(of_terms("forbidden"), "user/name", may_share=may_share)


def test_unclear_pixels_need_the_user_s_word_and_are_gated_before_they_arrive(
    of_terms: Callable[[str], Path],
) -> None:
    out = of_terms("unclear")
    with pytest.raises(UsageError, match=r"unclear whether they may be shared.*--i-may-share"):
        prepare(out, "user/name")
    upload, hub = prepare(out, "user/name", may_share=True), Hub()
    send(upload, api=hub)
    assert upload.gated and hub.calls[2] == ("gate", "manual") and hub.calls[3][0] == "commit"


@pytest.mark.parametrize("word", ["forbidden", "unclear"])
def test_the_changes_alone_may_always_be_published(
    of_terms: Callable[[str], Path], word: str, tmp_path: Path
) -> None:
    out = of_terms(word)
    by_flag = prepare(out, "user/name", residuals=True)
    assert by_flag.folder.parent == out / "log" and verify(out) == []
    export(out, tmp_path / "archive", "hdf5", with_originals=False)
    by_hand, hub = prepare(tmp_path / "archive", "user/name"), Hub()
    assert by_hand.files == by_flag.files and not by_hand.gated
    send(by_hand, api=hub)
    assert {path.rpartition(".")[2] for path in hub.files if path.startswith("data/")} == {"h5"}
    # the same archive with its originals is another matter
    export(out, tmp_path / "with", "hdf5", with_originals=True)
    with pytest.raises(UsageError):
        prepare(tmp_path / "with", "user/name")


def test_a_damaged_or_unfinished_folder_is_not_sent(folder: Path, tmp_path: Path) -> None:
    shard = next((folder / "data" / "clean").iterdir())
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(AfbenchError, match=r"1 problems, first: data/clean.*nothing was sent") as raised:
        prepare(folder, "user/name")
    assert raised.value.exit_code == 1
    with pytest.raises(UsageError, match="is no benchmark"):
        prepare(tmp_path / "nowhere", "user/name")


def test_a_file_that_changes_while_it_is_sent_is_not_published(folder: Path) -> None:
    upload, hub = prepare(folder, "user/name"), Hub()
    readme = folder / "README.md"
    readme.write_bytes(readme.read_bytes().replace(b"synthetic", b"Synthetic"))
    with pytest.raises(AfbenchError, match=r"README\.md' changed while it was sent"):
        send(upload, api=hub)
    assert "README.md" not in hub.files


def test_an_export_for_other_tools_is_not_taken(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "tars", "webdataset")
    with pytest.raises(UsageError, match="export for other tools"):
        prepare(tmp_path / "tars", "user/name")


@pytest.mark.parametrize(
    "repo", ["name", "user/", "/name", "a/b/c", "user/na me", "user/../x", "user/a--b", "-u/x", ""]
)
def test_a_name_the_hub_would_not_take_is_refused(folder: Path, repo: str) -> None:
    with pytest.raises(UsageError, match="--to must be user/name"):
        prepare(folder, repo)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (LocalTokenNotFoundError("no token"), 2, "hf auth login"),
        (OSError("Network is unreachable"), 1, "Network is unreachable"),
        (ValueError("token hf_abcDEF123 is\nnot valid"), 1, "token hf_*** is not valid"),
    ],
)
def test_what_the_hub_says_is_one_line_without_a_token(
    folder: Path, error: Exception, code: int, told: str
) -> None:
    hub = Hub()
    hub.fail["whoami"] = error
    with pytest.raises(AfbenchError) as raised:
        send(prepare(folder, "user/name"), api=hub)
    assert raised.value.exit_code == code and told in str(raised.value)
    assert "hf_abc" not in str(raised.value) and "\n" not in str(raised.value)


def test_the_command_prints_and_sends_nothing_unless_told(
    afbench: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: hub)
    ran = afbench("push", str(folder), "--to", "user/name")
    assert ran.code == 0 and not hub.calls and "Traceback" not in ran.err
    *files, total, last = ran.out.splitlines()
    assert len(files) == 6 + 3 + 3 + 5 and sum(int(line.split()[0]) for line in files) == int(
        total.split(" bytes")[0].split()[-1]
    )
    assert "public, not gated" in total and last == "nothing was uploaded; --yes uploads it to user/name"
    told = json.loads(afbench("push", str(folder), "--to", "user/name", "--json").out)
    assert told["url"] is None and told["bytes"] == sum(told["files"].values()) and not hub.calls
    ran = afbench("push", str(folder), "--to", "user/name", "--private", "--yes")
    assert ran.code == 0 and ran.out.endswith("uploaded to https://hub/datasets/user/name\n") and hub.private
    assert afbench("push", str(folder), "--to", "user/name", "--yes", "--dry-run").code == 2


def test_the_example_of_its_help_runs(afbench: Any, folder: Path, tmp_path: Path) -> None:
    arguments = afbench("push", "--help").out.rpartition("Example: ")[2].split()
    shutil.copytree(folder, tmp_path / arguments[2])
    ran = afbench(*arguments[1:])
    assert ran.code == 0 and "private" in ran.out


def test_without_a_token_or_a_network_it_is_one_line(
    afbench: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for token, code, told in (
        (None, 2, "no Hugging Face token"),
        ("hf_secretsecret", 1, "could not be used"),
    ):
        monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda token=token: token)
        monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda token=token: token)
        ran = afbench("push", str(folder), "--to", "user/name", "--yes")
        errors = [line for line in ran.err.splitlines() if "afbench: error" in line]
        assert ran.code == code and len(errors) == 1 and told in errors[0]
        assert "hf_secret" not in ran.err and "Traceback" not in ran.err
