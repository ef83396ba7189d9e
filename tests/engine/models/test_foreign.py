"""Published weights come in through names alone: equal logits, and clear refusals of what is something else."""

import pickle
import zipfile

import pytest
import torch
from torch import nn

from engine.data.bodies import RawDataError
from engine.data.torch_files import load_torch
from engine.models.card import CheckpointError
from engine.models.foreign import import_encoder, read_foreign
from engine.models.foreign_names import FAMILIES
from engine.models.gl_transformer import GLTransformer
from engine.skeleton.layout import get_layout
from tests.engine.models import published

CLASSES = ["a", "b", "c", "d", "e"]


def shaken(model):
    """Away from the initialisation, with batch norms that have seen something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * value.abs().max().clamp(min=0.3) * torch.randn(value.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def clips(frames, layout="ntu25", persons=2):
    shape = (2, 3, frames, get_layout(layout).num_joints, persons)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


CASES = {
    "ctrgcn": lambda: published.TenLayers(5, width=16),
    "agcn": lambda: published.TenLayers(5, adaptive=True, width=16),
    "infogcn": lambda: published.InfoGCN(5, width=16),
    "infogcn_early": lambda: published.InfoGCN(5, width=16, first=2),
    "stgcn": lambda: published.STGCN(5),
    "stgcn_listed": lambda: published.STGCN(5, listed=True),
    "dstanet": lambda: published.DSTANet(5),
    "gru": lambda: published.BiGRU(5, hidden=24, layers=2),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_published_network(name, tmp_path):
    torch.manual_seed(0)
    theirs = shaken(CASES[name]())
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    found = read_foreign(tmp_path / "weights.pt")
    assert found.family.backbone == name.partition("_")[0] and found.prefix == ""
    result = import_encoder(found, CLASSES, "ntu25", 2)
    assert result.has_classifier and result.unmapped == []
    assert all(key.endswith("num_batches_tracked") or key == "priors" for key in result.fresh)
    x = clips(12)
    with torch.no_grad():
        expected, got = theirs(x), result.encoder(x).logits
    assert expected.std() > 1e-3
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_gl_transformer_has_the_published_names(tmp_path):
    torch.manual_seed(0)
    sizes = {"frames": 20, "channels": 8, "blocks": 2}
    ours = GLTransformer(5, persons=1, **sizes)
    weights = {k.replace("classifier.", "linear."): v for k, v in shaken(ours).state_dict().items()}
    for unused in ("pred_token_emb", "encoder_blocks.0.tm_pos_encoder.pe"):
        weights[unused] = torch.zeros(3)
    torch.save({"model": weights}, tmp_path / "w.pt")
    result = import_encoder(read_foreign(tmp_path / "w.pt"), CLASSES, "ntu25", 1)
    assert result.args == sizes and len(result.ignored) == 2 and result.family is FAMILIES["gl_transformer"]
    x = clips(20, persons=1)
    with torch.no_grad():
        assert torch.equal(result.encoder(x).logits, ours(x).logits)


@pytest.mark.parametrize("new", [True, False])
def test_a_pretraining_file_gives_its_query_encoder_without_classifier(tmp_path, new):
    torch.manual_seed(0)
    query, key = shaken(published.STGCN(7)), shaken(published.STGCN(7))
    weights = {"queue": torch.randn(7, 9), "queue_ptr": torch.zeros(1, dtype=torch.int64)}
    for part, model in (("encoder_q", query), ("encoder_k", key)):
        for name, value in model.state_dict().items():
            weights[f"module.{part}.{name.replace('fc.', 'fc.2.')}"] = value
        weights[f"module.{part}.fc.0.weight"] = torch.zeros(4, 4)
    optimiser = torch.optim.SGD(query.parameters(), 0.1, 0.9)
    saved = {"epoch": 4, "state_dict": weights, "optimizer": optimiser.state_dict()}
    torch.save(saved, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    found = read_foreign(tmp_path / "w.pt")
    assert found.prefix == "module.encoder_q."
    result = import_encoder(found, CLASSES, "ntu25", 2)
    assert not result.has_classifier and {"classifier.weight", "classifier.bias"} <= set(result.fresh)
    assert result.unmapped == [] and "queue" in result.others
    assert torch.equal(result.encoder.blocks[3].value.weight, query.st_gcn_networks[3].gcn["conv"].weight)
    assert read_foreign(tmp_path / "w.pt", "stgcn", "encoder_k").prefix == "module.encoder_k."
    with pytest.raises(CheckpointError, match="it has encoder_k, encoder_q"):
        read_foreign(tmp_path / "w.pt", part="encoder_q_motion")


def test_what_is_something_else_is_refused(tmp_path):
    torch.manual_seed(0)
    theirs = published.TenLayers(5, width=16).eval()
    path = tmp_path / "w.pt"

    def load(weights, classes=CLASSES, layout="ntu25", persons=2, **options):
        torch.save(weights, path)
        return import_encoder(read_foreign(path), classes, layout, persons, **options)

    weights = dict(theirs.state_dict())
    with pytest.raises(CheckpointError, match="another number of classes than the 3 given"):
        load(weights, CLASSES[:3])
    with pytest.raises(CheckpointError, match=r"no weights of CTR-GCN for this layout: data_bn\.weight"):
        load(weights, layout="kinect20")
    with pytest.raises(CheckpointError, match="for this layout"):
        load(weights, persons=1)
    with pytest.raises(CheckpointError, match=r"l3\.tcn2\.weight.*another network"):
        load(weights | {"l3.tcn2.weight": torch.zeros(2)})
    assert load(weights | {"l3.tcn2.weight": torch.zeros(2)}, allow_unmapped=True).unmapped == ["l3.tcn2.weight"]
    lacking = {key: value for key, value in weights.items() if key != "l4.gcn1.convs.1.conv3.weight"}
    with pytest.raises(CheckpointError, match=r"nothing for blocks\.3\.graph\.refinement\.value\.weight"):
        load(lacking)
    graph = dict(published.STGCN(5).state_dict())
    with pytest.raises(CheckpointError, match="A of the file is not what ST-GCN of HiCLR computes"):
        load(graph | {"A": graph["A"].flip(1)})
    with pytest.raises(CheckpointError, match="holds no encoder that is known here"):
        load({"weight": torch.zeros(3), "bias": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="no published names are known for backbone 'resnet'"):
        read_foreign(path, "resnet")


class Bomb:
    def __reduce__(self):
        return print, ("a program ran",)


def test_nothing_in_a_file_runs(tmp_path, capsys):
    path = tmp_path / "w.pt"
    for new in (True, False):
        torch.save({"state_dict": {"a": torch.zeros(2)}, "extra": Bomb()}, path, _use_new_zipfile_serialization=new)
        with pytest.raises(RawDataError, match=r"refused, it tries to load (builtins|__builtin__)\.print"):
            load_torch(path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(RawDataError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        load_torch(path)
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    with pytest.raises(RawDataError, match="TorchScript"):
        load_torch(path)
    assert "a program ran" not in capsys.readouterr().out


@pytest.mark.parametrize("new", [True, False])
def test_tensors_of_every_kind_and_damaged_files(tmp_path, new):
    torch.manual_seed(0)
    values = {
        "half": torch.randn(3).half(), "brain": torch.randn(5).bfloat16(), "double": torch.randn(2).double(),
        "bool": torch.tensor([True, False]), "long": torch.arange(4), "turned": torch.randn(4, 6).t()[1:, ::2],
        "empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5), "parameter": nn.Parameter(torch.randn(2, 2)),
    }  # fmt: skip
    shared = torch.randn(10)
    values |= {"front": shared[:5], "back": shared[5:]}
    path = tmp_path / "w.pt"
    torch.save(values, path, _use_new_zipfile_serialization=new)
    found = load_torch(path)
    for name, value in values.items():
        expected = value.detach().float() if name == "brain" else value.detach()
        assert torch.equal(torch.from_numpy(found[name].copy()), expected), name
        assert found[name].shape == tuple(value.shape) and (name == "empty" or not found[name].flags.writeable)
    whole = path.read_bytes()
    cut = tmp_path / "cut.pt"
    for size in (0, 1, 20, len(whole) // 2, len(whole) - 30):
        cut.write_bytes(whole[:size])
        with pytest.raises(RawDataError):
            load_torch(cut)


def test_a_tensor_can_not_reach_outside_its_storage(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    inside = next(name for name in members if name.endswith("data.pkl"))
    # The size (4,) of the tensor becomes (200,): BININT1 4 right before the tuple.
    assert members[inside].count(b"K\x04\x85") == 1
    members[inside] = members[inside].replace(b"K\x04\x85", b"K\xc8\x85")
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    with pytest.raises(RawDataError, match="beyond its storage"):
        load_torch(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(RawDataError, match="no PyTorch file"):
        load_torch(path)
