"""A training step as one CUDA graph, so that all its kernels are launched at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from gahb.training.checkpoint import State, tensors_of

WARM_UP = 3  # steps that compile, choose algorithms and allocate what a step keeps


def captured(step: Callable[[], None], state: State) -> Callable[[], object]:
    """Capture a step that changes ``state`` in place; the function returned replays it.

    The step reads its learning rate from a tensor and its random numbers from ``state.generator``, so that each
    replay continues where the last one ended. See "Whole-network capture" in the notes of ``torch.cuda.graph``.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(state.generator)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with undone(state), torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@contextmanager
def undone(state: State) -> Iterator[None]:
    """Undo, in place, what the steps inside change: weights, moments, means, losses and random numbers.

    Moments that the first step creates become zero, as Adam and Muon create them.
    """
    before = {name: value.clone() for name, value in tensors_of(state).items()}
    numbers = state.generator.get_state()
    yield
    with torch.no_grad():
        for name, value in tensors_of(state).items():
            value.copy_(before[name]) if name in before else value.zero_()
    state.generator.set_state(numbers)
    for optimizer in state.optimizers:
        optimizer.zero_grad()
