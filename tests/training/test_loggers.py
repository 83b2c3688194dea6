import sys
from types import ModuleType

import pytest

from vcpipe.config.training import Training
from vcpipe.errors import InputError
from vcpipe.training.loggers import LOGGERS

ROW = {"step": 3, "epoch": 0, "lr": 0.1, "train_loss": 2.0, "val_loss": None}


class Writer:
    """What SummaryWriter and a run of wandb are called with."""

    def __init__(self, *args, **settings):
        self.settings, self.rows, self.closed = (args, settings), [], False

    def add_scalar(self, name, value, step):
        self.rows.append((name, value, step))

    def log(self, values, step):
        self.rows.append((values, step))

    def close(self):
        self.closed = True

    finish = close


@pytest.fixture
def installed(monkeypatch):
    """Stand-ins for the two optional packages; what they made."""
    made = []

    def make(*args, **settings):
        made.append(Writer(*args, **settings))
        return made[-1]

    for name, function in (
        ("tensorboard", None),
        ("torch.utils.tensorboard", "SummaryWriter"),
        ("wandb", "init"),
    ):
        module = ModuleType(name)
        if function:
            setattr(module, function, make)
        monkeypatch.setitem(sys.modules, name, module)
    return made


def test_tensorboard_gets_every_value_and_forgets_what_comes_again(installed, tmp_path):
    logger = LOGGERS["tensorboard"](tmp_path, Training(logger="tensorboard"), 7)
    logger.log(ROW)
    logger.close()
    writer = installed[0]
    assert writer.rows == [("epoch", 0, 3), ("lr", 0.1, 3), ("train_loss", 2.0, 3)]
    assert writer.settings == ((str(tmp_path / "tensorboard"),), {"purge_step": 8})
    assert writer.closed


def test_wandb_stays_offline_unless_asked_and_goes_on_with_its_run(installed, tmp_path):
    for mode in ("offline", "online"):
        config = Training(logger="wandb", wandb_mode=mode, wandb_project="cells")
        logger = LOGGERS["wandb"](tmp_path, config, 0)
        logger.log(ROW)
        logger.close()
        settings = installed[-1].settings[1]
        assert (settings["mode"], settings["project"]) == (mode, "cells")
        assert (settings["id"], settings["resume"]) == (tmp_path.name, "allow")
        assert installed[-1].rows == [({"epoch": 0, "lr": 0.1, "train_loss": 2.0}, 3)]
    assert Training().wandb_mode == "offline"


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_logger_that_is_not_installed_is_named_with_the_way_out(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"Run pip install {name} in this environment, or set"):
        LOGGERS[name](tmp_path, Training(logger=name), 0)
