"""Training: against a hand-written one, the same bit by bit, steered and refused."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.errors import WorkbenchError
from workbench.progress.control import Control, Progress
from workbench.training import loop
from workbench.training.checkpoint import Checkpoint, State
from workbench.training.data import Dataset, load_data
from workbench.training.models import build_model
from workbench.training.train import TrainConfig, train


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", per_class=100)


@pytest.fixture(scope="module")
def few() -> Dataset:
    return load_data("digits", per_class=13)


def config(**values: object) -> TrainConfig:
    return TrainConfig(**{"device": "cpu", "epochs": 6, **values})  # type: ignore[arg-type]


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


class Dropping(nn.Module):
    """A network of the user's, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, 16)
        self.last = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x.flatten(1)).relu()
        return self.last(nn.functional.dropout(hidden, 0.5, self.training))


def test_the_mlp_learns_the_digits_by_heart(digits: Dataset) -> None:
    start = time.perf_counter()
    done = train(build_model("mlp", digits), digits, config(epochs=30))
    assert time.perf_counter() - start < 30  # about 0.2 s on a free machine
    assert done.status == "finished"
    assert done.run["train_accuracy"] > 0.99
    assert done.run["train_loss"] < 0.05
    assert {key: len(column) for key, column in done.history.items()} == {
        "epoch": 30,
        "loss": 30,
        "accuracy": 30,
    }
    assert done.history["epoch"] == [float(e) for e in range(1, 31)]
    assert done.history["loss"][-1] < 0.05 < 0.5 < done.history["loss"][0]


def test_the_run_says_what_was_trained(few: Dataset) -> None:
    done = train(build_model("linear", few, seed=2), few, config(seed=2))
    expected = {
        "data": "digits",
        "per_class": 13,
        "split": "train",
        "root": None,
        "data_seed": 0,
        "model": "linear",
        "num_params": 650,
        "num_classes": 10,
        "num_examples": 130,
        "epochs": 6,
        "epochs_planned": 6,
        "seed": 2,
        "device": "cpu",
        "num_evaluated": 130,
    }
    assert expected.items() <= done.run.items()


def test_loss_and_accuracy_are_of_the_trained_network_in_eval_mode(
    digits: Dataset,
) -> None:
    done = train(build_model("mlp", digits), digits, config())
    model = done.load_model()
    with torch.no_grad():
        logits = model(digits.images)
    assert done.run["train_loss"] == pytest.approx(
        cross_entropy(logits.double(), digits.labels).item(), rel=1e-5
    )
    right = (logits.argmax(1) == digits.labels).double().mean().item()
    assert done.run["train_accuracy"] == pytest.approx(right)


def test_one_batch_an_epoch_is_gradient_descent_with_momentum_as_written_by_hand() -> (
    None
):
    few = load_data("digits", per_class=5)
    lr, momentum, decay, epochs = 0.3, 0.9, 0.01, 9
    model = build_model("linear", few)
    done = train(
        model,
        few,
        config(epochs=epochs, lr=lr, momentum=momentum, weight_decay=decay),
    )
    X = few.images.double().flatten(1).numpy()
    X = np.hstack([X, np.ones((len(X), 1))])
    Y = np.eye(10)[few.labels.numpy()]
    W = np.hstack(
        [p.detach().double().numpy().reshape(10, -1) for p in model[1].parameters()]
    )
    V = np.zeros_like(W)
    losses = []
    for epoch in range(epochs):
        rate = lr * (1.0, 0.1, 0.01)[epoch // 3]  # falls after 3 and 6 of 9 epochs
        Z = X @ W.T
        P = np.exp(Z - Z.max(1, keepdims=True))
        P /= P.sum(1, keepdims=True)
        losses.append(-np.log(P[Y == 1]).mean())
        V = momentum * V + (P - Y).T @ X / len(X) + decay * W
        W = W - rate * V
    found = done.load_model()[1]  # type: ignore[index]
    np.testing.assert_allclose(found.weight.detach(), W[:, :-1], atol=1e-5)
    np.testing.assert_allclose(found.bias.detach(), W[:, -1], atol=1e-5)
    np.testing.assert_allclose(done.history["loss"], losses, rtol=1e-4)


def test_a_run_is_that_of_torch_s_own_sgd_bit_by_bit(few: Dataset) -> None:
    model = build_model("cnn", few)
    settings = config(epochs=1, batch_size=32)
    done = train(model, few, settings)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    torch.set_num_threads(1)
    for batch in loop._batches(few, settings, 0):
        optimizer.zero_grad()
        logits = model(few.images[batch])
        loss = cross_entropy(logits, few.labels[batch], reduction="sum") / len(batch)
        loss.backward()
        optimizer.step()
    assert same(done.weights, model.state_dict())


def test_training_does_not_load_torch_s_compiler() -> None:
    program = """
import sys
from workbench import TrainConfig, load_data, train
from workbench.training.models import build_model
data = load_data("digits", per_class=5)
train(build_model("linear", data), data, TrainConfig(epochs=1, device="cpu"))
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert done.stdout == "False\n"


def test_the_rate_falls_at_one_and_two_thirds_of_any_number_of_epochs(
    few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = loop.sgd

    def recording(*tensors: list[Tensor], lr: float, **more: Any) -> None:
        rates.append(lr)
        step(*tensors, lr=lr, **more)

    monkeypatch.setattr(loop, "sgd", recording)
    train(build_model("linear", few), few, config(epochs=7, lr=1.0, batch_size=130))
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_same_seed_gives_the_same_weights_bit_by_bit(digits: Dataset) -> None:
    model = build_model("cnn", digits)
    first, again = (train(model, digits, config(epochs=2)) for _ in range(2))
    other = train(model, digits, config(epochs=2, seed=1))
    assert same(first.weights, again.weights)
    assert first.run == again.run
    assert not same(first.weights, other.weights)


def test_training_leaves_network_and_random_numbers_of_the_caller_alone(
    few: Dataset,
) -> None:
    model = Dropping()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    train(model, few, config())
    assert same(before, model.state_dict())
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("batch_size", "expected"), [(128, 1), (1024, 2)])
def test_small_batches_of_small_networks_take_one_thread(
    digits: Dataset, batch_size: int, expected: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found: list[int] = []
        train(
            build_model("linear", digits),
            digits,
            config(epochs=1, batch_size=batch_size),
            progress=lambda event: found.append(torch.get_num_threads()),
        )
        assert set(found) == {expected}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Counting(nn.Module):
    """Remembers in ``seen`` the rows of each batch that it learnt from."""

    seen: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.last = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            Counting.seen.append(x.flatten())
        return self.last(self.norm(x.flatten(1)))


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "sizes"),
    [(2, 128, [2]), (129, 128, [65, 64]), (3, 2, [3]), (10, 4, [4, 3, 3])],
)
def test_each_epoch_sees_every_example_once_in_batches_of_like_size(
    num_examples: int, batch_size: int, sizes: list[int]
) -> None:
    labels = torch.arange(num_examples) % 2
    values = torch.linspace(-1, 1, num_examples).view(-1, 1, 1, 1)
    data = Dataset.from_tensors(values, labels)
    Counting.seen = []
    train(Counting(), data, config(epochs=3, batch_size=batch_size))
    assert [len(batch) for batch in Counting.seen] == 3 * sizes
    epochs = torch.cat(Counting.seen).view(3, num_examples)
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, values.flatten())
    if num_examples > 3:
        assert not torch.equal(epochs[0], epochs[1])


def cancelling(control: Control, epoch: float) -> list[Progress]:
    """Return a list whose ``append`` cancels once an epoch is reached."""

    class Events(list[Progress]):
        def append(self, event: Progress) -> None:
            super().append(event)
            if event.values.get("epoch", 0.0) >= epoch:
                control.cancel()

    return Events()


def cancelled_at(
    model: nn.Module | Checkpoint, data: Dataset, settings: TrainConfig, epoch: float
) -> Checkpoint:
    control = Control()
    events = cancelling(control, epoch)
    return train(model, data, settings, progress=events.append, control=control)


def test_a_run_cancelled_at_the_end_of_an_epoch_goes_on_as_if_it_had_not_been(
    digits: Dataset,
) -> None:
    model, settings = build_model("mlp", digits), config(epochs=30)
    whole = train(model, digits, settings)
    half = cancelled_at(model, digits, settings, 15)
    assert (half.status, half.run["epochs"], half.batch) == ("cancelled", 15, {})
    rest = train(half)
    assert (rest.status, rest.run["epochs"]) == ("finished", 30)
    assert same(whole.weights, rest.weights)
    assert same(whole.momentum, rest.momentum)
    assert whole.history == rest.history
    assert whole.run == rest.run


def stopping_after(control: Control, num_batches: int) -> Control:
    """Let a control cancel at its check after so many batches."""
    checks = iter(range(num_batches))

    class Stopping(Control):
        def check(self) -> None:
            if next(checks, None) is None:
                self.cancel()
            super().check()

    return Stopping()


@pytest.mark.parametrize("num_batches", [0, 1, 11, 16])
def test_a_run_cancelled_between_any_two_batches_goes_on_as_if_it_had_not_been(
    digits: Dataset, num_batches: int
) -> None:
    model, settings = Dropping(), config(epochs=3)  # of eight batches each
    whole = train(model, digits, settings)
    part = train(
        model, digits, settings, control=stopping_after(Control(), num_batches)
    )
    assert part.status == "cancelled"
    assert part.run["epochs"] == num_batches // 8
    assert part.batch.get("num_batches", 0) == num_batches % 8
    assert len(part.history["loss"]) == num_batches // 8
    rest = train(part)
    assert same(whole.weights, rest.weights)
    assert whole.history == rest.history


def test_a_cancel_before_the_first_batch_keeps_the_fresh_network(few: Dataset) -> None:
    control = Control()
    control.cancel()
    model = build_model("mlp", few)
    kept = train(model, few, config(), control=control)
    assert (kept.status, kept.run["epochs"]) == ("cancelled", 0)
    assert same(kept.weights, model.state_dict())
    assert 1.0 < kept.run["train_loss"] < 5.0
    assert kept.run["num_evaluated"] == 64


def test_after_a_cancel_few_examples_are_looked_at(digits: Dataset) -> None:
    kept = cancelled_at(build_model("mlp", digits), digits, config(), 2)
    assert 0 < kept.run["num_evaluated"] < digits.num_examples
    assert math.isfinite(kept.run["train_loss"])


def test_a_pause_lasts_until_it_is_resumed(digits: Dataset) -> None:
    control = Control()
    events: list[Progress] = []
    reached = threading.Event()

    def progress(event: Progress) -> None:
        events.append(event)
        if event.values.get("epoch") == 2.0 and not reached.is_set():
            control.pause()
            reached.set()

    found: list[Checkpoint] = []
    model, settings = build_model("mlp", digits), config()
    thread = threading.Thread(
        target=lambda: found.append(
            train(model, digits, settings, progress=progress, control=control)
        )
    )
    thread.start()
    assert reached.wait(20)
    paused_at = len(events)
    time.sleep(0.2)
    assert len(events) == paused_at
    assert not found
    control.resume()
    thread.join(20)
    assert found[0].status == "finished"
    assert same(found[0].weights, train(model, digits, settings).weights)


def test_progress_rises_to_the_end_and_names_each_epoch(digits: Dataset) -> None:
    events: list[Progress] = []
    model = build_model("mlp", digits)
    done = train(model, digits, config(snapshots=(0, 3, 6)), progress=events.append)
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert {event.stage for event in events} == {"Training"}
    for epoch in range(1, 7):
        (event, *_) = [e for e in events if e.values.get("epoch") == epoch]
        assert event.detail == f"epoch {epoch} of 6"
        assert event.values["loss"] == done.history["loss"][epoch - 1]
        assert event.values["accuracy"] == done.history["accuracy"][epoch - 1]


def test_a_resumed_run_counts_its_progress_from_nothing(digits: Dataset) -> None:
    half = cancelled_at(build_model("mlp", digits), digits, config(), 3)
    events: list[Progress] = []
    train(half, progress=events.append)
    assert events[0].fraction == 0.0
    assert events[-1].fraction == 1.0
    assert max(e.fraction for e in events if e.values.get("epoch") == 4.0) < 0.5


def test_slow_batches_are_told_at_least_every_two_seconds(few: Dataset) -> None:
    class Slow(Dropping):
        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.15)
            return super().forward(x)

    times = [time.monotonic()]
    train(
        Slow(),
        few,
        config(epochs=1, batch_size=8),
        progress=lambda event: times.append(time.monotonic()),
    )
    assert times[-1] - times[0] > 2.3
    assert max(np.diff(times)) < 2.0


@pytest.mark.parametrize("name", ["mlp", "linear", "cnn"])
@pytest.mark.parametrize("lr", [1e3, 1e20])
def test_a_diverging_loss_ends_the_run_with_what_to_try(
    few: Dataset, name: str, lr: float
) -> None:
    with pytest.raises(
        WorkbenchError, match=r"the loss went .* in epoch \d+, batch \d+: .* diverges"
    ) as caught:
        train(build_model(name, few), few, config(lr=lr, epochs=30))
    assert f"try lr={lr / 10:g}" in str(caught.value)


class Poisoned(nn.Module):
    """Learns, but is NaN in eval mode once it has learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)
        self.learnt = False

    def forward(self, x: Tensor) -> Tensor:
        self.learnt |= self.training
        logits: Tensor = self.last(x.flatten(1))
        return logits * torch.nan if self.learnt and not self.training else logits


def test_a_network_that_is_nan_in_eval_mode_is_refused(few: Dataset) -> None:
    with pytest.raises(WorkbenchError, match="to nan in eval mode after epoch 6"):
        train(Poisoned(), few, config())


def test_snapshots_are_the_network_after_those_epochs(digits: Dataset) -> None:
    model = build_model("mlp", digits)
    done = train(model, digits, config(snapshots=(0, 2, 6)))
    assert sorted(done.snapshots) == [0, 2, 6]
    fresh, second, last = (done.at_epoch(e) for e in (0, 2, 6))
    assert same(fresh.weights, model.state_dict())
    assert same(last.weights, done.weights)
    stopped = cancelled_at(model, digits, config(), 2)
    assert same(second.weights, stopped.weights)
    assert (second.run["epochs"], second.status) == (2, "cancelled")
    assert (last.run["epochs"], last.status) == (6, "finished")
    assert second.history["loss"] == done.history["loss"][:2]
    assert (second.momentum, second.batch) == ({}, {})
    assert fresh.run["train_loss"] > second.run["train_loss"] > last.run["train_loss"]
    logits = second.load_model()(digits.images).detach()
    loss = cross_entropy(logits.double(), digits.labels).item()
    assert second.run["train_loss"] == pytest.approx(loss, rel=1e-5)


def test_keeping_snapshots_does_not_change_the_training(digits: Dataset) -> None:
    model = Dropping()
    plain = train(model, digits, config())
    kept = train(model, digits, config(snapshots=(0, 1, 2, 3)))
    assert same(plain.weights, kept.weights)


def test_an_epoch_that_was_not_kept_is_refused_with_those_that_were(
    few: Dataset,
) -> None:
    done = train(build_model("linear", few), few, config(snapshots=(1, 4)))
    with pytest.raises(WorkbenchError, match=r"epoch 3 were not kept \(kept: 1, 4\)"):
        done.at_epoch(3)


def test_training_goes_on_from_a_snapshot(few: Dataset) -> None:
    done = train(build_model("mlp", few), few, config(snapshots=(3,)))
    again = train(done.at_epoch(3))
    assert (again.run["epochs"], again.status) == (6, "finished")
    assert len(again.history["loss"]) == 6


def test_no_epochs_keep_the_fresh_network(few: Dataset) -> None:
    model = build_model("mlp", few)
    done = train(model, few, config(epochs=0))
    assert (done.status, done.run["epochs"]) == ("finished", 0)
    assert same(done.weights, model.state_dict())


def test_a_finished_run_goes_on_only_if_more_is_asked_for(few: Dataset) -> None:
    done = train(build_model("mlp", few), few, config())
    with pytest.raises(
        WorkbenchError, match=r"trained 6 epochs and epochs is 6; .* above 6"
    ):
        train(done)
    more = train(done, few, config(epochs=8))
    assert (more.run["epochs"], more.run["epochs_planned"]) == (8, 8)
    assert more.settings["epochs"] == 8
    assert more.history["loss"][:6] == done.history["loss"]


def test_a_run_stopped_within_an_epoch_keeps_its_batches(digits: Dataset) -> None:
    model = build_model("mlp", digits)
    part = train(model, digits, config(), control=stopping_after(Control(), 3))
    for changed in ({"batch_size": 64}, {"seed": 1}):
        (name,) = changed
        with pytest.raises(WorkbenchError, match=rf"during epoch 1 .* {name}="):
            train(part, digits, config(**changed))
    assert train(part, digits, config(lr=0.01)).run["epochs"] == 6


def test_a_checkpoint_does_not_go_on_with_other_data(
    digits: Dataset, few: Dataset
) -> None:
    half = cancelled_at(build_model("mlp", digits), digits, config(), 3)
    with pytest.raises(WorkbenchError, match=r"130 examples .* trained on 1000"):
        train(half, few)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": -1}, r"epochs is -1; give a whole number, at least 0"),
        ({"epochs": 2.5}, r"epochs is 2.5"),
        ({"batch_size": 1}, r"batch_size is 1; give a whole number, at least 2"),
        ({"seed": -1}, r"seed is -1"),
        ({"lr": -0.1}, r"lr is -0.1; give a number >= 0"),
        ({"lr": math.nan}, r"lr is nan"),
        ({"lr": math.inf}, r"lr is inf"),
        ({"lr": "fast"}, r"lr is 'fast'"),
        ({"momentum": 1.0}, r"momentum is 1.0; give a number >= 0 and < 1"),
        ({"weight_decay": -1.0}, r"weight_decay is -1.0"),
        ({"snapshots": (7,)}, r"names epoch 7; give whole numbers from 0 to epochs=6"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(
    values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        config(**values)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    few: Dataset,
) -> None:
    with pytest.raises(
        WorkbenchError, match=r"'tpu' is not available on this .* auto, .*cpu"
    ):
        train(build_model("linear", few), few, config(device="tpu"))


def test_a_network_that_does_not_fit_the_data_is_refused_in_words(few: Dataset) -> None:
    with pytest.raises(
        WorkbenchError, match=r"does not accept images of shape \(2, 1, 8, 8\)"
    ):
        train(build_model("linear", (1, 9, 10)), few, config())
    with pytest.raises(WorkbenchError, match=r"returns \(2, 9\) .* expected \(2, 10\)"):
        train(build_model("linear", (1, 8, 9)), few, config())
    with pytest.raises(WorkbenchError, match=r"call train\(model, data\)"):
        train(build_model("linear", few))


def test_frozen_parameters_are_neither_counted_nor_trained(few: Dataset) -> None:
    model = Dropping()
    model.hidden.requires_grad_(False)
    done = train(model, few, config())
    assert done.run["num_params"] == 16 * 10 + 10
    assert torch.equal(done.weights["hidden.weight"], model.hidden.weight)
    assert not torch.equal(done.weights["last.weight"], model.last.weight)
    assert not any(key.startswith("hidden") for key in done.momentum)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_agrees_with_the_cpu(digits: Dataset) -> None:
    model = build_model("mlp", digits)
    done = train(model, digits, config(device="cuda", epochs=30))
    assert done.run["device"] == "cuda"
    assert done.run["train_accuracy"] > 0.999
    plain = train(model, digits, config(device="cuda", mixed_precision=False, lr=0.01))
    cpu = train(model, digits, config(lr=0.01))
    for key, value in cpu.weights.items():
        torch.testing.assert_close(plain.weights[key], value, rtol=1e-2, atol=1e-3)
    part = replace(cancelled_at(model, digits, config(device="cuda"), 3))
    assert train(part).status == "finished"
