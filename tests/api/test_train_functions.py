"""``afbench.train``: the trainings of the commands, with their figures as tables."""

import json
import logging

import pytest

import afbench as library

SMALL = {"localizer": "reference", "crop": 32, "batch_size": 2, "validation": 0.3, "quiet": True}


def test_a_training_gives_the_weights_that_its_command_gives(afbench, made, tmp_path, caplog, capsys):
    keywords = {"data": made.folder, **SMALL, "preset": "short", "loss": "pwr", "epochs": [1, 1]}
    with caplog.at_level(logging.INFO, "afbench"):
        trained = library.train.ansm(**keywords, out=tmp_path / "python")
    assert capsys.readouterr() == ("", "")
    assert [message.partition(":")[0] for message in caplog.messages] == ["pwr 1/1"]
    words = [
        "--localizer",
        "reference",
        "--crop",
        "32",
        "--batch-size",
        "2",
        "--validation",
        "0.3",
        "--quiet",
    ]
    words += ["--preset", "short", "--loss", "pwr", "--epochs", "1", "1"]
    ran = afbench("train", "ansm", "--data", made.folder, "--out", "command", *words, "--json")
    assert ran.code == 0 and json.loads(ran.out) == trained.card and ran.err.startswith("pwr 1/1: loss")
    for name in ("best.safetensors", "last.safetensors", "log.csv"):
        assert (tmp_path / "command" / name).read_bytes() == (tmp_path / "python" / name).read_bytes()
    losses = trained.to_pandas()
    assert losses.columns.tolist() == ["stage", "epoch", "lr", "loss", "validation"]
    assert losses.epoch.tolist() == [1] and losses.validation[0] == trained.card["validation_loss"]
    # a training that is complete is not made again
    assert library.train.ansm(**keywords, out=str(tmp_path / "python")) == trained
    with pytest.raises(library.UsageError, match="holds a training with another settings"):
        library.train.ansm(**keywords | {"seed": 1}, out=tmp_path / "python")


def test_what_is_trained_takes_its_place(made, tmp_path):
    weak = library.train.hardened(
        data=made.folder, **SMALL, method="at", epochs=1, out=tmp_path / "hardened", checkpoint="random"
    )
    assert weak.card["settings"]["method"] == "at" and len(weak.to_pandas()) == 1
    hardened = library.load_localizer("reference", weak.checkpoint)
    assert hardened.weights_sha256 != weak.card["localizer"]["weights_sha256"]
    purifier = library.train.nrp(data=made.folder, **SMALL, epochs=1, out=tmp_path / "nrp")
    assert purifier.to_pandas().stage.tolist() == ["nrp"]
    predicted = library.predict(
        data=made.folder, localizer="reference", defence=f"nrp:{purifier.folder}", out=tmp_path / "sub", quiet=True
    )  # fmt: skip
    assert predicted.images


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        (3, "epochs must be 2 values or None; found int 3"),
        ("33", "epochs must be 2 values or None; found str '33'"),
        ((1, 2, 3), "--epochs takes two values"),
    ],
)
def test_what_is_no_pair_is_refused(made, tmp_path, epochs, message):
    with pytest.raises(library.UsageError, match=message):
        library.train.ansm(data=made.folder, localizer="reference", out=tmp_path / "x", epochs=epochs)
    assert not (tmp_path / "x").exists()
