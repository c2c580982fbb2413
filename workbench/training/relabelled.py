"""The same images with fewer classes, or with some labels shuffled."""

from __future__ import annotations

import torch

from workbench.errors import WorkbenchError
from workbench.training.data import Dataset


def first_classes(data: Dataset, num_classes: int) -> Dataset:
    """Keep only the examples of the first classes.

    Raises:
        WorkbenchError: If there are not that many classes, or fewer than two are asked
            for.
    """
    if type(num_classes) is not int or not 2 <= num_classes <= data.num_classes:
        raise WorkbenchError(
            f"first_classes: num_classes is {num_classes!r} and {data.name} has "
            f"{data.num_classes} classes; give a whole number from 2 to that."
        )
    if num_classes == data.num_classes:
        return data
    kept = data.labels < num_classes
    return Dataset.from_tensors(
        data.images[kept],
        data.labels[kept],
        data.class_names[:num_classes],
        name=f"{data.name}, first {num_classes} classes",
    )


def shuffled_labels(data: Dataset, share: float, *, seed: int = 0) -> Dataset:
    """Shuffle the labels of a share of the examples among themselves.

    So each class keeps its size, and of ten equal classes about a tenth of these labels
    stay right by chance. The seed fixes which examples they are, and those of a smaller
    share are among those of a larger one.

    Args:
        data: The examples.
        share: From 0 (none, returns the same data) to 1 (all).
        seed: Of the choice and of the order.

    Raises:
        WorkbenchError: If the share is not from 0 to 1.
    """
    if not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise WorkbenchError(
            f"shuffled_labels: the share is {share!r}; give a number from 0 to 1."
        )
    if share == 0:
        return data
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(data.num_examples, generator=generator)
    among = order[: round(share * data.num_examples)]
    labels = data.labels.clone()
    labels[among] = labels[among[torch.randperm(len(among), generator=generator)]]
    name = f"{data.name}, {share:.0%} of labels shuffled"
    return Dataset.from_tensors(data.images, labels, data.class_names, name)
