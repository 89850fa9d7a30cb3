"""Word documents (DOCX, ISO/IEC 29500), opened by python-docx.

Its paragraphs leave out what stands in content controls, tracked insertions, text boxes and
footnotes, so the elements themselves are walked here. Of a tracked change, the new text is
read. Headers, footers and comments are not read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import docx
from docx.document import Document as Word
from docx.opc.constants import RELATIONSHIP_TYPE as RELATION
from docx.opc.coreprops import CoreProperties
from docx.opc.part import Part as Piece
from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml
from lxml import etree

from beray.prefab import library_cause
from document import Document, Part, Unreadable, Wishes, clean, label

_MOST_BYTES = 512 << 20
_MOST_TEXT_BYTES = 100 << 20
"""A tree of elements takes ten times what it was made of."""
_MOST_MEMBERS = 20_000
_DEEPEST = 40
_CONTAINERS = {
    qn(f"w:{name}")
    for name in ("sdt", "sdtContent", "ins", "moveTo", "smartTag", "customXml", "body")
}
_PARAGRAPH, _TABLE, _ROW, _CELL = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")
_LINK = qn("w:hyperlink")
_LEFT_OUT = {qn("w:pPr"), qn("w:rPr"), qn("w:moveFrom"), qn("w:del"), qn("w:sdtPr")}
_LEFT_OUT.add("{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback")
_SAID = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
_TEXTS = {qn("w:t"), qn("m:t")}
_NOTES = {
    qn("w:footnoteReference"): "",
    qn("w:endnoteReference"): "e",
}


def open_docx(path: Path, wishes: Wishes) -> Document:
    """A Word document.

    Raises:
        Unreadable: it is damaged, too large when it is unpacked, or no Word document.
    """
    _check_size(path)
    try:
        word = docx.Document(str(path))
        reading = _Reading(word, wishes)
    except Exception as error:  # noqa: BLE001 - of a damaged document, python-docx raises anything
        cause = library_cause(error, __file__) or f"unexpected content ({type(error).__name__})"
        raise Unreadable(f"{path.name} is damaged, or not a Word document: {cause}") from None
    document = Document("docx", iter(()), problems=reading.problems)
    properties = _properties(word)
    if properties is not None:
        document.title = label(properties.title)
        document.author = label(properties.author)
        created = properties.created
        document.created = created.isoformat() if created is not None else None
    document.parts = reading.parts()
    return document


def _check_size(path: Path) -> None:
    """Refuse what unpacks to too much. ``zipfile`` holds members to the size they say."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    texts = sum(each.file_size for each in members if each.filename.endswith((".xml", ".rels")))
    if texts > _MOST_TEXT_BYTES:
        said = f"{path.name} unpacks to {texts:,} bytes of text"
        raise Unreadable(f"{said}; {_MOST_TEXT_BYTES:,} are read")
    size = sum(each.file_size for each in members)
    if size > _MOST_BYTES or len(members) > _MOST_MEMBERS:
        raise Unreadable(f"{path.name} unpacks to {size:,} bytes; {_MOST_BYTES:,} are read")


def _properties(word: Word) -> CoreProperties | None:
    """Those it has; python-docx would make up others where there are none."""
    relations = word.part.package.rels if word.part.package is not None else {}
    if all(each.reltype != RELATION.CORE_PROPERTIES for each in relations.values()):
        return None
    properties: CoreProperties = word.core_properties
    return properties


class _Reading:
    """One pass through a document."""

    def __init__(self, word: Word, wishes: Wishes) -> None:
        self.problems: list[str] = []
        self._body: etree._Element = word.element.body
        self._wishes = wishes
        self._headings = {
            style.style_id: level
            for style in word.styles
            if (level := _level((style.name or "").lower())) is not None
        }
        self._links = {
            key: relation.target_ref
            for key, relation in word.part.rels.items()
            if relation.is_external and relation.reltype == RELATION.HYPERLINK
        }
        self._notes = [
            (prefix, piece)
            for kind, prefix in ((RELATION.FOOTNOTES, ""), (RELATION.ENDNOTES, "e"))
            if (piece := _related(word, kind)) is not None
        ]

    def parts(self) -> Iterator[Part]:
        """Some paragraphs at a time, then the notes."""
        top = max(len(self._body), 1)
        before = ""
        for index, element in enumerate(self._body, 1):
            blocks = list(self._blocks([element], 0))
            if blocks:
                yield Part(before + "".join(blocks), fraction=index / (top + 1))
                before = "\n"
        notes = [note for prefix, piece in self._notes for note in self._said_by(prefix, piece)]
        if notes:
            yield Part(before + "\n".join(notes) + "\n")

    def _blocks(
        self, elements: Iterator[etree._Element] | list[etree._Element], depth: int
    ) -> Iterator[str]:
        """The text of paragraphs and tables, each with its line end."""
        for element in elements:
            if depth > _DEEPEST:
                self._problem(f"what is nested deeper than {_DEEPEST} levels was left out")
                return
            if element.tag == _PARAGRAPH:
                if text := self._paragraph(element):
                    yield text + "\n"
            elif element.tag == _TABLE:
                if text := self._table(element, depth):
                    yield text + "\n"
            elif element.tag in _CONTAINERS:
                yield from self._blocks(list(element), depth + 1)

    def _paragraph(self, element: etree._Element) -> str:
        text = self._text(element)
        if not text.strip():
            return ""
        style = element.find(f"{qn('w:pPr')}/{qn('w:pStyle')}")
        level = self._headings.get(style.get(qn("w:val"), "")) if style is not None else None
        if level is not None:
            return "#" * level + " " + " ".join(text.split()) if self._wishes.markdown else text
        numbering = element.find(f"{qn('w:pPr')}/{qn('w:numPr')}")
        named_list = style is not None and style.get(qn("w:val"), "").lower().startswith("list")
        if numbering is None and not named_list:
            return text
        depth = numbering.find(qn("w:ilvl")) if numbering is not None else None
        indent = depth.get(qn("w:val"), "0") if depth is not None else "0"
        return "  " * (int(indent) if indent in set("12345678") else 0) + "- " + text

    def _text(self, element: etree._Element) -> str:
        """What runs say, through whatever they stand in. It does not recurse."""
        said: list[str] = []
        links: list[tuple[etree._Element, str, int]] = []
        walk = etree.iterwalk(element, events=("start", "end"))
        for event, each in walk:
            if event == "end":
                if links and links[-1][0] is each:
                    _, where, start = links.pop()
                    said[start:] = [self._link("".join(said[start:]), where)]
            elif each.tag in _LEFT_OUT:
                walk.skip_subtree()
            elif each.tag in _TEXTS:
                said.append(each.text or "")
            elif each.tag in _SAID:
                said.append(_SAID[each.tag])
            elif each.tag in _NOTES:
                said.append(f"[^{_NOTES[each.tag]}{each.get(qn('w:id'), '')}]")
            elif each.tag == _PARAGRAPH and each is not element:
                said.append("\n")  # of a text box
            elif (target := self._target(each)) is not None:
                links.append((each, target, len(said)))
        return clean("".join(said)).strip("\n").rstrip()

    def _target(self, element: etree._Element) -> str | None:
        if element.tag != _LINK or not self._wishes.keep_links:
            return None
        return self._links.get(element.get(qn("r:id"), ""))

    def _link(self, text: str, target: str) -> str:
        target = clean(target).replace("\n", "").replace(" ", "%20")
        return f"[{text}]({target})" if self._wishes.markdown else f"{text} ({target})"

    def _table(self, table: etree._Element, depth: int) -> str:
        rows = []
        for row in _children(table, _ROW):
            cells = []
            for cell in _children(row, _CELL):
                text = "".join(self._blocks(list(cell), depth + 1))
                cells.append(" ".join(text.split()))
                cells.extend([""] * (_span(cell) - 1))
            rows.append(cells)
        if not any(any(row) for row in rows):
            return ""
        if not self._wishes.markdown:
            return "\n".join("\t".join(row).rstrip() for row in rows)
        width = max(map(len, rows))
        lines = [
            "| "
            + " | ".join(cell.replace("|", "\\|") for cell in row + [""] * (width - len(row)))
            + " |"
            for row in rows
        ]
        return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])

    def _said_by(self, prefix: str, piece: Piece) -> Iterator[str]:
        try:
            root: etree._Element = parse_xml(piece.blob)
        except etree.XMLSyntaxError:
            self._problem("its notes are damaged")
            return
        for note in root:
            if note.get(qn("w:type")) is None:  # the others are lines that separate
                text = "".join(self._blocks(list(note), 0))
                if text.strip():
                    yield f"[^{prefix}{note.get(qn('w:id'), '')}]: " + " ".join(text.split())

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


def _children(element: etree._Element, tag: str) -> Iterator[etree._Element]:
    """Rows and cells, also those in content controls and tracked insertions."""
    waiting = [(each, 0) for each in reversed(element)]
    while waiting:
        each, depth = waiting.pop()
        if each.tag == tag:
            yield each
        elif each.tag in _CONTAINERS and depth < _DEEPEST:
            waiting.extend((inner, depth + 1) for inner in reversed(each))


def _span(cell: etree._Element) -> int:
    found = cell.find(f"{qn('w:tcPr')}/{qn('w:gridSpan')}")
    value = found.get(qn("w:val"), "1") if found is not None else "1"
    return int(value) if value.isdecimal() and 1 <= int(value[:3]) <= 63 else 1


def _level(style: str) -> int | None:
    if style == "title":
        return 1
    number = style.removeprefix("heading ")
    return min(int(number), 6) if number != style and number in set("123456789") else None


def _related(word: Word, kind: str) -> Piece | None:
    return next(
        (
            relation.target_part
            for relation in word.part.rels.values()
            if relation.reltype == kind and not relation.is_external
        ),
        None,
    )
