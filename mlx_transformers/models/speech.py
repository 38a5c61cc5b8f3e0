"""Speech recognition: an encoder reads the frames of a spectrum, a decoder writes text."""

from dataclasses import replace
from typing import ClassVar, Literal

import mlx.core as mx

from ..core.context import Context, Layout
from ..core.task import Task
from ..layers.frames import Frames
from ..layers.kinds import Reads
from .encoder_decoder import EncoderDecoder, EncoderDecoderModel
from .model import TowerSpec
from .tower import Tower


class SoundTower(Tower):
    """A tower over the frames of a spectrum."""

    reads: ClassVar[Reads] = "frames"

    @property
    def numbers(self) -> int:
        """Numbers of the spectrum that make one position of the tower."""
        assert isinstance(self.embed, Frames), "the embedding of a sound tower reads frames"
        count = self.embed.n_mels
        for stride in self.embed.strides:
            count *= stride
        return count


class Speech(EncoderDecoder):
    """An encoder of sound and a decoder of text that attends to it.

    Whisper (Radford et al. 2022), section 2.2. The decoder's first tokens name the language and the
    task. `max_seq_len` counts tokens of the text.
    """

    kind: Literal["speech"] = "speech"  # type: ignore[assignment]  # a kind of its own
    tasks: ClassVar[frozenset[Task]] = frozenset({"listen"})
    encoder: SoundTower
    """The tower that reads the sound."""
    shared: Literal[False] = False
    """Sound and text share no table."""

    def towers(self) -> list[TowerSpec]:
        encoder, decoder = super().towers()
        return [replace(encoder, stride=self.encoder.numbers), decoder]

    def build(self, vocab_size: int) -> "SpeechModel":
        model = SpeechModel(self, self.vocab_size or vocab_size)
        self.init.apply(model, self.decoder.n_layers)
        return model


class SpeechModel(EncoderDecoderModel):
    """`(frames [B, S, n_mels], tokens [B, T], ctx) -> logits [B, T, V]`."""

    tasks = Speech.tasks
    source_name = "frames"

    def encode(self, source: mx.array, ctx: Context) -> mx.array:
        """The encoder's output, the memory of the decoder; silence is read as sound is."""
        sound_ctx = replace(ctx, layout=Layout(), memory_valid=None, key=ctx.split_key())
        return super().encode(source, sound_ctx)
