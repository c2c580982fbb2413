"""Tokens, recurrence and attention; inputs and outputs that are no single tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.zoo.case import (
    Situation,
    case,
    family,
    labels,
    sequences,
    tokens,
)


class Words(nn.Module):
    """The mean of embedded tokens."""

    def __init__(self, embedding: nn.Embedding | None = None) -> None:
        super().__init__()
        self.e, self.o = embedding or nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, t: Tensor) -> Tensor:
        assert not t.is_floating_point()
        return self.o(torch.tanh(self.e(t)).mean(1))


class Generates(nn.Module):
    """The embedding is the last layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.h = nn.Embedding(7, 4), nn.Linear(4, 4)

    def forward(self, t: Tensor) -> Tensor:
        return self.h(self.e(t).sum(1)).tanh() @ self.e.weight.T


class OneHot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(7, 3)

    def forward(self, t: Tensor) -> Tensor:
        return self.w(F.one_hot(t, 7).to(self.w.weight.dtype)).tanh().sum(1)


family(
    {
        "words": Words,
        "words_with_padding": lambda: Words(nn.Embedding(7, 4, padding_idx=0)),
        "words_in_bounds": lambda: Words(nn.Embedding(7, 4, max_norm=100.0)),
        "one_hot_words": OneHot,
    },
    tokens,
)


@case()
def words_generated_by_their_embedding() -> Situation:
    t, _ = tokens()
    return Situation(Generates(), (t, torch.arange(9) % 7))


@case(expect="either")
def words_cut_to_a_norm() -> Situation:
    """The forward pass changes the weights."""
    model = Words(nn.Embedding(7, 4, max_norm=1.0))
    truth = Words()
    truth.load_state_dict(model.state_dict())
    truth(tokens()[0])
    norms = truth.e.weight.data.norm(dim=1, keepdim=True)
    truth.e.weight.data.div_(norms.clamp(min=1.0))
    t = torch.cat([torch.arange(7).repeat(9, 1), tokens()[0]], dim=1)
    return Situation(model, (t, labels()), truth=truth)


@case()
def words_with_sparse_gradients() -> Situation:
    model = Words(nn.Embedding(7, 4, sparse=True))
    truth = Words()
    truth.load_state_dict(model.state_dict())
    return Situation(model, tokens(), truth=truth)


@case()
def bags_of_words() -> Situation:
    class Bags(nn.Module):
        def __init__(self, bag: bool) -> None:
            super().__init__()
            make = nn.EmbeddingBag if bag else nn.Embedding
            self.e, self.o = make(7, 4), nn.Linear(4, 3)

        def forward(self, t: Tensor) -> Tensor:
            h = self.e(t)
            return self.o(torch.tanh(h.mean(1) if h.ndim == 3 else h))

    model, truth = Bags(True), Bags(False)
    truth.load_state_dict(model.state_dict())
    return Situation(model, tokens(), truth=truth)


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.r = kind(2, 3, batch_first=True, **options)
        self.o = nn.Linear(6 if options.get("bidirectional") else 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.r(x)[0][:, -1])


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.o = nn.LSTMCell(2, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 3)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return self.o(h)


family(
    {
        "lstm": lambda: Recurrent(nn.LSTM),
        "gru": lambda: Recurrent(nn.GRU),
        "rnn_of_two_directions": lambda: Recurrent(nn.RNN, bidirectional=True),
        "cells": Cells,
    },
    lambda: sequences(9, 4, 2),
)


class Packed(nn.Module):
    """Padded sequences and their lengths, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.r, self.o = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        x, lengths = pair
        packed = pack_padded_sequence(
            x, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        h, _ = pad_packed_sequence(self.r(packed)[0], batch_first=True)
        there = torch.arange(h.shape[1])[None] < lengths[:, None]
        return self.o((h * there[..., None]).sum(1) / lengths[:, None])


def _lengths() -> tuple[tuple[Tensor, Tensor], Tensor]:
    x, y = sequences(9, 4, 2)
    return (x, torch.tensor([4, 2, 3, 1, 4, 2, 4, 3, 1])), y


@case()
def packed_sequences() -> Situation:
    return Situation(Packed(), _lengths())


class Attention(nn.Module):
    def __init__(self, causal: bool = False, heads: int = 2) -> None:
        super().__init__()
        self.qkv, self.o, self.causal = nn.Linear(4, 12), nn.Linear(4, 3), causal
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            p.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for p in self.qkv(x).chunk(3, -1)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.o(h.transpose(1, 2).flatten(2)[:, -1])


class MultiHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m, self.o = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(x[:, 0] + self.m(x, x, x, need_weights=False)[0].mean(1))


class Encoder(nn.Module):
    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 5, batch_first=True, dropout=0.1)
        self.t = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.o, self.start = nn.Linear(4, 3), nn.Parameter(torch.randn(1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.start.expand(len(x), -1, -1), x], dim=1)
        return self.o(self.t(x)[:, 0])


class Rotary(nn.Module):
    """Angles kept for the longest sequence so far."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(4, 4), nn.Linear(4, 3)
        self.angles = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.angles) < x.shape[1]:
            self.angles = torch.arange(x.shape[1], dtype=x.dtype)
        a, b = self.q(x).chunk(2, -1)
        turn = self.angles[: x.shape[1], None]
        h = torch.cat([a * turn.cos() - b * turn.sin(), a * turn.sin()], -1)
        return self.o(h.tanh().mean(1))


family(
    {
        "attention": Attention,
        "causal_attention": lambda: Attention(causal=True),
        "multi_head_attention": MultiHead,
        "transformer_encoder": Encoder,
        "rotary_angles_kept": Rotary,
    },
    lambda: sequences(9, 3),
)


@case()
def attention_with_padding_masked() -> Situation:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.o = nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 3)
            self.m = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, t: Tensor) -> Tensor:
            x, empty = self.e(t), t == 0
            h = self.m(x, x, x, key_padding_mask=empty, need_weights=False)[0]
            return self.o(h.masked_fill(empty[..., None], 0.0).tanh().sum(1))

    t = torch.randint(1, 5, (9, 4))
    t[::2, 2:] = 0
    return Situation(Masked(), (t, labels()))


def _words(model: nn.Module, **kwargs: Any) -> Situation:
    t = torch.randint(0, 5, (4, 4))
    t[1:3, 1:] = (torch.arange(6) % 5).view(2, 3)  # each of the words
    return Situation(model, (t[:, :-1], t[:, 1:]), kwargs)


class Language(nn.Module):
    """Logits (B, T, V) of a small vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.r = nn.Embedding(5, 2), nn.GRU(2, 3, batch_first=True)
        self.o = nn.Linear(3, 5)

    def forward(self, t: Tensor) -> Tensor:
        return self.o(self.r(self.e(t))[0])


@case(plain=False)
def language_model() -> Situation:
    return _words(Language(), outputs=lambda f: f.transpose(1, 2))


@case(plain=False)
def language_model_with_ignored_tokens() -> Situation:
    found = _words(Language(), outputs=lambda f: f.transpose(1, 2))
    inputs, targets = found.data
    targets = targets.clone()
    targets[0, 1:], targets[2] = -100, -100
    kwargs = {**found.kwargs, "loss": nn.CrossEntropyLoss()}
    data = [(inputs[:1], targets[:1]), (inputs[1:], targets[1:])]
    return Situation(found.model, data, kwargs)


@case(plain=False)
def segmentation() -> Situation:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 3, 1))
    data = torch.randn(3, 1, 4, 4), labels(12).view(3, 2, 2)
    return Situation(model, data)


class Padded(nn.Module):
    """torch's encoder with its nested tensors for what is padded."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.o = nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 3)
        layer = nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)
        self.t = nn.TransformerEncoder(layer, 1)

    def forward(self, t: Tensor) -> Tensor:
        empty = t == 0
        h = self.t(self.e(t), src_key_padding_mask=empty)
        h = h.masked_fill(empty[:, : h.shape[1], None], 0.0)
        return self.o(h.sum(1) / (~empty).sum(1, keepdim=True))


@case(entries=("operators", "class_means", "gram"))
def encoder_of_padded_tokens() -> Situation:
    t = torch.randint(1, 5, (9, 4))
    t[::2, 2:] = 0
    t[:, 3] = 0
    return Situation(Padded(), (t, labels()))


@case(expect="refused", entries=("operators", "gram"))
def words_scaled_by_how_often_they_come() -> Situation:
    """The gradient of a word depends on the others in the batch."""
    return Situation(Words(nn.Embedding(7, 4, scale_grad_by_freq=True)), tokens())


@case(plain=False, but={"dual_operator": "refused"})
def language_model_of_different_lengths() -> Situation:
    texts = torch.randint(0, 5, (3, 4)), torch.randint(0, 5, (2, 3))
    data = [(t[:, :-1], t[:, 1:]) for t in texts]
    return Situation(Language(), data, {"outputs": lambda f: f.transpose(1, 2)})
