"""An epoch of a configured strategy, as the plan of one process."""

from collections.abc import Sequence

from vcpipe.config.loading import Loading
from vcpipe.data.loading.groups import Groups, group_plan
from vcpipe.data.loading.plans import Plan, Segment, Share, dealt_plan, refuse_too_small
from vcpipe.data.loading.reader import Reader
from vcpipe.data.loading.strategies import STRATEGIES
from vcpipe.errors import InputError


def plan_epoch(
    reader: Reader,
    config: Loading,
    share: Share,
    seed: int,
    epoch: int,
    done: Sequence[Segment] = (),
) -> Plan:
    """What a process reads in an epoch, after the segments that others may have taken of it."""
    if hasattr(reader, "order"):
        order = reader.order(epoch)
    else:
        order = STRATEGIES[config.strategy](reader, config, seed, epoch)
    if isinstance(order, Groups):
        refuse_too_small(len(reader), share.world, 1, share)
        plan = group_plan(order, share, done)
        if not done and not plan.num_steps:
            raise InputError(
                f"No group of the {len(order.starts)} has a cell for each of {share.world} "
                "processes; ask for fewer GPUs, or name fewer labels in "
                "preprocess.<corpus>.store.group_by."
            )
        return plan
    refuse_too_small(order.num_draws, order.num_units, order.unit, share)
    return dealt_plan(order, share, done)
