"""``afbench.generate`` and ``afbench.plan``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.argument_types import checks_arguments
from afbench.core import ShardFormat
from afbench.images import ImageFormat
from afbench.plans import RunPlan
from afbench.workflows.executors.executor_spec import EXECUTORS, read_executor_spec, read_part
from afbench.workflows.planning.build_plan import build_plan, default_out
from afbench.workflows.planning.forecast import Forecast, forecast_plan, remaining_workloads
from afbench.workflows.request import AttackAt, GenerateHooks, Options, check_request, through_text

from .bars import counted_bar, deferred_bar
from .keywords import Params, Phi, Texts, param_texts, require_choice, texts_of

if TYPE_CHECKING:
    from afbench.workflows.generation.outcome import Outcome

PRECISIONS = ("fp32", "tf32", "bf16")
FORMATS: Sequence[ShardFormat] = ("parquet", "hdf5")
IMAGE_FORMATS: Sequence[ImageFormat] = ("webp", "png")
SIZES: Sequence[AttackAt] = ("native", "model")

_log = logging.getLogger(__name__)


@checks_arguments
def generate(
    *,
    plan: str | None = None,
    only: Texts = (),
    localizer: Texts = (),
    attack: Texts = (),
    phi: Phi | Sequence[Phi] = (),
    steps: int | Texts | Sequence[int] = (),
    param: Params = (),
    where: str | None = None,
    source: Texts = (),
    terms: Texts = (),
    mask_threshold: int | None = None,
    mask_nonzero: bool = False,
    ignore_alpha: bool = False,
    max_side: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    large_phi: bool = False,
    out: str | Path | None = None,
    checkpoint: str | None = None,
    localizer_name: str | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    allow_imprecise: bool = False,
    batch_size: int | None = None,
    shard_size: int | None = None,
    format: str | None = None,
    image_format: str = "webp",
    attack_at: str = "native",
    authentic: bool = False,
    through_defence: str | None = None,
    through_post: str | None = None,
    retry_failed: bool = False,
    image_threads: int | None = None,
    deterministic: bool = True,
    compile: bool = False,
    executor: str | None = None,
    workers: int | None = None,
    devices: str | None = None,
    executor_param: Params = (),
    shard_index: int | None = None,
    num_shards: int | None = None,
    ignore_disk: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Attack a source with every setting asked for; store, score and describe the result, as ``afbench generate`` does.

    Call it again to resume after any interruption, or to add configs; what is finished is not touched. A name that a
    command takes repeatedly may be one text or a list.

    Args:
        plan: a shipped plan or the path of a YAML file, instead of localizers, attacks and their settings.
        only: take only these localizers, sources and attacks of ``plan``.
        localizer: networks to attack, e.g. ``"reference"`` or ``"my_package.my_module:build"``.
        attack: attacks, e.g. ``["fgsm", "pgd", "cw"]``.
        phi: L-inf radii of the [0, 1] range, e.g. ``"2/255"``; omitted, 1, 2 and 3 /255.
        steps: numbers of C&W's steps; omitted, 50 to 250.
        param: other parameters of attacks, e.g. ``{"neighbours": 4}``.
        where: ``forged`` or ``authentic`` keeps the noise inside or outside of the forged pixels.
        source: where forged images come from, as ``[OWN=]NAME[:ROOT]``, e.g. ``"folder:PATH"``; omitted, what
            ``AFBENCH_DATA`` holds, else ``demo``.
        terms: terms of use of a folder or list of your own, ``[NAME=]TEXT``.
        mask_threshold: masks: forged above this grey level (0 to 254).
        mask_nonzero: masks: forged wherever they are not black.
        ignore_alpha: drop transparency instead of excluding the sample.
        max_side: make images whose longer side is above it smaller, antialiased; recorded.
        limit: take the first samples of each source only.
        seed: of synthetic forgeries and of every random draw; omitted, 0.
        large_phi: accept phi above 0.1.
        out: the benchmark's folder; omitted, ``afbench-out/<plan, or localizer-source>``.
        checkpoint: weights of the localizer; ``random`` for untrained ones.
        localizer_name: what configs call the localizer.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        precision: ``fp32``, ``tf32`` or ``bf16``; recorded.
        allow_imprecise: take ``tf32`` or ``bf16`` also for a localizer that is another network then.
        batch_size: images per batch of the localizer; omitted, as many as suit their size.
        shard_size: samples per shard; omitted, what takes about two minutes, at most 64.
        format: ``parquet`` or ``hdf5``, of the shards; omitted, that of the plan or the folder, else Parquet.
        image_format: ``webp`` or ``png``, both lossless.
        attack_at: ``native`` keeps the size of the originals, ``model`` stores and attacks them at the localizer's.
        authentic: also store the sources' authentic images, as config ``authentic``.
        through_defence: attack through this defence, with full knowledge of it, e.g. ``jpeg:75``.
        through_post: attack so that the noise survives a step of posting, e.g. ``jpeg:75``.
        retry_failed: make the shards again that lack samples because an attack failed.
        image_threads: threads that decode and encode; 0 for none; omitted, one per processor.
        deterministic: on a GPU use only kernels that give the same bytes again.
        compile: run the localizer through ``torch.compile``; recorded.
        executor: ``local``, ``ray`` or ``slurm``: have workers make the shards.
        workers: how many.
        devices: devices of ``local`` workers, e.g. ``"cuda:0,cuda:1"``.
        executor_param: settings of Ray or Slurm, e.g. ``{"timeout_min": 600}``.
        shard_index: make only every ``num_shards``-th shard from this one on.
        num_shards: processes that share the plan by ``shard_index``.
        ignore_disk: start even if the missing images seem not to fit on the disk.
        quiet: show no progress bar.
    Returns:
        An ``Outcome``: ``folder``, ``configs``, ``shards_written``, ``gradients``, ``excluded_counts`` (samples by reason),
        ``restricted`` (terms of sources whose pixels may not be shared), ``warnings``, ...; ``to_pandas()`` has the
        figures, one row per config and source.
    Raises:
        UsageError: for a value, folder, source or weights that cannot be used, before anything is written.
        PartialError: if another process writes to the folder, or workers ended early.
        AfbenchError: if the work failed.
        KeyboardInterrupt: if it was stopped, with what is kept and what is lost.
    """
    run_plan = build_plan(
        plan_name=plan,
        only=texts_of(only),
        localizers=texts_of(localizer),
        attacks=texts_of(attack),
        phi=texts_of(phi),
        steps=texts_of(steps),
        params=param_texts(param),
        where=where,
        sources=texts_of(source),
        terms=texts_of(terms),
        mask_threshold=mask_threshold,
        mask_nonzero=mask_nonzero,
        ignore_alpha=ignore_alpha,
        max_side=max_side,
        limit=limit,
        seed=seed,
        large_phi=large_phi,
    )
    folder = default_out(run_plan) if out is None else Path(out)
    options = Options(
        checkpoint=checkpoint,
        localizer_name=localizer_name,
        device=device,
        precision=require_choice("--precision", precision, PRECISIONS),
        allow_imprecise=allow_imprecise,
        batch_size=batch_size,
        shard_size=shard_size,
        shard_format=None if format is None else require_choice("--format", format, FORMATS),
        image_format=require_choice("--image-format", image_format, IMAGE_FORMATS),
        attack_at=require_choice("--attack-at", attack_at, SIZES),
        authentic=authentic,
        through_defence=through_text(through_defence, through_post),
        retry_failed=retry_failed,
        image_threads=image_threads,
        deterministic=deterministic,
        compile=compile,
        ignore_disk=ignore_disk,
    )
    if executor is not None:
        require_choice("--executor", executor, EXECUTORS)
    executor_spec = read_executor_spec(executor, workers, devices, param_texts(executor_param))
    part = read_part(shard_index, num_shards, executor_spec, options)
    check_request(run_plan, folder, options)
    # after the cheap mistakes: this imports torch, which takes seconds
    from afbench.workflows.executors.scale_out import dispatch_generate

    with ExitStack() as stack:
        hooks = GenerateHooks(
            progress=deferred_bar(stack, run_plan.name, "grad", quiet=quiet),
            index=counted_bar(stack, "index", "image", quiet=quiet),
            warn=_log.warning,
        )
        return dispatch_generate(executor_spec or part, run_plan, folder, options, hooks)


@checks_arguments
def plan(
    *,
    plan: str | None = None,
    only: Texts = (),
    localizer: Texts = (),
    attack: Texts = (),
    phi: Phi | Sequence[Phi] = (),
    steps: int | Texts | Sequence[int] = (),
    param: Params = (),
    where: str | None = None,
    source: Texts = (),
    terms: Texts = (),
    mask_threshold: int | None = None,
    mask_nonzero: bool = False,
    ignore_alpha: bool = False,
    max_side: int | None = None,
    limit: int | None = None,
    seed: int | None = None,
    large_phi: bool = False,
    out: str | Path | None = None,
    calibrate: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
) -> Forecast:
    """Forecast what ``generate`` would make, cost and store, and what of it is done; needs no data and no weights, and touches nothing.

    Args:
        plan, only, localizer, attack, phi, steps, param, where, source, terms, mask_threshold, mask_nonzero, ignore_alpha,
            max_side, limit, seed, large_phi: as for ``afbench.generate``.
        out: the benchmark's folder, to leave out what is done; omitted, as for ``afbench.generate``.
        calibrate: measure for about 30 s what a gradient and a stored image take, and fill ``hours``.
        device: device for ``calibrate``.
        precision: precision for ``calibrate``: ``fp32``, ``tf32`` or ``bf16``.
    Returns:
        A ``Forecast``: ``blocks``, ``gigaflops``, ``hours``, ``disk_bytes``, ``missing_bytes``, ...; figures are None while a
        source was not opened. ``to_pandas()`` has one row per block, ``as_json()`` all of it.
    Raises:
        UsageError: for a value, a folder or a source that cannot be used.
    """
    run_plan = build_plan(
        plan_name=plan,
        only=texts_of(only),
        localizers=texts_of(localizer),
        attacks=texts_of(attack),
        phi=texts_of(phi),
        steps=texts_of(steps),
        params=param_texts(param),
        where=where,
        sources=texts_of(source),
        terms=texts_of(terms),
        mask_threshold=mask_threshold,
        mask_nonzero=mask_nonzero,
        ignore_alpha=ignore_alpha,
        max_side=max_side,
        limit=limit,
        seed=seed,
        large_phi=large_phi,
    )
    require_choice("--precision", precision, PRECISIONS)
    return _forecast(run_plan, out, calibrate_on=device if calibrate else None, precision=precision)


def _forecast(
    run_plan: RunPlan, out: str | Path | None, *, calibrate_on: str | None, precision: str
) -> Forecast:
    folder = default_out(run_plan) if out is None else Path(out)
    if calibrate_on is None:
        return forecast_plan(run_plan, folder)
    # nothing else here imports torch
    from afbench.workflows.planning.calibrate import calibrate

    speeds = calibrate(
        run_plan,
        remaining_workloads(run_plan, folder),
        device=calibrate_on,
        precision=precision,
        say=_log.info,
    )
    return forecast_plan(run_plan, folder, speeds=speeds, device=calibrate_on)
