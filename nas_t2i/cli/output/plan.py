"""The screen of ``nas-t2i search --dry-run``."""

from __future__ import annotations

from rich import box
from rich.table import Table

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.numbers import compact, duration, gmacs_text
from nas_t2i.protocol.rungs import described
from nas_t2i.protocol.search import RacingRule
from nas_t2i.search.plan import Plan
from nas_t2i.search.session import SearchRequest

_TIMED = "from a few steps timed just now."


def print_plan(request: SearchRequest, plan: Plan, console: Console) -> None:
    """Print what a search would do. Nothing has been trained or written."""
    budget = request.budget
    number = f"{plan.count:,}" if plan.count_is_exact else f"at most {plan.count:,}"
    shared = ""
    if plan.proxies is not None and plan.proxies < plan.count:
        shared = f", {plan.proxies} different proxies under this budget"
    console.print(
        f"space {request.space.name}: {number} architectures{shared}\n"
        f"budget {budget.name} ({budget.budget_id}): {budget.training.steps} steps of batch "
        f"{budget.training.batch}, {described(budget.rungs)}",
        highlight=False,
        soft_wrap=True,
    )
    if plan.warning:
        console.print(f"warning: {plan.warning}", highlight=False, soft_wrap=True)
    title = f"{len(plan.samples)} architectures drawn from it"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("architecture", no_wrap=True)
    for column in ("params", "GMACs", "attn %", "trained", "s/trial"):
        table.add_column(column, justify="right")
    unknown = any(speed is None for _, speed in plan.samples)
    for candidate, speed in plan.samples:
        full, trained = candidate.profile, candidate.trained_profile
        took = "-"
        if speed is not None:
            steps, full_rungs = budget.training.steps, len(budget.full_rungs)
            seconds = speed.step * steps + speed.evaluation * full_rungs
            took = f"{seconds + speed.signals * len(budget.rungs):.0f}"
        table.add_row(
            candidate.name,
            compact(full.params),
            gmacs_text(full.gmacs),
            f"{100 * full.attention_share:.0f}",
            compact(trained.params),
            took,
        )
    console.print(table)
    console.print(
        "params, GMACs, attn: the full architecture. trained: parameters of the proxy that the "
        "budget trains. s/trial: training and evaluation to the last rung, "
        + ("not timed: no CUDA device is here." if unknown else _TIMED),
        highlight=False,
    )
    rule = budget.search.early_stopping
    what, most = f"{plan.trials} trials", "if none stops early"
    if isinstance(rule, RacingRule):
        what = f"{plan.trials} architectures in a race for {rule.compute:g} trials' training"
        most = "if the leader is far from the last rung then"
    likely, longest = _compute(plan.flops_likely), _compute(plan.flops_at_most)
    if plan.seconds_likely is not None and plan.seconds_at_most is not None:
        what += f", {plan.parallel} side by side"
        likely = f"{duration(plan.seconds_likely)} ({likely} of training)"
        longest = f"{duration(plan.seconds_at_most)} ({longest})"
    console.print(
        f"{what}: about {likely}, at most {longest} {most}",
        highlight=False,
        soft_wrap=True,
    )
    if plan.latencies:
        console.print(plan.latencies, highlight=False, markup=False, soft_wrap=True)
    if plan.reusable:
        console.print(plan.reusable, highlight=False, markup=False, soft_wrap=True)


def _compute(flops: float) -> str:
    return f"{flops / 1e15:.2f} PFLOPs"
