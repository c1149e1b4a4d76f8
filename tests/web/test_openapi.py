"""The document that the dashboard's types are made from is that of this release."""

from loraplex.web.write_openapi import FILE, document


def test_the_document_is_current() -> None:
    assert FILE.read_text() == document(), "run: python web/write_openapi.py"
