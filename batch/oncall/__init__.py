"""What a person on call types at 3 a.m.: hold sends back, let them go again, and find out what happened to a user."""
