"""Suggest what a mistyped command or an option of another tool may mean."""

from __future__ import annotations

import click

from afbench.naming import did_you_mean

_OPTIONS = {
    "--phi": ("--eps", "--epsilon", "--max-epsilon", "--linf", "--budget", "--norm", "--radius"),
    "--steps": ("--iterations", "--iters", "--num-steps", "--n-iter", "--max-iter"),
    "--param": ("--alpha", "--step-size", "--decay", "--mu", "--lr", "--kappa", "--confidence"),
    "--localizer": ("--model", "--network", "--detector", "--arch"),
    "--source": ("--dataset", "--datasets", "--images", "--input", "--root"),
    "--checkpoint": ("--weights", "--ckpt", "--model-path"),
    "--defence": ("--defense", "--defences", "--defenses"),
    "--through-defence": ("--through-defense", "--adaptive", "--defence", "--defense", "--eot"),
    "--out": ("--output", "--output-dir", "--out-dir", "--outdir", "--save", "--dest"),
    "--data": ("--benchmark", "--folder", "--bench"),
    "--limit": ("--max-samples", "--num-samples", "--n-samples", "--subset"),
    "--workers": ("--num-workers", "--jobs", "--n-jobs"),
    "--device": ("--gpu", "--cuda", "--gpus"),
    "--quiet": ("--silent", "--no-progress"),
}
"""Options of afbench, with those of other tools that mean the same."""
_EXAMPLES = {"--phi": "--phi 3/255", "--param": "--param alpha=1/255", "--device": "--device cuda"}


class NamingGroup(click.Group):
    """A group that suggests which command a mistyped one may mean."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        # the shell completes with resilient_parsing, where an unfinished name is no mistake
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            suggestion = did_you_mean("command", name, self.list_commands(ctx)).strip()
            advice = suggestion or f"`{ctx.command_path} --help` lists what there is"
            raise click.UsageError(f"No such command '{name}'; {advice}", ctx)
        return super().resolve_command(ctx, args)


def with_hint(error: click.ClickException) -> str:
    """Return the message of an error; for an option of another tool, name the option of afbench, and for a missing one give an example."""
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        example = (error.ctx.command.epilog or "").partition("Example: ")[2]
        return error.format_message().rstrip(".") + (f"; for example: {example}" if example else "")
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return error.format_message()
    known_options = {name for option in error.ctx.command.params for name in option.opts}
    for option_name, foreign_names in _OPTIONS.items():
        if error.option_name in foreign_names and option_name in known_options:
            example = f", e.g. {_EXAMPLES[option_name]}" if option_name in _EXAMPLES else ""
            return f"No such option '{error.option_name}'; use {option_name}{example}"
    return error.format_message()
