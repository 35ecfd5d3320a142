"""Attention over the past, and a recurrent state for each speaker.

After EmotionIC (Liu et al. 2023, arXiv 2303.11117): heads of attention see either what the speaker
said before or what the others did, and recurrent units carry what somebody felt on to that
person's next turn (inertia), changed by what was heard from others (contagion). States of speakers
are DialogueRNN's (Majumder et al. 2019, arXiv 1811.00405), and SACL has them in an LSTM of the
speaker beside one of the dialogue (Hu et al. 2023, arXiv 2306.01505). Left out are EmotionIC's
conditional random field and SACL's adversarial contrastive loss.
"""

import torch
from torch import nn

from training.discriminative.batches import Batch
from training.discriminative.past import ago, same_speaker, seen

_WIDTH = 128
_HEADS = 4  # half of them for the speaker's own turns, half for the others'
_WINDOW = 16  # earlier turns that attention sees; states carry what is older
_DROPOUT = 0.4


class SpeakerStates(nn.Module):
    """Logits of labels from a turn, what was heard before it, and its speaker's state."""

    def __init__(self, dimensions: int, labels: int) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Dropout(_DROPOUT), nn.Linear(dimensions, _WIDTH), nn.GELU(), nn.LayerNorm(_WIDTH)
        )
        self.hear = _SpeakerAttention()
        self.feel = nn.GRU(2 * _WIDTH, _WIDTH, batch_first=True)
        self.say = nn.Sequential(
            nn.LayerNorm(3 * _WIDTH), nn.Dropout(_DROPOUT), nn.Linear(3 * _WIDTH, labels)
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Shape (dialogues, turns, labels)."""
        same = same_speaker(batch.speakers)
        read = self.read(batch.vectors)
        heard = self.hear(read, same)
        felt = self._states(torch.cat([read, heard], dim=-1), batch.speakers, same)
        logits: torch.Tensor = self.say(torch.cat([read, heard, felt], dim=-1))
        return logits

    def _states(
        self, turns: torch.Tensor, speakers: torch.Tensor, same: torch.Tensor
    ) -> torch.Tensor:
        """Each turn's speaker's state right after it, shape (dialogues, turns, features).

        The turns of a speaker, without those of others between them, are what the unit reads.
        """
        dialogues, length, width = turns.shape
        earlier = same.tril(-1).sum(-1)  # of the speaker's own turns
        own = turns.new_zeros(dialogues, int(speakers.max()) + 1, int(earlier.max()) + 1, width)
        where = torch.arange(dialogues).unsqueeze(1).expand(-1, length), speakers, earlier
        own = own.index_put(where, turns)
        states, _ = self.feel(own.flatten(0, 1))
        state_after: torch.Tensor = states.unflatten(0, own.shape[:2])[where]
        return state_after


class _SpeakerAttention(nn.Module):
    """Attention over the past by who spoke, with a bias for how long ago."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.ago = nn.Parameter(torch.zeros(_HEADS, _WINDOW + 1))

    def forward(self, read: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        length = read.shape[1]
        parts = self.project(read).chunk(3, dim=-1)
        asked, keys, values = (p.unflatten(-1, (_HEADS, -1)).transpose(1, 2) for p in parts)
        may = seen(length, _WINDOW)
        # A turn sees itself in every head, so that none sees nothing.
        others = (may & ~same) | torch.eye(length, dtype=torch.bool)
        by_head = torch.stack([may & same, others], dim=1).repeat_interleave(_HEADS // 2, dim=1)
        scores = asked @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5
        scores = scores + self.ago[:, ago(length).clamp(0, _WINDOW)]
        shares = scores.masked_fill(~by_head, -torch.inf).softmax(-1)
        attended: torch.Tensor = (shares @ values).transpose(1, 2).flatten(2)
        return attended
