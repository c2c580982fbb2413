"""Architectures of torchvision, timm and transformers, small, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import CASES, Case, Situation, case, images, labels, pooled, shaken

SOME = ("operators", "class_means", "exact_spectrum")
Make = Callable[[], nn.Module]


def torchvisions() -> dict[str, tuple[int, Make]]:
    """A narrow network of each family, with the size of its images."""
    from torchvision import models as tv
    from torchvision.models.convnext import CNBlockConfig
    from torchvision.models.efficientnet import MBConvConfig
    from torchvision.models.mobilenetv3 import InvertedResidualConfig
    from torchvision.models.regnet import BlockParams
    from torchvision.models.vgg import make_layers

    layer_norm = partial(nn.LayerNorm, eps=1e-6)
    three: dict[str, Any] = {"num_classes": 3}
    return {
        "densenet": (16, lambda: tv.DenseNet(4, (1, 1), 4, 2, **three)),
        "mobilenet_v2": (
            16,
            lambda: tv.MobileNetV2(
                width_mult=0.1,
                round_nearest=4,
                inverted_residual_setting=[[1, 8, 1, 1], [2, 8, 2, 2]],
                **three,
            ),
        ),
        "mobilenet_v3": (
            16,
            lambda: tv.MobileNetV3(
                [
                    InvertedResidualConfig(8, 3, 8, 8, True, "RE", 2, 1, 1),
                    InvertedResidualConfig(8, 3, 16, 8, True, "HS", 1, 1, 1),
                ],
                16,
                **three,
            ),
        ),
        "shufflenet": (
            16,
            lambda: tv.ShuffleNetV2([1, 1, 1], [4, 8, 8, 8, 8], **three),
        ),
        "mnasnet": (32, lambda: tv.MNASNet(0.05, **three)),
        "efficientnet": (
            16,
            lambda: tv.EfficientNet(
                [MBConvConfig(2, 3, 1, 8, 8, 2)], 0.2, last_channel=16, **three
            ),
        ),
        "regnet": (
            16,
            lambda: tv.RegNet(
                BlockParams([1, 1], [8, 8], [4, 4], [1.0, 1.0], [2, 2], 0.25),
                stem_width=8,
                **three,
            ),
        ),
        "vision_transformer": (
            8,
            lambda: tv.VisionTransformer(8, 4, 1, 2, 8, 8, **three),
        ),
        "swin": (
            8,
            lambda: tv.SwinTransformer([2, 2], 4, [2, 1], [1, 2], [2, 2], 1.0, **three),
        ),
        "convnext": (
            16,
            lambda: tv.ConvNeXt(
                [CNBlockConfig(4, 8, 1), CNBlockConfig(8, None, 1)], **three
            ),
        ),
        "maxvit": (
            16,
            lambda: tv.MaxVit((16, 16), 4, 2, [8], [1], 4, 0.0, num_classes=3),
        ),
        "vgg": (
            32,
            lambda: pooled(*make_layers([4, "M", 8, "M"], True), width=8),
        ),
        "squeezenet": (32, lambda: tv.SqueezeNet("1_1", **three)),
        "layer_norm_first": (
            8,
            lambda: tv.VisionTransformer(
                8, 4, 2, 1, 4, 4, norm_layer=layer_norm, dropout=0.1, **three
            ),
        ),
    }


def timms() -> dict[str, tuple[int, Make]]:
    """Seven of timm's, of the kinds that do things of their own."""
    import timm

    small = partial(timm.create_model, num_classes=3)
    return {
        "mobilenetv3_small_050": (32, lambda: small("mobilenetv3_small_050")),
        "levit_128s": (32, lambda: small("levit_128s", img_size=32)),
        "convnext_atto": (32, lambda: small("convnext_atto")),
        "test_resnet": (32, lambda: small("test_resnet")),
        "test_efficientnet": (32, lambda: small("test_efficientnet")),
        "test_byobnet": (32, lambda: small("test_byobnet")),
        "timm_vision_transformer": (
            8,
            lambda: timm.models.VisionTransformer(
                img_size=8,
                patch_size=4,
                embed_dim=8,
                depth=1,
                num_heads=2,
                mlp_ratio=1,
                num_classes=3,
            ),
        ),
    }


DEFAULT = {
    *("densenet", "mobilenet_v2", "mobilenet_v3", "shufflenet"),
    *("vision_transformer", "convnext", "timm_vision_transformer"),
}
NO_SECOND = {"mobilenet_v3", "mobilenetv3_small_050", "levit_128s"}
HEAVY = {"convnext_atto", "levit_128s"}
SWEEP: dict[str, Case] = {}


def _register(name: str, table: Callable[[], dict[str, tuple[int, Make]]]) -> None:
    def make() -> Situation:
        size, build = table()[name]
        return Situation(shaken(build().double()), images(3, 3, size))

    no_second = name in NO_SECOND
    here = CASES if name in DEFAULT else SWEEP
    here[name] = Case(
        name=name,
        make=make,
        entries=("operators",) if name in HEAVY else SOME,
        hess="either" if no_second else "right",
        hess_oracle="none" if no_second else "double backward",
        fresh=name == "levit_128s",
    )


for _name in (
    *("densenet", "mobilenet_v2", "mobilenet_v3", "shufflenet", "mnasnet"),
    *("efficientnet", "regnet", "vision_transformer", "swin", "convnext", "maxvit"),
    *("vgg", "squeezenet", "layer_norm_first"),
):
    _register(_name, torchvisions)
for _name in (
    *("mobilenetv3_small_050", "levit_128s", "convnext_atto", "test_resnet"),
    *("test_efficientnet", "test_byobnet", "timm_vision_transformer"),
):
    _register(_name, timms)


def _bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=11,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=4,
        max_position_embeddings=6,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def _words() -> dict[str, Tensor]:
    mask = torch.ones(6, 5, dtype=torch.long)
    mask[::2, 3:] = 0
    return {"input_ids": torch.randint(0, 11, (6, 5)), "attention_mask": mask}


@case()
def bert() -> Situation:
    words, y = _words(), labels(6)
    data = [
        {**{k: v[i:j] for k, v in words.items()}, "labels": y[i:j]}
        for i, j in ((0, 4), (4, 6))
    ]
    return Situation(_bert().double(), data)


@case()
def bert_with_inputs_by_name() -> Situation:
    return Situation(_bert().double(), (_words(), labels(6)))


@case(plain=False, entries=("operators", "exact_spectrum"))
def gpt2() -> Situation:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=7,
        n_positions=4,
        n_embd=4,
        n_layer=1,
        n_head=2,
        n_inner=4,
        bos_token_id=None,
        eos_token_id=None,
    )
    t = torch.randint(0, 7, (3, 4))
    targets = t[:, 1:].clone()
    targets[0, 2] = -100
    kwargs = {
        "loss": nn.CrossEntropyLoss(),
        "outputs": lambda out: out.logits.transpose(1, 2),
    }
    data = {"input_ids": t[:, :-1]}, targets
    return Situation(GPT2LMHeadModel(config).double(), data, kwargs)
