"""The texts of reminders: one TOML file a language, some variants a kind, a door to render them by."""

from shared.templates.catalogue import Catalogue, TemplateError, Text

__all__ = ["Catalogue", "TemplateError", "Text"]
