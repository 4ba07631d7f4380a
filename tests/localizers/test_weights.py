"""Registered weights: checked once, found by name, refused when they changed; nothing is left half done."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from as_released import as_released
from safetensors.torch import load_file, save_file

from afbench import load_localizer
from afbench.core import UsageError
from afbench.localizers import load, register, weights
from afbench.localizers.checkpoint_files import state_sha256
from afbench.localizers.load import list_localizers
from afbench.localizers.register import file_sha256
from afbench.localizers.weights import registered
from afbench.resources import resource_json


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AFBENCH_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def network(name="code", seed=1):
    torch.manual_seed(seed)
    return load.recipe(name).network()


def released(tmp_path, name="code", seed=1):
    return as_released(name, network(name, seed).state_dict(), tmp_path / f"released{seed}")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize("name", ["hdfnet", "code", "pscc"])
def test_added_weights_are_kept_as_safetensors_with_both_hashes(afbench, folder, tmp_path, name):
    file = released(tmp_path, name)
    before = sorted(file.parent.rglob("*"))
    ran = afbench("weights", "add", name, str(file))
    digest = state_sha256(network(name))
    assert ran.code == 0 and f"{name}: registered as {folder / f'{name}.safetensors'}" in ran.out
    assert digest[:12] in ran.out and f"next: afbench generate --localizer {name} " in ran.out
    assert contents(folder).keys() == {f"{name}.json", f"{name}.safetensors"}
    record = json.loads((folder / f"{name}.json").read_text())
    assert record["weights_sha256"] == digest and record["origin"] == file.name
    assert record["origin_sha256"] == file_sha256(file)
    kept = load_file(folder / f"{name}.safetensors")
    assert all(torch.equal(value, kept[key]) for key, value in network(name).state_dict().items())
    localizer = load_localizer(name)
    assert localizer.weights_sha256 == digest and not localizer.untrained
    assert sorted(file.parent.rglob("*")) == before


def test_the_hash_of_a_file_is_the_one_sha256sum_gives_and_of_a_folder_that_of_its_files(tmp_path):
    file = released(tmp_path)
    assert file_sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()
    one = released(tmp_path, "pscc")
    (one / "README").write_text("not weights")
    first = file_sha256(one)
    (one / "README").unlink()
    assert file_sha256(one) == first
    next(one.rglob("HRNet.pth")).write_bytes(b"other")
    assert file_sha256(one) != first


def test_other_weights_need_overwrite_and_the_same_do_not(afbench, folder, quick, tmp_path):
    first, other = released(tmp_path, seed=1), released(tmp_path, seed=2)
    assert afbench("weights", "add", "code", str(first)).code == 0
    before = contents(folder)
    ran = afbench("weights", "add", "code", str(other))
    assert ran.code == 2 and "other weights are registered for 'code' (code.pth, " in ran.err
    assert "add --overwrite to replace them" in ran.err and contents(folder) == before
    bare = tmp_path / "bare.pt"
    torch.save(network(seed=1).state_dict(), bare)
    assert afbench("weights", "add", "code", str(bare)).code == 0
    assert registered("code").origin == "bare.pt"
    assert afbench("weights", "add", "code", str(other), "--overwrite").code == 0
    assert registered("code").weights_sha256 == state_sha256(network(seed=2))


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        ("mvs", "w.pt", "'mvs' is no published localizer; did you mean mvss? weights can be added for: code"),
        ("reference", "w.pt", "'reference' is no published localizer"),
        ("../up", "w.pt", "'../up' is no published localizer"),
        ("code", "none.pt", "checkpoint 'none.pt' does not exist"),
        ("code", "random", "checkpoint 'random' does not exist"),
        ("code", "text.pt", "checkpoint 'text.pt' is a text file; give the file of the weights"),
        ("code", "w.pt", "is of another network"),
        ("code", ".", "checkpoint '.' is a folder"),
        ("pscc", ".", "HRNet.pth is missing"),
    ],
)
def test_what_cannot_be_added_is_one_line_and_leaves_nothing(
    afbench, folder, quick, tmp_path, name, file, told
):
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    (tmp_path / "text.pt").write_text("no weights")
    ran = afbench("weights", "add", name, file)
    assert ran.code == 2 and told in ran.err and len(ran.err.splitlines()) == 1
    assert not folder.exists() and ran.out == ""


def test_a_file_called_random_is_a_file(afbench, folder, quick, tmp_path):
    released(tmp_path).rename(tmp_path / "random")
    assert afbench("weights", "add", "code", "random").code == 0
    assert registered("code").weights_sha256 == state_sha256(network())


@pytest.mark.parametrize("where", ["weights", "record"])
@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_add_leaves_what_was_there(folder, quick, tmp_path, monkeypatch, where, earlier):
    if earlier:
        register.add_weights("code", released(tmp_path, seed=1))
    before, file = contents(folder), released(tmp_path, seed=2)

    def write_half(state, path):
        save_file({"half": torch.zeros(3)}, path)
        raise KeyboardInterrupt

    def stop(*asked, **options):
        raise KeyboardInterrupt

    if where == "weights":
        monkeypatch.setattr(register, "save_file", write_half)
    else:
        monkeypatch.setattr(register.json, "dumps", stop)
    with pytest.raises(KeyboardInterrupt):
        register.add_weights("code", file, overwrite=True)
    assert contents(folder) == before


def test_weights_that_changed_after_they_were_added_are_refused(afbench, folder, quick, tmp_path):
    register.add_weights("code", released(tmp_path, seed=1))
    save_file(network(seed=2).state_dict(), folder / "code.safetensors")
    ran = afbench("generate", "--localizer", "code", "--attack", "fgsm", "--limit", "1")
    assert ran.code == 2 and "the weights registered for 'code' changed since they were added" in ran.err
    (folder / "code.safetensors").write_bytes(b"\xffdamaged")
    with pytest.raises(UsageError, match="cannot be read"):
        load_localizer("code")
    assert load_localizer("code", str(released(tmp_path, seed=2))).name == "code"
    assert afbench("weights", "remove", "code").code == 0
    assert afbench("weights", "add", "code", str(tmp_path / "released2" / "code.pth")).code == 0


DAMAGE = {
    "no json": lambda record, folder: "{",
    "no mapping": lambda record, folder: "[1, 2]",
    "binary": lambda record, folder: "\udcff",
    "a part missing": lambda record, folder: json.dumps({"name": "code"}),
    "another part": lambda record, folder: json.dumps(record | {"more": 1}),
    "another name": lambda record, folder: json.dumps(record | {"name": "mvss"}),
    "a file elsewhere": lambda record, folder: json.dumps(record | {"file": "../code.safetensors"}),
    "no hash": lambda record, folder: json.dumps(record | {"weights_sha256": "yes"}),
    "a number for a hash": lambda record, folder: json.dumps(record | {"weights_sha256": 7}),
    "no weights": lambda record, folder: (folder / "code.safetensors").unlink() or json.dumps(record),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_named_and_can_be_removed(afbench, folder, quick, tmp_path, damage):
    register.add_weights("code", released(tmp_path))
    path = folder / "code.json"
    text = DAMAGE[damage](json.loads(path.read_text()), folder)
    path.write_bytes(text.encode(errors="surrogateescape"))
    told = f"the record of weights '{path}' is damaged; `afbench weights remove code`"
    ran = afbench("generate", "--localizer", "code", "--attack", "fgsm")
    assert ran.code == 2 and ran.err.count("\n") <= 2 and told in ran.err
    ran = afbench("weights", "list")  # says so of one, and shows the others
    assert ran.code == 0 and told in ran.out and "pscc  PSCC-Net: not registered" in ran.out
    assert afbench("list", "attacks").code == 0 and "is damaged; `afbench" in list_localizers()["code"]
    assert load_localizer("code", "random").untrained
    assert afbench("weights", "remove", "code").out == "code: removed\n"
    assert contents(folder) == {} and afbench("weights", "list").code == 0


def test_removing_says_whether_there_was_anything_and_keeps_the_users_file(afbench, folder, quick, tmp_path):
    file = released(tmp_path)
    register.add_weights("code", file)
    (folder / "mine.txt").write_text("mine")
    assert afbench("weights", "remove", "code").out == "code: removed\n"
    assert afbench("weights", "remove", "code").out == "code: nothing was registered\n"
    assert file.exists() and contents(folder).keys() == {"mine.txt"}
    assert afbench("weights", "remove", "nobody").code == 2
    with pytest.raises(UsageError, match="needs the weights of CoDE"):
        load_localizer("code")


def test_the_list_says_where_weights_are_published_and_which_are_here(afbench, folder, tmp_path):
    register.add_weights("pscc", released(tmp_path, "pscc"))
    told = afbench("weights", "list").out
    assert told.startswith(f"folder: {folder}\n")
    assert f"pscc  PSCC-Net: registered from checkpoint, {registered('pscc').weights_sha256[:12]}\n" in told
    unfolded = " ".join(told.split())
    for name, row in resource_json("localizers").items():
        assert f"\n{name}  {row['title']}: " in told and f" licence {row['licence']}" in unfolded
        assert f" where {row['where']} " in unfolded and f" file {row['file']}, about " in unfolded
    rows = resource_json("localizers").values()
    assert told.count("not registered") == len(rows) - 1
    assert unfolded.count("sha256 not known") == len([row for row in rows if "sha256" not in row])
    assert f" sha256 {resource_json('localizers')['trufor']['sha256']} " in unfolded
    assert list_localizers()["pscc"] == "PSCC-Net; weights registered"
    assert "weights: mvssnet_casia.pt, links in" in list_localizers()["mvss"]


def test_the_list_for_programs_has_the_whole_record(afbench, folder, quick, tmp_path):
    empty = json.loads(afbench("weights", "list", "--json").out)
    assert empty["folder"] == str(folder) and {row["registered"] for row in empty["weights"]} == {None}
    register.add_weights("code", released(tmp_path))
    rows = {row["name"]: row for row in json.loads(afbench("weights", "list", "--json").out)["weights"]}
    assert rows.keys() == resource_json("localizers").keys()
    assert rows["code"].keys() >= {"title", "file", "where", "licence", "megabytes", "sha256"}
    assert rows["code"]["registered"]["weights_sha256"] == state_sha256(network())
    assert not [path for path in tmp_path.iterdir() if path.name == "afbench-out"]


def test_the_folder_is_in_the_users_cache_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("AFBENCH_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.weights_folder() == tmp_path / "afbench" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.weights_folder() == Path.home() / ".cache" / "afbench" / "weights"
    monkeypatch.setenv("AFBENCH_WEIGHTS", "~/w")
    assert weights.weights_folder() == Path.home() / "w"


def test_the_group_without_a_command_shows_its_help(afbench):
    told = afbench("weights", "--help").out
    for name in ("list", "add", "remove", "check"):
        assert f"\n  {name} " in told
    assert afbench("weights").code == 2
