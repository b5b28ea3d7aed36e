"""The content of an HTML page, read by Python's own parser."""

from html.parser import HTMLParser

VOID = {"meta", "input", "br", "wbr"}


class Structure(HTMLParser):
    """The tags of a page. If they are not well nested, an assertion fails."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


def parsed(text: str) -> Structure:
    """The tags and the text of a page. If a tag is not closed, an assertion fails."""
    structure = Structure()
    structure.feed(text)
    assert structure.open == []
    return structure
