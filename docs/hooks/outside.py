"""Pages of the repository that stand outside of docs/, such as the README, have a place on the site, and links lead there.

In the repository, links are those that a reader of the files needs, such as `../README.md` in docs/index.md. On the site, what is in docs/ is
at the top, and everything else that a page links to is under `repository/`. A link to a folder becomes plain text.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?P<text>\[(?:[^\[\]]|\[[^\[\]]*\])*\])\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`(?!\]))", flags=re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside of docs/ that pages link to, and those that these link to."""
    waiting = [PurePosixPath("docs", file.src_uri) for file in files.documentation_pages() if file.generated_by is None]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for path in linked(page):
            if path in seen or not (ROOT / path).is_file():
                continue
            seen.add(path)
            if path.parts[0] != "docs":
                files.append(File.generated(config, site_place(path), abs_src_path=str(ROOT / path)))
            if path.suffix == ".md":
                waiting.append(path)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with links to where files are on the site."""
    path = in_repository(page.file.src_uri)
    if not (ROOT / path).exists():
        return markdown  # a page of the reference
    parts = CODE.split(markdown)
    return "".join(
        part if code else LINK.sub(lambda link: moved(link, path), part) for code, part in zip(_flags(parts), parts, strict=True)
    )


def moved(link: re.Match[str], page: PurePosixPath) -> str:
    """A link of a page, as the site has it."""
    path = target_of(link["target"], page)
    if path is None:
        return link[0]
    if (ROOT / path).is_dir():
        return link["text"][1:-1]
    relative = os.path.relpath(site_place(path), site_place(page).rpartition("/")[0] or ".")
    return f"{link['text']}({relative}{link['anchor'] or ''})"


def linked(page: PurePosixPath) -> Iterator[PurePosixPath]:
    """The places in the repository to which a page links."""
    for link in LINK.finditer(CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))):
        if path := target_of(link["target"], page):
            yield path


def target_of(target: str, page: PurePosixPath) -> PurePosixPath | None:
    """The place in the repository that a link of a page leads to; None for an address and for what isn't there."""
    path = Path(os.path.normpath(ROOT / page.parent / target))
    is_ours = ":" not in target and path.is_relative_to(ROOT) and path.exists()
    return PurePosixPath(path.relative_to(ROOT).as_posix()) if is_ours else None


def site_place(path: PurePosixPath) -> str:
    """Where a file of the repository is on the site."""
    return str(path.relative_to("docs") if path.parts[0] == "docs" else PurePosixPath("repository") / path)


def in_repository(place: str) -> PurePosixPath:
    """Where a file of the site is in the repository."""
    path = PurePosixPath(place)
    return path.relative_to("repository") if path.parts[0] == "repository" else PurePosixPath("docs") / path


def _flags(parts: list[str]) -> list[bool]:
    """Which of the parts are code: `re.split` puts text and code in turns."""
    return [bool(index % 2) for index in range(len(parts))]
