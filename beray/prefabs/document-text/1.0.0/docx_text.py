"""Reader for Word documents (DOCX, ISO/IEC 29500), based on python-docx.

The paragraphs of python-docx omit text in content controls, tracked insertions, text boxes and
footnotes. This module therefore walks the XML elements. Of a tracked change, the new text is
extracted. Headers, footers and comments are ignored.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import docx
from docx.document import Document as Word
from docx.opc.constants import RELATIONSHIP_TYPE as RELATION
from docx.opc.coreprops import CoreProperties
from docx.opc.part import Part as PackagePart
from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml
from lxml import etree

from beray.prefab import library_cause
from document import Document, DocumentError, ExtractOptions, TextPart, clean, metadata_line

_MAX_BYTES = 512 << 20
_MAX_XML_BYTES = 100 << 20
"""Maximum size of all XML files, unpacked. The parsed tree needs about ten times as much."""
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 40
_CONTAINERS = {
    qn(f"w:{name}")
    for name in ("sdt", "sdtContent", "ins", "moveTo", "smartTag", "customXml", "body")
}
_PARAGRAPH, _TABLE, _ROW, _CELL = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")
_LINK = qn("w:hyperlink")
_SKIPPED = {qn("w:pPr"), qn("w:rPr"), qn("w:moveFrom"), qn("w:del"), qn("w:sdtPr")}
_SKIPPED.add("{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback")
_CHARACTERS = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
_TEXT_ELEMENTS = {qn("w:t"), qn("m:t")}
_NOTES = {
    qn("w:footnoteReference"): "",
    qn("w:endnoteReference"): "e",
}


def open_docx(path: Path, options: ExtractOptions) -> Document:
    """Open a Word document.

    Raises:
        DocumentError: The file is damaged, expands to more than the limits, or is not a Word
            document.
    """
    _check_size(path)
    try:
        word = docx.Document(str(path))
        reader = _DocxReader(word, options)
    except Exception as error:  # noqa: BLE001 - python-docx raises arbitrary exceptions for damaged files
        cause = library_cause(error, __file__) or f"unexpected content ({type(error).__name__})"
        raise DocumentError(f"{path.name} is damaged, or not a Word document: {cause}") from None
    document = Document("docx", iter(()), problems=reader.problems)
    properties = _properties(word)
    if properties is not None:
        document.title = metadata_line(properties.title)
        document.author = metadata_line(properties.author)
        created = properties.created
        document.created = created.isoformat() if created is not None else None
    document.parts = reader.parts()
    return document


def _check_size(path: Path) -> None:
    """Raise DocumentError if the archive expands to more than the limits.

    The declared sizes can be trusted: ``zipfile`` does not read more than these.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    xml_size = sum(each.file_size for each in members if each.filename.endswith((".xml", ".rels")))
    if xml_size > _MAX_XML_BYTES:
        reason = f"expands to {xml_size:,} bytes of XML; the limit is {_MAX_XML_BYTES:,}"
        raise DocumentError(f"{path.name} {reason}")
    size = sum(each.file_size for each in members)
    if size > _MAX_BYTES:
        raise DocumentError(f"{path.name} expands to {size:,} bytes; the limit is {_MAX_BYTES:,}")
    if len(members) > _MAX_ENTRIES:
        reason = f"contains {len(members):,} files; the limit is {_MAX_ENTRIES:,}"
        raise DocumentError(f"{path.name} {reason}")


def _properties(word: Word) -> CoreProperties | None:
    """Return the core properties; None if missing, for which python-docx returns defaults."""
    relations = word.part.package.rels if word.part.package is not None else {}
    if all(each.reltype != RELATION.CORE_PROPERTIES for each in relations.values()):
        return None
    properties: CoreProperties = word.core_properties
    return properties


class _DocxReader:
    """Extractor of the text of one document."""

    def __init__(self, word: Word, options: ExtractOptions) -> None:
        self.problems: list[str] = []
        self._body: etree._Element = word.element.body
        self._options = options
        self._headings = {
            style.style_id: level
            for style in word.styles
            if (level := _heading_level((style.name or "").lower())) is not None
        }
        self._links = {
            key: relation.target_ref
            for key, relation in word.part.rels.items()
            if relation.is_external and relation.reltype == RELATION.HYPERLINK
        }
        self._notes = [
            (prefix, part)
            for kind, prefix in ((RELATION.FOOTNOTES, ""), (RELATION.ENDNOTES, "e"))
            if (part := _related_part(word, kind)) is not None
        ]

    def parts(self) -> Iterator[TextPart]:
        """Yield the text of each element of the body, then the notes."""
        count = max(len(self._body), 1)
        separator = ""
        for index, element in enumerate(self._body, 1):
            blocks = list(self._blocks([element], 0))
            if blocks:
                yield TextPart(separator + "".join(blocks), fraction=index / (count + 1))
                separator = "\n"
        notes = [note for prefix, part in self._notes for note in self._note_lines(prefix, part)]
        if notes:
            yield TextPart(separator + "\n".join(notes) + "\n")

    def _blocks(
        self, elements: Iterator[etree._Element] | list[etree._Element], depth: int
    ) -> Iterator[str]:
        """Yield the text of each paragraph and table, with a newline at its end."""
        for element in elements:
            if depth > _MAX_DEPTH:
                self._problem(f"content nested deeper than {_MAX_DEPTH} levels was skipped")
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
            return "#" * level + " " + " ".join(text.split()) if self._options.markdown else text
        numbering = element.find(f"{qn('w:pPr')}/{qn('w:numPr')}")
        named_list = style is not None and style.get(qn("w:val"), "").lower().startswith("list")
        if numbering is None and not named_list:
            return text
        depth = numbering.find(qn("w:ilvl")) if numbering is not None else None
        indent = depth.get(qn("w:val"), "0") if depth is not None else "0"
        return "  " * (int(indent) if indent in set("12345678") else 0) + "- " + text

    def _text(self, element: etree._Element) -> str:
        """Return the text of all runs below an element, without recursion."""
        text: list[str] = []
        links: list[tuple[etree._Element, str, int]] = []
        walk = etree.iterwalk(element, events=("start", "end"))
        for event, each in walk:
            if event == "end":
                if links and links[-1][0] is each:
                    _, target, start = links.pop()
                    text[start:] = [self._link("".join(text[start:]), target)]
            elif each.tag in _SKIPPED:
                walk.skip_subtree()
            elif each.tag in _TEXT_ELEMENTS:
                text.append(each.text or "")
            elif each.tag in _CHARACTERS:
                text.append(_CHARACTERS[each.tag])
            elif each.tag in _NOTES:
                text.append(f"[^{_NOTES[each.tag]}{each.get(qn('w:id'), '')}]")
            elif each.tag == _PARAGRAPH and each is not element:
                text.append("\n")  # a paragraph of a text box
            elif (link_target := self._target(each)) is not None:
                links.append((each, link_target, len(text)))
        return clean("".join(text)).strip("\n").rstrip()

    def _target(self, element: etree._Element) -> str | None:
        if element.tag != _LINK or not self._options.keep_links:
            return None
        return self._links.get(element.get(qn("r:id"), ""))

    def _link(self, text: str, target: str) -> str:
        target = clean(target).replace("\n", "").replace(" ", "%20")
        return f"[{text}]({target})" if self._options.markdown else f"{text} ({target})"

    def _table(self, table: etree._Element, depth: int) -> str:
        rows = []
        for row in _children(table, _ROW):
            cells = []
            for cell in _children(row, _CELL):
                text = "".join(self._blocks(list(cell), depth + 1))
                cells.append(" ".join(text.split()))
                cells.extend([""] * (_column_span(cell) - 1))
            rows.append(cells)
        if not any(any(row) for row in rows):
            return ""
        if not self._options.markdown:
            return "\n".join("\t".join(row).rstrip() for row in rows)
        width = max(map(len, rows))
        lines = [
            "| "
            + " | ".join(cell.replace("|", "\\|") for cell in row + [""] * (width - len(row)))
            + " |"
            for row in rows
        ]
        return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])

    def _note_lines(self, prefix: str, part: PackagePart) -> Iterator[str]:
        try:
            root: etree._Element = parse_xml(part.blob)
        except etree.XMLSyntaxError:
            self._problem("the footnotes or endnotes are damaged and were skipped")
            return
        for note in root:
            if note.get(qn("w:type")) is None:  # separators have a type
                text = "".join(self._blocks(list(note), 0))
                if text.strip():
                    yield f"[^{prefix}{note.get(qn('w:id'), '')}]: " + " ".join(text.split())

    def _problem(self, message: str) -> None:
        if message not in self.problems:
            self.problems.append(message)


def _children(element: etree._Element, tag: str) -> Iterator[etree._Element]:
    """Yield rows or cells, including those in content controls and tracked insertions."""
    stack = [(each, 0) for each in reversed(element)]
    while stack:
        each, depth = stack.pop()
        if each.tag == tag:
            yield each
        elif each.tag in _CONTAINERS and depth < _MAX_DEPTH:
            stack.extend((inner, depth + 1) for inner in reversed(each))


def _column_span(cell: etree._Element) -> int:
    found = cell.find(f"{qn('w:tcPr')}/{qn('w:gridSpan')}")
    value = found.get(qn("w:val"), "1") if found is not None else "1"
    return int(value) if value.isdecimal() and 1 <= int(value[:3]) <= 63 else 1


def _heading_level(style: str) -> int | None:
    if style == "title":
        return 1
    number = style.removeprefix("heading ")
    return min(int(number), 6) if number != style and number in set("123456789") else None


def _related_part(word: Word, kind: str) -> PackagePart | None:
    return next(
        (
            relation.target_part
            for relation in word.part.rels.values()
            if relation.reltype == kind and not relation.is_external
        ),
        None,
    )
