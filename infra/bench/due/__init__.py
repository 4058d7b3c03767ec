"""`surnia bench due`: a crowd whose reminder is due in the same minute."""
