"""Elements of HTML and SVG, whose texts and attributes are escaped when they are written."""

from xml.etree.ElementTree import Element

Content = Element | str


def element(tag: str, /, *content: Content, **attributes: str | float) -> Element:
    """An element with texts and elements in it.

    Args:
        attributes: `class_` is written `class` and `stroke_width` `stroke-width`; numbers have two
            decimals at most.
    """
    found = Element(
        tag, {key.rstrip("_").replace("_", "-"): _text(v) for key, v in attributes.items()}
    )
    for one in content:
        if isinstance(one, Element):
            found.append(one)
        elif len(found):
            found[-1].tail = (found[-1].tail or "") + one
        else:
            found.text = (found.text or "") + one
    return found


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"
