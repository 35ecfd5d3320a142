"""Elements of HTML and SVG, whose texts and attributes are escaped when they are written."""

from xml.etree.ElementTree import Element

Content = Element | str


def element(tag: str, /, *content: Content, **attributes: str | float) -> Element:
    """An element with texts and elements in it.

    Args:
        attributes: `class_` is written `class` and `stroke_width` `stroke-width`; numbers have two
            decimals at most.
    """
    built = Element(
        tag, {key.rstrip("_").replace("_", "-"): _text(v) for key, v in attributes.items()}
    )
    for one in content:
        if isinstance(one, Element):
            built.append(one)
        elif len(built):
            built[-1].tail = (built[-1].tail or "") + one
        else:
            built.text = (built.text or "") + one
    return built


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"
