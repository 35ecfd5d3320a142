"""The checks of `instructerc doctor`, in the order of a start."""

from collections.abc import Callable, Iterator
from functools import partial

from pydantic import ValidationError

from service.doctor.access import keys, port, rules
from service.doctor.database import database
from service.doctor.demonstrations import demonstrations, encoder
from service.doctor.disk import disk
from service.doctor.findings import Check, Fault, check
from service.doctor.machine import machine, precision
from service.doctor.model import bundle, engine, servers
from service.settings import Settings, UnknownSetting, faults_of, load_settings, names_given

_PARTS: dict[str, Callable[[Settings], str]] = {
    "disk": disk,
    "database": database,
    "encoder": encoder,
    "demonstrations": demonstrations,
    "bundle": bundle,
    "keys": keys,
    "rules": rules,
    "port": port,
}


def examine(*, with_engine: bool = False) -> Iterator[Check]:
    """Check one part after the other, whether or not earlier checks fail.

    Args:
        with_engine: start vLLM on the bundle too, which takes as long as a start.
    """
    loaded: list[Settings] = []
    yield check("settings", lambda: _settings(loaded))
    yield check("machine", machine)
    # Servers compute elsewhere, and answer at once.
    is_remote = bool(loaded and loaded[0].engine.urls)
    if not is_remote:
        dtype = loaded[0].engine.dtype if loaded else "auto"
        yield check("precision", lambda: precision(dtype))
    of_engine = {"servers": servers} if is_remote else {"engine": engine} if with_engine else {}
    for settings in loaded:
        for name, look in (_PARTS | of_engine).items():
            yield check(name, partial(look, settings))


def _settings(loaded: list[Settings]) -> str:
    try:
        loaded.append(load_settings())
    except UnknownSetting as error:
        detail = str(error)
        remedy = "correct the name, or unset it; `instructerc settings` lists all settings"
    except ValidationError as error:
        detail, remedy = "; ".join(faults_of(error)), "correct the value, or unset it"
    else:
        return ", ".join(names_given()) or "none is set"
    raise Fault(detail, f"{remedy}. Checks that depend on settings were skipped")
