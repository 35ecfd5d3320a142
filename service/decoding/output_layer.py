"""vLLM's output layer in single precision, at no cost on a CPU.

Labels differ by less than bfloat16 logits resolve, so the engine is set to `head_dtype: float32`.
On a GPU vLLM then multiplies bfloat16 into float32. On a CPU it would cast the whole matrix in
every step: 22 ms for 30,528 x 384 on one core, where the product takes 1 ms. Here the cast is made
once and kept, packed for oneDNN.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def keep_float32_output_layer() -> None:
    """Make vLLM build models with this layer; an entry point of the group `vllm.general_plugins`.

    vLLM calls it in each of its processes. On a GPU it changes nothing.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    import torch
    from vllm import _custom_ops
    from vllm.model_executor.custom_op import op_registry_oot
    from vllm.model_executor.layers.logits_processor import LogitsProcessor
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    if LogitsProcessor.__name__ in op_registry_oot or not _custom_ops._supports_onednn:
        return

    @LogitsProcessor.register_oot
    class Float32OutputLayer(LogitsProcessor):  # type: ignore[misc]
        """Keeps a float32 copy of the first output layer that it is used with."""

        _kept: tuple[Any, Any] | None = None  # the layer, and its packed weights

        def _apply_head(
            self, lm_head: Any, hidden_states: "Tensor", embedding_bias: "Tensor | None"
        ) -> "Tensor":
            casts = self.head_dtype == torch.float32 != hidden_states.dtype
            if self._kept is None and casts and _is_plain(lm_head):
                self._kept = lm_head, _custom_ops.create_onednn_mm(lm_head.weight.float().t())
            if self._kept is None or self._kept[0] is not lm_head:
                output: Tensor = super()._apply_head(lm_head, hidden_states, embedding_bias)
                return output
            bias = None if embedding_bias is None else embedding_bias.float()
            logits: Tensor = _custom_ops.onednn_mm(self._kept[1], hidden_states.float(), bias)
            return logits

    def _is_plain(lm_head: Any) -> bool:
        return isinstance(lm_head.quant_method, UnquantizedEmbeddingMethod)
