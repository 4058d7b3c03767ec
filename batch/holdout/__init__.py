"""What reminders are worth: users who got none of a kind, beside those who did."""
