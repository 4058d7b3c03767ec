"""E-mail: the route of last resort, over SMTP with verified TLS."""

from stream.delivery.smtp.engine import SmtpEngine
from stream.delivery.smtp.mail import Mail

__all__ = ["Mail", "SmtpEngine"]
