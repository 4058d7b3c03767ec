"""The texts of reminders: one TOML file a language, some variants a kind, a door to render them by."""

from shared.templates.catalogue import Catalogue, Frame, TemplateError, Text
from shared.templates.letter import Letter, letter

__all__ = ["Catalogue", "Frame", "Letter", "TemplateError", "Text", "letter"]
