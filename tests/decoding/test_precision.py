"""What is computed in, by what a machine says of itself."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from service.decoding.precision import compute_type, in_words

ZEN_3 = {"architecture": "x86_64", "avx2": True, "fma3": True, "avx512_bf16": False}
SKYLAKE = {"architecture": "x86_64", "avx2": True, "avx512_f": True, "avx512_bf16": False}
ZEN_4 = {"architecture": "x86_64", "avx512_f": True, "avx512_bf16": True, "amx_bf16": False}
SAPPHIRE_RAPIDS = {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": True}
GRAVITON_2 = {"architecture": "aarch64", "neon": True, "bf16": False, "dot": True}
GRAVITON_3 = {"architecture": "aarch64", "neon": True, "bf16": True, "sve_bf16": True}
POWER = {"architecture": "ppc64le"}


@pytest.fixture(autouse=True)
def _unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)


def on(able: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: able)


@pytest.mark.parametrize(
    ("able", "computed"),
    [
        pytest.param(ZEN_3, "float32", id="AVX2"),
        pytest.param(SKYLAKE, "float32", id="AVX-512"),
        pytest.param(ZEN_4, "bfloat16", id="AVX512-BF16"),
        pytest.param(SAPPHIRE_RAPIDS, "bfloat16", id="AMX"),
        pytest.param(GRAVITON_2, "float32", id="Neon"),
        pytest.param(GRAVITON_3, "bfloat16", id="Arm BF16"),
        pytest.param(POWER, "float32", id="another architecture"),
    ],
)
def test_a_cpu_computes_in_what_it_has_instructions_for(
    able: Mapping[str, Any], computed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever torch and oneDNN say they support: they emulate."""
    on(able, monkeypatch)

    assert compute_type(device="cpu") == computed


def test_the_names_of_instructions_are_those_that_torch_gives() -> None:
    """Of x86's two; a name that torch changed would never be found, and all be slow."""
    able = torch.cpu.get_capabilities()
    if able["architecture"] != "x86_64":
        pytest.skip("names of x86's instructions are given on x86 alone")

    assert {"avx512_bf16", "amx_bf16"} <= able.keys()


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_itself(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without emulation; what the CPU beside it has is of no account."""

    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    on(ZEN_3 if native else SAPPHIRE_RAPIDS, monkeypatch)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)

    assert compute_type() == ("bfloat16" if native else "float32")


@pytest.mark.parametrize("requested", ["bfloat16", "float32"])
@pytest.mark.parametrize("able", [ZEN_3, SAPPHIRE_RAPIDS], ids=["AVX2", "AMX"])
def test_what_is_asked_for_is_computed_in(
    requested: Any, able: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    on(able, monkeypatch)

    assert compute_type(requested, "cpu") == requested


@pytest.mark.parametrize(
    ("limit", "computed"),
    [
        ("AVX2", "float32"),
        ("avx2", "float32"),
        ("AVX512_CORE", "float32"),
        ("AVX512_CORE_BF16", "bfloat16"),
        ("AVX10_1_512_AMX", "bfloat16"),
        ("DEFAULT", "bfloat16"),
        ("", "bfloat16"),
    ],
)
@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_what_onednn_may_not_use_is_not_there(
    name: str, limit: str, computed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its variable, which it takes in any case and under its former name too, makes it emulate."""
    on(SAPPHIRE_RAPIDS, monkeypatch)
    monkeypatch.setenv(name, limit)

    assert compute_type(device="cpu") == computed


def test_people_are_told_of_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """And why float32 was chosen."""
    on(SAPPHIRE_RAPIDS, monkeypatch)
    told = [in_words("bfloat16", "cpu"), in_words("float32", "cpu")]
    on(ZEN_3, monkeypatch)
    told += [in_words("bfloat16", "cpu"), in_words("float32", "cpu")]

    assert told == [
        "native bfloat16",
        "float32",
        "bfloat16, which is emulated and slow",
        "float32, because bfloat16 is not native",
    ]
