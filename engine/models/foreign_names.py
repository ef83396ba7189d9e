"""Under which names published code keeps the parameters of the backbones: one table per family.

Names are facts about files that are in circulation; sources are the authors' repositories, named with each family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

# One name of ours to those of theirs; several are joined along the first axis.
Table = Mapping[str, tuple[str, ...]]
Tensors = Mapping[str, np.ndarray]
# What batch norms count for themselves, and evaluation does not read.
_COUNTER = "num_batches_tracked"
_BLOCK = re.compile(r"blocks\.(\d+)\.(.*)")


def _three(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(k) for k in range(3))


def _temporal(unit: str) -> dict[str, tuple[str, ...]]:
    """The multi-scale temporal unit: its first three branches open with a convolution and norm that we keep as one."""
    return {
        "temporal.squeeze.": _three(f"{unit}.branches.{{}}.0."),
        "temporal.squeeze_norm.": _three(f"{unit}.branches.{{}}.1."),
        "temporal.near.0.": (f"{unit}.branches.0.3.conv.",),
        "temporal.near.1.": (f"{unit}.branches.0.3.bn.",),
        "temporal.far.0.": (f"{unit}.branches.1.3.conv.",),
        "temporal.far.1.": (f"{unit}.branches.1.3.bn.",),
        "temporal.pool.1.": (f"{unit}.branches.2.4.",),
        "temporal.skip.": (f"{unit}.branches.3.",),
    }


_RESIDUAL = {"residual.0.": ("residual.conv.",), "residual.1.": ("residual.bn.",)}
_CTRGCN_BLOCK = {
    "graph.refinement.query.": _three("gcn1.convs.{}.conv1."),
    "graph.refinement.key.": _three("gcn1.convs.{}.conv2."),
    "graph.refinement.value.": _three("gcn1.convs.{}.conv3."),
    "graph.refinement.expand.": _three("gcn1.convs.{}.conv4."),
    "graph.refinement.adjacency": ("gcn1.PA",),
    "graph.refinement.alpha": ("gcn1.alpha",),
    "graph.norm.": ("gcn1.bn.",),
    "graph.down.": ("gcn1.down.",),
} | _temporal("tcn1") | _RESIDUAL  # fmt: skip
_AGCN_BLOCK = {
    "graph.convolution.theta.": _three("gcn1.conv_a.{}."),
    "graph.convolution.phi.": _three("gcn1.conv_b.{}."),
    "graph.convolution.value.": _three("gcn1.conv_d.{}."),
    "graph.convolution.learned": ("gcn1.PA",),
    "graph.norm.": ("gcn1.bn.",),
    "graph.down.": ("gcn1.down.",),
    "temporal.0.": ("tcn1.conv.",),
    "temporal.1.": ("tcn1.bn.",),
} | _RESIDUAL
_INFOGCN_BLOCK = {
    "graph.convolution.norm.": ("agcn.attn.ln.",),
    "graph.convolution.query_key.": ("agcn.attn.to_qk.",),
    "graph.convolution.learned": ("agcn.shared_topology",),
    "graph.convolution.value.": _three("agcn.conv_d.{}."),
    "graph.norm.": ("agcn.bn.",),
    "graph.down.": ("agcn.down.",),
} | _temporal("tcn") | _RESIDUAL  # fmt: skip
_STGCN_BLOCK = {
    "value.": ("gcn.conv.",),
    "norm.": ("tcn.0.",),
    "temporal.0.": ("tcn.2.",),
    "temporal.1.": ("tcn.3.",),
    "residual.": ("residual.",),
}
_DSTANET_BLOCK = {
    "attention.query_key.": ("in_nets.",),
    "attention.alpha": ("alphas",),
    "attention.shared": ("attention0s",),
    "attention.mix.": ("out_nets.",),
    "feed.": ("ff_nets.",),
    "temporal.": ("out_nett.",),
    "down_attention.": ("downs1.",),
    "down_feed.": ("downs2.",),
    "down_temporal.": ("downt2.",),
}
_TEN_BLOCKS = {"input_norm.": ("data_bn.",), "classifier.": ("fc.",)}
_INFOGCN = {
    "embedding.": ("to_joint_embedding.",), "positions": ("pos_embedding",), "input_norm.": ("data_bn.",),
    "hidden.": ("fc.",), "mean.": ("fc_mu.",), "log_variance.": ("fc_logvar.",), "classifier.": ("decoder.",),
}  # fmt: skip
_DSTANET = {"stem.0.": ("proj.",), "stem.1.": ("input_map.0.",), "classifier.": ("fc.",)}


def _look_up(key: str, table: Table) -> tuple[str, ...] | None:
    for start in sorted(table, key=len, reverse=True):
        if key == start or (start.endswith(".") and key.startswith(start)):
            return tuple(theirs + key.removeprefix(start) for theirs in table[start])
    return None


def _no_constants(encoder: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return ()


@dataclass(frozen=True)
class Family:
    """One backbone as its authors (and those who built on them) publish it.

    Parameters
    ----------
    backbone, title : str
        Name in ``BACKBONES``; name in the literature.
    anchor : str
        A parameter every such file has: tells the family, and where in the file the encoder stands.
    outside, block : mapping
        Names of what is not in a block, and inside one.
    blocks : str
        Pattern of a block's name with its number ``{}``; ``numbers`` finds the number of the first one.
    sizes : callable
        Arguments of the backbone that differ from its defaults, read from the tensors.
    ignored : tuple of str
        Patterns of names that carry nothing a forward pass reads.
    lacking : tuple of str
        Patterns of our names a file need not have.
    constants : callable
        Buffers of theirs that we compute, with our values.
    licence : str
        What is known about the published weights.
    """

    backbone: str
    title: str
    source: str
    anchor: str
    outside: Table
    block: Table
    blocks: str
    sizes: Callable[[Tensors], dict[str, Any]]
    ignored: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    constants: Callable[[nn.Module], Iterable[tuple[str, Tensor]]] = _no_constants
    licence: str = ""

    def names(self, key: str, tensors: Tensors) -> tuple[str, ...] | None:
        """Their names of a tensor of ours; None where the file does not have them all."""
        for names in self._candidates(key, tensors):
            if all(name in tensors for name in names):
                return names
        return None

    def _candidates(self, key: str, tensors: Tensors) -> Iterable[tuple[str, ...]]:
        match = _BLOCK.fullmatch(key)
        if match is None:
            found = _look_up(key, self.outside)
            if found is not None:
                yield found
            return
        number, rest = int(match[1]), match[2]
        if self.backbone == "stgcn" and rest == "importance":
            # A list of parameters in the older code, parameters of their own in the newer.
            yield (f"edge_importance{number + 1}",)
            yield (f"edge_importance.{number}",)
            return
        found = _look_up(rest, self.block)
        if found is not None:
            place = self.blocks.format(number + self._first(tensors))
            yield tuple(f"{place}.{name}" for name in found)

    def _first(self, tensors: Tensors) -> int:
        """Number of the first block: early code of some families counts from 2."""
        pattern = re.compile(re.escape(self.blocks).replace(r"\{\}", r"(\d+)") + r"\.")
        numbers = [int(match[1]) for key in tensors if (match := pattern.match(key))]
        return min(numbers, default=0)

    def may_lack(self, key: str) -> bool:
        return key.endswith(_COUNTER) or any(re.fullmatch(pattern, key) for pattern in self.lacking)

    def ignores(self, name: str, has_classifier: bool) -> bool:
        """Whether a name of theirs carries nothing; without a classifier also the head of pretraining (``fc.0``)."""
        if name.endswith(_COUNTER) or any(re.fullmatch(pattern, name) for pattern in self.ignored):
            return True
        return not has_classifier and re.fullmatch(r"(fc|linear|head|projection)\..*", name) is not None


def _width(name: str, default: int) -> Callable[[Tensors], dict[str, Any]]:
    """``base_channels`` as the length of a tensor, where it is not the default."""

    def sizes(tensors: Tensors) -> dict[str, Any]:
        width = int(tensors[name].shape[0]) if name in tensors else default
        return {} if width == default else {"base_channels": width}

    return sizes


def _gru_sizes(tensors: Tensors) -> dict[str, Any]:
    hidden = int(tensors["encoder.gru.weight_hh_l0"].shape[1])
    layers = sum(re.fullmatch(r"encoder\.gru\.weight_hh_l\d+", key) is not None for key in tensors)
    found = {"hidden": (hidden, 1024), "layers": (layers, 3)}
    return {name: value for name, (value, default) in found.items() if value != default}


def _gl_sizes(tensors: Tensors) -> dict[str, Any]:
    table = tensors["encoder_blocks.0.positional_emb"]
    width = int(table.shape[2] * table.shape[3])
    found = {
        "frames": (int(table.shape[1]), 300),
        "channels": (int(table.shape[3]), 48),
        "blocks": (len({key.split(".")[1] for key in tensors if key.startswith("encoder_blocks.")}), 4),
        "expansion": (tensors["encoder_blocks.0.feedforward.fc1.weight"].shape[0] / width, 2.0),
    }
    return {name: value for name, (value, default) in found.items() if value != default}


def _stgcn_constants(encoder: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield "A", encoder.get_buffer("blocks.0.adjacency")


def _dstanet_constants(encoder: nn.Module) -> Iterable[tuple[str, Tensor]]:
    blocks = encoder.get_submodule("blocks")
    for i, block in enumerate(blocks.children()):
        # (C, 1, V), the same at every frame of theirs.
        code = block.get_buffer("attention.code")
        yield f"graph_layers.{i}.pes.pe", code.unsqueeze(0)


def _gru_table(layers: int = 8) -> Table:
    table: dict[str, tuple[str, ...]] = {"input_norm.": ("input_norm.",), "classifier.": ("fc.",)}
    for i in range(layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            table[f"layers.{i}.first.{name}_l0"] = (f"encoder.gru.{name}_l{i}",)
            table[f"layers.{i}.second.{name}_l0"] = (f"encoder.gru.{name}_l{i}_reverse",)
    return table


_GL_SAME = ("emb.", "emb_global.", "norm.", "mlp.", "encoder_blocks.")
_NON_COMMERCIAL = "CC BY-NC 4.0, as the code it comes from"

FAMILIES: dict[str, Family] = {
    family.backbone: family
    for family in (
        Family(
            "ctrgcn", "CTR-GCN", "Uason-Chen/CTR-GCN and OliverHxh/SkeletonGCL", "l1.gcn1.convs.0.conv1.weight",
            _TEN_BLOCKS, _CTRGCN_BLOCK, "l{}", _width("l1.gcn1.bn.weight", 64), licence=_NON_COMMERCIAL,
            # SkeletonGCL's projection of graphs is part of its loss.
            ignored=(r"(graph_)?(proj|project|linear|gcl|cl|loss)\w*\..*",),
        ),
        Family(
            "agcn", "2s-AGCN", "lshiwjx/2s-AGCN and OliverHxh/SkeletonGCL", "l1.gcn1.conv_a.0.weight",
            _TEN_BLOCKS, _AGCN_BLOCK, "l{}", _width("l1.gcn1.bn.weight", 64), licence=_NON_COMMERCIAL,
            ignored=(r"(graph_)?(proj|project|linear|gcl|cl|loss)\w*\..*",),
        ),
        Family(
            "infogcn", "InfoGCN", "stnoah1/infogcn", "to_joint_embedding.weight", _INFOGCN, _INFOGCN_BLOCK, "l{}",
            _width("to_joint_embedding.weight", 64), lacking=("priors",), ignored=("z_prior", "A_vector"),
            licence="none given by its authors",
        ),
        Family(
            "stgcn", "ST-GCN of HiCLR", "JHang2020/HiCLR and its parents", "st_gcn_networks.0.gcn.conv.weight",
            {"input_norm.": ("data_bn.",), "classifier.": ("fc.",)}, _STGCN_BLOCK, "st_gcn_networks.{}",
            _width("st_gcn_networks.0.tcn.0.weight", 16), ignored=("A",), constants=_stgcn_constants, licence="MIT",
        ),
        Family(
            "dstanet", "DSTA-Net of HiCLR", "JHang2020/HiCLR", "graph_layers.0.in_nets.weight", _DSTANET,
            _DSTANET_BLOCK, "graph_layers.{}", lambda tensors: {}, constants=_dstanet_constants, licence="MIT",
            ignored=(r"graph_layers\.\d+\.(atts|pes\.pe)",),
        ),
        Family(
            "gru", "GRU encoder of CMD and I2MD", "maoyunyao/CMD", "encoder.gru.weight_ih_l0", _gru_table(), {}, "{}",
            _gru_sizes, licence="none given by its authors",
        ),
        Family(
            "gl_transformer", "GL-Transformer", "Boeun-Kim/GL-Transformer", "encoder_blocks.0.attention_sp.qkv.weight",
            {name: (name,) for name in _GL_SAME} | {"classifier.": ("linear.",)}, {}, "{}", _gl_sizes,
            ignored=("pred_token_emb", r"encoder_blocks\.\d+\.(tm|sp)_pos_encoder\.pe"), licence="MIT",
        ),
    )
}  # fmt: skip
