"""A user's own localizer: the documented example, what `afbench weights check` finds, and errors in one line."""

import ast
import doctest
import inspect
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import afbench as package
from afbench import as_localizer, check_localizer, load_localizer
from afbench.core import UsageError
from afbench.images import decode_stored
from afbench.localizers import custom
from afbench.storage.manifests import open_benchmark, read_json, shard_paths
from afbench.storage.shards import read_rows
from afbench.storage.verify import verify

PROMISES = [
    "names itself",
    "logits at the image's size",
    "probability at the image's size",
    "probability in [0, 1]",
    "evaluation mode",
    "parameters frozen",
    "gradient at the image",
    "images independent of their batch",
    "a forward changes nothing",
    "logits are no probabilities",
    "gradient at every border",
    "the same at every call",
    "no part of a large image hidden",
]


class EdgeNet(nn.Module):
    """Sound; the others below break one promise each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 1, 5, padding=2)

    def forward(self, image):
        return self.convolution(image - 0.5)


class Small(EdgeNet):
    def forward(self, image):
        return super().forward(image)[..., ::2, ::2]


class Rectangular(EdgeNet):
    def forward(self, image):
        return super().forward(image[..., : image.shape[-1], : image.shape[-2]])


class Careless(EdgeNet):
    def forward(self, image):
        return super().forward(nn.functional.dropout(image, 0.5, training=True))


class Detached(EdgeNet):
    def forward(self, image):
        return super().forward(image.detach())


class Hidden(EdgeNet):
    def forward(self, image):
        return super().forward(image.detach()) + 0 * image.mean(dim=1, keepdim=True)


class Coupled(EdgeNet):
    def forward(self, image):
        return nn.functional.batch_norm(super().forward(image), None, None, training=True)


class Counting(EdgeNet):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, image):
        self.seen += 1
        return super().forward(image)


class Nowhere(EdgeNet):
    def forward(self, image):
        return super().forward(image) * float("nan")


class Failing(EdgeNet):
    def forward(self, image):
        raise RuntimeError("no such layer\nin this network")


class Even(EdgeNet):
    """Halves and doubles the image, which loses a line of an odd one."""

    def forward(self, image):
        whole = super().forward(image)
        half = nn.functional.interpolate(nn.functional.avg_pool2d(whole, 2), scale_factor=2)
        return whole + half


class Cropped(EdgeNet):
    """Drops what is no multiple of 16, and fills up its answer with zeros."""

    def forward(self, image):
        height, width = (side - side % 16 for side in image.shape[-2:])
        logits = super().forward(image[..., :height, :width])
        return nn.functional.pad(logits, (0, image.shape[-1] - width, 0, image.shape[-2] - height))


class Rebuilt(EdgeNet):
    """Makes a layer in every forward, with new random weights, as IMDL-BenCo's SPAN does."""

    def forward(self, image):
        return nn.Conv2d(1, 1, 3, padding=1).requires_grad_(False)(super().forward(image))


class Canvas(EdgeNet):
    """Cuts what lies beyond 1024 pixels, as a network with a square of that size does."""

    def forward(self, image):
        logits = super().forward(image[..., :1024, :1024])
        height, width = (have - seen for have, seen in zip(image.shape[-2:], logits.shape[-2:], strict=True))
        return nn.functional.pad(logits, (0, width, 0, height))


class Own:
    """A localizer made by hand."""

    name, threshold, weights_sha256 = "by_hand", 0.5, "0" * 64

    def __init__(self, network=None, **changed):
        self.network = network or EdgeNet().eval().requires_grad_(False)
        self.__dict__.update(changed)

    def logits(self, image):
        return self.network(image)

    def probability(self, image):
        return torch.sigmoid(self.logits(image))


class Unbounded(Own):
    def probability(self, image):
        return 3 * self.logits(image)


def broken_promises(localizer):
    findings = list(check_localizer(localizer))
    assert [one.name for one in findings] == PROMISES
    assert all("\n" not in one.detail and one.detail for one in findings)
    return {one.name for one in findings if not one.passed}


def dropping():
    network = nn.Sequential(nn.Dropout(0.5), EdgeNet()).requires_grad_(False)
    return Own(network.train())


def test_the_documented_example_runs():
    found = doctest.testmod(custom, extraglobs={"afbench": package}, raise_on_error=False)
    assert (found.failed, found.attempted) == (0, 5)


def test_the_documented_localizer_has_fifteen_lines_at_most():
    (test,) = [one for one in doctest.DocTestFinder().find(custom) if one.name.endswith(".as_localizer")]
    blocks = [ast.parse(one.source).body[0] for one in test.examples if one.source.strip()]
    (build,) = [one for one in blocks if isinstance(one, ast.FunctionDef)]
    assert build.name == "build" and build.end_lineno <= 15
    *module, check = [line for one in test.examples for line in one.source.splitlines() if line.strip()]
    assert "check_localizer" in check and len(module) <= 15


def test_a_sound_localizer_keeps_every_promise():
    assert broken_promises(as_localizer(EdgeNet(), name="edgenet")) == set()
    assert broken_promises(Own()) == set()


@pytest.mark.parametrize(
    ("localizer", "expected"),
    [
        (lambda: Own(Small().eval().requires_grad_(False)), {*PROMISES[1:3]}),
        (
            lambda: Own(Rectangular().eval().requires_grad_(False)),
            {*PROMISES[1:3], PROMISES[10], PROMISES[12]},
        ),
        (dropping, {PROMISES[4], PROMISES[7], PROMISES[11]}),
        (lambda: as_localizer(Careless(), name="x"), {PROMISES[7], PROMISES[11]}),
        (lambda: as_localizer(Rebuilt(), name="x"), {PROMISES[7], PROMISES[11]}),
        (lambda: as_localizer(Canvas(), name="x"), {PROMISES[12]}),
        (lambda: as_localizer(Detached(), name="x"), {PROMISES[6], PROMISES[10]}),
        (lambda: as_localizer(Hidden(), name="x"), {PROMISES[6], PROMISES[10]}),
        (lambda: as_localizer(Even(), name="x"), {*PROMISES[1:3], *PROMISES[9:11]}),
        (lambda: as_localizer(Cropped(), name="x"), {PROMISES[10]}),
        (lambda: as_localizer(Coupled(), name="x"), {PROMISES[7]}),
        (lambda: as_localizer(Counting(), name="x"), {PROMISES[8]}),
        (lambda: Own(EdgeNet().eval()), {PROMISES[5]}),
        (Unbounded, {PROMISES[3]}),
        (lambda: as_localizer(nn.Sequential(EdgeNet(), nn.Sigmoid()), name="x"), {PROMISES[9]}),
        (lambda: Own(threshold=torch.tensor(0.5)), {PROMISES[0]}),
        (lambda: as_localizer(Nowhere(), name="x"), {*PROMISES[1:4], *PROMISES[6:8], PROMISES[11]}),
        (lambda: as_localizer(Failing(), name="x"), {*PROMISES[1:4], *PROMISES[6:]}),
        (lambda: Own(threshold=1.0), {PROMISES[0]}),
        (lambda: Own(weights_sha256="unknown"), {PROMISES[0]}),
        (lambda: Own(weights_sha256=None), {PROMISES[0]}),
    ],
)
def test_a_broken_promise_is_found_and_no_other_one(localizer, expected):
    assert broken_promises(localizer()) == expected


def test_what_a_localizer_counts_as_unread_is_not_held_against_it():
    localizer = Own(Canvas().eval().requires_grad_(False), unread_pixels=lambda height, width: 32 * 48)
    assert broken_promises(localizer) == set()


def test_the_checks_say_where_an_error_comes_from_and_which_border_is_not_read():
    details = {one.name: one.detail for one in check_localizer(as_localizer(Even(), name="x"))}
    line = inspect.getsourcelines(Even.forward)[1] + 3
    told = details["logits at the image's size"]
    assert told.startswith("RuntimeError: The size of tensor a (53) must match the size of tensor b (52)")
    assert told.endswith(f", at {__file__}:{line} in forward")
    details = {one.name: one.detail for one in check_localizer(as_localizer(Cropped(), name="x"))}
    assert details["gradient at every border"] == (
        "the bottom line of an image of 75x53 has none; resize or pad, do not crop"
    )


def test_a_batch_norm_left_in_training_mode_is_found_and_as_localizer_mends_it():
    network = nn.Sequential(EdgeNet(), nn.BatchNorm2d(1)).train().requires_grad_(False)
    assert {"evaluation mode", "images independent of their batch"} <= broken_promises(Own(network))
    assert broken_promises(as_localizer(network, name="x")) == set()


def test_a_network_in_half_precision_has_a_hash_too():
    found = as_localizer(EdgeNet().to(torch.bfloat16), name="x").weights_sha256
    assert len(found) == 64 and found != as_localizer(EdgeNet(), name="x").weights_sha256


@pytest.mark.parametrize("threshold", [0, 1, -1, float("nan")])
def test_a_threshold_outside_of_its_range_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold must lie between 0 and 1; found"):
        as_localizer(EdgeNet(), name="x", threshold=threshold)


SOUND = inspect.cleandoc("""
    import torch
    from torch import nn
    import afbench

    class EdgeNet(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(3, 1, kernel_size=5, padding=2)

        def forward(self, image):
            return self.convolution(image - 0.5)

    def build(checkpoint, device):
        network = EdgeNet()
        if checkpoint:
            network.load_state_dict(torch.load(checkpoint, weights_only=True))
        return afbench.as_localizer(network, name="EdgeNet 2", threshold=0.3, device=device)
""")


def test_weights_check_of_a_sound_module_ends_with_0(afbench, module):
    ran = afbench("weights", "check", f"{module(SOUND)}:build")
    assert ran.code == 0 and ran.err == ""
    lines = ran.out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"ok      {promise}" for promise in PROMISES]
    assert "EdgeNet 2, threshold 0.3, weights " in lines[0]


def test_weights_check_of_a_broken_module_ends_with_1_and_names_the_promise(afbench, module):
    code = SOUND.replace("return self.convolution(image - 0.5)", "return self.convolution(image.detach())")
    name = f"{module(code)}:build"
    ran = afbench("weights", "check", name)
    assert ran.code == 1
    why = "no pixel has one: the image is detached in the network, or runs through no_grad, numpy or rounding"
    assert [line for line in ran.out.splitlines() if not line.startswith("ok ")] == [
        f"BROKEN  gradient at the image: {why}",
        f"BROKEN  gradient at every border: {why}",
    ]
    ran = afbench("weights", "check", name, "--json")
    told = json.loads(ran.out)
    assert ran.code == 1 and list(told) == PROMISES
    assert [promise for promise, one in told.items() if not one["passed"]] == [
        "gradient at the image",
        "gradient at every border",
    ]


def test_weights_check_of_the_reference_ends_with_0(afbench):
    for checkpoint in ((), ("--checkpoint", "random")):
        ran = afbench("weights", "check", "reference", *checkpoint)
        assert ran.code == 0 and ran.out.count("ok ") == len(PROMISES)


def test_weights_check_of_what_cannot_be_loaded_is_one_line(afbench):
    for name, told in (("mvss", "needs the weights of MVSS-Net"), ("mvs", "localizer 'mvs' is unknown")):
        ran = afbench("weights", "check", name)
        assert ran.code == 2 and told in ran.err and len(ran.err.splitlines()) == 1 and ran.out == ""


GENERATE = ("--attack", "fgsm", "--phi", "1/255", "--limit", "1")


@pytest.mark.parametrize(
    ("code", "function", "told"),
    [
        (
            "import nowhere_at_all",
            "build",
            "cannot be imported (ModuleNotFoundError: No module named 'nowhere",
        ),
        ("def build(:", "build", "cannot be imported (SyntaxError: "),
        ("1 / 0", "build", "cannot be imported (ZeroDivisionError: division by zero, at "),
        ("print(undefined)", "build", "cannot be imported (NameError: "),
        ("raise OSError(2, 'No file', 'w.pt')", "build", "cannot be imported (FileNotFoundError: "),
        ("x = 1", "build", "cannot be imported (AttributeError: module '"),
        ("x = 1", "", "cannot be imported (AttributeError: "),
        ("build = 3", "build", "failed (TypeError: 'int' object is not callable)"),
        ("def build(): pass", "build", "failed (TypeError: build() takes 0 positional arguments but 2"),
        ("def build(c, d): raise KeyError('layer\\n9')", "build", "failed (KeyError: "),
        ("def build(c, d): pass", "build", "gave a NoneType without name, threshold, weights_sha256, logits"),
        (
            "from torch import nn\ndef build(c, d): return nn.Conv2d(3, 1, 1)",
            "build",
            "gave a Conv2d without",
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_one_line_and_nothing_is_written(
    afbench, module, tmp_path, monkeypatch, code, function, told
):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"{module(code)}:{function}"
    before = sorted(tmp_path.rglob("*"))
    ran = afbench("generate", "--localizer", name, *GENERATE)
    *_, line = ran.err.splitlines()
    assert ran.code == 2 and len(ran.err.splitlines()) == 2
    assert line.startswith(f"afbench: error: localizer '{name}' {told}")
    assert ran.out == "" and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", [":", "a:", ":build", "..:x", "nowhere_at_all:build", "a b:c", "/etc/passwd:x"]
)
def test_a_name_that_is_no_module_is_one_line(afbench, name):
    ran = afbench("generate", "--localizer", name, *GENERATE)
    assert ran.code == 2 and f"localizer '{name}' cannot be imported" in ran.err.splitlines()[-1]


def test_the_working_folder_hides_no_installed_module(afbench, tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('imported')")
    ran = afbench("generate", "--localizer", "json:loads", *GENERATE)
    assert ran.code == 2 and "localizer 'json:loads' failed (TypeError" in ran.err


def test_random_weights_of_an_own_localizer_are_its_own_affair(module):
    name = f"{module(SOUND)}:build"
    with pytest.raises(UsageError, match="makes its own weights; give --checkpoint PATH or none"):
        load_localizer(name, "random")
    with pytest.raises(UsageError, match=r"checkpoint 'none\.pt' does not exist"):
        load_localizer(name, "none.pt")


@pytest.fixture
def photographs(tmp_path):
    root = tmp_path / "photographs"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    mask = np.zeros((32, 48), np.uint8)
    mask[4:20, 8:24] = 255
    Image.fromarray(pixels).save(root / "images" / "a.png")
    Image.fromarray(mask).save(root / "masks" / "a.png")
    return f"folder:{root}"


def test_an_own_localizer_goes_from_attack_to_preview(afbench, module, photographs, tmp_path):
    name = module(SOUND)
    ran = afbench(
        "generate", "--localizer", f"{name}:build", *GENERATE, "--source", photographs, "--out", "out"
    )
    assert ran.code == 0, ran.err
    config = f"{name.lower()}_build-fgsm-1"
    (manifest,) = open_benchmark(tmp_path / "out").attacked.values()
    told = manifest.provenance["localizer"]
    assert manifest.config == config and told["name"] == f"{name.lower()}_build"
    assert (told["architecture"], told["threshold"], told["untrained"]) == ("EdgeNet 2", 0.3, False)
    assert told["weights_sha256"] == load_localizer(f"{name}:build").weights_sha256
    (row,) = read_rows(tmp_path / "out", shard_paths(manifest))
    assert row["localizer"] == told["name"] and row["linf"] == 1 and row["unread_pixels"] == 0
    (clean,) = read_rows(tmp_path / "out", shard_paths(open_benchmark(tmp_path / "out").configs["clean"]))
    assert not np.array_equal(decode_stored(row["image"]), decode_stored(clean["image"]))
    assert verify(tmp_path / "out") == []
    assert config in afbench("stats", "out").out and "untrained" not in afbench("stats", "out").out
    ran = afbench("preview", "out")
    assert ran.code == 2 and "or --localizer for your own" in ran.err
    assert afbench("preview", "out", "--localizer", f"{name}:build", "--out", "sheet.png").code == 0
    other = module(SOUND.replace("manual_seed(0)", "manual_seed(1)"))
    ran = afbench("preview", "out", "--localizer", f"{other}:build", "--config", config)
    assert ran.code == 2 and f"config {config} was made with weights that are not at hand" in ran.err


def test_an_own_checkpoint_reaches_build_and_a_chosen_name_the_configs(
    afbench, module, photographs, tmp_path
):
    state = {"convolution.weight": torch.zeros(1, 3, 5, 5), "convolution.bias": torch.zeros(1)}
    state["convolution.weight"][0, :, 2, 2] = 1.0
    torch.save(state, tmp_path / "w.pt")
    arguments = ("--checkpoint", "w.pt", "--localizer-name", "edge", "--source", photographs, "--out", "out")
    ran = afbench("generate", "--localizer", f"{module(SOUND)}:build", *GENERATE, *arguments)
    assert ran.code == 0, ran.err
    how = read_json(tmp_path / "out" / "manifests" / "edge-fgsm-1.json")["how"]
    expected = EdgeNet()
    expected.load_state_dict(state)
    assert how["localizer"]["weights_sha256"] == as_localizer(expected, name="x").weights_sha256


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("forward", SOUND.replace("return self.convolution(image - 0.5)", "raise KeyError('layer 9')")),
        (
            "logits",
            f"{SOUND}\n\nclass Mine:\n    name, threshold, weights_sha256 = 'mine', 0.5, '0' * 64\n"
            "    def logits(self, image):\n        raise KeyError('layer 9')\n    probability = logits\n\n"
            "def build(checkpoint, device):\n    return Mine()\n",
        ),
        ("build", SOUND.replace("network = EdgeNet()", "raise KeyError('layer 9')")),
    ],
)
def test_an_error_of_the_users_own_code_is_one_line_with_its_place(
    afbench, module, photographs, tmp_path, part, code
):
    name = module(code)
    line = next(number for number, text in enumerate(code.splitlines(), 1) if "layer 9" in text)
    arguments = (
        "generate",
        "--localizer",
        f"{name}:build",
        *GENERATE,
        "--source",
        photographs,
        "--out",
        "out",
    )
    ran = afbench(*arguments)
    *_, told = ran.err.splitlines()
    assert ran.code == (2 if part == "build" else 1) and "Traceback" not in ran.err
    assert f"KeyError: 'layer 9', at {tmp_path / name}.py:{line} in {part}" in told
    assert told.endswith("`afbench --debug COMMAND ...` shows the traceback")
    ran = afbench("--debug", *arguments)
    assert "Traceback (most recent call last)" in ran.err and "KeyError: 'layer 9'\n" in ran.err
    assert ran.err.splitlines()[-1] == told


def test_a_plan_counts_an_own_localizer_without_importing_it(afbench, module, tmp_path):
    name = module(f"open({str(tmp_path / 'ran')!r}, 'w')")
    ran = afbench("plan", "--localizer", f"{name}:build", *GENERATE)
    assert ran.code == 0 and "configs             1 " in ran.out and not (tmp_path / "ran").exists()
    ran = afbench("generate", "--localizer", f"{name}:build", *GENERATE, "--dry-run")
    assert ran.code == 0 and not (tmp_path / "ran").exists()


def test_the_build_of_the_checks_help_is_the_documented_one(afbench):
    told = " ".join(afbench("weights", "check", "--help").out.split())
    assert "MODULE:FUNCTION is called with a checkpoint (or None) and a device" in told
