"""The stream path: a Faust application that reacts to active users at once, and delivery."""
