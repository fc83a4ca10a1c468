"""Training: what decides a network's weights (``recipe``), one step and its loss (``step``), the loop around it
(``loop``), checkpoints, the store of trained networks, and many trainings at once (``parallel``, ``cluster``)."""

from gahb.training.loop import TrainingFailed, TrainingStopped, train
from gahb.training.recipe import Recipe
from gahb.training.store import load_or_train

__all__ = ["Recipe", "TrainingFailed", "TrainingStopped", "load_or_train", "train"]
