"""How a model attends within the rows it reads, and how long rows are for it."""

from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.nn.attention.flex_attention import BlockMask
    from transformers import PreTrainedModel

# Where every pair of a row's tokens is computed, short rows keep that square small beside the rest
# of the work: on two cores 448 tokens a row trained 1.3 times as fast as 640.
_SHORT = 448
# Where pairs that do not see each other are left out, long rows share more: of prompts on MELD, 23
# tokens an example are computed in rows of 2,048, and 35 in rows of 448.
_LONG = 2048
_SHORTEST = 256  # that kernels are compiled for; two blocks of FlexAttention's
# Shapes of batches that kernels are compiled for, more than there are (`RowAttention.padded`).
# torch's own limit of 8 is too few: each shape counts with gradients and without, and again for a
# first layer whose keys have none.
_SHAPES = 128
_NAME = "blocks_of_rows"  # of `attend_in_blocks`, to transformers
_BEYOND = ("softcap", "s_aux", "position_bias")  # what some models ask of attention besides


class RowAttention(Enum):
    """What tells the examples of a row apart; `row_sharing.choose_attention` chooses it.

    * ALONE   nothing: a row is one example, and the model makes its own positions and mask
    * DENSE   a Boolean for each pair of tokens
    * BLOCKS  FlexAttention, which leaves out blocks of 128 x 128 pairs of which none is to be seen
              (Dong et al. 2024, arXiv 2412.05496)
    """

    ALONE = "alone"
    DENSE = "dense"
    BLOCKS = "blocks"

    @property
    def row_tokens(self) -> int:
        """The length that rows are packed to; 0 for one example a row."""
        return {RowAttention.ALONE: 0, RowAttention.DENSE: _SHORT, RowAttention.BLOCKS: _LONG}[self]

    def row_tokens_in(self, tokens_per_batch: int) -> int:
        """The same in training: in blocks, a row fits into a batch where batches are small."""
        if self is not RowAttention.BLOCKS:
            return self.row_tokens
        longest = 1 << (tokens_per_batch.bit_length() - 1)  # a power of two, as rows are padded to
        return min(self.row_tokens, max(_SHORTEST, longest))

    def padded(self, length: int) -> int:
        """The length that a row of `length` tokens is padded to by itself.

        In blocks a power of two. Kernels are compiled for each length, and most rows are nearly as
        long as what they are packed to, which is one: of 360 dialogues of MELD's shape, all batches
        of 4,096 tokens are two rows of 2,048, 1.3% of them padding.
        """
        if self is not RowAttention.BLOCKS:
            return length
        return max(_SHORTEST, 1 << (length - 1).bit_length())

    def set_in(self, causal: "PreTrainedModel") -> None:
        """Have a model that is told its tokens' positions attend in this way."""
        from transformers import AttentionInterface

        if self is RowAttention.BLOCKS:
            AttentionInterface.register(_NAME, attend_in_blocks)
            causal.set_attn_implementation(_NAME)
        else:
            # The mask for each pair of tokens is Boolean; what adds masks to scores would misread
            # it.
            causal.set_attn_implementation("sdpa")


def block_mask(reach: "torch.Tensor") -> "BlockMask":
    """The mask of rows for FlexAttention, made where `reach` is; nothing of it is waited for.

    Args:
        reach: shape (2, rows, L), of each token `order` and `until` of `packing.Row`.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    order, until = reach.unbind()
    _, rows, length = reach.shape

    def visible(
        row: "torch.Tensor", _: "torch.Tensor", one: "torch.Tensor", other: "torch.Tensor"
    ) -> "torch.Tensor":
        place = order[row, one]
        return (order[row, other] <= place) & (place < until[row, other])

    return create_block_mask(visible, rows, None, length, length, reach.device)


def attend_in_blocks(
    module: "nn.Module",
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "BlockMask",
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple["torch.Tensor", None]:
    """Attend by a mask of `block_mask`, called as transformers has models call attention.

    transformers' own "flex_attention" lets torch guess which lengths vary, and after 8 kernels goes
    on without any: it then computes all pairs, and keeps them for the backward pass.

    Args:
        query: shape (rows, heads, L, size).
        key, value: shape (rows, key heads, L, size).
        scaling: of the products; None for one over the root of the size.

    Returns:
        Shape (rows, L, heads, size); no weights.

    Raises:
        ValueError: the model asks for dropout of weights, or for what is not done here.
    """
    asked = [name for name in _BEYOND if others.get(name) is not None]
    if dropout:
        asked.append("dropout")
    if asked:
        raise ValueError(f"attention with {', '.join(asked)} is not computed in blocks")
    grouped = query.shape[1] != key.shape[1]
    attend = _attention(query.device.type)
    attended = attend(
        query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=grouped
    )
    return attended.transpose(1, 2).contiguous(), None


@cache
def _attention(device: str) -> Any:
    """FlexAttention: compiled for a GPU, as it is elsewhere, where that computes all pairs."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    if device != "cuda":
        return flex_attention
    compiled = torch.compile(  # type: ignore[call-overload]  # its overloads leave two out
        flex_attention,
        dynamic=False,  # kernels for any length check each access against it
        fullgraph=True,  # what cannot be compiled fails, rather than computing all pairs
        recompile_limit=_SHAPES,
        isolate_recompiles=True,
    )

    # Not compiled again as a part of layers that are, for rows of any length.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def attend(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
        attended: torch.Tensor = compiled(*tensors, **options)
        return attended

    return attend
