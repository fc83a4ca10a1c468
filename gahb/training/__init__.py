"""Training: ``recipe`` (what decides a network's weights), ``step`` (the loss), ``loop``, and the store of networks."""

from gahb.training.loop import TrainingFailed, TrainingStopped, train
from gahb.training.recipe import Recipe
from gahb.training.store import load_or_train

__all__ = ["Recipe", "TrainingFailed", "TrainingStopped", "load_or_train", "train"]
