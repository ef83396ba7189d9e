"""From the store to batches of clips on the training device; the only part of the data room that imports torch.

A :class:`BodyFrames` reads a store, a :class:`ClipMaker` turns sequence indices into clips by a card's settings and a
crop rule, a :class:`ClipLoader` goes through a split; augmentations and streams of whole batches stand beside them.
"""

from engine.data.batch.clips import ClipMaker, evaluation_rule
from engine.data.batch.gather import BodyFrames
from engine.data.batch.loader import Batch, ClipLoader
from engine.data.batch.sampling import RULES, Rule

__all__ = ["RULES", "Batch", "BodyFrames", "ClipLoader", "ClipMaker", "Rule", "evaluation_rule"]
