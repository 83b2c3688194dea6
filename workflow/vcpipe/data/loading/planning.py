"""An epoch of a configured strategy, as the plan of one process."""

from collections.abc import Sequence

from vcpipe.config.loading import Loading
from vcpipe.data.loading.groups import Groups, group_plan
from vcpipe.data.loading.plans import Plan, Segment, Share, dealt_plan, refuse_too_small
from vcpipe.data.loading.reader import Reader
from vcpipe.data.loading.strategies import STRATEGIES


def plan_epoch(
    reader: Reader,
    config: Loading,
    share: Share,
    seed: int,
    epoch: int,
    done: Sequence[Segment] = (),
) -> Plan:
    """What a process reads in an epoch, after the segments that others may have taken of it."""
    order = STRATEGIES[config.strategy](reader, config, seed, epoch)
    if isinstance(order, Groups):
        return group_plan(order, share, done)
    refuse_too_small(order.num_draws, order.num_units, order.unit, share)
    return dealt_plan(order, share, done)
